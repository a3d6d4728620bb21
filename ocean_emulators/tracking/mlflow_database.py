"""The SQLite database that MLflow keeps a project's runs in, looked at without MLflow, whose import takes seconds."""

import importlib.util
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ocean_emulators.errors import UserError

_WAIT_S = 10.0
_CHECKED_BYTES = 100 * 2**20
"""size up to which all of it is checked: that takes a second"""
_REVISION = re.compile(r"^revision = \"(\w+)\"", re.MULTILINE)
_WAY_OUT = (
    "; move it away, and a new one is begun (`ocean-emulators runs sync` brings it what `runs/` holds), name another in "
    "MLFLOW_TRACKING_URI, or keep records in `runs/` alone (OCEAN_EMULATORS_TRACKER=none)"
)
_PLACES = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location"}
"""Columns that hold URIs of files, by table."""


def require_database(path: Path) -> None:
    """Find out, without a change, whether MLflow can write to a database; one that isn't there yet is made.

    Raises
    ------
    UserError
        If it is locked for long, may not be written, or isn't a database, or not MLflow's.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file():
        raise UserError(f"{path}: MLflow's database should be here, and something else is{_WAY_OUT}")
    with _refusing(path), closing(_connect(path)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE whether_it_may_be_written (x)")
        database.execute("ROLLBACK")
        tables = _tables(database)
        revision = (
            database.execute("SELECT version_num FROM alembic_version").fetchone() if _is_mlflow(tables) else None
        )
        checks = path.stat().st_size <= _CHECKED_BYTES
        damage = database.execute("PRAGMA quick_check(1)").fetchone()[0] if checks else "ok"
    if damage != "ok":
        raise UserError(f"{path}: MLflow's database is damaged{_WAY_OUT}")
    if tables and not _is_mlflow(tables):
        raise UserError(f"{path}: a database, but not MLflow's{_WAY_OUT}")
    if revision and revision[0] not in _known_revisions():
        raise UserError(f"{path}: MLflow's database was written by a newer MLflow than is installed{_WAY_OUT}")


def move_artifacts(path: Path, folder: str) -> None:
    """Let a database say that its files are in the folder of that URI.

    MLflow writes absolute places down: a project that was moved or copied would go on in the folder of the old one.
    """
    if not path.is_file():
        return
    with closing(_connect(path)) as database:
        tables = _tables(database)
        if not _is_mlflow(tables):
            return
        wrong = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE '%/mlruns'"
        for (old,) in database.execute(wrong).fetchall():
            if old == folder:
                continue
            for table in _PLACES.keys() & tables:
                column = _PLACES[table]
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} GLOB ?",
                    (folder, len(old) + 1, old, f"{_literally(old)}/*"),
                )


def experiment_in(path: Path, name: str) -> str | None:
    """The number of an experiment in a database; None if it is not there, or can't be read."""
    if not path.is_file():
        return None
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    with suppress(sqlite3.Error), closing(_connect(path)) as database:
        found = database.execute(query, (name,)).fetchone()
        return str(found[0]) if found else None
    return None


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_mlflow(tables: set[str]) -> bool:
    return {"alembic_version", "experiments", "runs"} <= tables


def _literally(text: str) -> str:
    """A text in SQLite's patterns."""
    return re.sub(r"([*?\[])", r"[\1]", text)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(f"{path}: MLflow can't use its database: {error}{_WAY_OUT}") from error


def _known_revisions() -> set[str]:
    """Versions of the database that the installed MLflow knows."""
    found = importlib.util.find_spec("mlflow")
    folders = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    files = [file for folder in folders for file in (folder / "store/db_migrations/versions").glob("*.py")]
    return {revision for file in files for revision in _REVISION.findall(file.read_text())}
