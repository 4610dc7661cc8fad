"""Exports of trained models: an experiment of the test's own, its end, and what a file for TFLite answers."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.support.training_processes import Worker


def experiment(folder: Path, text: str) -> dict[str, str]:
    """Writes the experiment `exported`; returns the environment in which it is found."""
    (folder / "exported.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def finished(*workers: Worker) -> None:
    """Waits until they have ended, and well."""
    for worker in workers:
        assert worker.wait() == 0, worker.text


def tflite(path: Path, **inputs: Any) -> dict[str, Any]:
    """What the model in a file gives for these inputs, by name."""
    return dict(tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")(**inputs))
