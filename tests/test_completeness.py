"""A store that has lost chunks is refused; one that never had those over land is not."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.errors import UserError
from ocean_emulators.testing.coded_ocean import write_om4
from tests.coded import SHAPE, TIMES, config

PLACES = {
    ("current", 2): "so_1/4.0.0",
    ("current", 3): "so_1/c/4/0/0",
    ("legacy", 2): "so_lev_10_0/4.0.0",
    ("legacy", 3): "so_lev_10_0/c/4/0/0",
    ("compact", 2): "so/4.1.0.0",
    ("compact", 3): "so/c/4/1/0/0",
}


@pytest.mark.parametrize(("layout", "zarr_format"), PLACES, ids=str)
@pytest.mark.parametrize("land", [np.nan, 0.0])
def test_a_lost_chunk_is_named(layout: Any, zarr_format: Any, land: float, tmp_path: Path) -> None:
    path, place = tmp_path / "s.zarr", PLACES[layout, zarr_format]
    write_om4(path, SHAPE, TIMES, 2, layout, zarr_format, land=land)
    (path / place).unlink()
    name, _, key = place.partition("/")
    message = rf"s.zarr: {name} has no chunk {key} \(times 4 to 4\), where there is ocean or at other times a chunk: the store"
    sources = [path, Path(shutil.make_archive(str(path), "zip", path))] if layout == "current" else [path]
    for source in sources:
        with pytest.raises(UserError, match=message.replace("s.zarr:", r"s.zarr(.zip)?:")):
            prepare(config(source, [0, 1], ["hfds"]), tmp_path / "ocean.packed")


@pytest.mark.parametrize(("layout", "zarr_format"), PLACES, ids=str)
def test_a_chunk_that_is_lost_at_every_time_is_named(layout: Any, zarr_format: Any, tmp_path: Path) -> None:
    """Zeros, everywhere and always, would pass for an ocean without missing values (in version 2, xarray sees them)."""
    path, place = tmp_path / "s.zarr", PLACES[layout, zarr_format]
    write_om4(path, SHAPE, TIMES, 2, layout, zarr_format, land=0.0)
    for metadata in (*path.rglob("zarr.json"), *path.rglob(".z*a*")):
        metadata.write_text(metadata.read_text().replace('"fill_value": "NaN"', '"fill_value": 0.0'))
    first = place.replace("4", "0", 1)
    for time in range(TIMES):
        (path / place.replace("4", str(time), 1)).unlink()
    name, _, key = first.partition("/")
    lost = rf"{name} has no chunk {key} \(times 0 to 0\), where there is ocean"
    with pytest.raises(UserError, match=lost if zarr_format == 3 else "so_1 has no value at 1958-01-03"):
        prepare(config(path, [0, 1], ["hfds"]), tmp_path / "ocean.packed")
    if layout != "compact":
        prepare(config(path, [0], ["hfds"]), tmp_path / "ocean.packed")


def test_what_is_lost_outside_of_what_is_asked_for_does_no_harm(tmp_path: Path) -> None:
    write_om4(tmp_path / "s.zarr", SHAPE, TIMES + 2, 2)
    (tmp_path / "s.zarr" / "tauvo" / "1.0.0").unlink()
    (tmp_path / "s.zarr" / "so_1" / "7.0.0").unlink()
    chosen = config(tmp_path / "s.zarr", [0, 1], ["hfds"])
    periods = chosen.periods.replace(test={"start": "1958-01-22", "end": "1958-01-30"})
    prepare(chosen.replace(periods=periods.dump()), tmp_path / "ocean.packed")


@pytest.mark.parametrize(("zarr_format", "land"), [(2, np.nan), (3, 0.0)])
def test_chunks_that_were_never_written_are_not_missed(zarr_format: Any, land: float, tmp_path: Path) -> None:
    """Over land."""
    write_om4(tmp_path / "whole.zarr", SHAPE, TIMES, 2, chunks=(1, 1, 12), land=land)
    dataset = xr.open_zarr(tmp_path / "whole.zarr").load().drop_encoding()
    fill = {"_FillValue": np.nan} if zarr_format == 2 else {"fill_value": 0.0, "_FillValue": None}
    encoding = {n: {"chunks": (1, 1, 12), **fill} for n, v in dataset.data_vars.items() if "time" in v.dims}
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=zarr_format, encoding=encoding, write_empty_chunks=False)
    written = [f for f in (tmp_path / "s.zarr" / "so_1").rglob("*") if f.is_file()]
    assert TIMES < len(written) < SHAPE[0] * TIMES
    prepare(config(tmp_path / "s.zarr", [0, 1], ["hfds"]), tmp_path / "ocean.packed")
