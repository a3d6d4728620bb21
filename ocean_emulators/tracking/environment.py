"""Files that tell what a result was made with: packages, and how the code differs from the last commit."""

from ocean_emulators.tracking.provenance import changes_of_code, packages
from ocean_emulators.tracking.writing import Record


def describe_environment(record: Record) -> None:
    """Put them into a record."""
    record.log_text(packages(), "environment/packages.txt")
    changes = changes_of_code()
    if changes:
        record.log_text(changes + b"\n", "code/changes.diff")
