"""Training losses: terms (masked, gradient, spectral), and what weighs and sums them (dynamic, rollout)."""

from ocean_emulators.exports import exports

__getattr__ = exports(__name__, {"LossConfig": "config", "LossGrid": "grid", "RolloutLoss": "rollout"})
