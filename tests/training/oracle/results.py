"""What the ways of training end with, each found out once in a session of tests, by whichever process asks first."""

import fcntl
import functools
import hashlib
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import imported
from tests.training.oracle.every_kind import KINDS
from tests.training.oracle.kinds import COMMON

# Ways of training by whose turn it is in `make test`: each has a third of the common kinds, and in `make test-thorough`
# all others. "resumed" goes on from the checkpoints that mode 1 has written on its way.
_TURNS = {"1": 0, "resumed": 0, "1x": 1, "3": 2}

Results = dict[str, dict[str, Any]]  # By kind.


def each(kinds: Iterable[str], way: str) -> pytest.MarkDecorator:
    """A test of each kind for a way that takes turns."""
    _, others = _shares(way)
    parameters = [pytest.param(kind, marks=pytest.mark.thorough if kind in others else ()) for kind in kinds]
    return pytest.mark.parametrize("kind", parameters)


def a_few(kinds: Iterable[str], way: str) -> pytest.MarkDecorator:
    """A test of some kinds together, which `make test` trains this way, and one of some others."""
    first, others = ([kind for kind in kinds if kind in share][::8] for share in _shares(way))
    parameters = [pytest.param(first, id="few"), pytest.param(others, id="more", marks=pytest.mark.thorough)]
    return pytest.mark.parametrize("kinds", parameters)


def _shares(way: str) -> tuple[list[str], list[str]]:
    """The kinds that `make test` trains this way, and the others."""
    if way == "fit":
        return list(COMMON), [name for name in KINDS if name not in COMMON]
    first = []
    for index, (name, kind) in enumerate(KINDS.items()):
        may = (True, kind.xla, kind.replicas)
        turn = index % len(may)
        if name in COMMON and _TURNS[way] == (turn if may[turn] else 0):
            first.append(name)
    return first, [name for name in KINDS if name not in first]


class Oracle:
    """Runs the ways of training, each in a process that goes through all kinds, and keeps what they print."""

    def __init__(self, folder: Path) -> None:
        """Results lie in the folder, which all processes of a session share."""
        self._folder = folder
        self._checkpoints = folder / "checkpoints"

    @functools.cache  # noqa: B019  # It lives as long as the session.
    def ended(self, mode: str, *names: str) -> Results:
        """What each kind ends with, trained that way, or those of these names."""
        if mode == "resumed":
            self.ended("1", *names)
            return self._found("1:0", "--resume=checkpoints", *names)
        return self._found(mode, *(["--save=checkpoints"] if mode == "1" else []), *names)

    def one(self, mode: str, kind: str) -> dict[str, Any]:
        """What a kind ends with, trained that way beside its share of all kinds."""
        return self.ended(mode, *next(share for share in _shares(mode) if kind in share))[kind]

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
        process = imported.Process([mode, *arguments], os.environ, "tests.training.oracle.run")
        with process.stdout:
            said = process.stdout.read()
        saves = any(one.startswith("--save") for one in arguments)
        assert process.wait(60) == (-signal.SIGKILL if saves else 0), said[-3000:]
        return said


def _with_folder(argument: str, folder: Path) -> str:
    return argument.replace("=", f"={folder}/") if argument.startswith("--") else argument


def check_ends_as_fit(oracle: Oracle, ours: dict[str, Any], kind: str, least: float = 0.0) -> None:
    """Holds a kind's weights and history to those of Keras' fit, within the kind's tolerance or the least one."""
    theirs, tolerance = oracle.one("fit", kind), max(KINDS[kind].tolerance, least)
    for one in (ours, theirs):
        assert "error" not in one, one["error"]
    for one, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for epoch, (one, other) in enumerate(zip(ours["history"], theirs["history"], strict=True)):
        assert set(one) == set(other), f"epoch {epoch}"
        for name, value in other.items():
            np.testing.assert_allclose(one[name], value, rtol=tolerance, atol=tolerance, err_msg=f"{name} of {epoch}")


def check_same_bits(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Holds what a kind ended with to what it ended with elsewhere, to the last bit."""
    assert "error" not in ours, ours["error"]
    assert ours == theirs
