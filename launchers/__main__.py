"""`python -m launchers STAGE`: what the DVC stages call."""

import sys
from collections.abc import Callable

from launchers.config import LaunchConfig, load_launch_config
from launchers.launch import launch
from ocean_emulators.errors import exit_on_user_error
from ocean_emulators.stages import compare, evaluate, prepare, stats, train

_JOBS = {"train": train.main, "evaluate": evaluate.main}
# These are not submitted: they are short, or dask takes their pieces elsewhere where it is asked to.
_HERE: dict[str, Callable[[LaunchConfig], None]] = {
    "prepare": lambda config: prepare.main(config.prepare),
    "stats": lambda config: stats.main(config.prepare),
    "compare": lambda config: compare.main(config.runtime),
}


if __name__ == "__main__":
    with exit_on_user_error():
        name, config = sys.argv[1], load_launch_config()
        if name in _HERE:
            _HERE[name](config)
        else:
            launch(_JOBS[name], config)
