"""`python -m ocean_emulators.stages NAME`: one stage, here and now."""

import sys

from ocean_emulators.errors import exit_on_user_error
from ocean_emulators.runtime import Runtime
from ocean_emulators.stages import compare

_STAGES = {"compare": compare.main}


if __name__ == "__main__":
    with exit_on_user_error():
        _STAGES[sys.argv[1]](Runtime())
