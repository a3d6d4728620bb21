"""Training losses."""

from ocean_emulators.exports import exports

__getattr__ = exports(__name__, {"LossConfig": "masked", "MaskedLoss": "masked"})
