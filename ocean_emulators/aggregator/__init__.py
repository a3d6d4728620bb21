"""Collects numbers while others drive: statistics of cells → sums over regions → metrics; losses over an epoch."""

from ocean_emulators.exports import exports

__getattr__ = exports(
    __name__,
    {"TrainAggregator": "train", "ValidateAggregator": "validate", "InferenceEvaluatorAggregator": "inference"},
)
