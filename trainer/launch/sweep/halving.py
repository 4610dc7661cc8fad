"""Successive halving: many trials with few epochs, half of them with twice as many, and so on. Pure.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016.
"""

import math
from collections.abc import Sequence

from trainer.core.metric_mode import more_is_better
from trainer.launch.runs.trials import DONE, FAILED, RUNNING, STOPPED, WAITING, Trial


def rungs(trials: int, epochs: int) -> list[int]:
    """The epochs up to which trials are trained, rung by rung; the last is `epochs`.

    There are as many rungs as leave a trial for the last one, and an epoch for the first.
    """
    count = min(max(trials, 1).bit_length(), epochs.bit_length())
    return [-(-epochs // 2 ** (count - 1 - rung)) for rung in range(count)]


def best_first(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The trials that have a metric and have not failed, best first; by their numbers where they are equal."""
    sign = -1 if more_is_better(metric) else 1
    measured = [
        trial for trial in trials if trial.state != FAILED and math.isfinite(trial.metrics.get(metric, math.nan))
    ]
    return sorted(measured, key=lambda trial: (sign * trial.metrics[metric], trial.number))


def promote(trials: Sequence[Trial], metric: str, last_rung: int) -> list[Trial]:
    """Where all trials of a rung have ended, lets the better half of them wait for the next one, and stops the others.

    A trial that has failed is none of the better half.

    Args:
      trials: all trials.
      metric: decides which are better.
      last_rung: the number of the last rung, from 0.

    Returns:
      Those that go on; none where nothing is to be decided.
    """
    rung = max(trial.rung for trial in trials)
    there = [trial for trial in trials if trial.rung == rung]
    if rung >= last_rung or any(trial.state == WAITING for trial in trials) or not _ended(there):
        return []
    done = [trial for trial in there if trial.state == DONE]
    ranked = best_first(done, metric)
    better = ranked[: max(1, len(trials) // 2 ** (rung + 1))]
    for trial in done:
        trial.state = STOPPED
    for trial in better:
        trial.state, trial.rung = WAITING, rung + 1
    return better


def _ended(trials: Sequence[Trial]) -> bool:
    return all(trial.state not in (WAITING, RUNNING) for trial in trials)
