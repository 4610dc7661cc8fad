"""Agents with the real training program: whatever happens to a run, it ends as if nothing had happened."""

import itertools
import json
import os
import pathlib
import re
import signal
from typing import Any

import pytest

from tests.support import tensorboard_client
from tests.support.agents import TRAINER, Agent, Run, launched, running, signal_at_once, wait_until_gone
from tests.support.out_of_memory import starved
from tests.support.training_processes import Training
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import StateLine

EPOCHS = 30
STEPS_PER_EPOCH = 10


@pytest.fixture(scope="module")
def flags(paced_flags: list[str]) -> list[str]:
    return [*paced_flags, f"--epochs={EPOCHS}"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> dict[str, Any]:
    """The result of two workers to whom nothing happens."""
    with running(tmp_path_factory.mktemp("undisturbed"), 2, program=TRAINER, trainer_flags=flags) as run:
        run.start_all()
        assert run.codes() == [0, 0]
        return run.result


@pytest.mark.thorough
def test_whatever_ends_training_processes_changes_nothing(
    tmp_path: pathlib.Path, flags: list[str], undisturbed: dict[str, Any]
) -> None:
    port, python_port, fast_port = free_ports(3)
    agent_flags = ["--warm_spare", "--tensorboard", f"--tensorboard_port={port}"]
    environ = {"PACE": "0.02"}
    with (
        running(tmp_path, 2, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags, environ=environ) as run,
        tensorboard_client.tensorboard(run.run_dir, python_port, fast=False),
    ):
        chief, other = run.start_all()
        chief.wait_for_step(4 * STEPS_PER_EPOCH)
        other.signal_training(signal.SIGKILL)
        chief.wait_for_step(9 * STEPS_PER_EPOCH, attempt=2)
        chief.signal_training(signal.SIGUSR2)  # A clean sys.exit(1).
        chief.wait_for_step(14 * STEPS_PER_EPOCH, attempt=3)
        signal_at_once({chief: signal.SIGSEGV, other: signal.SIGSEGV})
        chief.wait_for_step(19 * STEPS_PER_EPOCH, attempt=4)
        with starved(chief.state.pid):
            chief.wait_for_step(20 * STEPS_PER_EPOCH, attempt=5)
        pid = other.signal_training(signal.SIGSTOP)
        for live in (port, python_port):  # The run waits for the frozen worker meanwhile.
            shown = tensorboard_client.scalars(live, "train", "epoch_loss", at_least=15)
            assert [epoch for epoch, _ in shown] == list(range(len(shown)))
        chief.wait_for_step(21 * STEPS_PER_EPOCH, attempt=6)
        wait_until_gone(pid)
        assert run.codes() == [0, 0]
        assert run.result["weights_sha256"] == undisturbed["weights_sha256"]
        assert run.result["restarts"] == 5
        assert_resumed_from_the_newest_checkpoint(run)
        with tensorboard_client.tensorboard(run.run_dir, fast_port, fast=True):
            for reader, name in itertools.product((python_port, fast_port), ("train", "validation")):
                shown = tensorboard_client.scalars(reader, name, "epoch_loss", at_least=EPOCHS)
                assert [epoch for epoch, _ in shown] == list(range(EPOCHS))
        causes = [line["failure"]["exit_code"] for line in run.attempts[:-1]]
        assert causes[:4] == [137, 1, 139, 137]


@pytest.mark.thorough
def test_a_local_fleet_survives_the_loss_of_its_agents(
    tmp_path: pathlib.Path, flags: list[str], undisturbed: dict[str, Any]
) -> None:
    run_dir = tmp_path / "run"
    with launched("--workers=2", training=[*flags, f"--run_dir={run_dir}"], environ={"PACE": "0.01"}) as launcher:
        launcher.wait_for_step(4 * STEPS_PER_EPOCH)
        os.kill(agent_of(launcher, 1), signal.SIGTERM)
        launcher.wait_for_step(9 * STEPS_PER_EPOCH, attempt=2)
        os.kill(agent_of(launcher, 0), signal.SIGKILL)
        assert launcher.end() == 0
        assert "stopped at step" in launcher.text
        assert "the agent of worker 1 has ended (SIGTERM" in launcher.text
        assert "the agent of worker 0 has ended (ended by SIGKILL); another takes its place" in launcher.text
        result = json.loads((run_dir / "result.json").read_text())
        assert f"succeeded: val_accuracy {result['val_accuracy']:.4f}" in launcher.text
        assert result["weights_sha256"] == undisturbed["weights_sha256"]
        assert result["restarts"] == 2


@pytest.mark.thorough
def test_an_elastic_run_trains_on_with_who_is_there(
    tmp_path: pathlib.Path, flags: list[str], undisturbed: dict[str, Any]
) -> None:
    agent_flags = ["--min_workers=1", "--elastic_wait=0.5", "--warm_spare"]
    environ = {"PACE": "0.02"}
    with running(tmp_path, 2, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags, environ=environ) as run:
        chief, other = run.start_all()
        chief.wait_for_step(4 * STEPS_PER_EPOCH)
        other.process.kill()
        chief.wait_for(lambda _: chief.progress[-1].workers == 1 and chief.step > 5 * STEPS_PER_EPOCH, "one worker")
        run.start(1)
        assert run.codes() == [0, 0]
        assert chief.progress[-1].workers == 2
        assert run.attempts[-1]["step_from"] == run.attempts[-2]["step_to"]  # They stopped at a save.
        assert abs(run.result["val_accuracy"] - undisturbed["val_accuracy"]) < 0.1


def test_a_compilation_that_takes_longer_than_a_hang_may_is_none(
    training: Training, tmp_path: pathlib.Path, small_mnist: pathlib.Path
) -> None:
    flags = ["--experiment=tests.experiments.slow_to_compile", "--global_batch_size=64", "--jit_compile=true"]
    first = training.start(f"--run_dir={tmp_path / 'first'}", *flags, "--epochs=1", environ={"COMPILE_SECONDS": "0"})
    assert first.wait() == 0, first.text
    # The evaluation of a run that goes on after its first epoch is compiled anew, too.
    flags += [f"--data_dir={small_mnist}", "--epochs=2", f"--resume_from={tmp_path / 'first'}"]
    environ, agent_flags = {"COMPILE_SECONDS": "13"}, ["--hang_timeout=10", "--max_restarts=0"]
    with running(tmp_path, 1, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags, environ=environ) as run:
        agent = run.start(0)
        assert run.codes() == [0], agent.text
        for what in ("training steps", "evaluation"):
            said = re.search(rf"(?m)^{what}: first call (\d+\.\d) s, compilation included", agent.text)
            assert said, agent.text
            assert 13 <= float(said[1]) < 60


def test_an_evaluation_that_takes_longer_than_a_hang_may_is_none(
    tmp_path: pathlib.Path, small_mnist: pathlib.Path
) -> None:
    flags = ["--experiment=tests.experiments.slow_to_evaluate", f"--data_dir={small_mnist}", "--epochs=1"]
    environ, agent_flags = {"EVALUATION": "0.65"}, ["--hang_timeout=10", "--max_restarts=0"]  # 13 s.
    with running(tmp_path, 1, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags, environ=environ) as run:
        agent = run.start(0)
        assert run.codes() == [0], agent.text
        assert run.result["restarts"] == 0


def agent_of(launcher: Agent, worker: int) -> int:
    """The process id of a worker's agent: the parent of the training process that it last told of."""
    states = [state for line in launcher.lines if (state := StateLine.parse(line))]
    pid = next(state.pid for state in reversed(states) if state.worker == worker and state.pid)
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def assert_resumed_from_the_newest_checkpoint(run: Run) -> None:
    """No step was repeated but those since the checkpoint that worker 0 last told of."""
    chief = run.agents[0].progress
    for attempt, after in itertools.pairwise(run.attempts):
        told = [line.saved or 0 for line in chief if line.attempt <= attempt["attempt"]]
        assert after["step_from"] >= max(told)
        assert after["step_from"] <= attempt["step_to"]


@pytest.mark.thorough
def test_a_worker_that_gets_no_data_is_the_one_that_is_named(tmp_path: pathlib.Path) -> None:
    flags = ["--experiment=tests.experiments.counting", "--examples=500", "--global_batch_size=50", "--noshuffle",
             "--prefetch=1", "--stuck=330"]  # fmt: skip
    agent_flags = ["--hang_timeout=20", "--max_restarts=0", "--rendezvous_timeout=15"]
    with running(tmp_path, 2, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags) as run:
        run.start_all()
        assert run.codes() == [75, 137]
        # Batch 7 is of 300 to 349, of which worker 1 reads the second half.
        message = run.termination(1)
        assert (message["cause"], message["worker"], message["step"]) == ("starved", 1, 6)
        assert "it waited for data for --hang_timeout=20 s" in run.agents[1].text
        assert "worker 1's training process had no data after step 6" in run.agents[0].text
