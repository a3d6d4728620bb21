"""Ways in which files go bad."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Damage = Callable[[Path], None]


def remove(path: Path) -> None:
    """The file is gone."""
    path.unlink()


def cut(share: float) -> Damage:
    """So much of the file is left, and never all."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])

    return damage


def flip(share: float, bit: int) -> Damage:
    """One bit of the byte that stands at that share of the file is another."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 1 << bit
        path.write_bytes(content)

    return damage


def all_of(folder: Path, rng: np.random.Generator, flips: int = 6) -> Iterator[tuple[Path, Damage]]:
    """Each file of a folder (named relative to it) with each damage, at places that `rng` draws."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.stat().st_size:
            kinds = [remove, cut(0), cut(rng.random()), cut(1)]
            kinds += [flip(share, int(rng.integers(8))) for share in (0, 1 - 1e-9, *rng.random(flips - 2))]
            for damage in kinds:
                yield path.relative_to(folder), damage
