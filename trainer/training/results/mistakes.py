"""What a trained model makes of the first validation examples, for a person: which it mixes up, and which it got wrong.

It is one pass over at most `MOST` examples by one process, compiled; nothing that is trained is touched.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.training.data.feeding import Split
from trainer.training.data.source_split import SourceSplit
from trainer.training.model.experiment import Preprocess
from trainer.training.model.first_look import FirstLook, call
from trainer.training.model.samples import at_once, prepared
from trainer.training.nests import Nest

MOST = 10_000  # Examples that are looked at.
_MOST_READ = 1_000  # Of a source, whose examples are read for it.
_MOST_BYTES = 2**27  # Of outputs and labels, which are held until all are there.
SHOWN = 25  # Of those that it got wrong.
_MOST_PIXELS = 160  # Of a picture's side; a larger one is drawn with every second pixel, every third, …
_VALUES = 8  # Of an input that is no picture.

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Miss:
    """An example that the model got wrong, or is far off."""

    index: int  # In the split.
    label: str
    predicted: str
    picture: bytes | None  # PNG; None: it does not look like one.
    values: str  # What it holds, in the place of a picture.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was seen."""

    split: str
    examples: int  # Looked at.
    of: int  # In the split.
    wrong: int | None  # How many were; None: the model tells no classes apart.
    classes: int  # How many it tells apart; 0: none.
    confusion: Mapping[tuple[int, int], int]  # How often a label (first) was taken for a class, where it was at all.
    misses: list[Miss]  # The first that were wrong; of numbers, those farthest from their labels.


def predictions(model: Any, split: Split, preprocess: Preprocess | None, seed: int, look: FirstLook) -> Predictions:
    """Looks at the first examples of a split.

    Args:
      model: the trained model, outside of any strategy.
      split: where they are taken from.
      preprocess: the experiment's, or None.
      seed: the run's.
      look: what the first batch has shown, of the model as it was compiled.
    """
    size = max(1, sum(_bytes(leaf) for nest in (look.outputs, look.y) for leaf in keras.tree.flatten(nest)))
    count = min(_MOST_READ if isinstance(split, SourceSplit) else MOST, split.examples, max(1, _MOST_BYTES // size))
    batch = min(at_once(max(size, split.bytes_per_example)), count)
    outputs, labels = _passed_over(model, split, preprocess, seed, count, batch)
    nothing = Predictions(
        split=split.name, examples=count, of=split.examples, wrong=None, classes=0, confusion={}, misses=[]
    )
    if len(outputs) != 1 or len(labels) != 1:
        return nothing
    output, label = outputs[0], labels[0]
    if (classes := _classes(output, label, binary=look.classes)) is not None:
        told, true, number = classes
        confusion = collections.Counter(zip(true.tolist(), told.tolist(), strict=True))
        wrong = np.flatnonzero(told != true)
        misses = [(int(row), str(true[row]), str(told[row])) for row in wrong[:SHOWN]]
        return dataclasses.replace(
            nothing, wrong=len(wrong), classes=number, confusion=confusion, misses=_misses(split, misses)
        )
    if output.size != label.size or output.dtype.kind != "f":
        return nothing
    apart = np.abs(output.reshape(count, -1) - label.reshape(count, -1).astype(output.dtype)).mean(axis=1)
    far = np.argsort(-apart, kind="stable")[:SHOWN]
    misses = [(int(row), _numbers(label[row]), _numbers(output[row])) for row in far]
    return dataclasses.replace(nothing, misses=_misses(split, misses))


def _passed_over(
    model: Any, split: Split, preprocess: Preprocess | None, seed: int, count: int, batch: int
) -> tuple[list[Array], list[Array]]:
    """Outputs and labels of the first examples, each a list of arrays."""

    def predicted(raw: Nest, y: Nest, rows: tf.Tensor) -> tuple[Nest, Nest]:
        x, y = prepared(preprocess, seed, raw, y, rows)
        return call(model, x, training=False), y

    compiled = tf.function(predicted, autograph=False)
    parts = []
    for begin in range(0, count, batch):
        end = min(begin + batch, count)
        raw, y, _ = split.rows(begin, end)
        pair = compiled(raw, y, tf.range(begin, end, dtype=tf.int64))
        parts.append(
            tuple([] if nest is None else [_plain(leaf) for leaf in keras.tree.flatten(nest)] for nest in pair)
        )
    first = parts[0]
    return tuple(  # type: ignore[return-value]
        [np.concatenate([part[kind][leaf] for part in parts]) for leaf in range(len(first[kind]))] for kind in (0, 1)
    )


def _plain(leaf: Any) -> Array:
    array = np.asarray(leaf)
    return array.astype(np.float32) if array.dtype.kind not in "biuf" or array.dtype.itemsize < 4 else array


def _bytes(leaf: tf.Tensor) -> int:
    """What an example's part of a leaf takes, as `_plain` has it."""
    return int(np.prod(leaf.shape[1:])) * max(4, int(leaf.dtype.size))


def _classes(output: Array, label: Array, *, binary: bool) -> tuple[Array, Array, int] | None:
    """The class that was told, the true one, and how many there are; None: it does not look like classes.

    Of a single output only the losses say (`binary`) whether it tells two classes apart.
    """
    count = len(output)
    flat = label.reshape(count, -1)
    if output.ndim == 2 and output.shape[1] >= 2:
        classes = output.shape[1]
        if flat.shape[1] == 1 and (flat == np.round(flat)).all() and flat.min() >= 0 and flat.max() < classes:
            return output.argmax(axis=1), flat[:, 0].astype(np.int64), classes
        one_hot = flat.shape == output.shape and ((flat == 0) | (flat == 1)).all() and (flat.sum(axis=1) == 1).all()
        return (output.argmax(axis=1), flat.argmax(axis=1), classes) if one_hot else None
    if output.size == count and flat.shape[1] == 1 and ((flat == 0) | (flat == 1)).all() and binary:
        threshold = 0.5 if ((output >= 0) & (output <= 1)).all() else 0.0
        return (output.reshape(count) > threshold).astype(np.int64), flat[:, 0].astype(np.int64), 2
    return None


def _misses(split: Split, rows: list[tuple[int, str, str]]) -> list[Miss]:
    misses = []
    for row, label, predicted in rows:
        raw = keras.tree.map_structure(lambda leaf: np.asarray(leaf)[0], split.rows(row, row + 1)[0])
        picture = _picture(raw)
        misses.append(
            Miss(index=row, label=label, predicted=predicted, picture=picture, values="" if picture else _values(raw))
        )
    return misses


def _picture(raw: Nest) -> bytes | None:
    """The input as a PNG if it looks like a picture: height and width, and one, three or four channels."""
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "uf" or raw.ndim not in (2, 3):
        return None
    pixels = raw[..., np.newaxis] if raw.ndim == 2 else raw
    height, width, channels = pixels.shape
    if not (4 <= height <= 4096 and 4 <= width <= 4096 and channels in (1, 3, 4)):
        return None
    stride = -(-max(height, width) // _MOST_PIXELS)
    pixels = pixels[::stride, ::stride]
    if pixels.dtype != np.uint8:
        low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
        pixels = np.nan_to_num((pixels.astype(np.float32) - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
    return bytes(tf.io.encode_png(pixels).numpy())


def _values(raw: Nest) -> str:
    named = keras.tree.flatten_with_path(raw)
    return "; ".join(" ".join([*(f"{step}:" for step in path), _numbers(leaf)]) for path, leaf in named)


def _numbers(values: Any) -> str:
    flat = np.ravel(values)
    shown = " ".join(f"{value:.4g}" for value in flat[:_VALUES].tolist())
    return shown if len(flat) <= _VALUES else f"{shown} … ({len(flat)} values)"
