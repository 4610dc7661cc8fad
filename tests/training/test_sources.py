"""Data that is read while it is trained on: every example once an epoch, whatever is killed and however many train.

What a model learns from a source and from arrays is the same for every kind of model: see test_oracle.py.
"""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.training_processes import PATIENCE, Training, Worker, result
from tests.support.visits import check_once_an_epoch, visits
from tests.support.waiting import until
from trainer.core.log_lines import Progress
from trainer.training.state.checkpoint import Checkpoints

COUNTING = "--experiment=tests.experiments.counting"
EXAMPLES, BATCH = 1010, 50
SHORT = (COUNTING, f"--examples={EXAMPLES}", f"--global_batch_size={BATCH}", "--checkpoint_every=0.2")
STEPS = EXAMPLES // BATCH


def children(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    started = [
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [one for child in started for one in (child, *children(child))]


def runs(pid: int) -> bool:
    """Whether a process is there, and not only to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def refused(worker: Worker, code: int) -> str:
    assert worker.wait() == code, worker.text
    (line,) = [line for line in worker.lines if line.startswith("error: ")]
    assert "Traceback" not in worker.text
    return line


def test_each_example_is_trained_on_once_an_epoch_by_4_then_2_then_3_workers(
    training: Training, tmp_path: Path
) -> None:
    flags = (*SHORT, f"--run_dir={tmp_path}", "--epochs=3", "--millis=20", "--prefetch=2", "--log_every=0.1")
    four = training.start_workers(4, *flags)
    four[0].wait_for(lambda line: (seen := Progress.parse(line)) and seen.saved and seen.step % STEPS)
    four[2].kill()
    assert {worker.wait() for worker in four} - {0}
    two = training.start_workers(2, *flags)
    two[0].wait_for(lambda line: line.startswith("resuming at step"))
    saved = Checkpoints(tmp_path, keep=1).newest()
    assert saved
    assert saved.step % STEPS  # In the midst of an epoch.
    two[0].wait_for(lambda line: (seen := Progress.parse(line)) and seen.step > saved.step + 2)
    two[1].kill(signal.SIGTERM)
    assert [worker.wait() for worker in two] == [75, 143], two[0].text
    three = training.start_workers(3, *flags)
    for worker in three:
        assert worker.wait() == 0, worker.text
    assert result(tmp_path)["steps"] == 3 * STEPS
    check_once_an_epoch(tmp_path, epochs=3, batch=BATCH)


@pytest.mark.parametrize("flags", [(), ("--reader_processes=2",), ("--notogether",), ("--prefetch=1",)])
def test_whatever_reads_the_batches_are_the_same(training: Training, tmp_path: Path, flags: tuple[str, ...]) -> None:
    worker = training.start(*SHORT, "--epochs=1", f"--run_dir={tmp_path}", *flags)
    worker.wait_for(Progress.parse)
    started = children(worker.process.pid)
    assert bool(started) == ("--reader_processes=2" in flags)
    assert worker.wait() == 0, worker.text
    assert "resource_tracker" not in worker.text
    assert all(line.data_wait is not None for line in worker.progress)
    order = np.random.default_rng([0, 0]).permutation(EXAMPLES)
    expected = np.ones(EXAMPLES)
    expected[order[STEPS * BATCH :]] = 0
    assert np.array_equal(visits(tmp_path), expected)
    until(PATIENCE, "the end of what reads", lambda: not any(map(runs, started)))


def test_unshuffled_it_goes_through_the_data_as_it_stands(training: Training, tmp_path: Path) -> None:
    training.run(*SHORT, "--epochs=2", "--noshuffle", f"--run_dir={tmp_path}")
    assert np.array_equal(visits(tmp_path), np.repeat([2.0, 0.0], [STEPS * BATCH, EXAMPLES - STEPS * BATCH]))
    again = training.start(*SHORT, "--epochs=3", f"--resume_from={tmp_path}", f"--run_dir={tmp_path / 'on'}")
    assert "order" in refused(again, 64)


def test_readers_end_with_a_process_that_is_killed(training: Training, tmp_path: Path) -> None:
    worker = training.start(*SHORT, "--reader_processes=2", "--millis=20", f"--run_dir={tmp_path}")
    worker.wait_for(Progress.parse)
    # The second starts when the first is at work and there is more to read.
    pid = worker.process.pid
    until(PATIENCE, "both readers", lambda: len(children(pid)) >= 2)
    started = children(pid)
    worker.kill()
    worker.wait()
    until(PATIENCE, "the end of what reads", lambda: not any(map(runs, started)))


def test_a_worker_reads_its_own_share_and_no_further_than_told(training: Training, tmp_path: Path) -> None:
    log = tmp_path / "read"
    workers = training.start_workers(
        2, *SHORT, "--epochs=100", "--prefetch=4", "--millis=10", f"--read_log={log}", f"--run_dir={tmp_path}",
    )  # fmt: skip
    workers[0].wait_for_step(STEPS - 3)
    for worker in workers:
        worker.kill()
        worker.wait()
    step = max(line.step for line in workers[0].progress)
    order = np.random.default_rng([0, 0]).permutation(EXAMPLES)[: STEPS * BATCH].reshape(STEPS, BATCH)
    for index, worker in enumerate(workers):
        rows = [int(line.split()[0]) for line in log.read_text().splitlines() if f" {worker.process.pid} " in line]
        own = set(order[:, index * BATCH // 2 : (index + 1) * BATCH // 2].ravel().tolist())
        first = 49  # The first example, and those that are looked at before training begins.
        share = BATCH // 2
        assert sorted(set(rows[:first])) == list(range(48))
        trained = rows[first:]
        assert set(trained[: (STEPS - 3) * share]) <= own
        # At most 4 batches beyond the one that runs, and those of the block that it is in.
        assert len(trained) <= (step + 1 + 4 + 2 + 2) * share


def test_a_damaged_example_ends_the_run_with_its_place(training: Training, tmp_path: Path) -> None:
    for index, flags in enumerate([(), ("--notogether",), ("--reader_processes=1",), ("--skip_bad_records=1",)]):
        worker = training.start(*SHORT, "--damaged=700,900", f"--run_dir={tmp_path / str(index)}", *flags)
        line = refused(worker, 65)
        assert "records.bin, byte 2800: " in line or "records.bin, byte 3600: " in line
        assert ("--skip_bad_records=1" in line) == (index == 3)


@pytest.mark.parametrize("flags", [(), ("--reader_processes=1",)])
def test_damaged_examples_may_be_passed_over_and_are_told(
    training: Training, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    worker = training.start(
        *SHORT, "--damaged=7,700,701", "--skip_bad_records=3", "--epochs=2", "--noshuffle", f"--run_dir={tmp_path}",
        *flags,
    )  # fmt: skip
    assert worker.wait() == 0, worker.text
    told = [line for line in worker.lines if line.startswith("passed over example")]
    assert len(told) == 3, told
    assert any("example 701 of the training data" in line and "byte 2804" in line for line in told)
    expected = np.repeat([2.0, 0.0], [STEPS * BATCH, EXAMPLES - STEPS * BATCH])
    expected[[7, 700, 701]] = 0
    expected[8], expected[702] = 4, 6  # In the place of those before them.
    assert np.array_equal(visits(tmp_path), expected)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("shape", "example 700 of the training data has int32 [2] where the first has int32 []"),
        ("type", "example 700 of the training data has int64 [] where the first has int32 []"),
        ("nan", "the first in example 700"),
        ("built", "built alike"),
    ],
)
def test_an_example_unlike_the_others_ends_the_run(training: Training, tmp_path: Path, odd: str, said: str) -> None:
    assert said in refused(training.start(*SHORT, f"--odd=700:{odd}", f"--run_dir={tmp_path}"), 65)


def test_a_label_that_is_no_class_ends_the_run_when_it_is_read(training: Training, tmp_path: Path) -> None:
    (tmp_path / "classes.py").write_text(
        "import keras, numpy as np\n"
        "class Source:\n"
        "    def __len__(self): return 400\n"
        "    def __getitem__(self, row): return np.float32([row]), np.int64(9 if row == 300 else row % 3)\n"
        "def load_data(config): return Source(), None\n"
        "def build_model(config): return keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, 'softmax')])\n"
    )
    worker = training.start("--experiment=classes", f"--run_dir={tmp_path / 'run'}",
                            environ={"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert "the label 9 of example 300 of the training data" in refused(worker, 65)


def test_a_resume_on_other_data_says_what_has_changed(training: Training, tmp_path: Path) -> None:
    training.run(*SHORT, "--epochs=1", f"--run_dir={tmp_path}")
    (tmp_path / "result.json").unlink()
    more = [flag for flag in SHORT if "--examples" not in flag]
    line = refused(training.start(*more, "--examples=1009", "--epochs=2", f"--run_dir={tmp_path}"), 64)
    assert "data set" in line
    assert "training examples 1010" in line
    assert "1009" in line


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[1, 2, 3, 4]", "gives a int"),
        ("np.zeros([9, 4])", "gives a ndarray"),
        ("Source(())", "no examples"),
        ("Source([(np.array(['a']), 1)] * 200)", "holds text"),
        ("Source([(1.0, 2.0, 3.0, 4.0)] * 200)", "a tuple of 4"),
    ],
)
def test_what_is_no_source_is_refused(training: Training, tmp_path: Path, returned: str, said: str) -> None:
    (tmp_path / "odd.py").write_text(
        "import keras, numpy as np\n"
        "class Source(list): pass\n"
        f"def load_data(config): return {returned}, None\n"
        "def build_model(config): return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
    )
    worker = training.start("--experiment=odd", f"--run_dir={tmp_path / 'run'}", environ={"PYTHONPATH": str(tmp_path)})
    line = refused(worker, 65 if "no examples" in said else 64)
    assert said in line


def test_a_source_that_cannot_be_sent_to_a_process_is_refused(training: Training, tmp_path: Path) -> None:
    (tmp_path / "bound.py").write_text(
        "from tests.experiments.counting import Flags, build_model, load_data as counting\n"
        "def load_data(config):\n"
        "    train, _ = counting(config)\n"
        "    train.held = open('/dev/null')\n"
        "    return train, None\n"
    )
    flags = [flag for flag in SHORT if "experiment" not in flag]
    worker = training.start("--experiment=bound", "--reader_processes=1", *flags, f"--run_dir={tmp_path / 'run'}",
                            environ={"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get(
                                "PYTHONPATH")])])})  # fmt: skip
    assert "--reader_processes cannot send" in refused(worker, 64)
