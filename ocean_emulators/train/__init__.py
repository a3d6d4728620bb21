"""Training: its configuration, the loop, learning rates, and the checkpoint that is handed on."""

from ocean_emulators.exports import exports

__getattr__ = exports(__name__, {"TrainConfig": "config", "Trainer": "trainer", "Checkpoint": "checkpoints"})
