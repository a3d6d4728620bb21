"""What is derived from fields."""

from collections.abc import Sequence

import numpy as np

from ocean_emulators.ocean.constants import SEA_WATER_DENSITY, SEA_WATER_HEAT_CAPACITY
from ocean_emulators.ocean.fields import Channel

HEAT_CONTENT = "ocean_heat_content"
"""What the heat content of a column is called: heat above 0 degC, J m-2, at the levels where temperature is held"""


def heat_per_degree(channels: Sequence[Channel], thickness: np.ndarray) -> dict[int, float]:
    """By the place of a temperature among `channels`, the heat content of its level for each degree, J m-2 K-1.

    `thickness` [lev] is that of the levels, m. These times the temperatures, summed over the wet levels of a column, are its
    heat content.
    """
    return {
        place: SEA_WATER_DENSITY * SEA_WATER_HEAT_CAPACITY * float(thickness[channel.level])
        for place, channel in enumerate(channels)
        if channel.field.name == "thetao" and channel.level is not None
    }
