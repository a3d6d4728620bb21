"""The pipeline does not care which family a model is of."""

import json
import math

from tests import tiny
from tests.fomos import TINY
from tests.integration.conftest import ALL, Project, leaves, stages_run


def test_fomo_is_trained_on_two_resolutions_and_rolled_out_on_the_coarser(untouched: Project) -> None:
    tree = tiny.experiment(epochs=1, rollout_steps=[1], passes=[1, 1])
    tree["data"]["coarsen"] = [1, 2]
    tree["evaluation"]["grid"] = "x2"
    untouched.configure({**tree, "model": TINY})
    assert "fomo, " in untouched.run("python", "-m", "ocean_emulators.cli", "check")
    assert stages_run(untouched.run("dvc", "exp", "run", "-S", "model.encoder.depth=1")) == ALL
    (run,) = untouched.runs()
    assert run.data.params["model.encoder.depth"] == "1"
    scores = json.loads((untouched.root / "outputs/evaluation/scores.json").read_text())
    assert all(map(math.isfinite, leaves(scores)))
