"""The one door to experiment tracking: everything runs with any tracker or none."""

from ocean_emulators.tracking.base import NullTracker, Tracker
from ocean_emulators.tracking.open import open_tracker

__all__ = ["NullTracker", "Tracker", "open_tracker"]
