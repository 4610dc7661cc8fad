"""Whether more of a metric is better, as its name says."""

import re

_LESS_IS_BETTER = frozenset(
    {
        "loss", "error", "errors", "mae", "mse", "rmse", "mape", "msle", "crossentropy", "entropy", "divergence",
        "perplexity", "hinge", "logcosh", "poisson", "regret", "wer", "cer", "deviation", "distance", "positives",
        "negatives", "quantile", "pinball",
    }
)  # fmt: skip


def more_is_better(metric: str) -> bool:
    """Whether the best value of a metric is its greatest: val_accuracy, not val_loss or mean_squared_error.

    Of false_positives and false_negatives fewer are better, of true_positives and true_negatives more.
    """
    words = re.split(r"[^a-z]+", metric.lower())
    return "true" in words or not _LESS_IS_BETTER & {*words}
