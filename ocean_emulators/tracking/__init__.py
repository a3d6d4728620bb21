"""The one door to experiment tracking: everything runs with any tracker or none."""

from ocean_emulators.tracking.base import TRACKERS, Tracker
from ocean_emulators.tracking.open import open_tracker
from ocean_emulators.tracking.provenance import Provenance

__all__ = ["TRACKERS", "Provenance", "Tracker", "open_tracker"]
