"""Copies of records in Weights & Biases: a run for each, online or, with WANDB_MODE=offline, in files for `wandb sync`."""

import importlib.util
import netrc
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ocean_emulators.errors import UserError
from ocean_emulators.tracking.base import TRACKERS
from ocean_emulators.tracking.changes import run_name
from ocean_emulators.tracking.events import Begin, End, Event, File, Metrics, Model, Tags, Text
from ocean_emulators.tracking.record import About

_STEP = "step"
"""axis of all charts: the epoch, batch or lead that numbers are of; W&B's own counts what was handed over"""
_UNREACHABLE_S = 20.0
_SERVER = "https://api.wandb.ai"


@TRACKERS.register("wandb")
@dataclass(frozen=True)
class WandbTracker:
    """The project of the experiment's name at WANDB_BASE_URL; files lie in `wandb/` in the folder `home`, or WANDB_DIR."""

    home: Path

    @property
    def address(self) -> str:
        """See `Tracker`."""
        return self._folder if self._offline else os.environ.get("WANDB_BASE_URL", _SERVER)

    @property
    def _offline(self) -> bool:
        return os.environ.get("WANDB_MODE") in ("offline", "dryrun")

    @property
    def _folder(self) -> str:
        return os.environ.get("WANDB_DIR", str(self.home))

    def require(self) -> None:
        """See `Tracker`."""
        if importlib.util.find_spec("wandb") is None:
            raise UserError(
                "OCEAN_EMULATORS_TRACKER: wandb is not installed; `pip install 'ocean_emulators[wandb]'` does it"
            )
        if not self._offline and not self._has_key():
            raise UserError(
                f"wandb: there is no key for {self.address}; `wandb login` asks for one, or set WANDB_API_KEY, or "
                "WANDB_MODE=offline to send runs later by `wandb sync`"
            )

    def _has_key(self) -> bool:
        if os.environ.get("WANDB_API_KEY"):
            return True
        file, host = os.environ.get("NETRC", str(Path.home() / ".netrc")), urlsplit(self.address).hostname or ""
        with suppress(OSError, netrc.NetrcParseError):
            return netrc.netrc(file).authenticators(host) is not None
        return False

    def open(self, about: About, files: Path, known: str | None) -> "WandbCopy":
        """See `Tracker`: the run is called as the record is, so that it is found again."""
        import wandb  # takes a second: only where it is used

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_stats=True,  # the record has its own
            init_timeout=_UNREACHABLE_S,
        )
        run = wandb.init(
            project=about.name,
            id=about.id,
            name=run_name(about.name, about.key, about.tags),
            resume="allow",
            config={**about.config, "record": about.tags},
            dir=self._folder,
            settings=settings,
            reinit="create_new",
        )
        run.define_metric(_STEP, hidden=True)
        run.define_metric("*", step_metric=_STEP)
        return WandbCopy(run, files)


class WandbCopy:
    """A run; see `Copy`."""

    def __init__(self, run: Any, files: Path) -> None:
        self.id, self._run, self._files, self._code = str(run.id), run, files, 0

    def take(self, events: Sequence[Event], first: int) -> None:
        """See `Copy`: a resumed run of W&B's leaves out what comes with a number that it has.

        Online, W&B sends in processes of its own, and keeps what it could not send in its folder, for `wandb sync`.
        """
        for number, event in enumerate(events, first):
            self._put(event.what, number)

    def close(self) -> None:
        """Send the rest."""
        self._run.finish(exit_code=self._code)

    def _put(self, what: Begin | End | Metrics | File | Model | Text | Tags, number: int) -> None:
        match what:
            case Metrics(values, step):
                self._run.log({**values, _STEP: step}, step=number)
            case File(path):
                if (self._files / path).is_file():
                    place = Path(self._run.dir, path)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self._files / path, place)
                    self._run.save(str(place), base_path=self._run.dir, policy="now")
            case Model(_, sha256):
                self._run.summary["checkpoint.sha256"] = sha256
            case Text(text):
                self._run.notes = text
            case Tags(tags):
                self._run.config.update(
                    {"record": {**self._run.config.get("record", {}), **tags}}, allow_val_change=True
                )
            case Begin(stage):
                self._run.summary["stage"] = stage
            case End(stage, outcome):
                self._run.summary[f"stages/{stage}"] = outcome
                self._code = 0 if outcome == "done" else 1
