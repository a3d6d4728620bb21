"""What MLflow's pages show of an experiment: columns and charts of its runs, and what a run's page begins with."""

import colorsys
import json
from typing import Any

_RUNS, _SWEEPS = "runs", "sweeps"
"""names of views, in the addresses of pages: of runs, and of the means over the runs of each sweep"""
_WORKFLOW = "workflowType=machine_learning"
"""else the pages are about language models"""
_GOLDEN = 0.618034
"""of the circle of hues, lies between two colours"""
_COLUMNS = {
    "attributes.`Run Name`": 280,
    "runDateAndNestInfo": 150,
    "metrics.`score/nrmse`": 100,
    "metrics.`score/ratio`": 100,
    "metrics.`val/mean/loss`": 120,
    "tags.`changed`": 260,
    "duration": 80,
    "tags.`stages`": 180,
}
"""widths by the names that the page's table has for them; times are shown whatever is selected"""
_CHARTS = {
    "Learning, by epoch": ["train/mean/loss", "val/mean/loss"],
    "Forecasts, by lead in days": ["forecast/nrmse/all", "ratio/persistence/all", "forecast/acc/all"],
}
"""metrics that are shown first, by section"""
_BY_SWEEP = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "sweep"}]}


def experiment_tags() -> dict[str, str]:
    """Tags of an experiment from which the pages take what they show."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{_RUNS}": json.dumps(_view()),
        f"mlflow.sharedViewState.{_SWEEPS}": json.dumps(_view() | {"groupBy": _BY_SWEEP}),
    }


def runs_address(experiment: str, view: str = _RUNS) -> str:
    """Of the page with the runs of an experiment and their curves, below a server's own address."""
    return f"#/experiments/{experiment}/runs?{_WORKFLOW}&compareRunsMode=CHART&viewStateShareKey={view}"


def links_of(run: Any) -> str:
    """Markdown that leads on from what a run's page begins with."""
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    links = {
        "figures": f"{page}/artifacts/figures?{_WORKFLOW}",
        "curves": f"{page}/model-metrics?{_WORKFLOW}",
        "configuration": f"{page}/artifacts/config?{_WORKFLOW}",
        "beside other runs": runs_address(run.info.experiment_id),
    }
    if "sweep" in run.data.tags:
        links["means of sweeps"] = runs_address(run.info.experiment_id, _SWEEPS)
    return " · ".join(f"[{name}]({address})" for name, address in links.items())


def colour(number: int) -> str:
    """Of a run's curves, by its number in the experiment: unlike those before. MLflow draws one of a few at random."""
    parts = colorsys.hls_to_rgb((0.6 + number * _GOLDEN) % 1, 0.42, 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _view() -> dict[str, Any]:
    """The state of the page as its own "share" button writes it; the page makes charts of all further metrics itself."""
    return {
        "selectedColumns": [name for name in _COLUMNS if "`" in name],
        "columnOrder": [*_COLUMNS],
        "columnWidths": _COLUMNS,
        "compareRunSections": [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in _CHARTS],
        "compareRunCharts": [_chart(section, metric) for section, part in _CHARTS.items() for metric in part],
        "isAccordionReordered": True,
    }


def _chart(section: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": metric,
        "type": "LINE",
        "metricSectionId": section,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
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
