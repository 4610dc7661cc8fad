"""What the ways of training end with, each found out once in a session of tests, by whichever process asks first."""

import fcntl
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.paths import ROOT
from tests.training.oracle.every_kind import KINDS

SOME = [name for name, kind in KINDS.items() if kind.replicas][::7]

Results = dict[str, dict[str, Any]]  # By kind.


class Oracle:
    """Runs the ways of training, each in a process that goes through all kinds, and keeps what they print."""

    def __init__(self, folder: Path) -> None:
        """Results lie in the folder, which all processes of a session share."""
        self._folder = folder
        self._checkpoints = folder / "checkpoints"

    @functools.cache  # noqa: B019  # It lives as long as the session.
    def ended(self, mode: str, *names: str) -> Results:
        """What each kind ends with, trained that way, or those of these names."""
        return self._found(mode, *(["--save=checkpoints"] if mode == "1" and not names else names))

    @functools.cache  # noqa: B019
    def resumed(self) -> Results:
        """What each kind ends with, from the checkpoints on that mode 1 has written on its way."""
        self.ended("1")
        return self._found("1:0", "--resume=checkpoints")

    def _found(self, mode: str, *arguments: str) -> Results:
        self._checkpoints.mkdir(exist_ok=True)
        file = self._folder / hashlib.sha256(" ".join((mode, *arguments)).encode()).hexdigest()[:16]
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                file.write_text(self._run(mode, [_with_folder(one, self._folder) for one in arguments]))
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")]
        assert lines
        return {line["kind"]: line for line in lines}

    @staticmethod
    def _run(mode: str, arguments: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.training.oracle.run", mode, *arguments],
            cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        saves = any(one.startswith("--save") for one in arguments)
        assert done.returncode == (-signal.SIGKILL if saves else 0), done.stderr[-3000:]
        return done.stdout


def _with_folder(argument: str, folder: Path) -> str:
    return argument.replace("=", f"={folder}/") if argument.startswith("--") else argument


def check_ends_as_fit(oracle: Oracle, mode: str, kind: str, least: float = 0.0, among: Sequence[str] = ()) -> None:
    """Holds a kind's weights and history to those of Keras' fit, within the kind's tolerance or the least one.

    The mode has trained all kinds, or those `among` which this is.
    """
    ours, theirs = oracle.ended(mode, *among)[kind], oracle.ended("fit")[kind]
    for one in (ours, theirs):
        assert "error" not in one, one["error"]
    tolerance = max(KINDS[kind].tolerance, least)
    for one, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for epoch, (one, other) in enumerate(zip(ours["history"], theirs["history"], strict=True)):
        assert set(one) == set(other), f"epoch {epoch}"
        for name, value in other.items():
            np.testing.assert_allclose(one[name], value, rtol=tolerance, atol=tolerance, err_msg=f"{name} of {epoch}")


def check_same_bits(ours: Results, theirs: Results, kinds: list[str]) -> None:
    """Holds two ways of training to each other."""
    for kind in kinds:
        assert "error" not in ours[kind], ours[kind]["error"]
        assert ours[kind] == theirs[kind], kind
