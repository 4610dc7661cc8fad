"""Which epochs of a run are its best, and when it has trained long enough: `--keep_best` and `--early_stopping`.

Both follow from the run's history, one mapping of loss and metrics an epoch, which every checkpoint holds. So a run
that was killed decides as it would have, and nothing about it can be forgotten (keras#17012).

    --early_stopping=val_loss:patience=5,min_delta=0.001,mode=min
    --keep_best=val_accuracy:3,mode=max
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Self

from trainer.core.exit_codes import UsageError

History = Sequence[Mapping[str, float]]

_MODES = ("min", "max")
_UP = re.compile(
    r"accuracy|(^|_)acc(_|$)|auc|precision|recall|sensitivity|specificity|f1|f_?beta|score|io_?u|dice|similarity|r2|true_|"
    r"top_?(k|\d)|hits"
)
_DOWN = re.compile(
    r"loss|error|entropy|perplexity|divergence|hinge|false_|distance|brier|(^|_)(rm|m)?s(l)?e$|(^|_)mae$|mape$"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """A metric, and which of its values are the better ones."""

    flag: str  # Which flag names it, for messages.
    metric: str
    mode: str  # "min" or "max"; "" as long as nobody knows.

    def check(self, known: Sequence[str], directions: Mapping[str, str]) -> Self:
        """This, with its mode.

        Args:
          known: the names of all that is measured at an epoch's end.
          directions: "min" or "max" of those metrics that say so themselves.

        Raises:
          UsageError: there is no such metric, or nobody knows whether it should be high or low.
        """
        if self.metric not in known:
            raise UsageError(f"--{self.flag} names {self.metric}, which is not measured; there are {', '.join(known)}")
        mode = self.mode or _mode(self.metric) or directions.get(self.metric, "")
        if not mode:
            raise UsageError(
                f"--{self.flag}: nothing says whether {self.metric} should be high or low; add mode=max or mode=min"
            )
        return dataclasses.replace(self, mode=mode)

    def is_better(self, value: float, than: float, *, by: float = 0.0) -> bool:
        """Whether a value is better than another, by more than `by`; one that is no number never is."""
        return value < than - by if self.mode == "min" else value > than + by

    def value(self, scores: Mapping[str, float]) -> float:
        """The metric's value after an epoch; NaN where it was not measured."""
        return scores.get(self.metric, math.nan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepBest(Watched):
    """How many of the best epochs are kept."""

    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the flag's value.

        Raises:
          UsageError: says what was expected.
        """
        metric, rest = _metric(text, flag="keep_best")
        number, options = "1", rest
        if rest and "=" not in rest[0]:
            number, *options = rest
        if not re.fullmatch("0*[1-9][0-9]{0,5}", number):
            raise _refused("keep_best", text, f"{number!r} is no number of epochs from 1")
        given = _options("keep_best", text, options, ("mode",))
        return cls(flag="keep_best", metric=metric, mode=given.get("mode", ""), count=int(number))

    def best(self, history: History) -> list[int]:
        """The epochs that are kept, from 0, the best first; of equal ones the earlier is the better."""
        sign = 1 if self.mode == "min" else -1
        values = [(sign * self.value(scores), epoch) for epoch, scores in enumerate(history)]
        return [epoch for value, epoch in sorted(pair for pair in values if math.isfinite(pair[0]))][: self.count]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStopping(Watched):
    """When a run ends before its last epoch."""

    patience: int
    min_delta: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the flag's value; raises as `KeepBest.parse`."""
        metric, options = _metric(text, flag="early_stopping")
        given = _options("early_stopping", text, options, ("patience", "min_delta", "mode"))
        patience, delta = given.get("patience", ""), given.get("min_delta", "0")
        if not re.fullmatch("0*[1-9][0-9]{0,5}", patience):
            what = f"patience={patience} is no number of epochs from 1" if patience else "it says no patience"
            raise _refused("early_stopping", text, what)
        try:
            least = float(delta)
        except ValueError:
            least = math.nan
        if not 0 <= least < math.inf:
            raise _refused("early_stopping", text, f"min_delta={delta} is no number from 0")
        mode = given.get("mode", "")
        return cls(flag="early_stopping", metric=metric, mode=mode, patience=int(patience), min_delta=least)

    def ends(self, history: History) -> str:
        """Why the run ends after the last epoch of `history`, for a person; "" if it goes on."""
        best, since = math.nan, -1  # Of the epoch, from 0, that was the last to be better than all before.
        for epoch, scores in enumerate(history):
            value = self.value(scores)
            if math.isfinite(value) and (math.isnan(best) or self.is_better(value, best, by=self.min_delta)):
                best, since = value, epoch
        waited = len(history) - 1 - since
        if waited < self.patience:
            return ""
        better = f"better by more than {self.min_delta:g}" if self.min_delta else "better"
        if since < 0:
            return f"{self.metric} was no number in {waited} epoch(s)"
        return f"{self.metric} was {best:.6g} after epoch {since + 1} and not {better} in {waited} epoch(s) since"


def _mode(metric: str) -> str:
    """Which values of a metric are the better ones, as its name says; "" where it says nothing."""
    name = metric.removeprefix("val_").lower()
    if _DOWN.search(name):
        return "min"
    return "max" if _UP.search(name) else ""


def _metric(text: str, *, flag: str) -> tuple[str, list[str]]:
    metric, colon, rest = text.partition(":")
    if not metric.strip() or (colon and not rest):
        raise _refused(flag, text, "it names no metric" if not metric.strip() else "nothing follows the colon")
    return metric.strip(), [part.strip() for part in rest.split(",")] if rest else []


def _options(flag: str, text: str, options: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in known or name in given:
            again = "is given twice" if name in given else f"is none of {', '.join(f'{one}=' for one in known)}"
            raise _refused(flag, text, f"{option!r} {again}")
        given[name] = value
    if given.get("mode", "min") not in _MODES:
        raise _refused(flag, text, f"mode={given['mode']} is neither min nor max")
    return given


def _refused(flag: str, text: str, why: str) -> UsageError:
    form = {
        "keep_best": "METRIC:COUNT[,mode=min|max], as in val_accuracy:3",
        "early_stopping": "METRIC:patience=EPOCHS[,min_delta=X][,mode=min|max], as in val_loss:patience=5",
    }
    return UsageError(f"--{flag}={text}: {why}; expected {form[flag]}")
