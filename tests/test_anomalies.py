"""Anomalies that a source does not hold: what they depart from, when that is read, and how often."""

import pickle
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback

from ocean_emulators.config import parse
from ocean_emulators.datasets.anomalies import SeasonalMean
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.preparation import select
from ocean_emulators.errors import UserError
from tests import tiny

FORCING = {"forcing": ["hfds", "hfds_anomalies"]}


def config(source: Path, **changes: Any) -> DataConfig:
    return parse(DataConfig, {**tiny.experiment(source)["data"], **FORCING, **changes}, "tiny")


@pytest.mark.parametrize(("period", "years"), [("train", 2), ("all", 3)])
@pytest.mark.parametrize("chunks", [(1, 16, 32), (50, 5, 32)])
def test_the_mean_is_of_the_chosen_period(period: str, years: int, chunks: tuple[int, ...], tmp_path: Path) -> None:
    encoding = {"hfds": {"chunks": chunks}}
    tiny.dataset().to_zarr(tmp_path / "s.zarr", zarr_format=2, encoding=encoding)
    dataset = select(config(tmp_path / "s.zarr", anomaly_period=period))
    hfds = dataset["hfds"].values
    season = hfds[: 73 * years].astype("f8").reshape(years, 73, *hfds.shape[1:]).mean(0)
    anomaly = dataset["hfds_anomalies"]
    assert anomaly.dtype == np.float32
    assert anomaly.data.chunks == dataset["hfds"].data.chunks
    assert np.allclose(anomaly.values, hfds - np.tile(season, (3, 1, 1)), atol=1e-4, equal_nan=True)


def test_a_source_that_holds_the_anomalies_is_believed(tmp_path: Path) -> None:
    dataset = tiny.dataset()
    dataset["hfds_anomalies"] = dataset["hfds"] * 0 + 3
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    wet = dataset["mask_0"].values
    assert (select(config(tmp_path / "s.zarr"))["hfds_anomalies"].values[:, wet] == 3).all()


def test_a_training_period_without_a_season_is_refused(source: Path) -> None:
    periods = {**tiny.experiment()["data"]["periods"], "train": {"start": "2000-01-01", "end": "2000-11-30"}}
    with pytest.raises(
        UserError, match=r"data.anomaly_period: .* no time in the season of 2000-12-04 12:00:00; let it"
    ):
        select(config(source, periods=periods))
    select(config(source, periods=periods, anomaly_period="all"))


class Counted:
    """A series that counts how often each of its times is read."""

    shape, dtype, ndim = (6, 2, 2), np.dtype("f4"), 3

    def __init__(self) -> None:
        self.reads: list[Any] = []

    def __getitem__(self, index: Any) -> np.ndarray:
        self.reads.append(index[0])
        return np.arange(24, dtype="f4").reshape(self.shape)[index]


def test_parts_that_are_read_one_by_one_share_one_pass() -> None:
    series = Counted()
    mean = SeasonalMean(da.from_array(series, chunks=(1, 2, 2), meta=np.empty((0, 0, 0), "f4")), np.array([0, 1] * 3))
    lazy = dask.delayed(mean)()
    assert series.reads == []
    for _ in range(3):
        assert lazy.compute().tolist() == [[[8, 9], [10, 11]], [[12, 13], [14, 15]]]
    assert len(series.reads) == 6


def test_it_goes_to_another_process_without_its_values() -> None:
    mean = SeasonalMean(da.ones((6, 2, 2), chunks=(1, 2, 2), dtype="f4"), np.array([0, 1] * 3))
    before = mean()
    assert np.array_equal(pickle.loads(pickle.dumps(mean))(), before)


def test_choosing_reads_nothing_of_the_series(source: Path) -> None:
    tasks: list[Any] = []
    with Callback(pretask=lambda key, *_: tasks.append(key)):
        select(config(source))
    assert not any("SeasonalMean" in str(key) or "_subtract" in str(key) for key in tasks)
