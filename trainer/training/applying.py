"""A trained model applied to the validation data: measured (`--mode=evaluate`), or its outputs written (`predict`).

It writes a run directory of its own, with a result.json as training does, so that agents, launcher and chart treat it
as any other run. Nothing is saved meanwhile: a start after a kill begins anew, and gives the same numbers.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.core import agent_link, experiment_flags
from trainer.core.config import Config
from trainer.core.exit_codes import ExitCode, OutputError, UsageError
from trainer.core.log_lines import Progress
from trainer.core.run_dir import RESULT
from trainer.core.tf_config import Cluster
from trainer.training.agreement import Agreement
from trainer.training.assembly import Assembly, assemble
from trainer.training.chunks import ChunkLength
from trainer.training.data.feeding import Split
from trainer.training.hardware import devices, strategy
from trainer.training.hardware.compiling import OUTPUTS, Compiling
from trainer.training.model.experiment import Experiment
from trainer.training.predictions import Predictions
from trainer.training.results import prediction_files, result
from trainer.training.results.prediction_files import Outputs
from trainer.training.state import run_lock, trained_model, variables
from trainer.training.state.checkpoint import Checkpoint
from trainer.training.state.variables import Start
from trainer.training.stepping import measured


def apply(*, config: Config, experiment: Experiment, cluster: Cluster | None, run_dir: Path, began: float) -> int:
    """Evaluates or predicts; returns the exit code.

    Args:
      config: the flags.
      experiment: what was trained.
      cluster: from TF_CONFIG; None: alone.
      run_dir: the folder of this run; only the chief uses it.
      began: when this process began (time.monotonic).

    Raises:
      UsageError, DataError, AcceleratorError, OutputError: see trainer.core.exit_codes.
      PeerLostError: another worker is gone.
    """
    prediction_files.check(config.predictions())
    devices.configure(config, cluster, run_dir)
    with strategy.peers_watched(cluster), strategy.refusing_together(cluster):
        parts = assemble(config, cluster, experiment)
        if parts.validation is None:
            raise UsageError(
                f"load_data of --experiment={config.experiment} gives no validation data, and --mode={config.mode} is "
                "about these; return them beside the training data"
            )
        return _Application(config, cluster, run_dir, began, parts, parts.validation).to_its_end()


class _Application:
    def __init__(
        self, config: Config, cluster: Cluster | None, run_dir: Path, began: float, parts: Assembly, data: Split
    ) -> None:
        self._config, self._cluster, self._run_dir, self._began = config, cluster, run_dir, began
        self._parts, self._data = parts, data
        self._compiling, self._agreement = Compiling(config.jit_compile), Agreement(parts.strategy, cluster)
        self._chief, self._workers = cluster is None or cluster.is_chief, cluster.workers if cluster else 1

    def to_its_end(self) -> int:
        parts, config = self._parts, self._config
        self._agreement.check_alike(parts.identity)
        start = variables.agree(parts.strategy, self._cluster, self._find)
        if start.checkpoint is None:
            print(f"{self._run_dir} holds a finished run; nothing to do")
        else:
            variables.assign_model(parts.model, start.checkpoint.arrays)
            began = time.monotonic()
            figures, steps = self._evaluated() if config.mode == "evaluate" else self._predicted()
            if self._chief:
                self._write(figures, steps, time.monotonic() - began)
        strategy.leave(parts.strategy, self._cluster)
        return ExitCode.DONE

    def _find(self) -> Start:
        """The model's weights, in the form in which a start brings them to all workers; none if all is done."""
        run_lock.hold(self._run_dir)
        if (self._run_dir / RESULT).exists():
            return Start(finished=True)
        arrays = trained_model.weights(self._config.model, self._parts.model)
        return Start(
            checkpoint=Checkpoint(
                step=0, sums=[], history=[], seconds=0.0, step_seconds=0.0, step_examples=0, identity={}, arrays=arrays
            )
        )

    def _evaluated(self) -> tuple[dict[str, Any], int]:
        evaluation = self._parts.trainer.evaluation
        assert evaluation is not None  # noqa: S101  There are validation data.
        began = shown = time.monotonic()

        def agree(more: bool) -> bool | None:
            nonlocal shown
            if time.monotonic() - shown >= self._config.log_every:
                shown = time.monotonic()
                self._show(evaluation.done, evaluation.batches, began)
            return self._agreement.go_on(more=more, stop=False)

        chunk = ChunkLength(fixed=self._config.chunk_steps)
        values = measured(evaluation, 0, compiling=self._compiling, chunk=chunk, agree=agree)
        assert values is not None  # noqa: S101  It was not left off.
        self._show(evaluation.batches, evaluation.batches, began, values)
        return {f"val_{name}": value for name, value in values.items()}, evaluation.batches

    def _predicted(self) -> tuple[dict[str, Any], int]:
        """Writes the outputs; of the workers the chief alone."""
        predictions = Predictions(self._config, self._cluster, self._parts, self._data)

        def begin() -> tuple[Iterator[tuple[int, Outputs]], tuple[int, Outputs]]:
            rounds = predictions.rounds()
            return rounds, next(rounds)

        path = self._run_dir / self._config.predictions()
        writing = prediction_files.writing(path, predictions.fields, self._data.examples)
        try:
            with writing if self._chief else contextlib.nullcontext() as file:
                began = shown = time.monotonic()
                rounds, (done, outputs) = self._compiling.call(OUTPUTS, begin, predictions)
                while True:
                    if file:
                        file.add(outputs)
                    if done == predictions.batches or time.monotonic() - shown >= self._config.log_every:
                        shown = time.monotonic()
                        self._show(done, predictions.batches, began)
                    if done == predictions.batches:
                        break
                    done, outputs = next(rounds)
            if self._chief:
                print(f"wrote {path}: {self._data.examples} examples in the order of the data", flush=True)
        except OSError as error:
            raise OutputError(
                f"{path} could not be written ({error.strerror or error}); make room, or name another --to"
            ) from None
        return {"outputs": {"file": str(path), "examples": self._data.examples}}, predictions.batches

    def _show(self, step: int, steps: int, began: float, values: dict[str, float] | None = None) -> None:
        examples = self._data.examples * step / steps
        print(
            Progress(
                worker=self._cluster.index if self._cluster else 0, workers=self._workers, attempt=agent_link.attempt(),
                epoch=1, epochs=1, step=step, steps=steps, metrics={}, validation=values,
                examples_per_second=examples / max(time.monotonic() - began, 1e-9),
            ).format(),
            flush=True,
        )  # fmt: skip

    def _write(self, figures: dict[str, Any], steps: int, seconds: float) -> None:
        config = self._config
        content = {
            "mode": config.mode,
            "model": config.model,
            "workers": self._workers,
            "steps": steps,
            **figures,
            "examples_per_second": self._data.examples / max(seconds, 1e-9),
            "seconds": time.monotonic() - self._began,
            "restarts": agent_link.attempt() - 1,
            "weights_sha256": result.weights_sha256(self._parts.model),
            "experiment": {"module": config.experiment, **experiment_flags.own(config)},
            "flags": result.flags(config),
            "versions": result.versions(),
        }
        try:
            result.write_figures(self._run_dir, content)
        except OSError as error:
            raise OutputError(
                f"the result could not be written to {self._run_dir} ({error.strerror or error}); make room and start "
                "again"
            ) from None
