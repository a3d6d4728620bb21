"""The globe: cell areas and regions."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.errors import UserError
from ocean_emulators.ocean.constants import EARTH_RADIUS
from ocean_emulators.ocean.grid import Grid, cell_area
from ocean_emulators.ocean.regions import NINO34, REGIONS, Region


def centres(n_lat: int, n_lon: int) -> tuple[np.ndarray, np.ndarray]:
    return (np.arange(n_lat) + 0.5) * 180 / n_lat - 90, (np.arange(n_lon) + 0.5) * 360 / n_lon


def grid(n_lat: int = 36, n_lon: int = 72) -> Grid:
    lat, lon = centres(n_lat, n_lon)
    return Grid(lat, lon, cell_area(lat, lon), np.array([5.0]), np.array([10.0]))


@given(n_lat=st.integers(2, 60), n_lon=st.integers(2, 60))
def test_cells_cover_the_sphere_once(n_lat: int, n_lon: int) -> None:
    area = cell_area(*centres(n_lat, n_lon))
    assert area.sum() == pytest.approx(4 * np.pi * EARTH_RADIUS**2)
    assert np.allclose(area, area[::-1])


def test_a_cell_at_the_equator_by_hand() -> None:
    area = cell_area(*centres(2, 4))
    assert area[0, 0] == pytest.approx(2 * np.pi * EARTH_RADIUS**2 / 4)


def dataset(lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"dz": ("lev", [10.0])}, coords={"lat": lat, "lon": lon, "lev": [5.0]})


def test_a_grid_is_read_as_it_is_written() -> None:
    read = Grid.from_dataset(grid().to_dataset())
    for name in ("lat", "lon", "area", "lev", "thickness"):
        assert np.array_equal(getattr(read, name), getattr(grid(), name))


def test_given_areas_are_kept_and_missing_ones_made() -> None:
    lat, lon = centres(4, 8)
    assert np.array_equal(Grid.from_dataset(dataset(lat, lon)).area, cell_area(lat, lon))
    given = dataset(lat, lon).assign(areacello=(("lat", "lon"), np.full((4, 8), 7.0)))
    assert (Grid.from_dataset(given).area == 7).all()


def test_irregular_grids_are_refused() -> None:
    lat, lon = centres(4, 8)
    with pytest.raises(UserError, match="longitudes of the grid are not 8 equal steps"):
        Grid.from_dataset(dataset(lat, lon**1.1))
    with pytest.raises(UserError, match="longitudes of the grid are not 8 equal steps"):
        Grid.from_dataset(dataset(lat, lon / 2))
    with pytest.raises(UserError, match="latitudes of the grid do not ascend"):
        Grid.from_dataset(dataset(lat[::-1], lon))


def test_score_regions_part_the_globe() -> None:
    whole, *parts = (region.mask(grid()) for region in REGIONS.values())
    assert whole.all()
    assert (sum(part.astype(int) for part in parts) == 1).all()


def test_regions_wrap_around_greenwich_and_do_not_ask_how_longitudes_are_counted() -> None:
    g = grid()
    box = Region("box", -10, 10, 350, 370).mask(g)
    assert sorted(g.lon[box.any(0)]) == [2.5, 7.5, 352.5, 357.5]
    shifted = Grid(g.lat, g.lon - 180, g.area, g.lev, g.thickness)
    chosen = shifted.lon[NINO34.mask(shifted).any(0)] % 360
    assert sorted(chosen) == sorted(g.lon[NINO34.mask(g).any(0)])
    assert (chosen.min(), chosen.max()) == (192.5, 237.5)
    assert g.lat[NINO34.mask(g).any(1)].tolist() == [-2.5, 2.5]
