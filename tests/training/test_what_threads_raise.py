"""What a thread of the training process raises is raised in its main thread: nothing lives on without it."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.support.agents import DEADLINE
from tests.support.paths import ROOT
from tests.support.waiting import until
from tests.training.test_checkpoint import made
from trainer.core import agent_link
from trainer.core.log_lines import Progress
from trainer.training.progress.progress_bar import Display
from trainer.training.state.checkpoint import Checkpoints

ASKED_TO_STOP = """
import os, sys, time
from trainer.training.signals import StopWish

stop = StopWish()
stop.on_wish(lambda: os.write(1, b"it stops"))
if sys.argv[1] == "None":
    sys.stderr = None
elif sys.argv[1] == "closed":
    sys.stderr.close()
os.write(1, b"ready ")
time.sleep(600)
"""


def test_a_checkpoint_that_cannot_be_encoded_is_no_reason_to_wait_for_ever(tmp_path: pathlib.Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(dataclasses.replace(made(1), identity={"seed": object()}))
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.wait()
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.save(made(2))


def test_a_display_that_failed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(
        worker=0, workers=1, attempt=1, epoch=1, epochs=1, step=1, steps=2, metrics={}, examples_per_second=1.0
    )

    def fail() -> Progress:
        raise ZeroDivisionError("of a metric")

    with Display(fail, every=0.01) as display, pytest.raises(ZeroDivisionError, match="of a metric"):
        until(DEADLINE, "what it raised", lambda: display.show(shown))
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_fails_at_low_priority_is_raised() -> None:
    def fail() -> None:
        raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        agent_link.at_low_priority(fail)


@pytest.mark.parametrize("standard_error", ["nobody reads it", "closed", "None"])
def test_sigterm_is_heard_whoever_reads_standard_error(standard_error: str) -> None:
    reads, writes = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", ASKED_TO_STOP, standard_error], cwd=ROOT, stdout=subprocess.PIPE, stderr=writes
    ) as process:
        os.close(writes)
        os.close(reads)
        try:
            output = process.stdout
            assert output
            assert output.read(6) == b"ready "
            process.send_signal(signal.SIGTERM)
            os.set_blocking(output.fileno(), False)
            assert until(DEADLINE / 10, "the wish", output.read).startswith(b"it stops")
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 128 + signal.SIGINT
        finally:
            process.kill()
