"""What TensorBoard finds in a run directory, read with TensorBoard's own reader."""

from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing import event_file_loader


def points(folder: Path) -> list[tuple[str, int, Any]]:
    """Every point (tag, step, value) in the order of the files; the value is None where it is no scalar."""
    result = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                scalar = value.metadata.plugin_data.plugin_name == "scalars"
                result.append((value.tag, event.step, _number(value.tensor) if scalar else None))
    return result


def scalars(run_dir: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """The curve of every (folder, tag) but that of examples per second, which differs from run to run."""
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for kind in ("train", "validation"):
        for tag, step, value in points(run_dir / kind):
            if value is not None and tag != "epoch_examples_per_second":
                curves.setdefault((kind, tag), []).append((step, value))
    return curves


def _number(tensor: Any) -> float:
    if tensor.tensor_content:
        return float(np.frombuffer(tensor.tensor_content, np.float32)[0])
    return float(tensor.float_val[0])
