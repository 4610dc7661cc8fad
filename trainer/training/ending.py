"""What is decided at the end of an epoch: whether the run ends there, and which epochs are kept as its best.

The chief decides, and the others are told: metrics that differ in their last bit must not part the workers.
"""

from collections.abc import Sequence
from typing import Any

from absl import logging

from trainer.core.config import Config
from trainer.core.selection import KeepBest
from trainer.core.tf_config import Cluster
from trainer.training.assembly import Assembly
from trainer.training.explaining import explained
from trainer.training.state import variables
from trainer.training.state.checkpoint import Checkpoint, Checkpoints
from trainer.training.state.variables import Start

_DIRECTIONS = {"up": "max", "down": "min"}  # What Keras' metrics say of themselves.


class Ending:
    """`on_epoch_end`, `--early_stopping`, `--keep_best` and `--restore_best`."""

    def __init__(self, config: Config, cluster: Cluster | None, parts: Assembly, checkpoints: Checkpoints) -> None:
        """Looks whether there are the metrics that the flags name.

        Raises:
          UsageError: there are not; names those that there are.
        """
        self._config, self._cluster, self._parts, self._checkpoints = config, cluster, parts, checkpoints
        scores = parts.trainer.scores
        measured = list(scores.values(scores.start(), 1))
        known = [*measured, *(f"val_{name}" for name in measured if parts.validation is not None)]
        directions = _directions(parts.model)
        self._stopping, self._kept = config.stopping(), config.kept()
        self._stopping = self._stopping and self._stopping.check(known, directions)
        self._kept = self._kept and self._kept.check(known, directions)
        self._model_epoch: int | None = None  # Whose weights the model has, from 1; None: the last one's.

    def wished(self, history: Sequence[dict[str, float]]) -> bool:
        """Whether the chief wishes the run to end after the epoch that `history` ends with."""
        on_epoch_end, epoch = self._parts.experiment.on_epoch_end, len(history) - 1
        with explained("on_epoch_end"):
            wished = bool(on_epoch_end and on_epoch_end(epoch, dict(history[-1])) == "stop")
        return wished or bool(len(history) < self._config.epochs and self._stopped(history))

    def said(self, history: Sequence[dict[str, float]]) -> str:
        """That the run ends after the epoch that `history` ends with, for a person."""
        of = f"after epoch {len(history)} of {self._config.epochs}"
        why = self._stopped(history)
        return f"early stopping ends the run {of}: {why}" if why else f"on_epoch_end ends the run {of}"

    def best_steps(self, history: Sequence[dict[str, float]]) -> list[int] | None:
        """The steps whose checkpoints are kept as the best, the best first; None: none are, or all that there are."""
        if self._kept is None:
            return None
        return [(epoch + 1) * self._parts.trainer.steps_per_epoch for epoch in self._kept.best(history)]

    def restore(self, final: Checkpoint) -> None:
        """With --restore_best, gives the model the weights of the best epoch, on all workers."""
        if not self._config.restore_best:
            return
        strategy, model = self._parts.strategy, self._parts.model
        best = variables.agree(strategy, self._cluster, lambda: self._best(final)).checkpoint
        if best is not None:
            variables.assign(model, best.arrays, keep_rate=not self._parts.rate_is_a_flag)
            self._model_epoch = len(best.history)

    def figures(self, final: Checkpoint) -> dict[str, Any]:
        """What result.json says of how the run ended, and of its best epoch."""
        history = final.history
        why = self._stopped(history) if final.ended else ""
        early = "on_epoch_end" if self._parts.experiment.on_epoch_end and not why else "early_stopping"
        end: dict[str, Any] = {"by": early if final.ended else "epochs"}
        if why:
            end["why"] = why
        figures: dict[str, Any] = {"end": end}
        model_epoch = self._model_epoch or len(history)
        kept = self._kept
        if kept is None and (stopping := self._stopping):
            kept = KeepBest(flag=stopping.flag, metric=stopping.metric, mode=stopping.mode)
        if kept is not None and (best := kept.best(history)):
            first = best[0]
            figures["best"] = {
                "metric": kept.metric,
                "mode": kept.mode,
                "epoch": first + 1,
                "value": kept.value(history[first]),
                "model_epoch": model_epoch,
            }
        return {**(history[model_epoch - 1] if history else {}), **figures}

    def _stopped(self, history: Sequence[dict[str, float]]) -> str:
        return self._stopping.ends(history) if self._stopping else ""

    def _best(self, final: Checkpoint) -> Start:
        """The best epoch that can be read; nothing where that is the last one, whose weights the model has."""
        for step in self.best_steps(final.history) or ():
            if step == final.step:
                break
            if checkpoint := self._checkpoints.best(step):
                return Start(checkpoint=checkpoint)
        else:
            logging.warning("none of the best epochs can be read: the model is that of the last epoch")
        return Start()


def _directions(model: Any) -> dict[str, str]:
    """Whether metrics should be high or low, by name, as far as they say so."""
    single = [one for metric in model.metrics for one in getattr(metric, "metrics", None) or [metric]]
    known = {one.name: _DIRECTIONS.get(getattr(one, "_direction", None) or "", "") for one in single}
    return {name: mode for metric, mode in known.items() if mode for name in (metric, f"val_{metric}")}
