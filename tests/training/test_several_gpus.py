"""What workers agree on about their GPUs, with real processes that have CPUs and say, or are told, otherwise."""

import functools
from pathlib import Path

import pytest

from tests.support.training_processes import Training, Worker, number, result
from trainer.core.exit_codes import AcceleratorError
from trainer.core.log_lines import Progress
from trainer.training.hardware.worker_gpus import WorkerGpus, take_nccl

FLAGS = ("--epochs=1", "--global_batch_size=50", "--experiment=tests.experiments.pretended_gpus")


def started(training: Training, run_dir: Path, gpus: list[str], *flags: str) -> list[Worker]:
    """Workers with these GPUs each, and their ends."""
    environs = [{"GPUS": words} for words in gpus]
    workers = training.start_workers(len(gpus), f"--run_dir={run_dir}", *FLAGS, *flags, environs=environs)
    for worker in workers:
        worker.wait()
    return workers


@pytest.mark.parametrize("gpus", [["", "a"], ["a b", "c"]])
def test_a_worker_with_fewer_gpus_ends_all_before_they_wait_for_it(
    training: Training, tmp_path: Path, gpus: list[str]
) -> None:
    workers = started(training, tmp_path, gpus)
    counts = [len(words.split()) for words in gpus]
    for worker in workers:
        assert worker.wait() == 69, worker.text
        expected = f"same number of GPUs, and worker 0 has {counts[0]}, worker 1 has {counts[1]}; give each as many"
        assert expected in worker.text


@pytest.mark.parametrize(
    ("gpus", "library"),
    [
        (["a", "b"], "nccl"),
        (["a", "a"], "ring"),  # A local fleet on a machine with one GPU.
    ],
)
def test_nccl_is_taken_where_each_worker_has_a_gpu_of_its_own(
    training: Training, tmp_path: Path, gpus: list[str], library: str
) -> None:
    for worker in started(training, tmp_path, gpus):
        assert worker.wait() == 0, worker.text  # On CPUs TensorFlow takes its ring, whatever it is asked for.
        assert f"sums by {library}" in worker.lines


def test_nccl_that_cannot_be_had_is_refused(training: Training, tmp_path: Path) -> None:
    for worker in started(training, tmp_path, ["a", "a"], "--communication=nccl"):
        assert worker.wait() == 69, worker.text
        assert "--communication=nccl needs a GPU for each worker, and two workers share a GPU" in worker.text


def test_without_gpus_or_by_the_flag_the_ring_is_taken() -> None:
    own = [WorkerGpus(count=2, uuids=("a", "b")), WorkerGpus(count=2, uuids=("c", "d"))]
    assert take_nccl("auto", own)
    assert take_nccl("nccl", own)
    assert not take_nccl("ring", own)
    assert not take_nccl("auto", [WorkerGpus(count=0, uuids=())] * 2)


def test_gpus_that_cannot_be_told_apart_may_be_one() -> None:
    unknown = [WorkerGpus(count=1, uuids=()), WorkerGpus(count=1, uuids=("b",))]
    assert not take_nccl("auto", unknown)
    with pytest.raises(AcceleratorError, match="the driver does not say which GPUs the workers have"):
        take_nccl("nccl", unknown)
    with pytest.raises(AcceleratorError, match="the workers have no GPU"):
        take_nccl("nccl", [WorkerGpus(count=0, uuids=())] * 2)


def test_a_batch_that_is_smaller_than_there_are_replicas_is_refused(training: Training, tmp_path: Path) -> None:
    """Two workers have an example each, and two of four devices none."""
    flags = ("--global_batch_size=3", "--experiment=tests.experiments.logical_devices", f"--run_dir={tmp_path}")
    for worker in training.start_workers(2, *flags):
        assert worker.wait() == 64, worker.text
        assert "--global_batch_size=3 is smaller than the number of replicas, 4: each GPU of" in worker.text


@pytest.mark.parametrize("compiled", ["true", pytest.param("false", marks=pytest.mark.thorough)])
def test_two_workers_of_two_devices_train_as_four_of_one(training: Training, tmp_path: Path, compiled: str) -> None:
    flags = ("--epochs=2", "--global_batch_size=50", f"--jit_compile={compiled}")
    training.run(f"--run_dir={tmp_path / 'four'}", *flags, count=4)
    (chief, _) = training.run(
        f"--run_dir={tmp_path / 'two'}", *flags, "--experiment=tests.experiments.logical_devices", count=2
    )
    assert "global batch 50 = 4 replica(s) on 2 worker(s) × 13 or 12 examples" in chief.text
    four, two = result(tmp_path / "four"), result(tmp_path / "two")
    assert (four["workers"], two["workers"]) == (4, 2)
    for name in ("loss", "val_loss"):
        assert two[name] == pytest.approx(four[name], rel=1e-4)
    assert two["weights_sha256"] == four["weights_sha256"]


def saved(step: int, line: str) -> bool:
    """Whether a line says that this step, or a later one, is on the disk."""
    progress = Progress.parse(line)
    return progress is not None and (progress.saved or 0) >= step


def test_one_worker_of_two_devices_trains_as_two_of_one_and_through_kills(training: Training, tmp_path: Path) -> None:
    flags = ("--epochs=3", "--global_batch_size=50", "--hidden_units=1500", "--checkpoint_every=0.3")
    training.run(f"--run_dir={tmp_path / 'two'}", *flags, count=2)
    own = (f"--run_dir={tmp_path / 'one'}", *flags, "--experiment=tests.experiments.logical_devices")
    for step in (1, 20):
        worker = training.start(*own)
        worker.wait_for(functools.partial(saved, step))
        worker.kill()
        assert worker.wait() == -9, worker.text
    (last,) = training.run(*own)
    assert number(r"resuming at step (\d+)", last.text) >= 20
    assert "global batch 50 = 2 replica(s) on 1 worker(s) × 25 examples" in last.text
    two, one = result(tmp_path / "two"), result(tmp_path / "one")
    assert (two["workers"], one["workers"]) == (2, 1)
    assert one["weights_sha256"] == two["weights_sha256"]
