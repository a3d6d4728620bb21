"""Every path of a project. `dvc.yaml` names the same places, and a test holds the two together."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.files import digest

PACKAGE = Path(__file__).resolve().parent
PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class TrainingFiles:
    """Files that training leaves in a folder."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Model, weights and what they were made of."""
        return self.folder / "checkpoint.pt"

    @property
    def history(self) -> Path:
        """A row for each epoch."""
        return self.folder / "history.csv"

    @property
    def validation_maps(self) -> Path:
        """Maps of the validation of the weights that are handed on, a store for each grid."""
        return self.folder / "validation_maps"


@dataclass(frozen=True)
class EvaluationFiles:
    """Files that evaluation leaves in a folder."""

    folder: Path

    @property
    def predictions(self) -> Path:
        """The free run as fields."""
        return self.folder / "predictions.zarr"

    @property
    def forecast_sums(self) -> Path:
        """Sums of the forecasts, from which every score follows."""
        return self.folder / "forecast_sums.zarr"

    @property
    def free_run_sums(self) -> Path:
        """The same of the free run."""
        return self.folder / "free_run_sums.zarr"

    @property
    def scores(self) -> Path:
        """All scores, a row for each."""
        return self.folder / "scores.csv"

    @property
    def summary(self) -> Path:
        """The scores that `dvc metrics` shows."""
        return self.folder / "scores.json"

    @property
    def nrmse(self) -> Path:
        """Normalised RMSE by lead and variable, for `dvc plots`."""
        return self.folder / "nrmse.csv"

    @property
    def figures(self) -> Path:
        """PNG files."""
        return self.folder / "figures"


@dataclass(frozen=True)
class ComparisonFiles:
    """Files that comparison leaves in a folder."""

    folder: Path

    @property
    def sums(self) -> Path:
        """Sums of the baselines, a store for each."""
        return self.folder / "sums"

    @property
    def table(self) -> Path:
        """Scores of the emulator and the baselines, and their ratios with intervals."""
        return self.folder / "comparison.csv"

    @property
    def summary(self) -> Path:
        """The ratios that `dvc metrics` shows."""
        return self.folder / "comparison.json"

    @property
    def figures(self) -> Path:
        """PNG files."""
        return self.folder / "figures"


@dataclass(frozen=True)
class Workspace:
    """A project: its experiment, data and results below `root`; working state and records below `home`.

    The two are one folder, but where DVC runs an experiment in a copy of the project: then `root` is the copy, and `home`
    the project that the user works in. Picklable, with absolute paths: a job finds everything from anywhere.
    """

    root: Path
    home: Path

    @classmethod
    def here(cls) -> Self:
        """The project that the working directory is in."""
        here = Path.cwd()
        root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
        return cls(root, Path(os.environ.get("DVC_ROOT") or root).absolute())

    @property
    def params(self) -> Path:
        """The experiment."""
        return self.root / PARAMS

    @property
    def prepared(self) -> Path:
        """Packed training stores, one for each grid."""
        return self.root / "data/prepared"

    @property
    def statistics(self) -> Path:
        """Statistics and climatology, one store for each grid."""
        return self.root / "data/stats"

    @property
    def training(self) -> TrainingFiles:
        """What training leaves."""
        return TrainingFiles(self.root / "outputs/train")

    @property
    def evaluation(self) -> EvaluationFiles:
        """What evaluation leaves."""
        return EvaluationFiles(self.root / "outputs/evaluation")

    @property
    def comparison(self) -> ComparisonFiles:
        """What comparison leaves."""
        return ComparisonFiles(self.root / "outputs/comparison")

    @property
    def results(self) -> dict[str, Path]:
        """Folders of what the stages that are recorded leave, by stage, in their order."""
        return {"train": self.training.folder, "evaluate": self.evaluation.folder, "compare": self.comparison.folder}

    def results_before(self, stage: str) -> dict[str, Path]:
        """Those that a stage builds upon."""
        return dict(takewhile(lambda item: item[0] != stage, self.results.items()))

    @property
    def scratch(self) -> Path:
        """Working state: never an output of DVC's, which removes outputs before it runs a stage."""
        return self.home / ".scratch"

    def scratch_of(self, stage: str, params: Mapping[str, Any], *data: str) -> Path:
        """Where a stage keeps its working state: one place for each combination of what its result depends on.

        `params` is the experiment, or the sections that the stage is given, as plain data; of these count the values that
        `dvc.yaml` lists. `data` tell the content of what the stage reads.
        """
        values = {key: look_up(params, key) for key in self.stage(stage).get("params", [])}
        return self.scratch / f"{stage}-{digest(values, data, self.code_digest(stage))}"

    def stage(self, name: str) -> dict[str, Any]:
        """What `dvc.yaml` says of a stage."""
        content: dict[str, Any] = load_yaml(self.root / "dvc.yaml")["stages"][name]
        return content

    def find(self, path: str) -> Path | None:
        """A file of the project that git may not hold: in `root`, or else in the project that it is a copy of."""
        return next((place for place in (self.root / path, self.home / path) if place.is_file()), None)

    def code_digest(self, stage: str) -> str:
        """SHA-256 of the code that a stage's result depends on: the sources among its dependencies in `dvc.yaml`."""
        deps = map(str, self.stage(stage)["deps"])
        return sources_digest(PACKAGE.parent / dep for dep in deps if dep.startswith(f"{PACKAGE.name}/"))


def look_up(tree: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key in nested plain data."""
    node: Any = tree
    for part in key.split("."):
        node = node[part]
    return node


def sources_digest(places: Iterable[Path], root: Path | None = None) -> str:
    """SHA-256 of Python sources, of files and of all files in folders, by their names below a root: that of this package."""
    files = {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(file.relative_to(root or PACKAGE.parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()
