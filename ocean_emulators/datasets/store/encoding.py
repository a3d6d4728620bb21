"""How values of a packed store are written: as they are, or in normalised units at half the size."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Storage = Literal["float32", "float16", "bfloat16"]

# What Zarr writes, and how torch reads it. Zarr has no bfloat16: its bits are written.
_DTYPES: dict[Storage, tuple[str, torch.dtype]] = {
    "float32": ("float32", torch.float32),
    "float16": ("float16", torch.float16),
    "bfloat16": ("int16", torch.bfloat16),
}


@dataclass(frozen=True)
class Scaling:
    """A stored value is (value - offset) / scale of its channel; for float32 it is the value."""

    storage: Storage
    offset: np.ndarray
    """[channel], float32, physical units"""
    scale: np.ndarray
    """[channel], float32, physical units"""

    @classmethod
    def of(cls, storage: Storage, sample: np.ndarray, cells_per_channel: np.ndarray) -> "Scaling":
        """From a sample of rows [time, cell]: mean and standard deviation of each channel, or none for float32."""
        offset, scale = np.zeros(len(cells_per_channel)), np.ones(len(cells_per_channel))
        if storage != "float32":
            ends = np.cumsum(cells_per_channel)
            for c, (end, count) in enumerate(zip(ends, cells_per_channel, strict=True)):
                values = sample[:, end - count : end].astype("f8")
                offset[c], scale[c] = values.mean(), values.std() or 1.0
        return cls(storage, offset.astype("f4"), scale.astype("f4"))

    def to_json(self) -> dict[str, Any]:
        """As plain data, from which `from_json` makes the same."""
        return {"storage": self.storage, "offset": self.offset.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Scaling":
        """What `to_json` gave."""
        return cls(tree["storage"], np.array(tree["offset"], "f4"), np.array(tree["scale"], "f4"))

    @property
    def written(self) -> np.dtype:
        """The data type on disk."""
        return np.dtype(_DTYPES[self.storage][0])

    def encode(self, rows: np.ndarray, cells_per_channel: np.ndarray) -> np.ndarray:
        """Rows [time, cell], physical units, float32, as they are written."""
        if self.storage == "float32":
            return rows
        offset, scale = (np.repeat(values, cells_per_channel) for values in (self.offset, self.scale))
        stored = torch.from_numpy((rows - offset) / scale).to(_DTYPES[self.storage][1])
        return stored.view(getattr(torch, self.written.name)).numpy()

    def as_stored(self, written: np.ndarray) -> Tensor:
        """What was written as a tensor of stored values, without a copy."""
        return torch.from_numpy(written).view(_DTYPES[self.storage][1])

    def decode(self, stored: Tensor, cells_per_channel: np.ndarray) -> np.ndarray:
        """Stored values [time, cell] in physical units, float32."""
        if self.storage == "float32":
            return stored.numpy()
        offset, scale = (torch.from_numpy(np.repeat(v, cells_per_channel)) for v in (self.offset, self.scale))
        return torch.addcmul(offset, stored.float(), scale).numpy()
