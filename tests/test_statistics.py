"""Statistics equal what numpy makes of the dense fields."""

from pathlib import Path

import numpy as np
import pytest

from ocean_emulators.config import parse
from ocean_emulators.datasets.config import DataConfig, Period
from ocean_emulators.datasets.preparation import prepare, store_path
from ocean_emulators.datasets.statistics import Statistics, compute_statistics, read_statistics, write_statistics
from ocean_emulators.datasets.store import PackedStore, open_store
from ocean_emulators.errors import UserError
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
    changed = compute_statistics(open_store(store_path(tmp_path / "packed", 1)), experiment_data.periods.train)
    for name in ("mean", "std", "change_std", "climatology"):
        assert np.array_equal(getattr(changed, name), getattr(statistics, name))
    assert changed.fingerprint != statistics.fingerprint


@pytest.fixture
def experiment_data() -> DataConfig:
    return parse(DataConfig, tiny.experiment()["data"], "tiny")


def test_less_than_a_year_gives_no_climatology(store: PackedStore) -> None:
    with pytest.raises(UserError, match=r"data.periods.train: .* no data in 37 of the 73 seasons"):
        compute_statistics(store, Period(start="2000-01-01", end="2000-06-29"))


def test_a_field_that_does_not_vary_is_refused(tmp_path: Path, experiment_data: DataConfig) -> None:
    dataset = tiny.dataset()
    dataset["zos"] = dataset["zos"].where(dataset["zos"].isnull(), 1.0)
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    prepare(experiment_data.replace(source=str(tmp_path / "s.zarr")), tmp_path / "packed")
    with pytest.raises(UserError, match="data: zos does not vary over the training period"):
        compute_statistics(open_store(store_path(tmp_path / "packed", 1)), experiment_data.periods.train)


def test_what_is_written_is_read(statistics: Statistics, tmp_path: Path) -> None:
    write_statistics(statistics, tmp_path / "s.zarr")
    read = read_statistics(tmp_path / "s.zarr")
    for name in ("mean", "std", "change_std", "climatology"):
        assert np.array_equal(getattr(read, name), getattr(statistics, name))
    assert (read.names, read.fingerprint) == (statistics.names, statistics.fingerprint)


def test_no_statistics_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no statistics here; `dvc repro stats` makes them"):
        read_statistics(tmp_path / "none")
