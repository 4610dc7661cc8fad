"""Whether the better values of a metric are its high or its low ones, as its name says."""

import re

_UP = re.compile(
    r"accuracy|(^|_)acc(_|$)|auc|precision|recall|sensitivity|specificity|f1|f_?beta|score|io_?u|dice|similarity|r2|true_|"
    r"top_?(k|\d)|hits"
)
_DOWN = re.compile(
    r"(?:loss|error|entropy|perplexity|divergence|hinge|distance|brier|deviation|regret|logcosh|poisson|quantile"
    r"|pinball)(?:_?score)?|false_|(^|_)(rm|m)?s(l)?e$|(^|_)mae$|mape$|(^|_)[wc]er$"
)


def mode(metric: str) -> str:
    """Gives "min" or "max"; "" where the name says nothing.

    What stands last counts: before a metric's own name stands that of its output, as in error_type_accuracy.
    """
    name = metric.removeprefix("val_").lower()
    down, up = (max((match.end() for match in kind.finditer(name)), default=-1) for kind in (_DOWN, _UP))
    if max(down, up) < 0:
        return ""
    return "max" if up > down else "min"


def more_is_better(metric: str) -> bool:
    """The same for what has to be sorted somehow: a metric whose name says nothing is better when it is high."""
    return mode(metric) != "min"
