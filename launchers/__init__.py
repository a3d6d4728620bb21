"""Where training and evaluation run: one place, on submitit's interface."""
