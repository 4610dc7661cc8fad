"""Real training under agents with an output on a real S3 server: killed, its disk lost, shown by TensorBoard."""

import itertools
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experiments.slow_to_evaluate import EVALUATES
from tests.support import tensorboard_client
from tests.support.agents import TRAINER, running
from tests.support.event_reader import points
from tests.support.servers import BUCKET, s3_environ, s3_server
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import Progress
from trainer.core.run_dir import best_names, checkpoint_names

pytestmark = pytest.mark.servers

EPOCHS = 24
STEPS_PER_EPOCH = 10
INTERVAL = 0.5
KILLS = int(os.environ.get("KILLS", "50"))


@pytest.fixture(scope="module")
def flags(paced_flags: list[str]) -> list[str]:
    return [*paced_flags, f"--epochs={EPOCHS}"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder in which the S3 server keeps the bucket, and the environment to reach it with."""
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as address:
        yield folder / BUCKET, s3_environ(address)


def mirrored(folder: Path, bucket: tuple[Path, dict[str, str]], flags: list[str], *, pace: float = 0.02) -> Any:
    own = [f"--output=s3://{BUCKET}/{folder.name}", f"--mirror_interval={INTERVAL}"]
    environ = {**bucket[1], "PACE": str(pace)}
    return running(folder, 1, program=TRAINER, agent_flags=own, trainer_flags=flags, environ=environ)


def no_progress(line: str) -> bool:
    return Progress.parse(line) is None


def undisturbed(folder: Path, flags: list[str]) -> str:
    """The weights that a run ends with to which nothing happens."""
    with running(folder / "undisturbed", 1, program=TRAINER, trainer_flags=flags) as run:
        assert run.start(0).end(120) == 0
        return str(run.result["weights_sha256"])


def test_a_lost_disk_and_tensorboard_all_the_while(
    tmp_path: Path, bucket: tuple[Path, dict[str, str]], flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports(1)[0]
    for name, value in bucket[1].items():
        monkeypatch.setenv(name, value)
    address = f"s3://{BUCKET}/{tmp_path.name}/run"
    with mirrored(tmp_path, bucket, flags) as run:
        agent = run.start(0)
        agent.wait_for_step(4 * STEPS_PER_EPOCH)
        with tensorboard_client.tensorboard(address, port, fast=False):
            shown = tensorboard_client.scalars(port, "train", "epoch_loss", at_least=4)
            assert [epoch for epoch, _ in shown] == list(range(len(shown)))
            agent.process.kill()
            agent.end()
            run.run_dir.rename(tmp_path / "lost")
            agent = run.start(0)
            assert agent.end(120) == 0
            assert run.attempts[-1]["step_from"] > 0
            for name in ("train", "validation"):
                shown = tensorboard_client.scalars(port, name, "epoch_loss", at_least=EPOCHS)
                assert [epoch for epoch, _ in shown] == list(range(EPOCHS))
        assert run.result["weights_sha256"] == undisturbed(tmp_path, flags)
    folder = bucket[0] / tmp_path.name / "run"
    port = free_ports(1)[0]
    with tensorboard_client.tensorboard(folder, port, fast=True):  # The fast reader knows no s3://, but the same files.
        shown = tensorboard_client.scalars(port, "train", "epoch_loss", at_least=EPOCHS)
        assert [epoch for epoch, _ in shown] == list(range(EPOCHS))


@pytest.mark.thorough
def test_a_run_that_is_stopped_while_it_evaluates_goes_on_from_the_bucket(
    tmp_path: Path, bucket: tuple[Path, dict[str, str]], small_mnist: Path
) -> None:
    own = [f"--data_dir={small_mnist}", "--experiment=tests.experiments.slow_to_evaluate"]
    own += ["--epochs=1", "--keep_best=loss"]
    with running(tmp_path / "undisturbed", 1, program=TRAINER, trainer_flags=own) as run:
        assert run.start(0).end(120) == 0
        expected = run.result
    environ = {**bucket[1], "EVALUATION": "0.3"}
    output = [f"--output=s3://{BUCKET}/{tmp_path.name}"]
    with running(tmp_path, 1, program=TRAINER, agent_flags=output, trainer_flags=own, environ=environ) as run:
        agent = run.start(0)
        for start in ("first", "second"):  # Which begins with the evaluation, and hears the signal all the same.
            agent = agent if start == "first" else run.start(0)
            agent.wait_for(lambda lines: EVALUATES in [*itertools.dropwhile(no_progress, lines)], "an evaluation")
            agent.process.terminate()
            assert agent.end(120) == 143, agent.text
            assert "stopped at step 5 of 5" in agent.text
            run.run_dir.rename(tmp_path / f"lost by the {start}")
        stored = bucket[0] / tmp_path.name / "run"
        assert checkpoint_names(stored) == ["step-0000000005-unevaluated.npz"]
        agent = run.start(0)
        assert agent.end(120) == 0, agent.text
        for name in ("weights_sha256", "val_loss", "best"):
            assert run.result[name] == expected[name]
        assert best_names(stored) == best_names(run.run_dir) == ["step-0000000005.npz"]
        assert checkpoint_names(stored)[-1] == "step-0000000005.npz"


@pytest.mark.thorough
def test_the_best_epochs_come_back_with_a_lost_disk(
    tmp_path: Path, bucket: tuple[Path, dict[str, str]], flags: list[str]
) -> None:
    best = [*flags, "--learning_rate=0.05", "--keep_best=val_loss:2", "--restore_best", "--keep=1"]
    with running(tmp_path / "undisturbed", 1, program=TRAINER, trainer_flags=best) as run:
        assert run.start(0).end(120) == 0
        expected, kept = run.result, best_names(run.run_dir)
    assert expected["best"]["epoch"] < EPOCHS
    with mirrored(tmp_path, bucket, best) as run:
        agent = run.start(0)
        agent.wait_for_step(10 * expected["best"]["epoch"] + 25)
        agent.process.kill()
        agent.end()
        run.run_dir.rename(tmp_path / "lost")
        assert run.start(0).end(120) == 0
        assert run.attempts[-1]["step_from"] > 0
        for name in ("best", "weights_sha256", "val_loss"):
            assert run.result[name] == expected[name]
        assert best_names(run.run_dir) == best_names(bucket[0] / tmp_path.name / "run") == kept


@pytest.mark.thorough
def test_a_run_goes_on_from_another_one_in_a_bucket_with_its_best(
    tmp_path: Path, bucket: tuple[Path, dict[str, str]], paced_flags: list[str]
) -> None:
    flags = [*paced_flags, "--keep_best=val_loss:3"]
    whole = undisturbed(tmp_path, [*flags, "--epochs=4"])
    with mirrored(tmp_path / "before", bucket, [*flags, "--epochs=2"], pace=0.0) as run:
        assert run.start(0).end(120) == 0
    shutil.rmtree(run.run_dir)
    stored = bucket[0] / "before" / "run"
    (stored / "checkpoints" / "step-0000000030.npz").write_bytes(b"torn")  # It gives way to the one before.
    resume = f"--resume_from=s3://{BUCKET}/before/run"
    with mirrored(tmp_path / "after", bucket, [*flags, "--epochs=4", resume], pace=0.0) as run:
        agent = run.start(0)
        assert agent.end(120) == 0
        assert "resuming at step 20 of 40" in agent.text
        assert run.result["weights_sha256"] == whole
        assert set(best_names(stored)) & set(best_names(run.run_dir))
    nowhere = f"--resume_from=s3://{BUCKET}/nowhere/run"
    with mirrored(tmp_path / "none", bucket, [*flags, nowhere], pace=0.0) as run:
        agent = run.start(0)
        assert agent.end(120) == 65
        assert f"--resume_from=s3://{BUCKET}/nowhere/run holds no checkpoint" in agent.text


@pytest.mark.thorough
def test_a_model_in_a_bucket_predicts_into_a_bucket(
    tmp_path: Path, bucket: tuple[Path, dict[str, str]], paced_flags: list[str]
) -> None:
    with mirrored(tmp_path / "trained", bucket, [*paced_flags, "--epochs=1"], pace=0.0) as run:
        assert run.start(0).end(120) == 0
        expected = run.result
    shutil.rmtree(run.run_dir)
    address = f"--model=s3://{BUCKET}/trained/run"
    common = [address, "--experiment=tests.experiments.paced"]
    with mirrored(tmp_path / "predicted", bucket, ["--mode=predict", *common], pace=0.0) as run:
        assert run.start(0).end(120) == 0
        predictions = np.load(run.run_dir / "predictions.npy")
    stored = bucket[0] / "predicted" / "run"
    assert np.array_equal(np.load(stored / "predictions.npy"), predictions)
    assert json.loads((stored / "result.json").read_text())["mode"] == "predict"
    # The file alone brings the flags of its run, too: --data_dir and --experiment are among them.
    with mirrored(tmp_path / "file", bucket, ["--mode=evaluate", f"{address}/model.keras"], pace=0.0) as run:
        assert run.start(0).end(120) == 0
        assert run.result["val_loss"] == expected["val_loss"]
    (bucket[0] / "trained" / "run" / "model.keras").unlink()  # Its newest checkpoint is of the last step.
    with mirrored(tmp_path / "evaluated", bucket, ["--mode=evaluate", *common], pace=0.0) as run:
        assert run.start(0).end(120) == 0
        assert run.result["val_loss"] == expected["val_loss"]


@pytest.mark.thorough
@pytest.mark.parametrize("killed", [False, True])
def test_a_local_disk_that_is_full_for_a_while(
    tmp_path: Path, bucket: tuple[Path, dict[str, str]], flags: list[str], killed: bool
) -> None:
    """A limit on the size of files is what a writer sees of it. Afterwards every epoch is in the bucket, once."""
    with mirrored(tmp_path, bucket, flags) as run:
        agent = run.start(0)
        agent.wait_for_step(3 * STEPS_PER_EPOCH)
        pid = agent.state.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        agent.wait_for_line("TensorBoard events could not be written (File too large)")
        agent.wait_for_step(agent.step + 2 * STEPS_PER_EPOCH)
        newest = max(int(path.stem[5:]) for path in (run.run_dir / "checkpoints").iterdir())
        assert newest < agent.step - STEPS_PER_EPOCH
        if killed:
            os.kill(pid, signal.SIGKILL)
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert agent.end(120) == 0
        assert ("TensorBoard events are written again" in agent.text) is not killed
        assert [line["step_from"] for line in run.attempts] == ([0, newest] if killed else [0])
    for name in ("train", "validation"):
        epochs = [epoch for tag, epoch, _ in points(bucket[0] / tmp_path.name / "run" / name) if tag == "epoch_loss"]
        assert epochs == list(range(EPOCHS))


def test_trains_on_data_in_a_bucket(
    bucket: tuple[Path, dict[str, str]], flags: list[str], small_mnist: Path, tmp_path: Path
) -> None:
    """tensorflow-io aborts a process that has read s3:// and leaves as usual; it must not look like a failure."""
    shutil.copytree(small_mnist, bucket[0] / "mnist")
    flags = [*flags, f"--data_dir=s3://{BUCKET}/mnist", "--epochs=1"]
    with running(tmp_path, 1, program=TRAINER, trainer_flags=flags, environ=bucket[1]) as run:
        assert run.start(0).end(120) == 0
        assert run.result["epochs"] == 1
        assert run.result["restarts"] == 0


@pytest.mark.soak
def test_fifty_kills(tmp_path: Path, bucket: tuple[Path, dict[str, str]], flags: list[str]) -> None:
    """Of the training process, of the agent, of both: nothing that was older than the interval is missing."""
    flags = [*flags, "--epochs=100000", "--histogram_freq=0"]
    own = ["--max_restarts=1000"]
    folder = bucket[0] / tmp_path.name / "run"
    with mirrored(tmp_path, bucket, flags, pace=0.05) as run:
        agent = run.start(0, agent_flags=own)
        step, attempt, older = 0, 0, set[tuple[str, str, int]]()
        for kill in range(KILLS):
            agent.wait_for_step(step + 1, attempt + 1)
            older, step, since = older | written(run.run_dir), agent.step, time.monotonic()
            while missing := older - written(folder):
                assert time.monotonic() < since + INTERVAL + 2, f"before kill {kill}: {missing}"
            time.sleep(random.uniform(0, 6 * INTERVAL))  # Not to wait for anything: the moment is to be random.
            what = random.choice(["training", "agent", "both", "disk"])
            attempt = agent.progress[-1].attempt if what == "training" else 0  # Another agent's lines are all new.
            print(f"kill {kill}, step {agent.step}: {what}", flush=True)
            if what in ("training", "both"):
                agent.signal_training(signal.SIGKILL)
            if what != "training":
                agent.process.kill()
                agent.end()
                if what == "disk":
                    run.run_dir.rename(tmp_path / f"lost-{kill}")
                agent = run.start(0, agent_flags=own)
        agent.wait_for_step(step + 1, attempt + 1)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.end() == 143
        for name in ("train", "validation"):
            epochs = [epoch for tag, epoch, _ in points(folder / name) if tag == "epoch_loss"]
            assert epochs == list(range(len(epochs)))
        assert written(folder) == written(run.run_dir)


def written(run_dir: Path) -> set[tuple[str, str, int]]:
    return {(name, tag, step) for name in ("train", "validation") for tag, step, _ in points(run_dir / name)}
