"""What TensorBoard has of each epoch beside its loss and metrics, by the names in the tags of training (epoch_…)."""

LEARNING_RATE = "learning_rate"  # At the epoch's end.
EXAMPLES_PER_SECOND = "examples_per_second"
DATA_WAIT_SECONDS = "data_wait_seconds"  # Of data that are read while it trains.

EPOCH_FIGURES = frozenset({LEARNING_RATE, EXAMPLES_PER_SECOND, DATA_WAIT_SECONDS})
