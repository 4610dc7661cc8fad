"""One attempt at a run, from the data to the result: Python decides what comes next, `step` does the work."""

import concurrent.futures
import dataclasses
import hashlib
import importlib
import math
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from trainer.core import agent_link
from trainer.core.config import Config
from trainer.core.exit_codes import DataError, ExitCode, UsageError
from trainer.core.log_lines import Progress
from trainer.core.run_dir import RESULT
from trainer.core.tf_config import Cluster
from trainer.training import checkpoint, optimizers, result, strategy, variables
from trainer.training.checkpoint import Checkpoint, Checkpoints
from trainer.training.progress_bar import Display
from trainer.training.signals import StopWish
from trainer.training.summaries import Summaries
from trainer.training.trainer import Outcome, Trainer, shares
from trainer.training.variables import Start


def attempt(*, config: Config, cluster: Cluster | None, run_dir: Path, stop: StopWish, began: float) -> int:
    """Trains from the newest checkpoint, or from the start, to the end or until a worker is asked to stop.

    Args:
      config: the flags.
      cluster: from TF_CONFIG, which must be in the environment; None trains alone.
      run_dir: the run's folder; only the chief uses it.
      stop: the wish of this process's signals.
      began: when this process began (time.monotonic).

    Returns:
      The exit code: 0; or, when the run was stopped, that of the signal, 75 where another worker was signalled.

    Raises:
      UsageError, DataError, AcceleratorError, OutputError: see trainer.core.exit_codes.
      PeerLostError: another worker is gone.
    """
    strategy.configure_devices(config)
    with strategy.peers_watched(cluster):
        return _Attempt(config, cluster, run_dir, stop, began).run()


class _Attempt:
    def __init__(self, config: Config, cluster: Cluster | None, run_dir: Path, stop: StopWish, began: float) -> None:
        self._config, self._cluster, self._run_dir, self._stop = config, cluster, run_dir, stop
        self._chief = cluster is None or cluster.is_chief
        experiment = _experiment(config.experiment)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            loading = pool.submit(_load, experiment, config)
            self._strategy = strategy.create(config, cluster)
            policy = "mixed_bfloat16" if config.precision == "bfloat16" else "float32"
            keras.config.set_dtype_policy(policy)
            keras.utils.set_random_seed(config.seed)
            with self._strategy.scope():
                self._model = experiment.build_model(config)
                self._optimizer = optimizers.build(config)
                self._optimizer.build(self._model.trainable_variables)
            data, digest = loading.result()
        examples = len(data[0][0])
        if config.global_batch_size > examples:
            raise UsageError(
                f"--global_batch_size={config.global_batch_size} is more than the {examples} training examples; "
                "an epoch must have at least one step"
            )
        self._identity = {
            "seed": config.seed,
            "global batch size": config.global_batch_size,
            "data set": digest,
            "model": variables.shapes(self._model),
            "layers": hashlib.sha256(self._model.to_json().encode()).hexdigest()[:16],
            "optimizer": config.optimizer,
        }
        self._trainer = Trainer(
            config=config,
            strategy=self._strategy,
            model=self._model,
            optimizer=self._optimizer,
            data=data,
            workers=cluster.workers if cluster else 1,
        )
        self._steps = config.epochs * self._trainer.steps_per_epoch
        self._checkpoints = Checkpoints(run_dir, keep=config.keep)
        self._summaries: Summaries | None = None  # The chief's, once it is known where the run stands.
        self._now = Checkpoint(
            step=0, loss_sum=0.0, hits=0.0, history=[], seconds=0.0, step_seconds=0.0,
            step_images=0, identity=self._identity, arrays={},
        )  # fmt: skip
        self._counted = began  # Up to when wall time is in self._now.
        self._shown = (time.monotonic(), 0)  # When progress was last shown, and its step.

    def run(self) -> int:
        start = variables.agree(self._strategy, self._cluster, self._start)
        if start.finished:
            print(f"{self._run_dir} holds a finished run; nothing to do")
            strategy.leave(self._strategy, self._cluster)
            return ExitCode.DONE
        if start.checkpoint:
            checkpoint.check_identity(start.checkpoint, self._identity)
            variables.assign(self._model, self._optimizer, start.checkpoint.arrays)
            self._now = dataclasses.replace(start.checkpoint, arrays={})
            self._trainer.seek(self._now.step, self._now.loss_sum, self._now.hits)
            self._shown = (time.monotonic(), self._now.step)
            print(f"resuming at step {self._now.step} of {self._steps}")
        self._describe()
        graph = self._trainer.graph()  # Traced before the first step, whose time counts.
        self._stop.on_wish(lambda: self._trainer.stop_wish.assign(1.0))
        with Display(self._read, every=self._config.log_every) as display:
            if self._chief:
                self._summaries = Summaries(self._run_dir)
                self._summaries.model(self._model, graph)
                self._wish_to_pause_regularly()
            stopped = self._epochs(display)
        if self._summaries:
            self._checkpoints.wait()
            self._summaries.flush()  # Of what waits for room: nobody writes it once the result is there.
        if stopped:
            print(f"stopped at step {self._now.step} of {self._steps}", flush=True)
            strategy.leave(self._strategy, self._cluster)
            return self._stop.exit_code if self._stop.signal else ExitCode.PEER_LOST
        if self._chief:
            result.write(
                self._run_dir, config=self._config, workers=self._cluster.workers if self._cluster else 1,
                final=self._now, model=self._model,
            )  # fmt: skip
        strategy.leave(self._strategy, self._cluster)
        return ExitCode.DONE

    def _start(self) -> Start:
        if (self._run_dir / RESULT).exists():
            return Start(finished=True)
        found = self._checkpoints.newest()
        if found is None and self._config.resume_from:
            found = Checkpoints(Path(self._config.resume_from), keep=self._config.keep).newest()
            if found is None:
                raise DataError(f"--resume_from={self._config.resume_from} holds no checkpoint")
        return Start(checkpoint=found)

    def _epochs(self, display: Display) -> bool:
        """Trains what is left; whether it was stopped before the end."""
        first = True
        for epoch in range(self._now.step // self._trainer.steps_per_epoch, self._config.epochs):
            self._trainer.start_epoch(epoch)
            until = (epoch + 1) * self._trainer.steps_per_epoch
            images, seconds = self._now.step_images, self._now.step_seconds
            stop = False
            while self._now.step < until:
                # The first step comes alone, so that everyone sees at once that training has begun.
                outcome = self._take_steps(self._now.step + 1 if first else until)
                stop = stop or outcome.stop_wishes > 0
                if first:
                    display.show(self._progress())
                    first = False
                if self._now.step < until:
                    if stop:
                        self._save()
                        return True
                    if outcome.pause_wishes:
                        self._save()
            speed = (self._now.step_images - images) / max(self._now.step_seconds - seconds, 1e-9)
            self._end_epoch(epoch, speed, display)
            if stop and epoch + 1 < self._config.epochs:
                return True
        return False

    def _take_steps(self, until: int) -> Outcome:
        began = time.monotonic()
        outcome = self._trainer.run(self._now.step, until, self._now.loss_sum, self._now.hits)
        ended = time.monotonic()
        steps = outcome.step - self._now.step
        self._now = dataclasses.replace(
            self._now,
            step=outcome.step,
            loss_sum=outcome.loss_sum,
            hits=outcome.hits,
            step_seconds=self._now.step_seconds + ended - began,
            step_images=self._now.step_images + steps * self._config.global_batch_size,
        )
        if not math.isfinite(outcome.loss_sum):
            raise DataError(
                f"the loss of step {outcome.step} is not a finite number; lower --learning_rate "
                f"({self._config.learning_rate}) or look at the data; the checkpoints before it are kept"
            )
        return outcome

    def _end_epoch(self, epoch: int, speed: float, display: Display) -> None:
        val_loss, val_accuracy = self._trainer.evaluate()
        examples = self._trainer.steps_per_epoch * self._config.global_batch_size
        loss, accuracy = self._now.loss_sum / examples, self._now.hits / examples
        ended = self._progress(images_per_second=speed, val_loss=val_loss, val_accuracy=val_accuracy)
        if self._summaries:
            self._summaries.epoch(
                epoch,
                step=self._now.step,
                train={
                    "loss": loss,
                    "accuracy": accuracy,
                    "learning_rate": self._config.learning_rate,
                    "images_per_second": speed,
                },
                validation={"loss": val_loss, "accuracy": val_accuracy},
            )
            if self._config.histogram_freq and epoch % self._config.histogram_freq == 0:
                self._summaries.histograms(epoch, self._model)
            self._summaries.flush()
        scores = {"loss": loss, "accuracy": accuracy, "val_loss": val_loss, "val_accuracy": val_accuracy}
        self._now = dataclasses.replace(self._now, loss_sum=0.0, hits=0.0, history=[*self._now.history, scores])
        display.show(ended)
        self._save()

    def _save(self) -> None:
        if self._summaries is None:
            return
        self._trainer.pause_wish.assign(0.0)
        if not self._summaries.flush():  # The events up to a checkpoint's step are on disk before it is.
            return
        now = time.monotonic()
        self._now = dataclasses.replace(self._now, seconds=self._now.seconds + now - self._counted)
        self._counted = now
        arrays = variables.arrays(self._model, self._optimizer)
        self._checkpoints.save(dataclasses.replace(self._now, arrays=arrays))

    def _wish_to_pause_regularly(self) -> None:
        def wish() -> None:
            while True:
                time.sleep(self._config.checkpoint_every)
                self._trainer.pause_wish.assign(1.0)

        threading.Thread(target=wish, name="checkpoint-timer", daemon=True).start()

    def _read(self) -> Progress | None:
        """The progress when there is more than was shown; called from the display's thread."""
        step = int(self._trainer.position.numpy()[0])
        return self._progress() if self._shown[1] < step < self._steps else None

    def _progress(
        self,
        *,
        images_per_second: float | None = None,
        val_loss: float | None = None,
        val_accuracy: float | None = None,
    ) -> Progress:
        position, loss_sum, hits = self._trainer.position.numpy()
        step, now = int(position), time.monotonic()
        (before, step_before), self._shown = self._shown, (now, step)
        examples = ((step - 1) % self._trainer.steps_per_epoch + 1) * self._config.global_batch_size
        since = max(step - step_before, 0) * self._config.global_batch_size / max(now - before, 1e-9)
        return Progress(
            worker=self._cluster.index if self._cluster else 0,
            workers=self._cluster.workers if self._cluster else 1,
            attempt=agent_link.attempt(),
            epoch=(step - 1) // self._trainer.steps_per_epoch + 1,
            epochs=self._config.epochs,
            step=step,
            steps=self._steps,
            loss=loss_sum / examples,
            accuracy=hits / examples,
            images_per_second=since if images_per_second is None else images_per_second,
            saved=(self._checkpoints.saved or 0) if self._chief else None,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
        )

    def _describe(self) -> None:
        """Prints what is trained and how the work is shared out."""
        if not self._chief:
            return
        self._model.summary(line_length=80, print_fn=print)
        replicas = self._strategy.num_replicas_in_sync
        print(f"writing to {self._run_dir}; to see it: tensorboard --logdir {self._run_dir.parent}")
        parts = shares(self._config.global_batch_size, replicas)
        each = f"{parts[0]}" if parts[0] == parts[-1] else f"{parts[0]} or {parts[-1]}"
        print(
            f"global batch {self._config.global_batch_size} = {replicas} replica(s) on "
            f"{self._cluster.workers if self._cluster else 1} worker(s) × {each} examples; "
            f"{self._trainer.steps_per_epoch} steps an epoch × {self._config.epochs} epochs = {self._steps} steps",
            flush=True,
        )


def _experiment(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--experiment={name} cannot be imported ({error}); name a module on the Python path, as package.module"
        ) from None
    missing = [function for function in ("load_data", "build_model") if not hasattr(module, function)]
    if missing:
        raise UsageError(f"--experiment={name} lacks {' and '.join(missing)}; see trainer/mnist.py for what they do")
    return module


def _load(experiment: ModuleType, config: Config) -> tuple[Any, str]:
    """The data, and a digest of all of it."""
    data = experiment.load_data(config)
    digest = hashlib.sha256()
    for split in data:
        for array in split:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes() if not array.flags.c_contiguous else array.data)
    return data, digest.hexdigest()[:16]
