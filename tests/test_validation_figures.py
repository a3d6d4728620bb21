"""Figures of a validation: of each variable at its surface, on each grid, whatever was predicted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from ocean_emulators.figures.base import VALIDATION_FIGURES, Drawn, draw_validation, new_figure, save_figures

CHANNELS = ["zos", "thetao_1", "thetao_0"]
MEANS = ["mean_truth", "mean_prediction", "mean_error"]
SNAPSHOT = ["truth", "prediction", "true_increment", "increment", "error"]


def maps(seed: int = 0, **changed: Any) -> xr.Dataset:
    """Random maps with a column of land; some may be given."""
    rng = np.random.default_rng(seed)
    fields = {name: changed.get(name, rng.normal(size=(3, 6, 8))) for name in (*MEANS, *SNAPSHOT)}
    fields = {name: np.where(np.arange(8) == 0, np.nan, values) for name, values in fields.items()}
    lat, lon = np.linspace(-75, 75, 6), np.arange(8) * 45.0
    return xr.Dataset(
        {name: (("channel", "lat", "lon"), values) for name, values in fields.items()},
        coords={"channel": CHANNELS, "lat": lat, "lon": lon},
    )


def meshes(figure: Figure) -> list[list[QuadMesh]]:
    """Of the panels, row by row."""
    found = [artist for axes in figure.axes for artist in axes.collections if isinstance(artist, QuadMesh)]
    drawn = [mesh for mesh in found if np.size(mesh.get_array()) == 6 * 8]  # the others are colour bars
    rows = sum(bool(axes.get_ylabel()) for axes in figure.axes)
    return [drawn[k : k + len(drawn) // rows] for k in range(0, len(drawn), len(drawn) // rows)]


def test_each_variable_is_shown_at_its_uppermost_level() -> None:
    of_grid = maps()
    for name, columns in (("snapshot", SNAPSHOT), ("mean_maps", MEANS)):
        rows = meshes(draw_validation({"x1": of_grid})[name])
        for row, channel in zip(rows, ["thetao_0", "zos"], strict=True):
            for mesh, column in zip(row, columns, strict=True):
                shown = np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(6, 8)
                assert np.array_equal(shown, of_grid[column].sel(channel=channel), equal_nan=True), (channel, column)


def test_what_is_to_be_compared_has_one_scale() -> None:
    for truth, prediction, true_change, change, error in meshes(draw_validation({"x1": maps()})["snapshot"]):
        assert truth.get_clim() == prediction.get_clim()
        assert true_change.get_clim() == change.get_clim() == error.get_clim()


def test_further_grids_have_figures_of_their_own() -> None:
    drawn = draw_validation({"x1": maps(), "x2": maps(1)})
    assert set(drawn) == {"snapshot", "mean_maps", "snapshot_x2", "mean_maps_x2"}


def test_a_rank_without_a_window_of_its_own_draws_means_alone() -> None:
    assert list(draw_validation({"x1": maps().drop_vars(SNAPSHOT)})) == ["mean_maps"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_any_prediction_can_be_drawn(value: float, tmp_path: Path) -> None:
    """A model that has come apart is what one wants to see."""
    bad = {name: np.full((3, 6, 8), value) for name in ("prediction", "error", "mean_prediction", "mean_error")}
    save_figures(draw_validation({"x1": maps(**bad)}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"snapshot.png", "mean_maps.png"}


def test_a_figure_is_added_in_one_place() -> None:
    @VALIDATION_FIGURES.register("empty")
    def draw(maps: xr.Dataset) -> Drawn:
        return {"empty": new_figure(1, 1)}

    try:
        assert "empty" in draw_validation({"x1": maps()})
    finally:
        VALIDATION_FIGURES.remove("empty")
