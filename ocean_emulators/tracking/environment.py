"""Files that tell what a result was made with: packages, and how the code differs from the last commit."""

from ocean_emulators.tracking.provenance import changes_of_code, packages
from ocean_emulators.tracking.writing import Record

PACKAGES, CHANGES = "environment/packages.txt", "code/changes.diff"


def describe_environment(record: Record) -> None:
    """Put them into a record."""
    record.log_text(packages(), PACKAGES)
    changes = changes_of_code()
    if changes:
        record.log_text(changes, CHANGES)
