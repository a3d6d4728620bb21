"""Where the stages' work is done: one place, on submitit's interface. `python -m launchers STAGE` is what DVC calls."""
