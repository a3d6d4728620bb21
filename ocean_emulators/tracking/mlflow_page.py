"""What MLflow's pages show of an experiment: columns and charts of its runs, and what a run's page begins with."""

import colorsys
import json
from typing import Any

VIEW = "runs"
"""name of the view, in the address of a page"""
_WORKFLOW = "workflowType=machine_learning"
"""else the pages are about language models"""
_COLUMNS = {
    "attributes.`Run Name`": 300,
    "tags.`changed`": 260,
    "metrics.`score/nrmse`": 100,
    "metrics.`score/ratio`": 100,
    "metrics.`val/mean/loss`": 120,
    "runDateAndNestInfo": 140,
    "duration": 80,
    "tags.`stages`": 180,
}
"""widths by the names that the page's table has for them; times are shown whatever is selected"""
_CHARTS = {
    "Learning, by epoch": {"train/mean/loss": "training loss", "val/mean/loss": "validation loss"},
    "Forecasts, by lead in days": {
        "forecast/nrmse/all": "RMSE / std",
        "ratio/persistence/all": "RMSE / persistence's",
        "forecast/acc/all": "anomaly correlation",
    },
}
"""titles of metrics, by section"""


def experiment_tags() -> dict[str, str]:
    """Tags of an experiment from which the pages take what they show."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(_view()),
    }


def runs_address(experiment: str) -> str:
    """Of the page with the runs of an experiment and their curves, below a server's own address."""
    return f"#/experiments/{experiment}/runs?{_WORKFLOW}&compareRunsMode=CHART&viewStateShareKey={VIEW}"


def links_of(run: Any) -> str:
    """Markdown that leads on from what a run's page begins with."""
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    links = {
        "figures": f"{page}/artifacts/figures?{_WORKFLOW}",
        "curves": f"{page}/model-metrics?{_WORKFLOW}",
        "configuration": f"{page}/artifacts/config?{_WORKFLOW}",
        "beside other runs": runs_address(run.info.experiment_id),
    }
    return " · ".join(f"[{name}]({address})" for name, address in links.items())


def colour_of(key: str) -> str:
    """Of a run's curves: MLflow's own few colours are soon those of several runs."""
    parts = colorsys.hls_to_rgb(int(key[:4], 16) / 0xFFFF, 0.42, 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _view() -> dict[str, Any]:
    """The state of the page as its own "share" button writes it; the page makes charts of all further metrics itself."""
    return {
        "selectedColumns": [name for name in _COLUMNS if "`" in name],
        "columnOrder": [*_COLUMNS],
        "columnWidths": _COLUMNS,
        "compareRunSections": [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in _CHARTS],
        "compareRunCharts": [
            _chart(section, metric, title) for section, part in _CHARTS.items() for metric, title in part.items()
        ],
        "isAccordionReordered": True,
    }


def _chart(section: str, metric: str, title: str) -> dict[str, Any]:
    return {
        "uuid": metric,
        "type": "LINE",
        "metricSectionId": section,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": title,
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
