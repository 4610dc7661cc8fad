"""Agents whose training reads ahead of a slow source: whatever is killed, each example comes once an epoch."""

import pathlib
import signal

import pytest

from tests.support.agents import TRAINER, running
from tests.support.visits import check_once_an_epoch

EPOCHS, EXAMPLES, BATCH = 5, 1010, 50
STEPS = EXAMPLES // BATCH
FLAGS = (
    "--experiment=tests.experiments.counting", f"--examples={EXAMPLES}", f"--global_batch_size={BATCH}",
    f"--epochs={EPOCHS}", "--millis=10", "--prefetch=4", "--checkpoint_every=0.3", "--log_every=0.2", "--threads=1",
)  # fmt: skip


def test_kills_in_mid_epoch_repeat_and_lose_no_example(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, program=TRAINER, trainer_flags=FLAGS) as run:
        chief, other = run.start_all()
        chief.wait_for_step(STEPS // 2)
        other.signal_training(signal.SIGKILL)
        chief.wait_for_step(STEPS + STEPS // 2, attempt=2)
        chief.signal_training(signal.SIGKILL)
        chief.wait_for_step(2 * STEPS + STEPS // 2, attempt=3)
        other.process.kill()
        run.start(1)
        chief.wait_for_step(3 * STEPS + STEPS // 2, attempt=4)
        assert run.codes() == [0, 0]
        assert run.result["steps"] == EPOCHS * STEPS
        assert any(line["step_from"] % STEPS for line in run.attempts), "no attempt began in mid-epoch"
        check_once_an_epoch(run.run_dir, epochs=EPOCHS, batch=BATCH)


@pytest.mark.thorough
def test_an_elastic_run_trains_on_each_example_once(tmp_path: pathlib.Path) -> None:
    agent_flags = ["--min_workers=1", "--elastic_wait=0.5"]
    with running(tmp_path, 2, program=TRAINER, agent_flags=agent_flags, trainer_flags=FLAGS) as run:
        chief, other = run.start_all()
        chief.wait_for_step(STEPS // 2)
        other.process.kill()
        chief.wait_for(lambda _: chief.progress[-1].workers == 1 and chief.step > STEPS, "one worker")
        run.start(1)
        assert run.codes() == [0, 0]
        assert {line.workers for line in chief.progress} == {1, 2}
        assert chief.progress[-1].workers == 2
        check_once_an_epoch(run.run_dir, epochs=EPOCHS, batch=BATCH)
