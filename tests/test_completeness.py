"""A store that has lost chunks is refused; one that never had those over land is not."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.datasets.preparation import prepare
from ocean_emulators.datasets.synthetic import write_om4
from ocean_emulators.errors import UserError
from tests.test_synthetic import SHAPE, TIMES, config

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
    message = (
        rf"s.zarr: {name} has no chunk {key} \(times 4 to 4\), which it has at other times: the store is not whole"
    )
    sources = [path, Path(shutil.make_archive(str(path), "zip", path))] if layout == "current" else [path]
    for source in sources:
        with pytest.raises(UserError, match=message.replace("s.zarr:", r"s.zarr(.zip)?:")):
            prepare(config(source, [0, 1], ["hfds"]), tmp_path / "ocean.packed")


def test_what_is_lost_outside_of_what_is_asked_for_does_no_harm(tmp_path: Path) -> None:
    write_om4(tmp_path / "s.zarr", SHAPE, TIMES + 2, 2)
    (tmp_path / "s.zarr" / "tauvo" / "1.0.0").unlink()
    (tmp_path / "s.zarr" / "so_1" / "7.0.0").unlink()
    chosen = config(tmp_path / "s.zarr", [0, 1], ["hfds"])
    periods = chosen.periods.replace(test={"start": "1958-01-22", "end": "1958-01-30"})
    prepare(chosen.replace(periods=periods.dump()), tmp_path / "ocean.packed")


@pytest.mark.parametrize(("zarr_format", "land"), [(2, np.nan), (3, 0.0)])
def test_chunks_that_were_never_written_are_not_missed(zarr_format: Any, land: float, tmp_path: Path) -> None:
    """Over land, and of a field that is zero everywhere and always."""
    write_om4(tmp_path / "whole.zarr", SHAPE, TIMES, 2, chunks=(1, 1, 12), land=land)
    dataset = xr.open_zarr(tmp_path / "whole.zarr").load().drop_encoding()
    fill = {"_FillValue": np.nan} if zarr_format == 2 else {"fill_value": 0.0, "_FillValue": None}
    encoding = {n: {"chunks": (1, 1, 12), **fill} for n, v in dataset.data_vars.items() if "time" in v.dims}
    if zarr_format == 3:
        dataset["tauvo"] = dataset["tauvo"] * 0
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=zarr_format, encoding=encoding, write_empty_chunks=False)
    written = [f for f in (tmp_path / "s.zarr" / "so_1").rglob("*") if f.is_file()]
    assert TIMES < len(written) < SHAPE[0] * TIMES
    prepare(config(tmp_path / "s.zarr", [0, 1], ["hfds", "tauvo"]), tmp_path / "ocean.packed")
