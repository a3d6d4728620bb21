"""What MLflow's pages show of an experiment: columns and charts of its runs, and what a run's page begins with."""

import json
from typing import Any

VIEW = "runs"
"""name of the view, in the address of a page"""
_LEARNING, _FORECASTS = "Learning", "Forecasts, by lead in days"
_COLUMNS = [
    "tags.`changed`",
    "metrics.`score/nrmse`",
    "metrics.`score/ratio`",
    "metrics.`val/mean/loss`",
    "tags.`stages`",
    "attributes.`Models`",
]
_CHARTS = {
    _LEARNING: [["train/mean/loss"], ["val/mean/loss"]],
    _FORECASTS: [["forecast/nrmse/all"], ["forecast/acc/all"], ["ratio/persistence/all"]],
}


def experiment_tags() -> dict[str, str]:
    """Tags of an experiment from which the pages take what they show.

    Without a `mlflow.experimentKind`, they open with what language models need.
    """
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(_view()),
    }


def runs_address(experiment: str) -> str:
    """Of the page with the runs of an experiment and their curves, below a server's own address."""
    return f"#/experiments/{experiment}/runs?compareRunsMode=CHART&viewStateShareKey={VIEW}"


def links_of(run: Any) -> str:
    """Markdown that leads on from what a run's page begins with."""
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    links = {
        "figures": f"{page}/artifacts/figures",
        "curves": f"{page}/model-metrics",
        "configuration": f"{page}/artifacts/config",
        "all runs": runs_address(run.info.experiment_id),
    }
    return " · ".join(f"[{name}]({address})" for name, address in links.items())


def _view() -> dict[str, Any]:
    """The state of the page as its own \"share\" button writes it; the page makes charts of all further metrics itself."""
    sections = [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in _CHARTS]
    charts = [_chart(section, names) for section, part in _CHARTS.items() for names in part]
    return {
        "selectedColumns": _COLUMNS,
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,
    }


def _chart(section: str, metrics: list[str]) -> dict[str, Any]:
    return {
        "uuid": metrics[0],
        "type": "LINE",
        "metricSectionId": section,
        "metricKey": metrics[0],
        "selectedMetricKeys": metrics,
        "displayName": " and ".join(metrics),
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": False,
        "lineSmoothness": 0,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
