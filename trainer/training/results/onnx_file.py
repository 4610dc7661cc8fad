"""A SavedModel as ONNX, by tf2onnx, and what ONNX's own runtime makes of it; with the current TensorFlow alone."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from trainer.core import installing
from trainer.core.exit_codes import UsageError

_OLDEST = (2, 18)  # Before, TensorFlow has to have a ml_dtypes that the onnx package cannot be imported beside.


def check() -> None:
    """Looks for what it takes.

    Raises:
      UsageError: TensorFlow is too old, or a package is not installed.
    """
    if tuple(map(int, tf.__version__.split(".")[:2])) < _OLDEST:
        raise UsageError(
            f"--export=onnx: ONNX's packages do not run beside TensorFlow {tf.__version__} (they need a later "
            "ml_dtypes); take the current line of TensorFlow, or export savedmodel and turn that into ONNX in an "
            "environment of its own (docs/daily.md)"
        )
    for name in ("tf2onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--export=onnx needs the package {name}; install it: {installing.package(name)}")


def converted(saved_model: Path, path: Path) -> None:
    """Writes a SavedModel as ONNX, in a process of its own: tf2onnx sets up TensorFlow and logging for itself.

    Raises:
      ValueError: with the reason, in tf2onnx' words.
    """
    command = (sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved_model), "--output", str(path))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not path.exists():
        raise ValueError((done.stderr.strip().splitlines() or ["tf2onnx said nothing"])[-1])


def outputs(path: Path, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """What the file gives for arrays by the names of its inputs, by the names of its outputs."""
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {each.name: inputs[each.name] for each in session.get_inputs()}
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, taken), strict=True))
