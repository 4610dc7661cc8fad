"""The trained model as a file: tried before the first step, so that no training ends in vain."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from trainer.core.exit_codes import OutputError, UsageError
from trainer.core.run_dir import MODEL, WEIGHTS
from trainer.training.state.whole_file import temporary_room


class ModelFile:
    """How a model is written: whole as `model.keras`, or else its weights as `model.weights.h5`."""

    def __init__(self, model: Any, *, compiled_by_flags: bool) -> None:
        """Tries it.

        Args:
          model: the model, built.
          compiled_by_flags: its user has not compiled it, and the file says nothing of it.

        Raises:
          UsageError: neither can be written.
          OutputError: there is no room to try it.
        """
        self._model, self._by_flags = model, compiled_by_flags
        self.name = MODEL
        with tempfile.TemporaryDirectory() as folder:
            try:
                with temporary_room("the model as a file"):
                    self._write(Path(folder) / MODEL)
            except OutputError:
                raise
            except Exception as error:
                self.name = WEIGHTS
                why = " ".join(str(error).split())[:300]
                try:
                    self._write(Path(folder) / WEIGHTS)
                except Exception as also:
                    raise UsageError(
                        f"the model {model.name} can be saved neither whole ({why}) nor by its weights "
                        f"({' '.join(str(also).split())[:300]}); give its layers a get_config, or build it of "
                        "Keras' own"
                    ) from None
                text = "the model cannot be saved as %s (%s): its weights will be, as %s"
                logging.warning(text, MODEL, why, WEIGHTS)

    def write(self, run_dir: Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
          OSError: it could not be written.
        """
        path = run_dir / self.name
        temporary = path.with_name(f".tmp.{self.name}")
        self._write(temporary)
        temporary.replace(path)

    def _write(self, path: Path) -> None:
        if path.name.endswith(WEIGHTS):
            self._model.save_weights(path)
            return
        with as_its_user_made_it(self._model) if self._by_flags else contextlib.nullcontext():
            self._model.save(path)


@contextlib.contextmanager
def as_its_user_made_it(model: Any) -> Iterator[None]:
    """Without what the flags have compiled."""
    kept = {name: model.__dict__.pop(name) for name in ("optimizer", "compiled") if name in model.__dict__}
    model.__dict__["compiled"] = False
    try:
        yield
    finally:
        model.__dict__.update(kept)
