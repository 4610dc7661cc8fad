"""The oracle is Keras: for every kind of model our loop ends with what `fit` ends with, fed the same batches.

Each way of training is one process, which goes through all kinds; see tests/training/oracle.
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.training.oracle.every_kind import KINDS

NAMES = list(KINDS)
SOME = [name for name in NAMES if KINDS[name].replicas][::7]


@functools.cache
def checkpoints() -> str:
    """The folder of the checkpoints that the undisturbed runs have written on their way."""
    return tempfile.mkdtemp(prefix="oracle-")


@pytest.fixture(autouse=True, scope="module")
def no_checkpoints_left() -> Iterator[None]:
    yield
    shutil.rmtree(checkpoints())


@functools.cache
def ended(mode: str, *names: str) -> dict[str, Any]:
    """What each kind ends with, trained that way."""
    if mode == "1":
        names = (f"--save={checkpoints()}", *names)
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.oracle.run", mode, *names],
        cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (-signal.SIGKILL if mode == "1" else 0), done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3000:]
    return {line["kind"]: line for line in lines}


def test_every_kind_is_read() -> None:
    assert len(NAMES) >= 24
    assert set(NAMES) == set(ended("fit"))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (mode, kind)
        for mode in ("1", "1x", "3")
        for kind in NAMES
        if (mode != "3" or KINDS[kind].replicas) and (mode != "1x" or KINDS[kind].xla)
    ],
)
def test_ends_as_keras_fit_does(mode: str, kind: str) -> None:
    theirs, ours = ended("fit")[kind], ended(mode)[kind]
    assert "error" not in theirs, theirs["error"]
    assert "error" not in ours, ours["error"]
    tolerance = max(KINDS[kind].tolerance, 1e-4 if mode == "3" else 0.0)
    for one, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for epoch, (one, other) in enumerate(zip(ours["history"], theirs["history"], strict=True)):
        assert set(one) == set(other), f"epoch {epoch}"
        for name, value in other.items():
            np.testing.assert_allclose(one[name], value, rtol=tolerance, atol=tolerance, err_msg=f"{name} of {epoch}")


def test_frozen_weights_keep_every_bit_on_three_replicas() -> None:
    """They are not averaged, which would round them."""
    theirs, ours = (ended(mode)["frozen and shared"]["weights"] for mode in ("fit", "3"))
    frozen = [index for index, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one == other]
    assert frozen == [2, 3]  # Kernel and bias of the second layer.


@pytest.mark.parametrize(("one", "several"), [("1:0", "3"), ("1x", "2x")])
def test_examples_are_augmented_alike_by_any_number_of_replicas(one: str, several: str) -> None:
    alone, shared = ended(one, "augmented")["augmented"], ended(several, "augmented")["augmented"]
    for weights, theirs in zip(alone["weights"], shared["weights"], strict=True):
        np.testing.assert_allclose(weights, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", NAMES)
def test_goes_on_from_a_checkpoint_to_the_same_bits(kind: str) -> None:
    """After a kill -9, in another process: all that training changes is in the checkpoint."""
    undisturbed = ended("1")[kind]
    resumed = ended("1:0", f"--resume={checkpoints()}")[kind]
    assert "error" not in resumed, resumed["error"]
    assert resumed == undisturbed


@pytest.mark.parametrize("mode", ["1:1", "1:7", "1x:7", "2x:5"])
def test_the_length_of_chunks_changes_no_bit(mode: str) -> None:
    whole, chunked = ended(mode.partition(":")[0], *SOME), ended(mode, *SOME)
    for kind in SOME:
        assert "error" not in chunked[kind], chunked[kind]["error"]
        assert chunked[kind] == whole[kind], kind


@pytest.mark.parametrize("mode", ["1", "3", "1x"])
def test_read_from_sources_changes_no_bit(mode: str) -> None:
    held, read = ended(mode, *SOME), ended(mode + "s", *SOME)
    for kind in SOME:
        assert "error" not in read[kind], read[kind]["error"]
        assert read[kind] == held[kind], kind


def test_two_replicas_compiled_by_xla_end_as_one() -> None:
    theirs, ours = ended("fit"), ended("2x", *SOME)
    for kind in SOME:
        for one, other in zip(ours[kind]["weights"], theirs[kind]["weights"], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=kind)
