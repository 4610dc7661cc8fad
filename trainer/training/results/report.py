"""`report.html`: a run on one page, written by the chief at its end. A run never fails for it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from trainer.core import agent_link, attempts
from trainer.core.config import Config
from trainer.core.run_dir import REPORT
from trainer.training.assembly import Assembly
from trainer.training.explaining import words
from trainer.training.results.attempt_times import AttemptClock, attempt_times
from trainer.training.results.mistakes import Predictions, predictions
from trainer.training.results.report_page import Report, page
from trainer.training.results.standalone import standalone
from trainer.training.state.checkpoint import Checkpoint
from trainer.training.state.whole_file import write_whole


def write(
    run_dir: Path,
    *,
    config: Config,
    figures: Mapping[str, Any],
    final: Checkpoint,
    parts: Assembly,
    clock: AttemptClock,
) -> bool:
    """Writes the page; whether it could be. If not, a warning says why.

    Args:
      run_dir: the run directory.
      config: the flags.
      figures: what result.json will say.
      final: the run's last state.
      parts: what it is made of.
      clock: of the attempt that ends.
    """
    try:
        running = clock.spent(number=agent_link.attempt(), workers=figures["workers"], step_to=final.step)
        report = Report(
            run=run_dir.resolve().name,
            figures=figures,
            history=final.history,
            attempts=attempt_times(attempts.read(run_dir), running),
            predictions=_predictions(config, parts),
            flags=_flags(config),
        )
        write_whole(run_dir / REPORT, page(report).encode())
    except Exception as error:  # A model is somebody else's code, and the run has its weights.
        logging.warning("%s is left out, as it could not be made: %s: %s", REPORT, type(error).__name__, words(error))
        return False
    return True


def _predictions(config: Config, parts: Assembly) -> Predictions | None:
    """What the model makes of the validation data; None, and a warning, where it cannot be asked."""
    try:
        model, preprocess = standalone(parts, config), parts.experiment.preprocess
        return predictions(model, parts.shown, preprocess, config.seed, parts.look)
    except Exception as error:
        logging.warning(
            "%s shows no predictions, as they could not be made: %s: %s", REPORT, type(error).__name__, words(error)
        )
        return None


def _flags(config: Config) -> list[tuple[str, object, bool]]:
    """Every flag with its value, and whether that is not the default."""
    return [
        (field.name, getattr(config, field.name), getattr(config, field.name) != field.default)
        for field in dataclasses.fields(config)
    ]
