"""The scores of `evaluate` and `compare` by value: taken again from the files, with NumPy and the raw source alone."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ocean_emulators.workspace import Workspace
from tests import tiny

YEAR = 73
"""times"""
TRAINED = 2 * YEAR
START_EVERY, STEPS, STEP_DAYS = 3, 6, 5.0
CHANNELS = [f"{name}_{k}" for name in ("thetao", "so", "uo", "vo") for k in range(tiny.LEVELS)] + ["zos"]
VARIABLES = [name.split("_")[0] for name in CHANNELS]
RAW = tiny.dataset()
TRUE = {name: RAW[name].values.astype("f8") for name in CHANNELS}
LAT = RAW["y"].values
AREA = np.repeat(np.diff(np.sin(np.deg2rad(np.linspace(-90, 90, tiny.N_LAT + 1))))[:, None], tiny.N_LON, axis=1)
TESTED = np.flatnonzero([(t.year, t.month) >= (2002, 7) for t in RAW["time"].values])
STARTS = TESTED[:-STEPS:START_EVERY]
# Kept in float32, which leaves small anomalies of large values few digits.
CLIMATOLOGY = {
    name: values[:TRAINED].reshape(2, YEAR, *values.shape[1:]).mean(0).astype("f4").astype("f8")
    for name, values in TRUE.items()
}
STD = {name: np.nanstd(values[:TRAINED]) for name, values in TRUE.items()}
REGIONS = {"global": np.full(LAT.shape, True), "tropics": np.abs(LAT) < 20}


def mean(values: np.ndarray, rows: np.ndarray = REGIONS["global"]) -> np.ndarray:
    """Over the ocean of some circles of latitude, by area; [..., lat, lon] to [...]."""
    weight = np.where(np.isnan(values), 0, AREA)[..., rows, :]
    return np.asarray((np.nan_to_num(values)[..., rows, :] * weight).sum((-2, -1)) / weight.sum((-2, -1)))


@pytest.fixture(scope="module")
def predicted(made: Workspace) -> dict[str, np.ndarray]:
    """By channel, what the free run predicted, [step, lat, lon]."""
    read = xr.open_zarr(made.evaluation.predictions, decode_times=False).load()
    fields = {}
    for name in CHANNELS:
        stem, _, level = name.partition("_")
        fields[name] = (read[stem].isel(lev=int(level)) if level else read[stem]).values.astype("f8")
    return fields


@pytest.mark.parametrize("region", REGIONS)
def test_a_free_run_has_the_scores_that_its_fields_have(
    made: Workspace, predicted: dict[str, np.ndarray], region: str
) -> None:
    table = pd.read_csv(made.evaluation.scores).query(f"rollout == 'free_run' and region == '{region}'")
    rows, times = REGIONS[region], TESTED[1:]
    for name in CHANNELS:
        error = predicted[name] - TRUE[name][times]
        a, b = (x - CLIMATOLOGY[name][times % YEAR] for x in (predicted[name], TRUE[name][times]))
        rmse = np.sqrt(mean(error**2, rows))
        acc = mean(a * b, rows) / np.sqrt(mean(a**2, rows) * mean(b**2, rows))
        expected = {"rmse": rmse, "bias": mean(error, rows), "acc": acc, "nrmse": rmse / STD[name]}
        for metric, values in expected.items():
            found = table.query(f"channel == '{name}' and metric == '{metric}'").sort_values("lead")
            assert np.allclose(found["lead"], STEP_DAYS * np.arange(1, len(times) + 1))
            assert np.allclose(found["value"], values, rtol=1e-5, atol=1e-6), (name, metric)


def together(squared: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Root of the mean over the channels of each variable, and over all, of squares in units of the variance."""
    shares = {name: values / STD[name] ** 2 for name, values in squared.items()}
    groups = {v: [n for n, w in zip(CHANNELS, VARIABLES, strict=True) if w == v] for v in dict.fromkeys(VARIABLES)}
    return {v: np.sqrt(np.mean([shares[n] for n in names], axis=0)) for v, names in {"all": CHANNELS, **groups}.items()}


def test_the_summary_of_a_free_run_is_taken_over_all_of_it(made: Workspace, predicted: dict[str, np.ndarray]) -> None:
    summary = json.loads(made.evaluation.summary.read_text())["free_run"]
    errors = {name: predicted[name] - TRUE[name][TESTED[1:]] for name in CHANNELS}
    nrmse = together({name: mean(error**2).mean() for name, error in errors.items()})
    assert summary["nrmse"] == pytest.approx(nrmse, rel=1e-5, abs=1e-6)
    largest = {name: abs(mean(errors[name])).max() for name in ("thetao_0", "thetao_1")}
    assert summary["largest_global_mean_error_degC"] == pytest.approx(largest, rel=1e-5, abs=1e-6)


def test_the_first_forecast_is_the_beginning_of_the_free_run(made: Workspace, predicted: dict[str, np.ndarray]) -> None:
    """Which is the only forecast whose fields are kept; of the others, sums are."""
    sums = xr.open_zarr(made.evaluation.forecast_sums).load()
    assert list(sums["start"].values) == [str(RAW["time"].values[s]) for s in STARTS]
    for name in CHANNELS:
        one = sums.isel(start=0).sel(region="global", channel=name)
        error = (predicted[name] - TRUE[name][TESTED[1:]])[:STEPS]
        assert np.allclose(one["squared_error"] / one["weight"], mean(error**2), rtol=1e-4), name


def baseline(kind: str, name: str, start: int, lead: int) -> np.ndarray:
    """[lat, lon]"""
    then, now = CLIMATOLOGY[name][(start + lead) % YEAR], CLIMATOLOGY[name][start % YEAR]
    state: np.ndarray = TRUE[name][start]
    return {"persistence": state, "climatology": then, "anomaly_persistence": then + state - now}[kind]


@pytest.mark.parametrize("kind", ["persistence", "climatology", "anomaly_persistence"])
def test_baselines_have_the_scores_that_they_have_by_hand(made: Workspace, kind: str) -> None:
    table = pd.read_csv(made.comparison.table).set_index(["forecast", "variable"]).sort_index()
    squared = {
        name: np.array(
            [
                np.mean([mean((baseline(kind, name, s, lead) - TRUE[name][s + lead]) ** 2) for s in STARTS])
                for lead in range(1, STEPS + 1)
            ]
        )
        for name in CHANNELS
    }
    for variable, expected in together(squared).items():
        rows = table.loc[(kind, variable)].sort_values("lead")
        assert np.allclose(rows["lead"], STEP_DAYS * np.arange(1, STEPS + 1))
        assert np.allclose(rows["nrmse"], expected, rtol=1e-5), variable


def test_ratios_are_those_of_the_scores_beside_them(made: Workspace) -> None:
    table = pd.read_csv(made.comparison.table).set_index(["forecast", "variable", "lead"]).sort_index()
    nrmse = pd.read_csv(made.evaluation.nrmse).set_index("lead")
    sums = xr.open_zarr(made.evaluation.forecast_sums).load().sel(region="global")
    squared = (sums["squared_error"].mean("start") / sums["weight"]).to_pandas()
    for variable, values in together({name: squared[name].to_numpy() for name in CHANNELS}).items():
        assert np.allclose(nrmse[variable], values, rtol=1e-9), variable
        assert np.allclose(table.loc[("emulator", variable)]["nrmse"], values, rtol=1e-9), variable
        for kind in table.index.unique("forecast"):
            rows = table.loc[(kind, variable)]
            assert np.allclose(rows["emulator_ratio"], values / rows["nrmse"], rtol=1e-9), (kind, variable)
