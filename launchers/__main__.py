"""`python -m launchers train|evaluate`: what the DVC stages call."""

import sys

from launchers.config import load_launch_config
from launchers.launch import launch
from ocean_emulators.errors import exit_on_user_error
from ocean_emulators.stages import evaluate, train

_STAGES = {"train": train.main, "evaluate": evaluate.main}


if __name__ == "__main__":
    with exit_on_user_error():
        launch(_STAGES[sys.argv[1]], load_launch_config())
