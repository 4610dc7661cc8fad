"""`make local-soak`: fifty random failures in one run of four workers, and a long elastic run.

Two variables in the environment: SOAK_FAILURES, how many failures there are, and SOAK_SEED, which chooses them; the
seed of a run is printed, so that a run that went wrong can be had again.
"""

import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import tensorboard_client
from tests.support.agents import TRAINER, Agent, Run, children, running
from tests.support.out_of_memory import starved
from trainer.core.free_ports import free_ports

pytestmark = pytest.mark.soak

FAILURES = int(os.environ.get("SOAK_FAILURES", "50"))
WORKERS = 4
STEPS_PER_EPOCH = 10


def test_fifty_failures_at_random_moments_change_nothing(tmp_path: pathlib.Path, paced_flags: list[str]) -> None:
    """One worker fails, or two at once, in every phase of an attempt."""
    seed = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 100_000)))
    print(f"SOAK_SEED={seed}")
    chance = random.Random(seed)
    flags = [*paced_flags, "--epochs=150"]
    with running(tmp_path / "undisturbed", WORKERS, program=TRAINER, trainer_flags=flags) as run:
        run.start_all()
        assert run.codes(seconds=1800) == [0] * WORKERS
        undisturbed = run.result
    [port] = free_ports(1)
    agent_flags = ["--warm_spare", "--max_restarts=100"]
    environ = {"PACE": "0.02"}
    with running(
        tmp_path, WORKERS, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags, environ=environ
    ) as run:
        run.start_all()
        with tensorboard_client.tensorboard(run.run_dir, port, fast=True):
            for number in range(FAILURES):
                if chance.random() < 0.3:
                    time.sleep(chance.uniform(0.0, 8.0))  # A random moment, start-up and rendezvous included.
                else:
                    run.agents[0].wait_for_step(min(run.agents[0].step + chance.randrange(1, 50), 1450))
                if run.agents[0].process.poll() is not None:
                    break
                for index in chance.sample(range(WORKERS), chance.choice([1, 1, 1, 2])):
                    fail(run, index, chance)
                if number % 10 == 9:
                    assert_every_epoch_once(tensorboard_client.scalars(port, "train", "epoch_loss", at_least=1))
            assert number > FAILURES // 2, "the run ended before it was disturbed often enough"
            assert run.codes(seconds=1800) == [0] * WORKERS
            shown = tensorboard_client.scalars(port, "train", "epoch_loss", at_least=150)
            assert [epoch for epoch, _ in shown] == list(range(150))
        with tensorboard_client.tensorboard(run.run_dir, port, fast=False):
            shown = tensorboard_client.scalars(port, "validation", "epoch_loss", at_least=150)
            assert [epoch for epoch, _ in shown] == list(range(150))
        assert run.result["weights_sha256"] == undisturbed["weights_sha256"]


def test_an_elastic_run_of_four_goes_on_for_the_minute_that_one_is_missing(
    tmp_path: pathlib.Path, paced_flags: list[str]
) -> None:
    flags = [*paced_flags, "--epochs=500"]
    with running(tmp_path / "undisturbed", WORKERS, program=TRAINER, trainer_flags=flags) as run:
        run.start_all()
        assert run.codes(seconds=1800) == [0] * WORKERS
        undisturbed = run.result
    port, other_port = free_ports(2)
    agent_flags = ["--min_workers=2", "--elastic_wait=5", "--warm_spare"]
    with running(
        tmp_path, WORKERS, program=TRAINER, agent_flags=agent_flags, trainer_flags=flags, environ={"PACE": "0.02"}
    ) as run:
        chief = run.start_all()[0]
        chief.wait_for_step(10 * STEPS_PER_EPOCH)
        run.agents[2].process.kill()
        chief.wait_for(lambda _: chief.progress[-1].workers == 3, "three workers")
        returns = time.monotonic() + 60.0
        assert_steps_go_on(chief, lambda: time.monotonic() < returns)
        run.start(2)
        assert_steps_go_on(chief, lambda: chief.process.poll() is None)
        assert run.codes(seconds=1800) == [0] * WORKERS
        assert [len(line["workers"]) for line in run.attempts] == [4, 3, 4]
        assert abs(run.result["val_accuracy"] - undisturbed["val_accuracy"]) < 0.08
        for number, fast in ((port, True), (other_port, False)):
            with tensorboard_client.tensorboard(run.run_dir, number, fast=fast):
                shown = tensorboard_client.scalars(number, "train", "epoch_loss", at_least=500)
                assert [epoch for epoch, _ in shown] == list(range(500))


def assert_steps_go_on(chief: Agent, as_long_as: Callable[[], bool]) -> None:
    """No 10 s pass without a new step or the begin of another attempt."""
    while as_long_as():
        step, attempt = chief.step, chief.state.attempt
        deadline = time.monotonic() + 10.0
        while (chief.step, chief.state.attempt) == (step, attempt) and as_long_as():
            assert time.monotonic() < deadline, f"no step after {step} for 10 s, in attempt {attempt}"
            time.sleep(0.2)


def fail(run: Run, index: int, chance: random.Random) -> None:
    """Lets one kind of failure, chosen at random, happen to a worker; starts its agent again where that has ended."""
    agent = run.agents[index]
    failure = chance.choice(["kill", "kill", "kill", "segv", "exit", "stop", "memory", "agent", "terminate"])
    print(f"worker {index}, step {run.agents[0].step}: {failure}", flush=True)
    if failure in ("agent", "terminate"):
        agent.process.send_signal(signal.SIGKILL if failure == "agent" else signal.SIGTERM)
        if agent.end() != 0:
            run.start(index)
        return
    pids = children(agent.process.pid)
    if not pids:
        return
    pid = chance.choice(pids)  # The training process or the spare.
    signals = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "exit": signal.SIGUSR2, "stop": signal.SIGSTOP}
    try:
        if failure == "memory":
            threading.Thread(target=starve, args=(pid, agent), daemon=True).start()
        else:
            os.kill(pid, signals[failure])
    except ProcessLookupError:
        return


def starve(pid: int, agent: Agent) -> None:
    """Leaves no memory to a process, until it or its agent has ended."""
    try:
        with starved(pid):
            while pid in children(agent.process.pid):
                time.sleep(0.2)
    except OSError:
        return


def assert_every_epoch_once(shown: list[tuple[int, Any]]) -> None:
    """TensorBoard shows each epoch so far, once and in order."""
    epochs = [epoch for epoch, _ in shown]
    assert epochs == list(range(len(epochs)))
