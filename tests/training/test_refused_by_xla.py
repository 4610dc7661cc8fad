"""What XLA cannot compile runs as plain TensorFlow, and says so; or is refused, where it must be compiled."""

import re
from pathlib import Path

import pytest
import tensorflow as tf

from tests.support.training_processes import Training, Worker, result
from trainer.core.exit_codes import UsageError
from trainer.training.hardware.compiling import Compiling

FLAGS = ("--experiment=tests.experiments.refused_by_xla", "--global_batch_size=64")


def said(worker: Worker) -> list[str]:
    """What was said to be refused."""
    return re.findall(r"(?m)^XLA cannot compile this model \((.*?): .*\): it runs as plain TensorFlow$", worker.text)


def test_training_goes_on_as_plain_tensorflow(training: Training, tmp_path: Path) -> None:
    (refused,) = training.run(f"--run_dir={tmp_path / 'refused'}", *FLAGS, "--epochs=1")
    (plain,) = training.run(f"--run_dir={tmp_path / 'plain'}", *FLAGS, "--epochs=1", "--noasked")
    assert (said(refused), said(plain)) == (["training steps"], [])
    assert result(tmp_path / "refused")["weights_sha256"] == result(tmp_path / "plain")["weights_sha256"]
    (resumed,) = training.run(
        f"--run_dir={tmp_path / 'resumed'}", *FLAGS, "--epochs=2", f"--resume_from={tmp_path / 'refused'}"
    )
    assert said(resumed) == ["training steps"]
    assert "the checkpoint's steps were made" not in resumed.text  # They were made as these are.


def test_evaluation_alone_goes_on_as_plain_tensorflow(training: Training, tmp_path: Path) -> None:
    flags = (*FLAGS, "--refused=evaluation")
    (worker,) = training.run(f"--run_dir={tmp_path / 'run'}", *flags, "--epochs=2", "--chunk_steps=3")
    assert said(worker) == ["evaluation"]
    # The steps before and after it are XLA's: their dropout draws other numbers than plain TensorFlow's.
    training.run(f"--run_dir={tmp_path / 'never'}", *FLAGS, "--refused=never", "--epochs=2")
    assert result(tmp_path / "run")["weights_sha256"] == result(tmp_path / "never")["weights_sha256"]
    model = f"--model={tmp_path / 'run'}"
    (evaluated,) = training.run(f"--run_dir={tmp_path / 'evaluated'}", "--mode=evaluate", model)
    (predicted,) = training.run(f"--run_dir={tmp_path / 'predicted'}", "--mode=predict", model)
    assert (said(evaluated), said(predicted)) == (["evaluation"], ["outputs"])
    assert result(tmp_path / "evaluated")["val_loss"] == pytest.approx(result(tmp_path / "run")["val_loss"], rel=1e-5)
    assert (tmp_path / "predicted" / "predictions.npy").exists()


@pytest.mark.parametrize(
    ("refused", "mode", "what"),
    [
        ("training", "train", "training steps"),
        ("evaluation", "train", "evaluation"),
        pytest.param("evaluation", "evaluate", "evaluation", marks=pytest.mark.thorough),
        pytest.param("evaluation", "predict", "outputs", marks=pytest.mark.thorough),
    ],
)
def test_what_must_be_compiled_is_refused(
    refused: str, mode: str, what: str, training: Training, tmp_path: Path
) -> None:
    flags = [f"--run_dir={tmp_path / 'run'}", *FLAGS, f"--refused={refused}", "--jit_compile=true"]
    if mode != "train":
        training.run(f"--run_dir={tmp_path / 'model'}", *FLAGS, f"--refused={refused}", "--epochs=1")
        flags += [f"--mode={mode}", f"--model={tmp_path / 'model'}"]
    worker = training.start(*flags)
    assert worker.wait() == 64, worker.text
    (line,) = [line for line in worker.text.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: XLA cannot compile this model ({what}: ")
    assert line.endswith("leave --jit_compile=true out, and it runs as plain TensorFlow")
    assert "Traceback" not in worker.text


def test_what_a_later_call_raises_is_no_refusal() -> None:
    """By TensorFlow's words for a kernel that XLA has compiled and that fails, which no CPU says."""
    compiling, left = Compiling("auto"), list[str]()
    fails = tf.errors.InternalError(None, None, "Failed to execute XLA Runtime executable: CUDA_ERROR_ILLEGAL_ADDRESS")

    def function() -> str:
        if left:
            return left.pop()
        raise fails

    class Thing:
        jit_compile = True

        def without_xla(self) -> None:
            raise AssertionError("it was compiled before")

    left.append("a result")
    assert compiling.call("a thing", function, Thing()) == "a result"
    with pytest.raises(tf.errors.InternalError, match="ILLEGAL_ADDRESS"):
        compiling.call("a thing", function, Thing())
    with pytest.raises(UsageError, match="leave --jit_compile=true out"):
        Compiling("true").call("a thing", function, Thing())
