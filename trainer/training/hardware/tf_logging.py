"""Keeps TensorFlow's start-up messages off the log, and nothing else."""

import contextlib
import logging as pylogging
import os
import re
import subprocess
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

    Where this process ends in the middle, by an abort or whatever else, all that it has said appears.

    Args:
      verbosity: the flag; from 1 on nothing is dropped.
      noise: what else is dropped, a line.
    """
    if verbosity > 0:
        yield
        return
    shown = os.dup(2)
    with tempfile.TemporaryFile() as file, _shown_if_this_ends(file.fileno()):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            file.seek(0)
            for line in file:
                if not _NOISE.fullmatch(line) and not (noise and noise.fullmatch(line)):
                    with contextlib.suppress(OSError):  # Nobody reads it any more, or its disk is full.
                        os.write(2, line)


# Its input ends without a line when this process does. The file is opened anew, since its descriptor stands at the end.
_SHOW = 'read -r ended || exec cat "/proc/self/fd/$0" >&2'


@contextlib.contextmanager
def _shown_if_this_ends(descriptor: int) -> Iterator[None]:
    """Lets a small process write out a file should this one end inside of the block: nothing runs here after an abort.

    It has a session of its own, and so lives on when an agent kills this process with all that it has started.
    """
    read_end, write_end = os.pipe()
    try:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _SHOW, str(descriptor)],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,
        )
    except OSError:  # There is none, or no room for it: what is said is then lost with this process.
        shell = None
    finally:
        os.close(read_end)
    try:
        yield
    finally:
        if shell:
            with contextlib.suppress(BrokenPipeError):  # Somebody has killed it.
                os.write(write_end, b"ended\n")
        os.close(write_end)
        if shell:
            shell.wait()
