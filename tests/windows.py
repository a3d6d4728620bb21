"""What models may read and write, and a period of the tiny ocean, for tests of windows and rollouts."""

from ocean_emulators.datasets.config import Period
from ocean_emulators.datasets.requirements import DataRequirements

NEEDS = [
    DataRequirements(1, 1, (0, 1)),
    DataRequirements(2, 2, (-1, 0)),
    DataRequirements(1, 1, ()),
    DataRequirements(2, 1, (-1, 0, 1)),
]

TEST = Period(start="2002-07-01", end="2002-12-31")
"""The tiny ocean's test period."""
