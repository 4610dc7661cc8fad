"""What a training run can be told: one frozen dataclass makes the flags, their checks and the documentation."""

import dataclasses
from collections.abc import Sequence
from typing import Self

from trainer.core import settings
from trainer.core.exit_codes import UsageError
from trainer.core.settings import setting

PROGRAM = "python -m trainer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The training program's flags."""

    experiment: str = setting("trainer.mnist", "module with load_data(config) and build_model(config)")
    data_dir: str = setting(
        "", "folder of the four MNIST IDX files, local, gs:// or s3:// (default: the MNIST inside the package)"
    )
    run_dir: str = setting("", "folder for what the run writes (default: logs/fit/<YYYYmmdd-HHMMSS>)")
    resume_from: str = setting("", "another run's folder, whose newest checkpoint starts this run")
    epochs: int = setting(5, "passes over the training data", minimum=1)
    global_batch_size: int = setting(128, "examples in a step, over all workers", minimum=1)
    hidden_units: int = setting(512, "width of the hidden layer", minimum=1)
    activation: str = setting("relu", "of the hidden layer", choices=("relu", "sigmoid", "tanh"))
    dropout: float = setting(0.2, "share of hidden units left out in a step", minimum=0.0, below=1.0)
    loss: str = setting(
        "crossentropy",
        "softmax outputs with cross-entropy, or sigmoid outputs with half the sum of squares",
        choices=("crossentropy", "quadratic"),
    )
    optimizer: str = setting("adam", "update rule", choices=("adam", "sgd"))
    learning_rate: float = setting(0.001, "step size of the optimizer", above=0.0)
    momentum: float = setting(0.0, "of --optimizer=sgd: share of the last update that is kept", minimum=0.0, below=1.0)
    seed: int = setting(0, "of the initial weights, the shuffling and the dropout", minimum=0)
    precision: str = setting(
        "float32", "of the arithmetic; bfloat16 keeps float32 weights", choices=("float32", "bfloat16")
    )
    jit_compile: bool = setting(False, "compile the step with XLA")
    threads: int = setting(0, "CPU threads of a worker; 0 leaves the choice to TensorFlow", minimum=0)
    communication: str = setting("auto", "between workers", choices=("auto", "ring", "nccl"))
    expect_gpus: int = setting(0, "exit 69 when TensorFlow sees fewer GPUs on this worker", minimum=0)
    checkpoint_every: float = setting(30.0, "seconds between checkpoints; one more at every epoch's end", above=0.0)
    keep: int = setting(3, "newest checkpoints that are kept", minimum=1)
    histogram_freq: int = setting(1, "epochs between histograms of the weights; 0 writes none", minimum=0)
    log_every: float = setting(5.0, "seconds between progress lines when not on a terminal", above=0.0)
    verbosity: int = setting(0, "1 shows TensorFlow's own messages, -1 only warnings", minimum=-1)

    @classmethod
    def from_arguments(cls, argv: Sequence[str]) -> Self:
        """Makes a Config from command-line arguments (without the program's name).

        Raises:
          UsageError: names the flag, the value given and the values allowed.
          SystemExit: with code 0 after --help has printed the flags.
        """
        config = settings.parse(cls, argv, program=PROGRAM)
        if config.momentum and config.optimizer != "sgd":
            raise UsageError(
                f"--momentum={config.momentum} needs --optimizer=sgd, got --optimizer={config.optimizer}; "
                "adam has a momentum of its own: leave --momentum out"
            )
        return config
