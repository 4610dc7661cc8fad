"""A run that is stopped while an epoch is evaluated: at once, and it goes on with that evaluation."""

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.experiments.slow_to_evaluate import EVALUATES
from tests.support import event_reader
from tests.support.training_processes import Training, Worker, result
from trainer.core.run_dir import checkpoint_names
from trainer.training.state.checkpoint import Checkpoint

FLAGS = ("--experiment=tests.experiments.slow_to_evaluate", "--global_batch_size=64", "--epochs=3", "--hidden_units=8")
STEPS_PER_EPOCH = 10
SLOW = {"EVALUATION": "0.4"}  # Eight seconds for all batches.


def evaluates(worker: Worker, step: int) -> None:
    """Waits until a worker evaluates what it has at a step, which it has come to or begins with."""
    there = False

    def evaluated(line: str) -> bool:
        nonlocal there
        there = there or f"step={step}/" in line or f"resuming at step {step} of" in line
        return there and line == EVALUATES

    worker.wait_for(evaluated)


def stopped(workers: Sequence[Worker], run_dir: Path, step: int) -> None:
    """Stops the last of some workers while they evaluate, at a step."""
    for worker in workers:
        evaluates(worker, step)
    workers[-1].kill(signal.SIGTERM)
    codes = [worker.wait() for worker in workers]
    assert codes == [*[75] * (len(workers) - 1), 143], workers[0].text
    assert f"stopped at step {step} of" in workers[0].text
    assert not [progress for progress in workers[0].progress if progress.step == step and progress.validation]
    assert checkpoint_names(run_dir)[-1] == f"step-{step:010d}-unevaluated.npz"


@pytest.mark.parametrize(
    ("count", "more"),
    [
        (1, ["--counts", "--keep_best=val_loss:2"]),
        (2, ["--nocounts"]),
        pytest.param(1, ["--nocounts"], marks=pytest.mark.thorough),
        pytest.param(2, ["--counts"], marks=pytest.mark.thorough),
    ],
)
def test_it_goes_on_with_the_evaluation(count: int, more: list[str], training: Training, tmp_path: Path) -> None:
    flags = (*FLAGS, *more)

    def start(environ: dict[str, str]) -> list[Worker]:
        own = (f"--run_dir={tmp_path / 'run'}", *flags)
        if count == 1:
            return [training.start(*own, environ=environ)]
        return training.start_workers(count, *own, environ=environ)

    training.run(f"--run_dir={tmp_path / 'undisturbed'}", *flags, count=count)
    stopped(start(SLOW), tmp_path / "run", STEPS_PER_EPOCH)
    stopped(start(SLOW), tmp_path / "run", STEPS_PER_EPOCH)  # No step was made, and nothing saved.
    assert len(checkpoint_names(tmp_path / "run")) == 1
    stopped(start({"EVALUATION": "0.1"}), tmp_path / "run", 2 * STEPS_PER_EPOCH)
    ended = start({})
    assert [worker.wait() for worker in ended] == [0] * count, ended[0].text
    for name in ("weights_sha256", "loss", "accuracy", "val_loss", "val_accuracy", "steps", "best"):
        assert result(tmp_path / "run").get(name) == result(tmp_path / "undisturbed").get(name)
    assert event_reader.scalars(tmp_path / "run") == event_reader.scalars(tmp_path / "undisturbed")
    names = [f"step-{epoch * STEPS_PER_EPOCH:010d}.npz" for epoch in (1, 2, 3)]
    assert checkpoint_names(tmp_path / "run") == names  # The others have gone.
    last = names[-1]
    mine, theirs = (np.load(tmp_path / run / "checkpoints" / last) for run in ("run", "undisturbed"))
    assert {*mine} == {*theirs}
    for member in {*mine} - {"state.json"}:
        np.testing.assert_array_equal(mine[member], theirs[member], member)


@pytest.mark.thorough
def test_a_run_that_goes_on_from_another_is_stopped_in_its_evaluation(training: Training, tmp_path: Path) -> None:
    stopped([training.start(f"--run_dir={tmp_path / 'one'}", *FLAGS, environ=SLOW)], tmp_path / "one", STEPS_PER_EPOCH)
    two = (f"--run_dir={tmp_path / 'two'}", *FLAGS)
    on = training.start(*two, f"--resume_from={tmp_path / 'one'}", environ=SLOW)
    stopped([on], tmp_path / "two", STEPS_PER_EPOCH)  # It has the checkpoint, too.
    (ended,) = training.run(*two)
    assert f"resuming at step {STEPS_PER_EPOCH} of" in ended.text


REFUSED = ("--experiment=tests.experiments.refused_by_xla", "--global_batch_size=64", "--epochs=2", "--chunk_steps=1")


@pytest.mark.thorough
def test_an_evaluation_is_without_xla_where_the_steps_before_it_were(training: Training, tmp_path: Path) -> None:
    """XLA refuses the steps; alone, it would compile the evaluation, and round otherwise."""
    run_dir = tmp_path / "run"
    training.run(f"--run_dir={run_dir}", *REFUSED)
    undisturbed = result(run_dir)
    (run_dir / "result.json").unlink()
    newest = run_dir / "checkpoints" / "step-0000000020.npz"
    saved = Checkpoint.decode(newest.read_bytes())
    assert saved.xla is False
    before = dataclasses.replace(saved, unevaluated=True, history=saved.history[:1])  # As if it were stopped there.
    newest.unlink()
    newest.with_name("step-0000000020-unevaluated.npz").write_bytes(before.encode())
    (again,) = training.run(f"--run_dir={run_dir}", *REFUSED)
    assert "evaluation: first call" not in again.text  # XLA has compiled nothing.
    assert Checkpoint.decode(newest.read_bytes()).xla is False
    for name in ("val_loss", "val_accuracy", "weights_sha256"):
        assert result(run_dir)[name] == undisturbed[name]


@pytest.mark.thorough
def test_chunks_of_any_length_measure_the_same(training: Training, tmp_path: Path) -> None:
    for length in (0, 1, 7):
        flags = (f"--run_dir={tmp_path / str(length)}", *FLAGS, "--counts", f"--chunk_steps={length}")
        training.run(*flags, "--epochs=1")
    for name in ("val_loss", "val_accuracy"):
        assert result(tmp_path / "0")[name] == result(tmp_path / "1")[name] == result(tmp_path / "7")[name]
