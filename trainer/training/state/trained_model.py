"""The model of a run, which `--model` names by its run directory, local or in a bucket: its flags and its weights."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trainer.core import result_flags
from trainer.core.exit_codes import DataError, UsageError
from trainer.core.run_dir import MODEL, RESULT, WEIGHTS
from trainer.training.data import remote_files
from trainer.training.state import other_runs, variables
from trainer.training.state.saving import as_its_user_made_it


def flags(model: str) -> list[str]:
    """The flags of the run that made a model, as far as its result.json says them; for those that are not given.

    Raises:
      UsageError: result.json, which may come from a bucket, holds what is none.
      DataError: it cannot be read.
    """
    folder = model if _file(model) is None else remote_files.parent(model)
    content = remote_files.read(remote_files.join(folder, RESULT))
    if content is None:
        return []
    try:
        return result_flags.arguments(content)
    except ValueError as error:
        raise UsageError(f"--model={model}: its {RESULT} is not what a run writes ({error})") from None


def weights(model: str, keras_model: Any) -> dict[str, npt.NDArray[Any]]:
    """The variables of a model, by the names that a checkpoint has for them; sets those of `keras_model`.

    Args:
      model: the folder of a run, or one of the files in it.
      keras_model: the same model, as `build_model` makes it.

    Raises:
      UsageError: the model there is another.
      DataError: there is none, or none that is whole.
    """
    name = _file(model)
    if name is not None:
        content = remote_files.read(model)
        if content is None:
            raise DataError(f"--model={model} is not there")
        return of_file(model, name, content, keras_model)
    for name in (MODEL, WEIGHTS):
        path = remote_files.join(model, name)
        if (content := remote_files.read(path)) is not None:
            return of_file(path, name, content, keras_model)
    if checkpoint := other_runs.newest(model):
        print(f"{model} has no {MODEL} yet: this is its checkpoint of step {checkpoint.step}", flush=True)
        return _checked(f"{model}'s checkpoint of step {checkpoint.step}", checkpoint.arrays, keras_model)
    raise DataError(f"--model={model} holds neither {MODEL} nor a whole checkpoint; name the folder of a run")


def _file(model: str) -> str | None:
    """What kind of file a model's address names; None: a folder."""
    if model.endswith(".keras"):
        return MODEL
    return WEIGHTS if model.endswith(".weights.h5") else None


def of_file(path: str, name: str, content: bytes, keras_model: Any) -> dict[str, npt.NDArray[Any]]:
    """The variables that a file holds, as `weights`.

    Args:
      path: where it lies, for a person.
      name: `MODEL` or `WEIGHTS`.
      content: what it holds.
      keras_model: as for `weights`.

    Raises:
      UsageError: they are of another model.
      DataError: the file is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, name)
        copy.write_bytes(content)
        try:
            with as_its_user_made_it(keras_model):  # Without an optimizer, whose state is not needed.
                keras_model.load_weights(copy)  # The weights alone: no code in the file is run.
        except (zipfile.BadZipFile, OSError) as error:  # The second is HDF5's.
            raise DataError(f"{path} is damaged ({_words(error)}); name the folder of another run") from None
        except Exception as error:
            raise _other(path, keras_model, _words(error)) from None
    return variables.of_model(keras_model)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _checked(path: str, arrays: dict[str, npt.NDArray[Any]], keras_model: Any) -> dict[str, npt.NDArray[Any]]:
    expected = variables.of_model(keras_model)
    for name, value in expected.items():
        if name not in arrays or arrays[name].shape != value.shape:
            raise _other(path, keras_model, f"it has no {name} of {list(value.shape)}")
    return {name: arrays[name] for name in expected}


def _other(path: str, keras_model: Any, why: str) -> UsageError:
    return UsageError(
        f"{path} is not the model {keras_model.name} that build_model makes ({why}); give the --experiment and the "
        "flags that it was trained with"
    )
