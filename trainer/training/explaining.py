"""What goes wrong in a user's model or functions, in one line: what was tried, why it cannot be, and where.

What Keras or TensorFlow refuse is said in their words, without the frames around them. What the user's own code raises
keeps its traceback. Both end with 64: started again, it would be the same.
"""

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import trainer
from trainer.core.exit_codes import TrainerError, UsageError
from trainer.training.nests import Nest

_NUMBERS = re.compile(r"\[\[.*\]\]", re.DOTALL)  # A whole array.
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_NODES = re.compile(r"\[\[\{\{[^{}]*\}\}\]\]|\{\{[^{}]*\}\}\s*|\[Op:\S*\]")
_GRAPH = re.compile(r"^Graph execution error:.*^\s*File [^\n]*\n", re.DOTALL | re.MULTILINE)
_CALLED = re.compile(r"Exception encountered when calling (?:layer ['\"])?(\w+)(?:\.call\(\))?['\"]?[^.:]*[.:]")
_USER_CODE = re.compile(r"^in user code:.*\n\s*\w+: ", re.DOTALL)
_LIBRARIES = tuple(str(Path(module.__file__ or "").parent) for module in (keras, tf, np))
_HERE = str(Path(trainer.__file__).parent)
_EXAMPLES = str(Path(_HERE) / "examples")
# May pass by another time: a download, a disk, another worker.
_PASSING = (OSError, MemoryError, tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError, tf.errors.InternalError, tf.errors.ResourceExhaustedError)  # fmt: skip


@contextlib.contextmanager
def not_exiting(what: str) -> Iterator[None]:
    """Makes an exit in here an error: the process would end with it as if all were done.

    Args:
      what: what is called, as the sentence's subject.

    Raises:
      UsageError: it called exit.
    """
    try:
        yield
    except SystemExit as error:
        raise UsageError(f"{what} ended the process by exit({error.code!r}); raise an error that says why") from None


@contextlib.contextmanager
def explained(what: str, x: Nest = None) -> Iterator[None]:
    """Turns what goes wrong in here into one line.

    Args:
      what: what is tried, as the sentence's subject: "build_model", "the model mlp".
      x: what it is tried with, whose shapes are told; None: nothing that matters.

    Raises:
      UsageError: it cannot be done.
    """
    try:
        with not_exiting(what):
            yield
    except TrainerError as error:
        if "\n" in str(error):  # TensorFlow has put the frames of what it traces around it.
            raise type(error)(words(error)) from None
        raise
    except _PASSING:
        raise
    except Exception as error:
        if type(error).__name__ == "InaccessibleTensorError":
            raise UsageError(
                f"{what} cannot be run: a tensor or random number of a branch of keras.ops.cond, or of the body of a "
                "loop, is needed outside of it; return it from there, and draw before it"
            ) from None
        own = _own_frames(error)
        given = f" with x of {describe(x)}" if x is not None else ""
        where = f" ({Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name})" if own else ""
        if own and not _is_of_library(error):
            sys.stderr.write("".join(_traceback(error, own[0])))
            raise UsageError(
                f"{what} cannot be run{given}: it raised {type(error).__name__}: {words(error)}{where}"
            ) from None
        raise UsageError(
            f"{what} cannot be run{given}: {words(error)}{where}; mend the model or the data, or prepare it in "
            "preprocess"
        ) from None


def words(error: BaseException, limit: int = 500) -> str:
    """What an error says, in one line: without colours, names of graph nodes and the frames around it."""
    text = _NODES.sub("", _GRAPH.sub("", _TERMINAL.sub("", str(error))))
    text = _USER_CODE.sub("", text)
    text = _NUMBERS.sub("[…]", text.partition("Arguments received by")[0])
    text = _CALLED.sub(r"\1:", text)
    text = " ".join(text.split())
    if not text:
        return type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]} …"


def describe(nest: Nest) -> str:
    """Shapes and types of a nest of arrays or tensors, for a person."""
    if isinstance(nest, dict):
        return "{" + ", ".join(f"{key}: {describe(value)}" for key, value in nest.items()) + "}"
    if isinstance(nest, list | tuple):
        return "[" + ", ".join(map(describe, nest)) + "]"
    if nest is None:
        return "None"
    dtype = nest.dtype.name if hasattr(nest.dtype, "name") else str(nest.dtype)
    return f"{dtype} {shape(nest)}"


def shape(tensor: Any) -> str:
    """A shape, for a person: [?, 10]."""
    return "[" + ", ".join("?" if size is None else str(size) for size in tensor.shape) + "]"


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the user's own code."""
    return [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_LIBRARIES, "<")) and "site-packages" not in frame.filename
        and "/lib/python" not in frame.filename
        and (not frame.filename.startswith(_HERE) or frame.filename.startswith(_EXAMPLES))
    ]  # fmt: skip


def _is_of_library(error: BaseException) -> bool:
    """Whether the innermost frame of the traceback is a library's."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return "site-packages" in last or last.startswith(_LIBRARIES)


def _traceback(error: BaseException, first: traceback.FrameSummary) -> list[str]:
    """The traceback from a frame on."""
    frames = list(traceback.extract_tb(error.__traceback__))
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames[frames.index(first) :])]
    return [*lines, *traceback.format_exception_only(error)]
