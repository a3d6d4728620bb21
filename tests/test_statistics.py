"""Statistics equal what numpy makes of the dense fields."""

from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig, Period, StatisticsConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.statistics.moments import Moments
from ocean_emulators.datasets.statistics.stored import Statistics, read_statistics
from ocean_emulators.datasets.statistics.writing import write_statistics
from ocean_emulators.datasets.store.packed_store import PackedStore, open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.parallel import Resources
from tests import tiny


def test_they_equal_numpy_over_wet_cells_of_the_training_period(store: PackedStore, statistics: Statistics) -> None:
    dataset = tiny.dataset().isel(time=slice(0, 146))
    climatology = []
    for c, channel in enumerate(store.channels):
        values = dataset[channel.name].values[:, dataset[f"mask_{channel.mask_level}"].values].astype("f8")
        assert statistics.names[c] == channel.name
        assert statistics.mean[c] == pytest.approx(values.mean(), rel=1e-9)
        assert statistics.std[c] == pytest.approx(values.std(), rel=1e-6)
        assert statistics.change_std[c] == pytest.approx(np.diff(values, axis=0).std(), rel=1e-6)
        climatology.append(values.reshape(2, 73, -1).mean(0))
    assert np.allclose(statistics.climatology, np.concatenate(climatology, axis=1), atol=1e-5)


def test_other_periods_do_not_matter(tmp_path: Path, statistics: Statistics, experiment_data: DataConfig) -> None:
    dataset = tiny.dataset()
    for name in ("thetao_0", "hfds"):
        dataset[name][146:] *= 3
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    prepare(experiment_data.replace(source=str(tmp_path / "s.zarr")), tmp_path / "packed")
    changed = compute_statistics(open_store(store_path(tmp_path / "packed", "x1")), experiment_data.periods.train)
    for name in ("mean", "std", "change_std", "climatology"):
        assert np.array_equal(getattr(changed, name), getattr(statistics, name))
    assert changed.fingerprint == statistics.fingerprint
    dataset["hfds"][:146] *= 3
    dataset.to_zarr(tmp_path / "t.zarr", zarr_format=2)
    prepare(experiment_data.replace(source=str(tmp_path / "t.zarr")), tmp_path / "packed")
    store = open_store(store_path(tmp_path / "packed", "x1"))
    assert compute_statistics(store, experiment_data.periods.train).fingerprint != statistics.fingerprint


@pytest.fixture
def experiment_data() -> DataConfig:
    return parse(DataConfig, tiny.experiment()["data"], "tiny")


def test_less_than_a_year_gives_no_climatology(store: PackedStore) -> None:
    with pytest.raises(UserError, match=r"data.periods.train: .* no data in 37 of the 73 day-of-year bins"):
        compute_statistics(store, Period(start="2000-01-01", end="2000-06-29"))


def test_a_field_that_does_not_vary_is_refused(tmp_path: Path, experiment_data: DataConfig) -> None:
    dataset = tiny.dataset()
    dataset["zos"] = dataset["zos"].where(dataset["zos"].isnull(), 1.0)
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    prepare(experiment_data.replace(source=str(tmp_path / "s.zarr")), tmp_path / "packed")
    with pytest.raises(UserError, match="data: zos does not vary over the training period"):
        compute_statistics(open_store(store_path(tmp_path / "packed", "x1")), experiment_data.periods.train)


def rows_with_gaps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    cells = draw(arrays.arrays(int, draw(st.integers(1, 3)), elements=st.integers(1, 4)))
    shape = (draw(st.integers(1, 9)), int(cells.sum()))
    mean = draw(st.sampled_from([0.0, 35.0, 1e4]))
    rows = draw(arrays.arrays("f4", shape, elements=st.floats(-1, 1, width=32)))
    return (mean + rows).astype("f4"), cells


@given(st.data())
def test_moments_of_parts_add_up_to_those_of_the_whole(data: st.DataObject) -> None:
    rows, cells = data.draw(st.composite(rows_with_gaps)())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1)))) if len(rows) > 1 else []
    shift = np.array([part.mean() for part in np.split(rows[0].astype("f8"), np.cumsum(cells)[:-1])])
    whole = Moments.of(rows, None, shift, cells)
    parts = [
        Moments.of(rows[first:last], rows[first - 1] if first else None, shift, cells)
        for first, last in pairwise([0, *cuts, len(rows)])
    ]
    total = reduce(add, parts)
    assert (total.n_times, total.n_changes) == (whole.n_times, whole.n_changes) == (len(rows), len(rows) - 1)
    assert np.allclose(total.sums, whole.sums, rtol=1e-12, atol=1e-12)
    exact = np.split(rows.astype("f8"), np.cumsum(cells)[:-1], axis=1)
    mean, std, change_std = total.summary()
    assert np.allclose(mean, [x.mean() for x in exact], rtol=1e-12)
    assert np.allclose(std, [x.std() for x in exact], rtol=1e-6, atol=1e-6)
    changes = [np.diff(x, axis=0).std() if len(x) > 1 else 0 for x in exact]
    assert np.allclose(change_std, changes, rtol=1e-6, atol=1e-6)


def test_small_variance_beside_a_large_mean_survives() -> None:
    rng = np.random.default_rng(0)
    rows = (2**13 + rng.integers(-4, 5, (500, 40)) / 2**10).astype("f4")
    before_one_pass = np.sqrt((rows**2).mean() - rows.mean() ** 2)
    moments = Moments.of(rows, None, rows[0].astype("f8").mean(keepdims=True), np.array([40]))
    std = rows.astype("f8").std()
    assert moments.summary()[1][0] == pytest.approx(std, rel=1e-9)
    assert before_one_pass != pytest.approx(std, rel=0.5)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_a_bit(workers: int, store: PackedStore, statistics: Statistics) -> None:
    train = Period(start="2000-01-01", end="2001-12-31")
    again = compute_statistics(store, train, StatisticsConfig(), Resources(memory_gib=64, workers=workers))
    for name in ("mean", "std", "change_std", "climatology"):
        assert np.array_equal(getattr(again, name), getattr(statistics, name))


def test_all_times_can_be_taken_but_the_climatology_stays_of_the_training_period(
    store: PackedStore, statistics: Statistics, experiment_data: DataConfig
) -> None:
    everything = compute_statistics(store, experiment_data.periods.train, StatisticsConfig(period="all"))
    values = tiny.dataset()["zos"].values[:, tiny.dataset()["mask_0"].values].astype("f8")
    zos = everything.names.index("zos")
    assert everything.mean[zos] == pytest.approx(values.mean(), rel=1e-9)
    assert everything.std[zos] == pytest.approx(values.std(), rel=1e-6)
    assert everything.change_std[zos] == pytest.approx(np.diff(values, axis=0).std(), rel=1e-6)
    assert np.array_equal(everything.climatology, statistics.climatology)
    assert everything.fingerprint != statistics.fingerprint


def test_what_does_not_fit_is_refused(store: PackedStore, experiment_data: DataConfig) -> None:
    small = Resources(memory_gib=0.01)
    with pytest.raises(UserError, match=r"prepare.memory_gib: 0.01 GiB can't hold the sums over one block"):
        compute_statistics(store, experiment_data.periods.train, StatisticsConfig(), small)


def test_what_is_written_is_read(statistics: Statistics, tmp_path: Path) -> None:
    write_statistics(statistics, tmp_path / "s.zarr")
    read = read_statistics(tmp_path / "s.zarr")
    for name in ("mean", "std", "change_std"):
        assert np.array_equal(getattr(read, name), getattr(statistics, name))
    assert np.array_equal([read.climatology[number, 5:90] for number in range(73)], statistics.climatology[:, 5:90])
    assert np.array_equal(zarr.open_group(tmp_path / "s.zarr", mode="r")["climatology"][:], statistics.climatology)
    assert (read.names, read.fingerprint) == (statistics.names, statistics.fingerprint)


def test_no_statistics_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing here; `dvc repro stats` makes it"):
        read_statistics(tmp_path / "none")
