"""The same for validation: losses of the averaged weights on the validation period."""

from ocean_emulators.aggregator.train import TrainAggregator


class ValidateAggregator(TrainAggregator):
    """As `TrainAggregator`, as `val/…`."""

    label = "val"
