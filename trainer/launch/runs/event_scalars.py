"""The curves in a run's event files, read without TensorFlow.

An Event has a wall time (1), a step (2) and a Summary (5); that has a Value (1) for each point, with a tag (1) and the
number itself (2) or as a tensor (8) of one number: in a list of float32 (5), or as bytes (4)
(tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto, tensor.proto).
"""

import math
import struct
from collections.abc import Iterator, Mapping

from trainer.core import protobuf
from trainer.core.epoch_figures import EPOCH_FIGURES
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import EVENT_FILE, TRAIN, VALIDATION
from trainer.core.tfrecord import data_of, whole_records
from trainer.output.stores.store import Readable

_EPOCH = "epoch_"  # Before the names of what is written once an epoch.
_FLOAT32 = 1  # DT_FLOAT of tensorflow/core/framework/types.proto.

Curve = Mapping[int, float]
"""A metric's value after each epoch, from 1."""


def curves(run: Readable, folders: tuple[str, ...] = (TRAIN, VALIDATION)) -> dict[str, Curve]:
    """The metrics of a run after each epoch, by name; those of validation have val_ before it.

    Raises:
      StorageError: the place failed.
    """
    found: dict[str, dict[int, float]] = {}
    for folder in folders:
        before = "val_" if folder == VALIDATION else ""
        for key in sorted(key for key in run.keys(f"{folder}/") if EVENT_FILE in key):
            stored = run.get(key)
            for tag, step, value in scalars(stored.data if stored else b""):
                if tag.startswith(_EPOCH):
                    found.setdefault(before + tag.removeprefix(_EPOCH), {})[step + 1] = value
    return {name: dict(sorted(points.items())) for name, points in found.items()}


def newest(run: Readable) -> tuple[dict[str, float], int]:
    """The loss and the metrics of a run, each after its newest epoch, and how many epochs it has trained.

    Raises:
      StorageError: the place failed.
    """
    measured = {name: points for name, points in curves(run).items() if points and name not in EPOCH_FIGURES}
    metrics = {name: points[max(points)] for name, points in measured.items()}
    return metrics, max((max(points) for points in measured.values()), default=0)


def scalars(data: bytes) -> Iterator[tuple[str, int, float]]:
    """The numbers in an event file: tag, step, value. What is no event of TensorBoard's is passed over."""
    try:
        records = whole_records(data)
    except DataError:
        return
    for record in records:
        try:
            yield from _of_event(data_of(record))
        except (ValueError, struct.error):  # UnicodeDecodeError is a ValueError.
            continue


def _of_event(event: bytes) -> list[tuple[str, int, float]]:
    step, summaries = 0, []
    for number, value in protobuf.fields(event):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    if step >= 2**31:
        return []
    points = []
    for summary in summaries:
        for number, value in protobuf.fields(summary):
            if number == 1 and isinstance(value, bytes) and (point := _of_value(value)):
                points.append((point[0], step, point[1]))
    return points


def _of_value(value: bytes) -> tuple[str, float] | None:
    tag, found = "", math.nan
    for number, content in protobuf.fields(value):
        if not isinstance(content, bytes):
            continue
        if number == 1:
            tag = content.decode()
        elif number == 2 and len(content) == 4:
            found = struct.unpack("<f", content)[0]
        elif number == 8:
            found = _of_tensor(content)
    return (tag, found) if math.isfinite(found) else None


def _of_tensor(tensor: bytes) -> float:
    kind = 0
    for number, content in protobuf.fields(tensor):
        if number == 1 and isinstance(content, int):
            kind = content
        elif number in (4, 5) and isinstance(content, bytes) and len(content) == 4 and kind == _FLOAT32:
            return float(struct.unpack("<f", content)[0])
    return math.nan
