"""Processes from one that has imported already what training imports, which is two thirds of a short run.

It is what a warm spare is to the agent: the program, training or the oracle's, is the same, in a process of its own
with an environment, outputs and signals of its own. Only Python's hashes of text are those of all that come from the
same one. What is read when Python or TensorFlow start is none of its business: a process with such a setting is started
anew.
"""

import contextlib
import functools
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.support.paths import ROOT, STRICT

# What is read when Python, its libraries, TensorFlow and Keras (in ~/.keras) are started or imported.
_AT_A_START = ("PYTHON", "LD_", "OMP_", "OPENBLAS_", "MKL_", "TF_", "XLA_", "CUDA_", "KERAS_", "HOME")
_ENVIRON = dict(os.environ)
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # Training sets it to 2 before it imports TensorFlow, and so do some files of tests.


def serves(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a process with these flags and this environment is what one that was started anew would be."""
    own = {name for name in environ.keys() | _ENVIRON.keys() if environ.get(name) != _ENVIRON.get(name)}
    if any(name.startswith(_AT_A_START) for name in own - {"PYTHONPATH", "TF_CONFIG", _LEVEL}):
        return False
    if environ.get(_LEVEL, "2") != "2" or any(flag.startswith("--verbosity") for flag in argv):
        return False
    folders = set(_folders(environ)) - set(_folders(_ENVIRON)) - {str(STRICT)}
    return not any(Path(folder, "sitecustomize.py").exists() for folder in folders)


class Process:
    """One of them, used as a `subprocess.Popen` with text is."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], program: str = "trainer") -> None:
        """Starts `python -m program` in the repository, its standard error in its standard output."""
        reader, writer = multiprocessing.Pipe(duplex=False)
        with writer:
            self._process = _context().Process(target=_run, args=(program, list(argv), dict(environ), writer))
            self._process.start()
        with reader:
            self.stdout = open(os.dup(reader.fileno()), encoding="utf-8")  # noqa: SIM115
        assert self._process.pid
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(sys.argv, timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__name__}_first"])
    return context


def _run(program: str, argv: list[str], environ: dict[str, str], output: Connection) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(output.fileno(), descriptor)
        stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    output.close()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(ROOT)
    sys.path[:] = dict.fromkeys([str(ROOT), *_folders(environ), *sys.path])
    sys.argv = [program, *argv]
    random.seed()
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _folders(environ: Mapping[str, str]) -> list[str]:
    return list(filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)))
