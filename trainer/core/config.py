"""What a training run can be told: one frozen dataclass makes the flags, their checks and the documentation."""

import dataclasses

from trainer.core import export_formats, step_range
from trainer.core.exit_codes import UsageError
from trainer.core.settings import setting

PROGRAM = "python -m trainer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The training program's flags."""

    experiment: str = setting(
        "trainer.mnist", "module with load_data(config) and build_model(config), and flags of its own if it likes"
    )
    data_dir: str = setting(
        "", "folder of the four MNIST IDX files, local, gs:// or s3:// (default: the MNIST inside the package)"
    )
    run_dir: str = setting("", "folder for what the run writes (default: logs/fit/<YYYYmmdd-HHMMSS>)")
    resume_from: str = setting("", "another run's folder, whose newest checkpoint starts this run")
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
    momentum: float = setting(0.0, "of --optimizer=sgd: share of the last update that is kept", minimum=0.0, below=1.0)
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
    export: str = setting(
        "",
        "formats, by commas, in which the trained model is written, too: savedmodel, tflite; each is loaded again and "
        "compared with the model before the run counts as done",
    )
    histogram_freq: int = setting(1, "epochs between histograms of the weights; 0 writes none", minimum=0)
    profile_steps: str = setting(
        "", "steps of which TensorBoard's profile is written, as completed steps at its begin and end, such as 100:110"
    )
    log_every: float = setting(5.0, "seconds between progress lines when not on a terminal", above=0.0)
    verbosity: int = setting(0, "1 shows TensorFlow's own messages, -1 only warnings", minimum=-1)

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
