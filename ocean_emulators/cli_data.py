"""`ocean-emulators data …`: look at a source, pin one that lies elsewhere."""

import argparse
from pathlib import Path
from typing import Any

from ocean_emulators.datasets.location import pin as take_and_write


def pin(options: argparse.Namespace) -> None:
    """Take the fingerprint of the store that a pointer file names, and write it into the file."""
    fingerprint = take_and_write(options.file)
    print(f"{options.file}: {fingerprint}")


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Put the subcommands of `data` on its parser."""
    commands: Any = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = commands.add_parser("pin", help=pin.__doc__)
    sub.add_argument("file", type=Path, help="a pointer file, such as data/sources/om4_onedeg.yaml")
    sub.set_defaults(command=pin)
