"""What a run leaves behind: the model, as Keras' file and in the formats that were asked for, and the figures."""

import dataclasses
import hashlib
import json
import math
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import trainer
from trainer.core import agent_link, experiment_flags, export_formats
from trainer.core.config import Config
from trainer.core.exit_codes import OutputError, UsageError
from trainer.core.run_dir import REPORT, RESULT
from trainer.training.assembly import Assembly
from trainer.training.results import exporting, report
from trainer.training.results.attempt_times import AttemptClock
from trainer.training.results.exporting import ExportError
from trainer.training.results.standalone import first_inputs, standalone
from trainer.training.state.checkpoint import Checkpoint
from trainer.training.state.whole_file import write_whole

_NOT_THESE = ("run_dir", "experiment")  # The second has a place of its own.


def write(
    run_dir: Path,
    *,
    config: Config,
    workers: int,
    final: Checkpoint,
    parts: Assembly,
    ending: dict[str, Any],
    clock: AttemptClock,
) -> None:
    """Writes the model, its exports, the report, then the result, each whole or not at all.

    Args:
      run_dir: the run's folder.
      config: the flags.
      workers: how many trained.
      final: the state after the last step.
      parts: the run.
      ending: how the run ended; see `ending.Ending.figures`.
      clock: when this attempt did what.

    Raises:
      OutputError: they could not be written.
      UsageError: an export gives other numbers than the model, or cannot be made of it now that it is trained.
    """
    speed = final.step_examples / max(final.step_seconds, 1e-9)
    content = {
        "workers": workers,
        "global_batch_size": config.global_batch_size,
        "epochs": len(final.history),
        "steps": final.step,
        **ending,
        "examples_per_second": speed,
        "images_per_second": speed,  # What 0.1.0 called it.
        "seconds": final.seconds,
        "restarts": agent_link.attempt() - 1,
        "weights_sha256": weights_sha256(parts.model),
        "experiment": {"module": config.experiment, **experiment_flags.own(config)},
        "flags": flags(config),
        "versions": versions(),
    }
    try:
        parts.file.write(run_dir)
        if exports := _exports(run_dir, config, parts):
            content["exports"] = exports
        if report.write(run_dir, config=config, figures=content, final=final, parts=parts, clock=clock):
            content["report"] = REPORT
        write_figures(run_dir, content)
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(
            f"the result could not be written to {run_dir} ({why}); make room and start again: the run goes on at its "
            "newest checkpoint"
        ) from None


def write_figures(run_dir: Path, content: dict[str, Any]) -> None:
    """Writes result.json, whole or not at all, and prints it in a line.

    Raises:
      OSError: it could not be written.
    """
    write_whole(run_dir / RESULT, (json.dumps(_numbers(content), indent=2) + "\n").encode())
    print(json.dumps(_numbers(content)), flush=True)


def flags(config: Config) -> dict[str, Any]:
    """The trainer's own flags that differ from their defaults, less where it writes; `--mode=evaluate` reads them."""
    changed = {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}
    return {name: value for name, value in changed.items() if value != getattr(Config, name) and name not in _NOT_THESE}


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {
        "trainer": trainer.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def try_exports(config: Config, parts: Assembly) -> None:
    """Makes the exports of the model before it is trained, so that no training ends in vain.

    Raises:
      UsageError: one of them cannot be made.
    """
    if formats := export_formats.parse(config.export):
        inputs = first_inputs(parts, config, exporting.EXAMPLES)
        exporting.try_out(standalone(parts, config), inputs, formats, verbosity=config.verbosity)


def _exports(run_dir: Path, config: Config, parts: Assembly) -> dict[str, str]:
    formats = export_formats.parse(config.export)
    if not formats:
        return {}
    inputs = first_inputs(parts, config, exporting.EXAMPLES)
    try:
        written = exporting.write(standalone(parts, config), inputs, formats, run_dir, verbosity=config.verbosity)
    except ExportError as error:
        raise UsageError(
            f"--export={config.export}: {error}; all else is done: start it again without that format, and the run "
            "ends at its newest checkpoint"
        ) from None
    for name, place in written.items():
        print(f"exported as {name} to {run_dir / place}; it gives what the model gives", flush=True)
    return written


def weights_sha256(model: Any) -> str:
    """The digest of the trainable weights, in order, as float32 little-endian bytes."""
    digest = hashlib.sha256()
    for variable in model.trainable_variables:
        digest.update(np.ascontiguousarray(variable.numpy(), "<f4").tobytes())
    return digest.hexdigest()


def _numbers(content: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: a figure that is none is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in content.items()
    }
