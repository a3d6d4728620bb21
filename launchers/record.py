"""Tells a tracker what a stage has left, from its files: also of stages that DVC took from its cache."""

import json
from pathlib import Path

import pandas as pd

from ocean_emulators.eval.report import ratio_lines, score_lines
from ocean_emulators.experiment import Experiment
from ocean_emulators.forecasting.base import EMULATOR
from ocean_emulators.tracking import Tracker
from ocean_emulators.workspace import ComparisonFiles, EvaluationFiles, TrainingFiles


def record_results(stage: str, folder: Path, experiment: Experiment, tracker: Tracker) -> None:
    """Put what stage `train`, `evaluate` or `compare` has left in a folder into the record of an experiment."""
    match stage:
        case "train":
            _record_training(TrainingFiles(folder), tracker)
        case "evaluate":
            _record_evaluation(EvaluationFiles(folder), tracker)
        case "compare":
            _record_comparison(ComparisonFiles(folder), experiment, tracker)
        case other:
            raise AssertionError(other)


def _record_training(files: TrainingFiles, tracker: Tracker) -> None:
    for row in pd.read_csv(files.history).to_dict("records"):
        tracker.log_metrics({str(k): v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))


def _record_evaluation(files: EvaluationFiles, tracker: Tracker) -> None:
    nrmse = pd.read_csv(files.nrmse, index_col="lead")
    scores = pd.read_csv(files.scores)
    chosen = (scores["rollout"] == "forecast") & (scores["region"] == "global") & (scores["metric"] == "acc")
    acc = scores[chosen].pivot_table("value", "lead", "variable")
    acc["all"] = scores[chosen].groupby("lead")["value"].mean()
    for name, table in (("nrmse", nrmse), ("acc", acc)):
        for lead, row in table.iterrows():
            tracker.log_metrics({f"forecast/{name}/{v}": x for v, x in row.items()}, step=round(float(str(lead))))
    free_run = json.loads(files.summary.read_text())["free_run"]
    tracker.log_metrics(
        {f"free_run/{outer}/{inner}": x for outer, part in free_run.items() for inner, x in part.items()}
    )
    for file in (files.summary, files.scores):
        tracker.log_file(file, "scores")
    _record_figures(files.figures, tracker)


def _record_comparison(files: ComparisonFiles, experiment: Experiment, tracker: Tracker) -> None:
    table = pd.read_csv(files.table)
    for lead, part in table[table["forecast"] != EMULATOR].groupby("lead"):
        names = "ratio/" + part["forecast"] + "/" + part["variable"]
        tracker.log_metrics(dict(zip(names, part["emulator_ratio"], strict=True)), step=round(float(str(lead))))
    for file in (files.table, files.summary):
        tracker.log_file(file, "scores")
    leads = experiment.evaluation.reported_leads(table["lead"].unique())
    text = "\n".join([*score_lines(table, leads), "", *ratio_lines(table, leads)])
    tracker.describe(f"```text\n{text}\n```")
    _record_figures(files.figures, tracker)


def _record_figures(folder: Path, tracker: Tracker) -> None:
    for figure in sorted(folder.glob("*.png")):
        tracker.log_file(figure, "figures")
