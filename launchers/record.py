"""Puts into a record what a stage has left, from its files: also of stages that DVC took from its cache."""

import json
from pathlib import Path

import pandas as pd

from ocean_emulators.eval.report import mean_scores, ratio_lines, score_lines
from ocean_emulators.experiment import Experiment
from ocean_emulators.files import content_digest
from ocean_emulators.finding import OUTPUT
from ocean_emulators.forecasting.base import EMULATOR
from ocean_emulators.tracking import Record
from ocean_emulators.tracking.changes import CHANGED, DVC_NAME, NONE
from ocean_emulators.tracking.provenance import BEGAN_FROM
from ocean_emulators.workspace import ComparisonFiles, EvaluationFiles, TrainingFiles


def record_results(stage: str, folder: Path, experiment: Experiment, record: Record) -> None:
    """Put what stage `train`, `evaluate` or `compare` has left in a folder into the record of an experiment."""
    left = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]  # DVC puts a `.gitignore` there
    record.tag({f"{OUTPUT}{stage}/{path.name}": content_digest(path) for path in left})
    match stage:
        case "train":
            _record_training(TrainingFiles(folder), record)
        case "evaluate":
            _record_evaluation(EvaluationFiles(folder), record)
        case "compare":
            _record_comparison(ComparisonFiles(folder), experiment, record)
        case other:
            raise AssertionError(other)


def introduce(record: Record, experiment: Experiment) -> None:
    """Describe an experiment that has no scores yet."""
    if not record.described:
        record.describe(_introduction(record, experiment))


def _introduction(record: Record, experiment: Experiment, scores: str = "") -> str:
    """Its scores in a line, what it changes, and how it is made again, in Markdown."""
    tags = record.tags
    changed, name, began = (tags.get(tag, NONE) for tag in (CHANGED, DVC_NAME, BEGAN_FROM))
    rows = {
        "Scores": scores,
        "Changed": "nothing: `params.yaml` as it was committed" if changed == NONE else f"`{changed}`",
        "DVC experiment": "" if name == NONE else f"`{name}`",
        "Weights begin as": "" if began == NONE else f"those of the checkpoint `{began[:12]}…`",
        "Data": f"`{experiment.data.source}`",
        "Make it again": f"`ocean-emulators reproduce {record.about.key[:8]}`",
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in rows.items() if text)


def _record_training(files: TrainingFiles, record: Record) -> None:
    for row in pd.read_csv(files.history).to_dict("records"):
        record.log_metrics({str(k): v for k, v in row.items() if k != "epoch" and pd.notna(v)}, step=int(row["epoch"]))
    record.log_model(files.checkpoint)


def _record_evaluation(files: EvaluationFiles, record: Record) -> None:
    nrmse = pd.read_csv(files.nrmse, index_col="lead")
    scores = pd.read_csv(files.scores)
    chosen = (scores["rollout"] == "forecast") & (scores["region"] == "global") & (scores["metric"] == "acc")
    acc = scores[chosen].pivot_table("value", "lead", "variable")
    acc["all"] = scores[chosen].groupby("lead")["value"].mean()
    for name, table in (("nrmse", nrmse), ("acc", acc)):
        for lead, row in table.iterrows():
            record.log_metrics({f"forecast/{name}/{v}": x for v, x in row.items()}, step=round(float(str(lead))))
    free_run = json.loads(files.summary.read_text())["free_run"]
    record.log_metrics(
        {f"free_run/{outer}/{inner}": x for outer, part in free_run.items() for inner, x in part.items()}
    )
    for file in (files.summary, files.scores):
        record.log_file(file, "scores")
    _record_figures(files.figures, record)


def _record_comparison(files: ComparisonFiles, experiment: Experiment, record: Record) -> None:
    table = pd.read_csv(files.table)
    for lead, part in table[table["forecast"] != EMULATOR].groupby("lead"):
        names = "ratio/" + part["forecast"] + "/" + part["variable"]
        record.log_metrics(dict(zip(names, part["emulator_ratio"], strict=True)), step=round(float(str(lead))))
    for file in (files.table, files.summary):
        record.log_file(file, "scores")
    scores = mean_scores(table)
    record.log_metrics({f"score/{name}": value for name, value in scores.items()})
    leads = experiment.evaluation.reported_leads(table["lead"].unique())
    text = "\n".join([*score_lines(table, leads), "", *ratio_lines(table, leads)])
    record.describe(f"{_introduction(record, experiment, _in_words(scores))}\n\n```text\n{text}\n```")
    _record_figures(files.figures, record)


def _in_words(scores: dict[str, float]) -> str:
    """See `mean_scores`."""
    ratio = f", {scores['ratio']:.3f} of the first baseline's" if "ratio" in scores else ""
    return f"RMSE {scores['nrmse']:.3f} standard deviations{ratio}"


def _record_figures(folder: Path, record: Record) -> None:
    for figure in sorted(folder.glob("*.png")):
        record.log_file(figure, "figures")
