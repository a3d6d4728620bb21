"""`python -m launchers STAGE`: what the DVC stages call that may need more than this machine."""

import sys

from launchers.config import load_launch_config
from launchers.launch import launch
from ocean_emulators.errors import exit_on_user_error
from ocean_emulators.stages import evaluate, prepare, stats, train

_JOBS = {"train": train.main, "evaluate": evaluate.main}
# These are not submitted: dask takes their pieces elsewhere, where it is asked to.
_HERE = {"prepare": prepare.main, "stats": stats.main}


if __name__ == "__main__":
    with exit_on_user_error():
        name, config = sys.argv[1], load_launch_config()
        if name in _HERE:
            _HERE[name](config.prepare)
        else:
            launch(_JOBS[name], config)
