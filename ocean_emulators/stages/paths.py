"""Where the stages find and leave things; `dvc.yaml` names the same places."""

from pathlib import Path

PREPARED = Path("data/prepared/ocean.zarr")
STATISTICS = Path("data/stats/statistics.zarr")

TRAIN = Path("outputs/train")
CHECKPOINT = TRAIN / "checkpoint.pt"
HISTORY = TRAIN / "history.csv"

EVALUATION = Path("outputs/evaluation")
PREDICTIONS = EVALUATION / "predictions.zarr"
FORECAST_SUMS = EVALUATION / "forecast_sums.zarr"
FREE_RUN_SUMS = EVALUATION / "free_run_sums.zarr"
SCORES_CSV = EVALUATION / "scores.csv"
SCORES_JSON = EVALUATION / "scores.json"
NRMSE_CSV = EVALUATION / "nrmse.csv"

COMPARISON = Path("outputs/comparison")
COMPARISON_CSV = COMPARISON / "comparison.csv"
COMPARISON_JSON = COMPARISON / "comparison.json"

FIGURES = "figures"
