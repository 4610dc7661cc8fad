"""Keeps TensorFlow's start-up messages off the log, and nothing else."""

import contextlib
import logging as pylogging
import os
import re
import tempfile
from collections.abc import Iterator

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


# What TFLite's converter writes beside the error that it raises.
CONVERTER = re.compile(rb"(?:loc\(|error: |<unknown>:0: |Summary on the non-converted|\s*[-\d*]|\s*$).*\n?")


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
