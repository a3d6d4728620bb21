"""Names of channels and the field table."""

import pytest

from ocean_emulators.errors import UserError
from ocean_emulators.ocean.fields import FIELDS, Channel, channel, channels, field


def test_every_channel_is_found_by_its_name() -> None:
    for name, entry in FIELDS.items():
        for level in (0, 3, 18) if entry.has_levels else (None,):
            made = Channel(entry, level)
            assert made.name == (name if level is None else f"{name}_{level}")
            assert channel(made.name) == made
            assert made.mask_level == (level or 0)


def test_channels_go_field_by_field_from_the_surface_down() -> None:
    names = [c.name for c in channels(["so", "zos", "thetao"], [0, 4])]
    assert names == ["so_0", "so_4", "zos", "thetao_0", "thetao_4"]


@pytest.mark.parametrize("name", ["thetao", "zos_1", "hfds_0", "thetao_x", "nothing", ""])
def test_what_is_no_channel_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no channel"):
        channel(name)


def test_unknown_fields_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="no field 'thetoa'; did you mean 'thetao'"):
        field("thetoa")
    with pytest.raises(UserError, match="no field 'salt'"):
        channel("salt_3")
