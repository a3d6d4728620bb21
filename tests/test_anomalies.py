"""Anomalies that a source does not hold: what they depart from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.anomalies import derived, mean_annual_cycle
from ocean_emulators.datasets.source.layouts import open_source
from ocean_emulators.datasets.source.selection import select
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from tests import tiny

FORCING = {"forcing": ["hfds", "hfds_anomalies"]}
SHORT = {**tiny.experiment()["data"]["periods"], "train": {"start": "2000-01-01", "end": "2000-11-30"}}


def config(source: Path, **changes: Any) -> DataConfig:
    return parse(DataConfig, {**tiny.experiment(source)["data"], **FORCING, **changes}, "tiny")


@pytest.mark.parametrize(("period", "years"), [("train", 2), ("all", 3)])
@pytest.mark.parametrize("chunks", [(1, 16, 32), (50, 5, 32)])
def test_the_mean_is_of_the_chosen_period(period: str, years: int, chunks: tuple[int, ...], tmp_path: Path) -> None:
    encoding = {"hfds": {"chunks": chunks}}
    tiny.dataset().to_zarr(tmp_path / "s.zarr", zarr_format=2, encoding=encoding)
    data = config(tmp_path / "s.zarr", anomaly_period=period)
    dataset = open_source(data.source)
    (channel,) = derived(data, dataset)
    hfds = dataset["hfds"].values
    season = hfds[: 73 * years].astype("f8").reshape(years, 73, *hfds.shape[1:]).mean(0)
    assert np.allclose(mean_annual_cycle(dataset, channel, data), season, atol=1e-4, equal_nan=True)


def test_all_times_are_those_of_the_source_not_of_the_periods(tmp_path: Path) -> None:
    """The periods leave the first year out; the published anomalies know it all the same."""
    tiny.dataset().to_zarr(tmp_path / "s.zarr", zarr_format=2)
    periods = {**SHORT, "train": {"start": "2001-01-01", "end": "2001-12-31"}}
    prepare(config(tmp_path / "s.zarr", periods=periods, anomaly_period="all"), tmp_path / "prepared")
    store = open_store(store_path(tmp_path / "prepared", "x1"))
    hfds = tiny.dataset()["hfds"].values[:, store.mask[-1]]
    expected = hfds[73:] - np.tile(hfds.reshape(3, 73, -1).mean(0), (2, 1))
    assert np.allclose(store.rows(0, 146)[:, -store.mask[-1].sum() :], expected, atol=1e-4)


def test_a_hole_beside_the_periods_is_no_fault(tmp_path: Path) -> None:
    """The mean is of the times that there are."""
    tiny.dataset().drop_isel(time=[9, 10]).to_zarr(tmp_path / "s.zarr", zarr_format=2)
    periods = {**SHORT, "train": {"start": "2001-01-01", "end": "2001-12-31"}}
    data = config(tmp_path / "s.zarr", periods=periods, anomaly_period="all")
    dataset = select(data)
    assert dataset.sizes["time"] == 146
    (channel,) = derived(data, dataset)
    by_year = tiny.dataset()["hfds"].values.astype("f8").reshape(3, 73, tiny.N_LAT, tiny.N_LON)
    by_year[0, 9:11] = np.nan
    wet = tiny.dataset()["mask_0"].values
    found = mean_annual_cycle(open_source(data.source), channel, data)
    assert np.allclose(found[:, wet], np.nanmean(by_year[..., wet], 0), atol=1e-4)


def test_a_source_that_holds_the_anomalies_is_believed(tmp_path: Path) -> None:
    dataset = tiny.dataset()
    dataset["hfds_anomalies"] = dataset["hfds"] * 0 + 3
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    data = config(tmp_path / "s.zarr")
    assert not derived(data, select(data))
    wet = dataset["mask_0"].values
    assert (select(data)["hfds_anomalies"].values[:, wet] == 3).all()


def test_a_training_period_without_a_season_is_refused_before_any_work(source: Path) -> None:
    with pytest.raises(
        UserError, match=r"data.anomaly_period: .* no data in 6 of 73 day-of-year bins; let it last a year"
    ):
        select(config(source, periods=SHORT))
    select(config(source, periods=SHORT, anomaly_period="all"))
