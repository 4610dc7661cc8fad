"""Data in memory: what `load_data` returned, checked, and copied to the devices that train on it."""

import hashlib
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.exit_codes import DataError, UsageError
from trainer.training.data.masks import check_unmasked
from trainer.training.nests import Nest

_PAIR = "expected a pair (x, y) or a triple (x, y, sample_weight) of arrays, or of dicts, lists or tuples of arrays"


class Arrays:
    """One split: `x`, `y` and `weight`, each a nest of arrays whose first dimension counts the examples, or None."""

    def __init__(self, split: Any, name: str) -> None:
        """Takes what `load_data` returned for the split called `name`.

        Raises:
          UsageError: it is no pair or triple of arrays, or holds what a model cannot be trained on.
          DataError: arrays of different lengths, no example at all, or values that are not numbers.
        """
        if not isinstance(split, tuple | list) or len(split) not in (2, 3):
            raise UsageError(f"load_data's {name} data is {_described(split)}; {_PAIR}")
        self.name = name
        parts = [_nest(part, f"{name} {what}") for part, what in zip(split, ("x", "y", "weights"), strict=False)]
        self.x, self.y, self.weight = (*parts, None) if len(parts) == 2 else parts
        leaves = self._named_leaves()
        if self.x is None or not keras.tree.flatten(self.x):
            raise UsageError(f"load_data's {name} data has no x; {_PAIR}")
        self.examples = len(leaves[0][1])
        for what, leaf in leaves:
            if len(leaf) != self.examples:
                raise DataError(
                    f"{what} holds {len(leaf)} examples, {leaves[0][0]} holds {self.examples}: they must be of one "
                    "data set, with one entry an example each"
                )
        if not self.examples:
            raise DataError(f"load_data's {name} data holds no examples; give None for no validation data")
        for what, leaf in leaves:
            check_numbers(what, leaf)

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Adds all of it to a digest."""
        for _, array in self._named_leaves():
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.data if array.flags.c_contiguous else array.tobytes())

    @property
    def known(self) -> "Arrays":
        """The examples that are at hand before the first step: all."""
        return self

    def head(self, count: int) -> tuple[Nest, Nest, Nest]:
        """The first examples, as they will arrive on a device."""
        return self.rows(0, count)

    def rows(self, begin: int, end: int) -> tuple[Nest, Nest, Nest]:
        """Some of the examples, likewise."""
        return tuple(_mapped(lambda leaf: tf.constant(_as_keras(leaf[begin:end])), part) for part in self._parts())

    def on(self, device: str | None) -> tuple[Nest, Nest, Nest]:
        """A copy on a device; None: where TensorFlow puts it."""
        with tf.device(device):
            return tuple(_mapped(lambda leaf: tf.constant(_as_keras(leaf)), part) for part in self._parts())

    def check_alike(self, other: "Arrays") -> None:
        """Refuses another split whose examples are not of this one's shapes.

        Raises:
          DataError: names both.
        """
        for (what, leaf), (_, theirs) in zip(self._named_leaves(), other._named_leaves(), strict=False):
            if leaf.shape[1:] != theirs.shape[1:] and " x" in what:
                raise DataError(
                    f"{what} has examples of {list(leaf.shape[1:])}, the {other.name} data has "
                    f"{list(theirs.shape[1:])}: "
                    "they must be of one shape"
                )

    @property
    def bytes_per_example(self) -> int:
        """The size of one example's x."""
        return sum(leaf.nbytes // self.examples for leaf in keras.tree.flatten(self.x))

    def _parts(self) -> tuple[Nest, Nest, Nest]:
        return self.x, self.y, self.weight

    def _named_leaves(self) -> list[tuple[str, npt.NDArray[Any]]]:
        named = []
        for what, part in zip(("x", "y", "weights"), self._parts(), strict=True):
            if part is not None:
                for path, leaf in keras.tree.flatten_with_path(part):
                    place = "".join(f"[{step!r}]" for step in path)
                    named.append((f"load_data's {self.name} {what}{place}", leaf))
        return named


def take(data: tuple[Nest, Nest, Nest], rows: tf.Tensor) -> tuple[Nest, Nest, Nest]:
    """Some examples of what `Arrays.on` made."""
    return tuple(_mapped(lambda leaf: tf.gather(leaf, rows), part) for part in data)


def sliced(nest: Nest, begin: int, end: int) -> Nest:
    """Some of the examples of a nest of tensors, with what Keras keeps beside one: a mask, the logits of a softmax."""

    def cut(leaf: Any) -> Any:
        piece = leaf[begin:end]
        for name in ("_keras_mask", "_keras_logits"):
            if (beside := getattr(leaf, name, None)) is not None:
                setattr(piece, name, beside[begin:end])
        return piece

    return _mapped(cut, nest)


def digest(splits: list[Arrays]) -> str:
    """A short digest of all data, which tells one data set from another."""
    hashed = hashlib.sha256()
    for split in splits:
        split.add_to(hashed)
    return hashed.hexdigest()[:16]


def _mapped(function: Any, nest: Nest) -> Nest:
    return None if nest is None else keras.tree.map_structure(function, nest)


def _nest(value: Any, what: str) -> Nest:
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: _part(part, f"{what}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple) and not all(isinstance(part, bool | int | float) for part in value):
        parts = [_part(part, f"{what}[{index}]") for index, part in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    check_unmasked(value, f"load_data's {what}")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"load_data's {what} is {_described(value)}, which makes no array ({error}); {_PAIR}"
        ) from None
    if array.dtype.kind in "OUS":
        raise UsageError(
            f"load_data's {what} holds {_kind(array)}, which a compiled step cannot compute with; turn them into "
            "numbers "
            "in load_data, with a StringLookup or TextVectorization layer for example"
        )
    if array.dtype.kind not in "biuf" and not array.dtype.name.startswith(("bfloat", "float")):
        raise UsageError(
            f"load_data's {what} holds {array.dtype}, which a Keras model cannot take; turn it into whole or "
            "floating-point numbers in load_data"
        )
    if not array.ndim:
        raise UsageError(f"load_data's {what} is a single {array.dtype}; {_PAIR}")
    return array


def _part(value: Any, what: str) -> Nest:
    if value is None:
        raise UsageError(f"load_data's {what} is None; {_PAIR}, and leave out what is not there")
    return _nest(value, what)


def check_numbers(what: str, leaf: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None) -> None:
    """Refuses values that are not numbers.

    Args:
      what: the array, for a person.
      leaf: the array.
      rows: the numbers of its examples, where they are not 0, 1, 2 …

    Raises:
      DataError: names the first.
    """
    if leaf.dtype.kind != "f" or not leaf.size or not np.isnan(leaf.max()):
        return
    first = int(np.argmax(np.isnan(leaf)))
    row = first // max(leaf.size // len(leaf), 1)
    raise DataError(
        f"{what} holds {int(np.isnan(leaf).sum())} value(s) that are not a number (NaN), the first in example "
        f"{row if rows is None else rows[row]}; take them out, or fill them in, in load_data"
    )


def _as_keras(leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As Keras' `fit` hands it to a model: floating-point numbers as `floatx`, everything else as it is."""
    return leaf if leaf.dtype.kind in "biu" else leaf.astype(keras.config.floatx(), copy=False)


def _kind(array: npt.NDArray[Any]) -> str:
    return "Python objects" if array.dtype.kind == "O" else "text"


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
