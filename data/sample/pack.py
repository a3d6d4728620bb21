"""Pack an OM4-layout store into the one file that the repository holds.

Usage: pack.py STORE.zarr OUT.zarr.zip FIRST_YEAR

Each time-dependent array is stored as 16-bit integers, differenced in time, bit-shuffled and compressed, by standard
filters of Zarr version 2: `xarray.open_zarr(zarr.storage.ZipStore(path))` gives back float32 fields with NaN on land.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from numcodecs import Blosc, Delta, FixedScaleOffset

TIMES_PER_CHUNK = 146  # two years
LARGEST_STEP = 1 / 8  # of the standard deviation of the change over 5 days
MISSING = -32768  # the integer that stands for land


def main(source: str, target: str, first_year: int) -> None:
    """Write the years from `first_year` on."""
    dataset = xr.open_zarr(source, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)).load()
    dataset = dataset.isel(time=[t.year >= first_year for t in dataset["time"].values])
    dataset["time"].encoding = {"units": "days since 1980-01-01", "dtype": "float64"}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.zarr"
        varying = [name for name, variable in dataset.data_vars.items() if "time" in variable.dims]
        dataset.drop_vars(varying).to_zarr(store, zarr_format=2, consolidated=False)
        for name in varying:
            write(store, str(name), dataset[name])
        zarr.consolidate_metadata(store)
        zip_folder(store, Path(target))


def step_of(field: xr.DataArray) -> float:
    """Rounding step: the largest power of two that is small against the field's change; no finer than the source's."""
    change = float(np.nanstd(np.diff(field.values.astype("f8"), axis=0)))
    coarse = 2.0 ** np.floor(np.log2(LARGEST_STEP * change))
    return max(coarse, float(field.attrs["precision"]))


def write(store: Path, name: str, field: xr.DataArray) -> None:
    """One field [time, y, x], rounded; its chunks run along time first (order F), so that the differences do."""
    step = step_of(field)
    values = field.values.astype("f8")
    middle = np.round((np.nanmin(values) + np.nanmax(values)) / 2 / step) * step
    land = np.float32(middle + MISSING * step)
    whole = np.round((values - middle) / step)
    assert np.nanmax(np.abs(whole)) < -MISSING, f"{name}: {step} is too fine for 16 bits"
    array = zarr.create_array(
        store,
        name=name,
        shape=values.shape,
        chunks=(TIMES_PER_CHUNK, *values.shape[1:]),
        dtype="f4",
        order="F",
        filters=[FixedScaleOffset(offset=middle, scale=1 / step, dtype="<f4", astype="<i2"), Delta("<i2")],
        compressors=Blosc(cname="zstd", clevel=9, shuffle=Blosc.BITSHUFFLE),
        fill_value=land,
        zarr_format=2,
        attributes={**field.attrs, "precision": step, "_ARRAY_DIMENSIONS": list(field.dims)},
    )
    array[:] = np.where(np.isnan(values), land, whole * step + middle).astype("f4")


def zip_folder(folder: Path, target: Path) -> None:
    """Stored, not compressed again; sorted and without times of day, so that the same content gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
