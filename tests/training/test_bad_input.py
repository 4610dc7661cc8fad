"""What a user can get wrong: one clear line, the right exit code, no traceback, nothing overwritten."""

import json
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import trainer
from tests.support.full_disk import no_room_beyond
from tests.support.no_tensorflow import without_tensorflow
from tests.support.small_mnist import write_idx
from tests.support.training_processes import PATIENCE, Training, Worker, result
from tests.support.waiting import until
from trainer.core.exit_codes import DataError
from trainer.training.cli import check_writable
from trainer.training.state import other_runs


def refused(worker: Worker, code: int, *named: str) -> None:
    assert worker.wait() == code, worker.text
    assert "Traceback" not in worker.text
    (line,) = [line for line in worker.lines if line.startswith("error: ")]
    for words in named:
        assert words in line


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--no_such_flag=1", "no_such_flag"),
        ("--epochs=0", "--epochs=0"),
        ("--learning_rate=nan", "--learning_rate=nan"),
        ("--momentum=0.9", "--optimizer=sgd"),
        ("--run_dir=gs://key:secret@bucket/x", "--run_dir=gs://bucket/x is a folder of this machine; the agent's and"),
        (
            "--early_stopping=val_loss:patience=0",
            "val_loss:patience=0: patience=0 is no number of epochs from 1; expected",
        ),
    ],
)
def test_flags(flag: str, named: str, training: Training, tmp_path: Path) -> None:
    refused(training.start(f"--run_dir={tmp_path / 'run'}", flag), 64, named)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("tf_config", "named"),
    [
        ("{", "not JSON"),
        (json.dumps({"cluster": {"worker": ["127.0.0.1:1"]}}), "'task'"),
        (json.dumps({"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 1}}), "0 to 0"),
        (json.dumps({"cluster": {"ps": ["127.0.0.1:1"]}, "task": {"type": "ps", "index": 0}}), "'ps'"),
    ],
)
def test_tf_config(tf_config: str, named: str, training: Training, tmp_path: Path) -> None:
    refused(training.start(f"--run_dir={tmp_path / 'run'}", tf_config=tf_config), 64, named)
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there(training: Training, tmp_path: Path) -> None:
    refused(training.start(f"--run_dir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'none'}"), 65, "none", "t10k")


def test_data_that_is_damaged_ends_every_worker(training: Training, small_mnist: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(small_mnist, tmp_path / "data"))
    write_idx(data / "train-labels-idx1-ubyte", np.full(640, 11, np.uint8))
    for worker in training.start_workers(2, f"--run_dir={tmp_path / 'run'}", f"--data_dir={data}"):
        refused(worker, 65, "train-labels-idx1-ubyte", "label 11")


def test_what_all_refuse_ends_the_slowest_with_its_own_reason(training: Training, tmp_path: Path) -> None:
    for worker in training.start_workers(2, f"--run_dir={tmp_path}", "--experiment=tests.experiments.slow_to_meet"):
        refused(worker, 65, "the data are bad")


def test_a_batch_larger_than_the_data(training: Training, tmp_path: Path) -> None:
    refused(training.start(f"--run_dir={tmp_path}", "--global_batch_size=641"), 64, "641", "640 training examples")


@pytest.mark.parametrize(
    ("name", "named"), [("no.such.module", "no.such.module"), ("trainer.training.data.idx_files", "build_model")]
)
def test_an_experiment_that_is_none(name: str, named: str, training: Training, tmp_path: Path) -> None:
    refused(training.start(f"--run_dir={tmp_path}", f"--experiment={name}"), 64, named)


def test_a_module_that_needs_another_which_is_not_there(training: Training, tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import no_such_package\n")
    worker = training.start(f"--run_dir={tmp_path}", "--experiment=needy", environ={"PYTHONPATH": str(tmp_path)})
    refused(worker, 64, "--experiment=needy needs the module no_such_package")


def test_an_installation_without_tensorflow(tmp_path: Path) -> None:
    done = without_tensorflow(tmp_path, "-m", "trainer", f"--run_dir={tmp_path}/run")
    assert done.returncode == 64, done.stderr
    assert done.stderr == (
        "error: tensorflow is not installed; training needs it: pip install '.[cpu]' in a clone, or pip install "
        f"'./trainer-{trainer.__version__}-py3-none-any.whl[cpu]' beside the wheel (gpu in the place of cpu for NVIDIA "
        "GPUs)\n"
    )


def test_a_run_directory_below_a_file(training: Training, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(training.start(f"--run_dir={tmp_path / 'file' / 'run'}"), 64, "file/run", "cannot be written")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_directory_that_is_full(training: Training, tmp_path: Path) -> None:
    with no_room_beyond(1024):
        worker = training.start(f"--run_dir={tmp_path}", anew=True)
    refused(worker, 64, str(tmp_path), "cannot be written to (File too large)")
    assert not list(tmp_path.iterdir())


def test_a_run_directory_of_a_name_that_is_too_long(training: Training, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    refused(training.start(f"--run_dir={long}"), 64, "x cannot be used (File name too long); name another folder")
    with pytest.raises(DataError, match="checkpoints cannot be listed: File name too long"):
        other_runs.newest(str(long))


@pytest.mark.parametrize("flag", ["--experiment=no.such.module", "--data_dir=/nowhere", "--global_batch_size=641"])
def test_a_refused_start_leaves_no_folder_behind(flag: str, training: Training, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for run in (mine, tmp_path / "new"):
        worker = training.start(f"--run_dir={run}", flag)
        assert worker.wait() in (64, 65), worker.text
    assert list(tmp_path.iterdir()) == [mine]


def test_starts_beside_each_other_in_one_run_directory(tmp_path: Path) -> None:
    """What the one tries does not get in the other's way."""
    with ThreadPoolExecutor(8) as starts:
        assert not any(starts.map(check_writable, [tmp_path] * 400))
        assert not list(tmp_path.iterdir())
        assert sum(starts.map(check_writable, [tmp_path / "new"] * 20)) == 1  # One of them has made it.


def test_more_gpus_than_there_are(training: Training, tmp_path: Path) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "-1"}
    worker = training.start(f"--run_dir={tmp_path}", "--expect_gpus=2", environ=environ)
    refused(worker, 69, "asked for 2 GPUs, TensorFlow sees 0")


def test_a_loss_that_is_no_number(training: Training, tmp_path: Path) -> None:
    worker = training.start(
        f"--run_dir={tmp_path}", "--optimizer=sgd", "--learning_rate=1e30", "--global_batch_size=64"
    )
    refused(worker, 65, "loss of step", "--learning_rate")
    assert not (tmp_path / "result.json").exists()


def test_another_runs_checkpoint(training: Training, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training.run(f"--run_dir={run}", "--epochs=1")
    (run / "result.json").unlink()
    others = {
        "--seed=1": "seed 0, this start has 1",
        "--global_batch_size=64": "global batch size 128, this start has 64",
        "--hidden_units=100": "(784, 100)",
        "--data_dir=": "data set",
        "--optimizer=sgd": "optimizer adam, this start has sgd",
    }
    before = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    copies = [Path(shutil.copytree(run, tmp_path / str(number))) for number in range(len(others))]
    starts = [
        training.start(f"--run_dir={copy}", "--epochs=1", flag) for copy, flag in zip(copies, others, strict=True)
    ]
    for start, named in zip(starts, others.values(), strict=True):
        refused(start, 64, "checkpoint of step 5", named)
    for copy in copies:
        assert {path.name: path.read_bytes() for path in (copy / "checkpoints").iterdir()} == before
    for name, content in before.items():
        (run / "checkpoints" / name).write_bytes(content[:1000])
    damaged = training.start(f"--run_dir={run}", "--epochs=1")
    resuming = [
        training.start(f"--run_dir={tmp_path / f'new{name}'}", f"--resume_from={tmp_path / name}")
        for name in ("run", "no")
    ]
    refused(damaged, 65, "none of the 1 checkpoint(s)")
    refused(resuming[0], 65, "none of the 1")
    refused(resuming[1], 65, "no checkpoint")


def test_a_disk_that_fills_up_costs_a_warning_not_the_run(training: Training, tmp_path: Path) -> None:
    """A limit on the size of files is what a writer sees of a full disk; it can be lifted again."""
    worker = training.start(f"--run_dir={tmp_path}", "--epochs=4", "--global_batch_size=20", "--checkpoint_every=0.2")
    until(PATIENCE, "a checkpoint", (tmp_path / "checkpoints").exists, pause=0.001)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    worker.wait_for(lambda line: "could not be written" in line and "checkpoint of step" in line)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert worker.wait() == 0, worker.text
    assert result(tmp_path)["steps"] == 128


def test_no_room_for_the_result_is_said_and_the_run_can_be_finished(training: Training, tmp_path: Path) -> None:
    flags = (f"--run_dir={tmp_path}", "--epochs=2")
    worker = training.start(*flags)
    worker.wait_for_step(1)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    refused(worker, 74, "result could not be written")
    assert not (tmp_path / "result.json").exists()
    training.run(*flags)
    assert result(tmp_path)["steps"] == 10
