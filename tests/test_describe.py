"""What `data describe` says of a store, and that it says it of stores that nobody could train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ocean_emulators.cli.describe import describe_source
from ocean_emulators.cli.main import main
from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.source.location import Location
from ocean_emulators.datasets.source.pinning import pin
from ocean_emulators.errors import UserError
from ocean_emulators.testing.coded_ocean import write_om4
from tests import tiny
from tests.coded import SHAPE, config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def om4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three years of the synthetic ocean, the last of them a leap year's beginning."""
    path = tmp_path_factory.mktemp("om4") / "om4.zarr"
    write_om4(path, SHAPE, 230, 3, chunks=(230, *SHAPE))
    return path


def described(path: Path, **presets: DataConfig) -> str:
    return describe_source(Location(path.name, str(path)), presets)


def test_a_store_is_described_whole(om4: Path) -> None:
    text = described(om4)
    for line in (
        f"source  {om4}",
        "storage  Zarr version 2, 30 arrays",
        "chunks of 230 × 6 × 12, float32, Blosc: hfds, so_0",
        "layout  current: levels by level, masks by level, depths given",
        "fields  thetao, levels 0-2: degC",
        "no hfds_anomalies: can be derived from hfds",
        "6 latitudes, -75 to 75 °N, every 30°",
        "cell areas given, 510.1 million km2 together",
        "230 times from 1958-01-03 12:00:00 to 1961-02-22 12:00:00, julian calendar",
        "every 5 days, 1 of 6 days in leap years",
        "       2       22.5             15          3 (4%)",
        "1961-02-22 12:00:00: every wet cell has a value",
        "land is NaN in thetao, so, uo, vo, zos, tauuo and 2 more",
    ):
        assert line in text, line
    assert "other step" not in text


def test_each_preset_says_what_it_makes_of_it_or_why_not(om4: Path) -> None:
    published = parse(DataConfig, load_yaml(ROOT / "configs/data/om4_onedeg.yaml"), "preset")
    text = described(om4, here=config(om4, [0, 2], ["hfds", "hfds_anomalies"]), onedeg=published)
    assert "as here  refused: data.anomaly_period: hfds_anomalies" in text
    assert "as onedeg  refused: data.levels: level 18 asked for, but om4.zarr has levels 0 to 2" in text
    text = described(om4, here=config(om4, [0, 2], ["hfds"]))
    assert "as here  9 channels predicted, 1 given; 6 × 12" in text
    assert "train: 1958-01-03 to 1958-01-11: 2 times" in text


def broken(dataset: xr.Dataset) -> xr.Dataset:
    dataset["so_1"][0, 9, 1] = np.nan
    dataset["zos"][-1, 0, :] = 3.0
    dataset["uo_0"].attrs["units"] = "knots"
    dataset["salt"] = dataset["zos"] * 2
    return dataset.drop_vars("hfds").isel(time=[*range(100), *range(110, 219)])


CASES: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], list[str]]] = {
    "broken": (
        broken,
        [
            "uo, levels 0-1: knots, no units (expected m s-1: would be refused)",
            "no hfds\n",
            "no hfds_anomalies\n",
            "not in the field table: salt",
            "1 other step(s), of 55 days, the first after 2001-05-13 12:00:00 (time 99)",
            "2000-01-03 12:00:00: so has none in 1 wet cell(s)",
            "land is NaN and 32 other value(s) in zos",
            "cell areas computed",
        ],
    ),
    "irregular": (
        lambda d: d.assign_coords(y=d["y"][::-1].values),
        ["grid  refused: the latitudes of the grid do not"],
    ),
    "unusable": (
        lambda d: d.drop_vars("lev"),
        [
            "holds  ",
            "so_1(time: 219, y: 16, x: 32)",
            "unusable  s.zarr has no coordinate 'lev', and other levels than OM4",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_store_is_part_of_its_description(case: str, tmp_path: Path) -> None:
    change, lines = CASES[case]
    change(tiny.dataset()).to_zarr(tmp_path / "s.zarr", zarr_format=2)
    text = described(tmp_path / "s.zarr")
    for line in lines:
        assert line in text, text


@pytest.mark.parametrize("name", ["lat", "lev", "dz", "areacello", "ocean_fraction", "mask_1"])
def test_a_damaged_variable_is_told_in_one_message(name: str, tmp_path: Path) -> None:
    write_om4(tmp_path / "s.zarr", SHAPE, 2, 2, chunks=(2, *SHAPE))
    for chunk in (tmp_path / "s.zarr" / name).glob("[0-9]*"):
        chunk.write_bytes(b"no chunk")
    config_here = config(tmp_path / "s.zarr", [0], [])
    try:
        text = described(tmp_path / "s.zarr", here=config_here)
    except UserError as error:
        text = str(error)
    assert "s.zarr: " in text
    assert "blosc" in text.lower()


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("older", "older: levels by level, masks by level, no depths"),
        ("compact", "compact: levels stacked, masks stacked"),
    ],
)
def test_generations_are_told_apart(layout: Any, words: str, tmp_path: Path) -> None:
    write_om4(tmp_path / "s.zarr", SHAPE, 2, 19, layout, chunks=(2, *SHAPE), land=0.0, zarr_format=3)
    text = described(tmp_path / "s.zarr")
    assert words in text
    assert "Zarr version 3" in text
    assert "land is 0 in thetao, so" in text


def command(capsys: pytest.CaptureFixture[str], *arguments: str, fails: bool = False) -> str:
    if fails:
        with pytest.raises(SystemExit) as ended:
            main(["data", *arguments])
        assert ended.value.code == 2
    else:
        main(["data", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return err if fails else out


def test_the_commands(om4: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pointer = project / "om4.yaml"
    pointer.write_text(f"url: {om4}\n")
    assert "Zarr version 2" in command(capsys, "describe", "om4.yaml")
    assert command(capsys, "pin", "om4.yaml") == f"om4.yaml: {pin(pointer)}\n"
    assert "Zarr version 2" in command(capsys, "describe", str(om4))
    assert "none.zarr: no such file or folder" in command(capsys, "describe", "none.zarr", fails=True)
    assert "no preset 'x' in configs/data/" in command(capsys, "describe", str(om4), "--preset", "x", fails=True)
    dead = ("describe", "s3://bucket/om4.zarr", "--endpoint", "http://127.0.0.1:1", "--anonymous")
    message = command(capsys, *dead, fails=True)
    assert message.startswith("error: s3://bucket/om4.zarr: http://127.0.0.1:1 can't be reached; check the address")


def test_presets_are_those_of_the_project(
    om4: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    text = command(capsys, "describe", str(om4))
    for path in (ROOT / "configs" / "data").glob("*.yaml"):
        assert f"as {path.stem}  refused: " in text
    assert command(capsys, "describe", str(om4), "--preset", "sample").count("  refused: ") == 1
