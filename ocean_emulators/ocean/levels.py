"""Depth levels: how variables are named by them, and OM4's, for stores that were published without them."""

import re

import numpy as np

_BY_DEPTH = re.compile(r"(?P<name>.+)_lev_(?P<depth>\d+(?:_\d+)?)")
_BY_LEVEL = re.compile(r"(?P<name>.+)_(?P<level>\d+)")

OM4_DEPTH = np.array(
    [2.5, 10, 22.5, 40, 65, 105, 165, 250, 375, 550, 775, 1050, 1400, 1850, 2400, 3100, 4000, 5000, 6000]
)
"""[lev], depth of the level centres, m: the vertical grid of the OM4 output that Samudra was trained on
(Dheeshjith et al. 2025, doi:10.1029/2024GL114318)"""

OM4_THICKNESS = np.array([5.0, 10, 15, 20, 30, 50, 70, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1000, 1000])
"""[lev], m, of the same levels: each begins where the one above ends, the first at the surface"""


def known_thickness(depth: np.ndarray) -> np.ndarray | None:
    """Thickness of levels at `depth` [lev], m, where these are OM4's, from the surface down; else None."""
    n = len(depth)
    if n > len(OM4_DEPTH) or not np.allclose(depth, OM4_DEPTH[:n], rtol=1e-5):
        return None
    return OM4_THICKNESS[:n]


def level_of(depth: float, levels: np.ndarray) -> int | None:
    """The level (counted from the surface) whose centre is at `depth`, m, to a millimetre; else None."""
    found = np.flatnonzero(np.isclose(levels, depth, rtol=0, atol=1e-3))
    return int(found[0]) if len(found) else None


def split_depth(variable: str) -> tuple[str, float] | None:
    """Field and depth (m) of a variable that is named by its depth: `thetao_lev_2_5` is (`thetao`, 2.5); else None."""
    match = _BY_DEPTH.fullmatch(variable)
    return (match["name"], float(match["depth"].replace("_", "."))) if match else None


def split_level(variable: str) -> tuple[str, int] | None:
    """Field and level of a variable that is named by its level: `thetao_3` is (`thetao`, 3); else None."""
    match = None if _BY_DEPTH.fullmatch(variable) else _BY_LEVEL.fullmatch(variable)
    return (match["name"], int(match["level"])) if match else None
