"""What a training run can be told: one frozen dataclass makes the flags, their checks and the documentation."""

import dataclasses
from pathlib import Path

from trainer.core import export_formats, step_range
from trainer.core.exit_codes import UsageError
from trainer.core.run_dir import PREDICTIONS
from trainer.core.safe_text import redacted
from trainer.core.selection import EarlyStopping, KeepBest
from trainer.core.settings import setting

PROGRAM = "python -m trainer"
_SUFFIXES = tuple(Path(name).suffix for name in PREDICTIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The training program's flags."""

    mode: str = setting(
        "train",
        "what to do: train a model, measure one that is trained, or write its outputs",
        choices=("train", "evaluate", "predict"),
    )
    model: str = setting(
        "", "of --mode=evaluate and predict: the folder of the run that trained it, local, gs:// or s3://; or its file"
    )
    to: str = setting(
        "",
        "of --mode=predict: predictions.npy (the default) or predictions.parquet, in the run's folder and its output; "
        "or an absolute path",
    )
    experiment: str = setting(
        "trainer.mnist", "module with load_data(config) and build_model(config), and flags of its own if it likes"
    )
    data_dir: str = setting(
        "", "folder of the four MNIST IDX files, local, gs:// or s3:// (default: the MNIST inside the package)"
    )
    run_dir: str = setting("", "folder for what the run writes (default: logs/fit/<YYYYmmdd-HHMMSS>)")
    resume_from: str = setting(
        "", "another run's folder, local, gs:// or s3://, whose newest checkpoint starts this run"
    )
    epochs: int = setting(5, "passes over the training data", minimum=1)
    global_batch_size: int = setting(128, "examples in a step, over all workers", minimum=1)
    loss: str = setting(
        "crossentropy",
        "of a model that is not compiled: cross-entropy of softmax outputs or logits, or half the sum of squares of "
        "sigmoid outputs",
        choices=("crossentropy", "quadratic"),
    )
    optimizer: str = setting("adam", "update rule of a model that is not compiled", choices=("adam", "sgd"))
    learning_rate: float = setting(0.001, "step size of that optimizer", above=0.0)
    learning_rate_schedule: str = setting(
        "constant",
        "what becomes of it over the steps of the whole run; cosine and linear fall to 0, step to a tenth at half and "
        "again at three quarters",
        choices=("constant", "cosine", "linear", "step"),
    )
    warmup_steps: int = setting(0, "steps at the start in which it rises to its full size", minimum=0)
    momentum: float = setting(0.0, "of --optimizer=sgd: share of the last update that is kept", minimum=0.0, below=1.0)
    shuffle: bool = setting(True, "go through the training data in another order in each epoch; false: as it stands")
    prefetch: int = setting(
        0, "batches of a source that a worker reads ahead; 0: as many as take 64 MiB, at least 2", minimum=0
    )
    reader_processes: int = setting(
        0, "processes that read a source whose code keeps Python busy; 0: threads of the training process", minimum=0
    )
    skip_bad_records: int = setting(
        0, "damaged examples of a source that a worker may pass over, each replaced by the next one", minimum=0
    )
    data_cache: str = setting("", "folder in which a worker keeps what it has read of files in a bucket")
    data_cache_gib: float = setting(10.0, "the most that --data_cache takes, GiB", above=0.0)
    seed: int = setting(0, "of the initial weights, the shuffling and all random numbers", minimum=0)
    precision: str = setting(
        "float32", "of the arithmetic; bfloat16 keeps float32 weights", choices=("float32", "bfloat16")
    )
    tf32: str = setting(
        "auto",
        "let the matrix units of a GPU round float32 to TF32; auto: as TensorFlow does, which is true",
        choices=("auto", "true", "false"),
    )
    deterministic: bool = setting(
        True, "on GPUs, only kernels that give the same in every run; false is somewhat faster, and not exact"
    )
    jit_compile: str = setting(
        "auto",
        "compile the steps with XLA; auto: on GPUs, where the model allows it",
        choices=("auto", "true", "false"),
    )
    chunk_steps: int = setting(
        0,
        "steps in one compiled call; 0: as many as take about a tenth of a second. Results do not depend on it",
        minimum=0,
    )
    threads: int = setting(0, "CPU threads of a worker; 0 leaves the choice to TensorFlow", minimum=0)
    communication: str = setting(
        "auto", "sums of gradients; auto: nccl where each worker has GPUs of its own", choices=("auto", "ring", "nccl")
    )
    expect_gpus: int = setting(0, "exit 69 when TensorFlow sees fewer GPUs on this worker", minimum=0)
    checkpoint_every: float = setting(30.0, "seconds between checkpoints; one more at every epoch's end", above=0.0)
    keep: int = setting(3, "newest checkpoints that are kept", minimum=1)
    keep_best: str = setting(
        "",
        "checkpoints of the best epochs that are kept beside them, as in val_accuracy:3; METRIC:COUNT[,mode=min|max]",
    )
    early_stopping: str = setting(
        "",
        "end the run when a metric gets no better, as in val_loss:patience=5; "
        "METRIC:patience=EPOCHS[,min_delta=X][,mode=min|max]",
    )
    restore_best: bool = setting(
        False, "model.keras is the model of the best epoch, by the metric of --keep_best, or else of --early_stopping"
    )
    export: str = setting(
        "",
        "formats, by commas, in which the trained model is written, too: savedmodel, tflite, onnx (this one with the "
        "current TensorFlow); each is loaded again and compared with the model before the run counts as done",
    )
    histogram_freq: int = setting(1, "epochs between histograms of the weights; 0 writes none", minimum=0)
    profile_steps: str = setting(
        "", "steps of which TensorBoard's profile is written, as completed steps at its begin and end, such as 100:110"
    )
    log_every: float = setting(5.0, "seconds between progress lines when not on a terminal", above=0.0)
    verbosity: int = setting(0, "1 shows TensorFlow's own messages, 0 and -1 warnings alone", minimum=-1)

    @staticmethod
    def own_flags() -> tuple[str, ...]:
        """The names of the flags that the experiment has added."""
        return ()

    def check(self) -> None:
        """Refuses flags that contradict each other, and texts that say nothing.

        Raises:
          UsageError: names them, and what to do.
        """
        export_formats.parse(self.export)
        step_range.parse(self.profile_steps)
        if self.momentum and self.optimizer != "sgd":
            raise UsageError(
                f"--momentum={self.momentum} needs --optimizer=sgd, got --optimizer={self.optimizer}; "
                "adam has a momentum of its own: leave --momentum out"
            )
        if "://" in self.run_dir:
            raise UsageError(
                f"--run_dir={redacted(self.run_dir)} is a folder of this machine; the agent's and the launcher's "
                "--output=gs://… or s3://… keeps a run in a bucket"
            )
        self._check_mode()
        self.stopping()
        if self.kept() is None and self.restore_best:
            raise UsageError(
                "--restore_best needs to know what is best: add --keep_best=val_accuracy:1, or --early_stopping"
            )

    def predictions(self) -> Path:
        """Where the outputs go; a relative path is in the run's folder."""
        return Path(self.to or PREDICTIONS[0])

    def _check_mode(self) -> None:
        if self.mode == "train" and (self.model or self.to):
            name = "model" if self.model else "to"
            raise UsageError(
                f"--{name}={getattr(self, name)} is of --mode={'evaluate and ' * (name == 'model')}predict; add the "
                "mode, or leave it out"
            )
        if self.mode != "train" and not self.model:
            raise UsageError(f"--mode={self.mode} needs a model; add --model=RUN_DIR, the folder of a run")
        if self.to and self.mode != "predict":
            raise UsageError(f"--to={self.to} is of --mode=predict; leave it out")
        for name in ("resume_from", "export", "profile_steps") if self.mode != "train" else ():
            if value := getattr(self, name):
                raise UsageError(f"--{name}={value} is of --mode=train, got --mode={self.mode}; leave it out")
        path = self.predictions()
        if str(path) not in PREDICTIONS and not (path.is_absolute() and path.suffix in _SUFFIXES):
            raise UsageError(
                f"--to={self.to} cannot be written; expected {' or '.join(PREDICTIONS)}, which are in the run's folder "
                "and its output, or an absolute path that ends in .npy or .parquet"
            )

    def stopping(self) -> EarlyStopping | None:
        """What --early_stopping says; None: nothing."""
        return EarlyStopping.parse(self.early_stopping) if self.early_stopping else None

    def kept(self) -> KeepBest | None:
        """Which epochs are kept, and by what they are the best: --restore_best keeps one; None: none is."""
        if self.keep_best:
            return KeepBest.parse(self.keep_best)
        if self.restore_best and (stopping := self.stopping()):
            return KeepBest(flag=stopping.flag, metric=stopping.metric, mode=stopping.mode)
        return None
