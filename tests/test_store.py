"""The packed store says what it holds."""

from pathlib import Path

import numpy as np
import pytest

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.store import PackedStore, open_store
from ocean_emulators.errors import UserError
from tests import tiny


def test_it_knows_its_channels_grid_and_times(store: PackedStore) -> None:
    dataset = tiny.dataset()
    assert [c.name for c in store.prognostic][-1] == "zos"
    assert [c.name for c in store.forcing] == ["tauuo", "tauvo", "hfds"]
    assert np.array_equal(store.grid.lat, dataset["y"].values)
    assert np.array_equal(store.grid.thickness, dataset["dz"].values)
    assert np.array_equal(store.time, dataset["time"].values)
    assert store.step_days == 5
    assert store.cells_per_channel.sum() == store.rows(0, 1).shape[1]
    assert len(store.fingerprint) == 64


def test_periods_are_ranges_of_times(store: PackedStore) -> None:
    assert store.indices(Period(start="2001-01-01", end="2001-12-31"), "test") == range(73, 146)
    with pytest.raises(UserError, match=r"data.periods.test: 2009-01-01 to 2009-12-31 holds none"):
        store.indices(Period(start="2009-01-01", end="2009-12-31"), "test")


def test_it_is_a_handful_of_files(store: PackedStore) -> None:
    assert sum(path.is_file() for path in store.path.rglob("*")) < 30


def test_no_store_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prepared store here; `dvc repro prepare` makes it"):
        open_store(tmp_path / "none")
