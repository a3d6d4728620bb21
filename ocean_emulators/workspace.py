"""Where the stages find and leave things; `dvc.yaml` names the same places."""

from pathlib import Path

from ocean_emulators.datasets.store.packed_store import store_path

PREPARED = Path("data/prepared")
STATISTICS = Path("data/stats")

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


def prepared(factor: int) -> Path:
    """The prepared store of the source's grid coarsened by `factor`."""
    return store_path(PREPARED, f"x{factor}")


def statistics(factor: int) -> Path:
    """Its statistics."""
    return store_path(STATISTICS, f"x{factor}")
