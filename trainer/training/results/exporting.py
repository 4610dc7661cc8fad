"""A trained model in the formats of other programs: written, loaded again, compared, and only then given its name.

TFLite and ONNX are made of the SavedModel: their converters do not take a model of Keras 3 itself.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.exit_codes import UsageError
from trainer.core.export_formats import PLACES
from trainer.core.run_dir import EXPORTS, ONNX, SAVED_MODEL, TFLITE
from trainer.training.explaining import words
from trainer.training.hardware import tf_logging
from trainer.training.model.first_look import call
from trainer.training.nests import Nest
from trainer.training.results import onnx_file
from trainer.training.state.whole_file import temporary_room

EXAMPLES = 100  # With which an export is compared with the model.
_TOLERANCE = 1e-4  # Of the largest output, at least 1: what other kernels round otherwise.
_TOLERANCE_BFLOAT16 = 2e-2
_SIGNATURE = "serving_default"
_NO_OPERATION = re.compile(r"'(tf\.\w+)' op is neither|error: '(tf\.\w+)'|operation '(tf\.\w+)'")


class ExportError(Exception):
    """An export cannot be made, or gives other numbers than the model; the text says which and why."""


def try_out(model: Any, x: Nest, formats: Sequence[str], *, verbosity: int) -> None:
    """Makes the exports of a model that is not trained yet, and throws them away.

    Raises:
      UsageError: one of them cannot be made.
      OutputError: there is no room for them in the folder for temporary files.
    """
    with tempfile.TemporaryDirectory() as folder, temporary_room(f"--export={','.join(formats)}"):
        try:
            _make(model, x, formats, Path(folder), verbosity)
        except ExportError as error:
            raise UsageError(
                f"--export={','.join(formats)}: {error}; leave that format out, or change the model"
            ) from None


def write(model: Any, x: Nest, formats: Sequence[str], run_dir: Path, *, verbosity: int) -> dict[str, str]:
    """Writes the exports into a run directory, each whole or not at all; what stood in their place goes.

    Args:
      model: the trained model, outside of any strategy.
      x: up to `EXAMPLES` examples.
      formats: of `PLACES`.
      run_dir: the run directory.
      verbosity: from 1 on TensorFlow's own messages are shown.

    Returns:
      Where each format lies, from the run directory.

    Raises:
      ExportError: one of them cannot be made, or gives other numbers than the model.
      OutputError: as `try_out`.
      OSError: the disk did not take them.
    """
    part = run_dir / f".tmp.{EXPORTS}"
    shutil.rmtree(part, ignore_errors=True)  # An earlier attempt may have been killed in the middle.
    try:
        # TensorFlow takes brackets in a path for a pattern: what it loads again lies elsewhere.
        with tempfile.TemporaryDirectory() as folder:
            with temporary_room(f"--export={','.join(formats)}"):
                _make(model, x, formats, Path(folder), verbosity)
            _copy(Path(folder) / EXPORTS, part / EXPORTS)
        for name in formats:
            path = run_dir / PLACES[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.rmtree(path)
            _bring_to_disk(part / PLACES[name])
            (part / PLACES[name]).replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {name: PLACES[name] for name in formats}


def _copy(source: Path, target: Path) -> None:
    """As `shutil.copytree`, which goes on after a full disk, and then raises all that it could not copy."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _make(model: Any, x: Nest, formats: Sequence[str], folder: Path, verbosity: int) -> None:
    """Makes the exports in a folder, and compares them."""
    if "onnx" in formats:
        onnx_file.check()
    expected = call(model, x, training=False)
    bfloat16 = any(layer.compute_dtype == "bfloat16" for layer in model._flatten_layers())
    tolerance = _TOLERANCE_BFLOAT16 if bfloat16 else _TOLERANCE
    saved = folder / SAVED_MODEL
    loaded = _attempted("savedmodel", model, lambda: _saved_and_loaded(model, x, saved), verbosity)
    _compare("savedmodel", expected, _attempted("savedmodel", model, lambda: loaded.serve(x), verbosity), tolerance)
    named = {name: np.asarray(leaf) for name, leaf in zip(_names(x), keras.tree.flatten(x), strict=True)}
    if "tflite" in formats:
        content = _attempted("tflite", model, lambda: _converted(saved), verbosity)
        answer = _attempted("tflite", model, lambda: _run_tflite(content, named), verbosity)
        _compare("tflite", _served(loaded, named), answer, tolerance)
        (folder / TFLITE).write_bytes(content)
    if "onnx" in formats:
        _attempted("onnx", model, lambda: onnx_file.converted(saved, folder / ONNX), verbosity)
        answer = _attempted("onnx", model, lambda: onnx_file.outputs(folder / ONNX, named), verbosity)
        _compare("onnx", _served(loaded, named), answer, tolerance)


def _saved_and_loaded(model: Any, x: Nest, path: Path) -> Any:
    """Writes the SavedModel, and loads it; its inputs have the same names in every run."""
    names = iter(_names(x))
    signature = keras.tree.map_structure(
        lambda leaf: tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype, name=next(names)), x
    )
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda inputs: call(model, inputs, training=False), input_signature=[signature])
    archive.write_out(str(path), verbose=False)
    return tf.saved_model.load(str(path))


def _names(x: Nest) -> list[str]:
    """What the inputs are called: the keys of a dict; inputs_0, inputs_1, … of a list; inputs where there is one."""
    paths = [[str(step) for step in path] for path, _ in keras.tree.flatten_with_path(x)]
    joined = ["_".join(path if not (path and path[0].isdecimal()) else ["inputs", *path]) for path in paths]
    return [re.sub(r"\W", "_", name) or "inputs" for name in joined]


def _converted(saved: Path) -> bytes:
    return bytes(tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert())


def _run_tflite(content: bytes, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return dict(tf.lite.Interpreter(model_content=content).get_signature_runner(_SIGNATURE)(**inputs))


def _served(loaded: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, tf.Tensor]:
    """What the SavedModel gives, by the names of its outputs."""
    return dict(loaded.signatures[_SIGNATURE](**{name: tf.constant(array) for name, array in inputs.items()}))


def _attempted(name: str, model: Any, make: Callable[[], Any], verbosity: int) -> Any:
    try:
        with tf_logging.withheld(verbosity=verbosity, noise=tf_logging.CONVERTER):
            return make()
    except (OSError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        if operations := sorted(set(_NO_OPERATION.findall(str(error)))):
            missing = ", ".join(dict.fromkeys("".join(pair) for pair in operations))
            raise ExportError(f"the model {model.name} uses {missing}, which {name} does not have") from None
        raise ExportError(f"the model {model.name} cannot be had as {name}: {words(error, 300)}") from None


def _compare(name: str, expected: Nest, given: Nest, tolerance: float) -> None:
    """Refuses an export that gives other numbers."""
    if isinstance(expected, dict) and isinstance(given, dict) and set(expected) == set(given):
        given = {key: given[key] for key in expected}  # In one order.
        pairs = [(expected[key], given[key]) for key in expected]
        if not all(hasattr(leaf, "shape") for pair in pairs for leaf in pair):
            pairs = list(zip(keras.tree.flatten(expected), keras.tree.flatten(given), strict=True))
    else:
        pairs = list(zip(keras.tree.flatten(expected), keras.tree.flatten(given), strict=True))
    for ours, theirs in pairs:
        before, after = (np.asarray(tf.cast(value, tf.float64)) for value in (ours, theirs))
        if before.shape != after.shape:
            raise ExportError(f"the {name} gives outputs of {list(after.shape)}, the model of {list(before.shape)}")
        scale = max(1.0, float(np.max(np.abs(before[np.isfinite(before)]), initial=0.0)))
        if not np.allclose(before, after, rtol=0.0, atol=tolerance * scale, equal_nan=True):
            apart = float(np.nanmax(np.abs(before - after), initial=0.0))
            raise ExportError(
                f"the {name} gives other numbers than the model: for {len(before)} examples up to {apart:.3g} apart, "
                f"expected at most {tolerance * scale:.3g}"
            )


def _bring_to_disk(path: Path) -> None:
    for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
