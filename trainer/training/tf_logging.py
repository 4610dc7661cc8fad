"""Keeps TensorFlow's start-up messages off the log, and nothing else."""

import contextlib
import logging as pylogging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import machinery
from types import ModuleType

from absl import flags, logging

# What absl's C++ logging writes below the level of an error, and what it says before the first of them.
_NOISE = re.compile(rb"(?:[IW]\d{4} \d\d:\d\d:\d\d|WARNING: All log messages before absl::InitializeLog).*\n?")


def set_up_logging(verbosity: int) -> None:
    """Sends warnings to standard error, and TensorFlow's messages only when they are asked for (1 and more).

    Call it before TensorFlow is imported.
    """
    flags.FLAGS.mark_as_parsed()  # absl's logging would complain that its own flags were not.
    logging.use_absl_handler()
    logging.set_verbosity(verbosity if verbosity > 0 else logging.WARNING)
    logging.get_absl_handler().setFormatter(pylogging.Formatter("%(levelname)s: %(message)s"))
    if verbosity < 1:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        pylogging.getLogger("tensorflow").setLevel(pylogging.ERROR)
        if not any(isinstance(finder, _QuietImport) for finder in sys.meta_path):
            sys.meta_path.insert(0, _QuietImport())


class _QuietImport:
    """Imports TensorFlow, whoever asks for it first, without what 2.21 says then whatever level the environment has."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> machinery.ModuleSpec | None:
        if name != "tensorflow" or (spec := machinery.PathFinder.find_spec(name, path, target)) is None:
            return None
        if (loader := spec.loader) is not None:
            execute = loader.exec_module

            def quietly(module: ModuleType) -> None:
                with withheld(verbosity=0):
                    execute(module)

            loader.exec_module = quietly  # type: ignore[method-assign]
        return spec


# What TFLite's converter writes beside the error that it raises.
CONVERTER = re.compile(
    rb"(?:loc\(|error: |<unknown>:0: |Summary on the non-converted|\s*[-\d*]|\s*$"
    rb"|Some ops are not supported by the native TFLite|TF Select ops: |Details:|\s+tf\.\w+\().*\n?"
)


@contextlib.contextmanager
def withheld(*, verbosity: int, noise: re.Pattern[bytes] | None = None) -> Iterator[None]:
    """Drops the notes that C++ code writes straight to standard error meanwhile; its errors appear at the end.

    Args:
      verbosity: the flag; from 1 on nothing is dropped.
      noise: what else is dropped, a line.
    """
    if verbosity > 0:
        yield
        return
    shown = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            file.seek(0)
            for line in file:
                if not _NOISE.fullmatch(line) and not (noise and noise.fullmatch(line)):
                    os.write(2, line)
