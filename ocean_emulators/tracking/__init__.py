"""The one door to experiment tracking: a record of each experiment in the project's `runs`, and copies of it in trackers."""

from ocean_emulators.tracking.base import TRACKERS, Tracker
from ocean_emulators.tracking.inputs import digests_of_inputs
from ocean_emulators.tracking.open import open_record, require_trackers
from ocean_emulators.tracking.provenance import Provenance
from ocean_emulators.tracking.writing import Record

__all__ = ["TRACKERS", "Provenance", "Record", "Tracker", "digests_of_inputs", "open_record", "require_trackers"]
