"""`ocean-emulators data …`: look at a source, pin one that lies elsewhere."""

import argparse
from pathlib import Path
from typing import Any

from ocean_emulators.cli.describe import describe_source
from ocean_emulators.config.base import parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.config import DataConfig
from ocean_emulators.datasets.source.location import Location, is_url, require_known_scheme
from ocean_emulators.datasets.source.pinning import pin, read_pointer
from ocean_emulators.errors import UserError, mask

PRESETS = Path("configs/data")


def describe(options: argparse.Namespace) -> None:
    """Say what a source holds, and what presets would make of it."""
    print(mask(describe_source(_location(options), presets(options.preset))))


def pin_file(options: argparse.Namespace) -> None:
    """Take the fingerprint of the store that a pointer file names, and write it into the file."""
    print(f"{options.file}: {pin(options.file)}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Put the subcommands of `data` on its parser."""
    commands: Any = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = commands.add_parser("describe", help=describe.__doc__)
    sub.add_argument("source", help="a Zarr folder, a .zip file of one, a URL, or a pointer file (.yaml)")
    sub.add_argument(
        "--endpoint", help="address of the S3 service, where SOURCE is an s3:// URL of another than Amazon's"
    )
    sub.add_argument("--anonymous", action="store_true", help="read a public S3 URL without keys")
    sub.add_argument("--preset", help=f"describe it for this preset alone: a name in {PRESETS}/ (default: all of them)")
    sub.set_defaults(run=describe)
    sub = commands.add_parser("pin", help=pin_file.__doc__)
    sub.add_argument("file", type=Path, help="a pointer file, such as data/sources/om4_onedeg.yaml")
    sub.set_defaults(run=pin_file)


def _location(options: argparse.Namespace) -> Location:
    source = str(options.source)
    if source.endswith((".yaml", ".yml")) and not is_url(source):
        return read_pointer(Path(source))
    if is_url(source):
        try:
            require_known_scheme(source)
        except ValueError as error:
            raise UserError(f"data describe: {error}") from None
    return Location(source, source, options.endpoint, options.anonymous)


def presets(name: str | None) -> dict[str, DataConfig]:
    """The preset of that name, or all of them, by their names.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    paths = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    if name is not None and name not in paths:
        raise UserError(f"no preset {name!r} in {PRESETS}/ (there are: {', '.join(paths) or 'none here'})")
    chosen = paths if name is None else {name: paths[name]}
    return {stem: parse(DataConfig, load_yaml(path), str(path)) for stem, path in chosen.items()}
