"""Maps of one-step predictions at the uppermost level of each variable: means over the validation period, and one window."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ocean_emulators.aggregator.accumulator import Accumulator
from ocean_emulators.datasets.prepared import PreparedGrid
from ocean_emulators.distributed import ALONE, Ranks
from ocean_emulators.ocean.fields import Channel
from ocean_emulators.stepper import Fields


def uppermost(channels: Sequence[Channel]) -> list[int]:
    """Of each variable, the channel of its uppermost level."""
    names = dict.fromkeys(channel.field.name for channel in channels)
    of_names = ([k for k, channel in enumerate(channels) if channel.field.name == name] for name in names)
    return [min(places, key=lambda k: channels[k].mask_level) for places in of_names]


class Maps:
    """The first predicted state on one grid: its mean, and its snapshot in the first window, which is always the same."""

    def __init__(self, grid: PreparedGrid, ranks: Ranks = ALONE) -> None:
        self.channels = uppermost(grid.store.prognostic)
        mask = grid.packing.prognostic_mask[self.channels]
        shapes = {"truth": tuple(mask.shape), "error": tuple(mask.shape), "windows": ()}
        self.grid = grid
        # float32: fields are of order 1, and maps are to be looked at.
        self.sums = Accumulator(shapes, mask.device, ranks, torch.float32)
        self.snapshot: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Begin a validation."""
        self.sums.reset()
        self.snapshot = {}

    def record(self, fields: Fields) -> None:
        """Add windows."""
        predicted, truth = (states[:, 0, self.channels] for states in (fields.predicted, fields.truth))
        self.sums.add("truth", truth.sum(0))
        self.sums.add("error", predicted.sum(0) - truth.sum(0))
        self.sums.add("windows", len(truth))
        if not self.snapshot and len(truth):
            first = {"initial": fields.initial[:, self.channels], "prediction": predicted, "truth": truth}
            self.snapshot = {name: field[0].float().clone() for name, field in first.items()}

    def to_dataset(self) -> xr.Dataset:
        """Physical maps (channel, lat, lon), NaN on land; all ranks must ask for them together.

        `mean_truth`, `mean_prediction` and `mean_error` over all ranks' windows; `truth`, `prediction`, `error`,
        `true_increment` and `increment` (from the last given state) of this rank's first window, if it had one.
        """
        totals = self.sums.totals()
        truth, error = (totals[name] / totals["windows"] for name in ("truth", "error"))
        maps = {
            "mean_truth": self._states(truth),
            "mean_prediction": self._states(truth + error),
            "mean_error": self._differences(error),
            **self._snapshot(),
        }
        channels = [self.grid.store.prognostic[k] for k in self.channels]
        units = {"units": ("channel", [c.field.units for c in channels])}
        described = self.grid.store.grid.to_dataset()
        coordinates = {"channel": [c.name for c in channels], "lat": described["lat"], "lon": described["lon"], **units}
        return xr.Dataset({n: (("channel", "lat", "lon"), v) for n, v in maps.items()}, coords=coordinates)

    def _snapshot(self) -> Mapping[str, np.ndarray]:
        if not self.snapshot:
            return {}
        initial, prediction, truth = (self.snapshot[n].cpu() for n in ("initial", "prediction", "truth"))
        return {
            "truth": self._states(truth),
            "prediction": self._states(prediction),
            "error": self._differences(prediction - truth),
            "true_increment": self._differences(truth - initial),
            "increment": self._differences(prediction - initial),
        }

    def _differences(self, normalised: Tensor) -> np.ndarray:
        """[channel, lat, lon] of states' differences to physical values, NaN on land."""
        physical = normalised.numpy() * self.grid.statistics.std[self.channels, None, None]
        wet = self.grid.packing.prognostic_mask[self.channels].cpu().numpy()
        result: np.ndarray = np.where(wet, physical, np.nan).astype("f4")
        return result

    def _states(self, normalised: Tensor) -> np.ndarray:
        """The same of states."""
        result: np.ndarray = self._differences(normalised) + self.grid.statistics.mean[self.channels, None, None]
        return result.astype("f4")
