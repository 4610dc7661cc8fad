"""What Python warns of as deprecated in our own code fails the tests, in whatever process it is called."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments import deprecated_call
from tests.support.agents import TRAINER, running
from tests.support.paths import ROOT
from tests.support.training_processes import Training
from trainer.core.config import Config

NAME = "tests.experiments.deprecated_call"
RAISED = f"DeprecationWarning: {NAME} calls what is deprecated"


def test_here() -> None:
    with pytest.raises(DeprecationWarning):
        deprecated_call.build_model(Config(experiment=NAME))


def test_in_a_training_process(training: Training, tmp_path: Path) -> None:
    worker = training.start(f"--experiment={NAME}", f"--run_dir={tmp_path}")
    assert worker.wait() == 64
    assert RAISED in worker.text


def test_under_an_agent(tmp_path: Path) -> None:
    with running(tmp_path, 1, program=TRAINER, trainer_flags=[f"--experiment={NAME}"]) as run:
        agent = run.start(0)
        assert agent.end() == 64
        assert RAISED in agent.text


def test_in_any_other_process() -> None:
    code = f"import {NAME} as it, trainer.core.config as c; it.build_model(c.Config(experiment={NAME!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert RAISED in done.stderr
