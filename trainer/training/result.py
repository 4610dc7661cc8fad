"""What a run leaves behind: the model and the figures."""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import trainer
from trainer.core import agent_link
from trainer.core.config import Config
from trainer.core.exit_codes import OutputError
from trainer.core.run_dir import MODEL, RESULT
from trainer.training.checkpoint import Checkpoint, write_whole


def write(run_dir: Path, *, config: Config, workers: int, final: Checkpoint, model: Any) -> None:
    """Writes the model, then the result, each whole or not at all.

    Raises:
      OutputError: they could not be written.
    """
    content = {
        "workers": workers,
        "global_batch_size": config.global_batch_size,
        "epochs": config.epochs,
        "steps": final.step,
        **(final.history[-1] if final.history else {}),
        "images_per_second": final.step_images / max(final.step_seconds, 1e-9),
        "seconds": final.seconds,
        "restarts": agent_link.attempt() - 1,
        "weights_sha256": weights_sha256(model),
        "versions": {
            "trainer": trainer.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    try:
        _save(model, run_dir / MODEL)
        write_whole(run_dir / RESULT, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(
            f"the result could not be written to {run_dir} ({error.strerror or error}); make room and start again: "
            "the run goes on at its newest checkpoint"
        ) from None
    print(json.dumps(content), flush=True)


def weights_sha256(model: Any) -> str:
    """The digest of the trainable weights, in order, as float32 little-endian bytes."""
    digest = hashlib.sha256()
    for variable in model.trainable_variables:
        digest.update(np.ascontiguousarray(variable.numpy(), "<f4").tobytes())
    return digest.hexdigest()


def _save(model: Any, path: Path) -> None:
    """Saves a copy that plain Keras loads, made outside of the strategy."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    temporary = path.with_name(f".{path.name}.tmp.keras")
    copy.save(temporary)
    temporary.replace(path)
