"""Parts of the globe over which scores and indices are taken."""

from dataclasses import dataclass

import numpy as np

from ocean_emulators.ocean.grid import Grid
from ocean_emulators.registry import Registry


@dataclass(frozen=True)
class Region:
    """A box: latitudes from south to north, longitudes eastward from west to east (degrees)."""

    name: str
    south: float
    north: float
    west: float = 0.0
    east: float = 360.0

    def mask(self, grid: Grid) -> np.ndarray:
        """Cells whose centres lie in the box, bool [lat, lon]."""
        span = self.east - self.west
        in_lon = (grid.lon - self.west) % 360 < span if span < 360 else np.ones(len(grid.lon), bool)
        in_lat = (grid.lat >= self.south) & (grid.lat < self.north)
        return in_lat[:, None] & in_lon[None, :]


REGIONS: Registry[Region] = Registry("region")
"""Parts of the globe that scores are taken over, by name."""

# A box is open to the north; 90.1 takes in cells that are centred on the pole.
for _region in (
    Region("global", -90.0, 90.1),
    Region("southern_extratropics", -90.0, -20.0),
    Region("tropics", -20.0, 20.0),
    Region("northern_extratropics", 20.0, 90.1),
):
    REGIONS.register(_region.name)(_region)

NINO34 = Region("nino34", -5.0, 5.0, 190.0, 240.0)
"""Trenberth (1997), doi:10.1175/1520-0477(1997)078<2771:TDOENO>2.0.CO;2: 5°S-5°N, 170°W-120°W."""
