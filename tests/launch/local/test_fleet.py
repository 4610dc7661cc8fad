"""Fleets on this machine: the launcher as a real process with real agents and real training processes."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
import rich
import rich.console

import trainer
from tests.support.agents import children, launched, wait_until_gone
from tests.support.forging import join, message, status
from tests.support.no_tensorflow import without_tensorflow
from trainer.core.log_lines import Progress, StateLine
from trainer.launch import cli
from trainer.launch.local import fleet
from trainer.launch.local.view import LiveFleetView

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def flags(small_mnist: pathlib.Path) -> list[str]:
    return [
        f"--data_dir={small_mnist}",
        "--experiment=tests.experiments.paced",
        "--global_batch_size=64",
        "--epochs=200",
    ]


def test_ctrl_c_saves_and_ends_all(tmp_path: pathlib.Path, flags: list[str]) -> None:
    run_dir = tmp_path / "run"
    with launched(
        "--workers=2", training=[*flags, f"--run_dir={run_dir}"], environ={"PACE": "0.02"}, cores=[one_core()]
    ) as launcher:
        launcher.wait_for_line("2 workers share the 1 core(s) of this machine")
        launcher.wait_for_step(9)
        pids = descendants(launcher.process.pid)
        assert len(pids) == 4  # Two agents, two training processes.
        launcher.process.send_signal(signal.SIGINT)
        assert launcher.end() == 130
        assert "interrupted; the workers save and leave" in launcher.text
        for pid in pids:
            wait_until_gone(pid)
    assert list(run_dir.glob("checkpoints/step-*.npz"))
    assert not (run_dir / "result.json").exists()


def test_a_fleet_has_a_token_that_is_in_no_list_of_processes(tmp_path: pathlib.Path, flags: list[str]) -> None:
    tokens = []
    for number in range(2):
        with launched("--workers=2", training=[*flags, f"--run_dir={tmp_path}/{number}"]) as launcher:
            launcher.wait_for(lambda lines: sum("state=meeting" in line for line in lines) == 2, "two agents")
            agents = [pathlib.Path(f"/proc/{pid}") for pid in children(launcher.process.pid)]
            environs = [(agent / "environ").read_text() for agent in agents]
            (token,) = {environ.partition("TRAINER_TOKEN=")[2].partition("\0")[0] for environ in environs}
            assert len(token) >= 32
            assert all(token not in (agent / "cmdline").read_text() for agent in agents)
            port = int(re.search(r"--port=(\d+)", (agents[0] / "cmdline").read_text())[1])  # type: ignore[index]
            assert status(port, message(join(), token=None)) == 401
            assert token not in launcher.text
            assert "has no token" not in launcher.text
            tokens.append(token)
    assert tokens[0] != tokens[1]


def test_a_killed_launcher_leaves_no_process_behind(tmp_path: pathlib.Path, flags: list[str]) -> None:
    with launched("--workers=2", training=[*flags, f"--run_dir={tmp_path}/run"]) as launcher:
        launcher.wait_for(lambda lines: sum("state=starting" in line for line in lines) == 2, "two training processes")
        pids = descendants(launcher.process.pid)
        assert len(pids) == 4
        launcher.process.kill()
        for pid in pids:
            wait_until_gone(pid)


def test_closed_output_ends_all(tmp_path: pathlib.Path, flags: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "trainer.launch",
        "--local",
        "--workers=1",
        "--",
        *flags,
        f"--run_dir={tmp_path}/run",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        assert launcher.stderr
        assert launcher.stdout.readline().startswith("agent ")
        [pid] = children(launcher.pid)
        launcher.stdout.close()  # As `| head -1` does.
        assert launcher.wait(60) == 1
        assert launcher.stderr.read() == ""
        wait_until_gone(pid)


def test_a_crash_is_shown_with_its_lines_and_ends_with_125(tmp_path: pathlib.Path, flags: list[str]) -> None:
    training = [*flags, "--experiment=tests.experiments.crashing", f"--run_dir={tmp_path}/run"]
    with launched("--workers=1", "--max_restarts=0", training=training) as launcher:
        assert launcher.end() == 125
        assert launcher.text.count("RuntimeError: no data for 512 units") == 1  # Not once more in each sentence of it.
        assert "worker 0 | RuntimeError: no data for 512 units" in launcher.text
        assert "failed: worker 0 ended with 1 (a crash)" in launcher.text


def test_what_a_run_ends_with_is_said_once(tmp_path: pathlib.Path, flags: list[str]) -> None:
    training = [*flags, "--data_dir=/nowhere", f"--run_dir={tmp_path}/run"]
    with launched("--workers=1", training=training) as launcher:
        assert launcher.end() == 125
        assert launcher.text.count("is not a folder") == 1
        assert "worker 0 | error: --data_dir=/nowhere is not a folder" in launcher.text
        assert "failed: worker 0 ended with 65" in launcher.text


def test_a_run_that_takes_too_long_ends_with_124(tmp_path: pathlib.Path, flags: list[str]) -> None:
    training = [*flags, f"--run_dir={tmp_path}/run"]
    with launched("--workers=1", "--timeout=1", training=training) as launcher:
        assert launcher.end() == 124
        assert "timed out after --timeout=1 s" in launcher.text


def test_the_verdict_in_json_is_why_it_was_ended_and_not_what_an_agent_said_last(
    tmp_path: pathlib.Path, flags: list[str]
) -> None:
    training = [*flags, f"--run_dir={tmp_path}/run"]
    with launched("--workers=1", "--timeout=1", "--json", training=training) as launcher:
        assert launcher.end() == 124
        *_, before, last = (json.loads(line) for line in launcher.lines)
    assert before.get("text") != "timed out after --timeout=1 s; the workers save and leave"
    assert (last["event"], last["exit_code"], last["goes_on"]) == ("verdict", 124, False)
    assert last["text"] == "timed out after --timeout=1 s"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--local", "--workers=0"], "--workers=0 must be at least 1"),
        (["--local", "--workers=four"], "four"),
        (["--local", "--worker=2"], "worker"),
        (["--local", "--workers=2", "--min_workers=3"], "--min_workers=3 is more than --workers=2"),
        (["--local", "--", "--epochs=0"], "--epochs=0 must be at least 1"),
    ],
)
def test_bad_flags_end_with_2(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--local=True"], ["--local=1"], ["-local"], ["submit", "--local"], ["submit", "--local=t"]]
)
def test_local_is_known_in_every_spelling(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--grace=0"]) == 2  # A flag that only a local fleet has.
    assert "--grace=0.0 must be greater than 0" in capsys.readouterr().err


def test_local_that_is_neither_true_nor_false(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--local=maybe"]) == 2
    assert "maybe" in capsys.readouterr().err


def test_without_tensorflow_nothing_is_started(tmp_path: pathlib.Path) -> None:
    done = without_tensorflow(tmp_path, "-m", "trainer.launch", "--local", "--", f"--run_dir={tmp_path}/run")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == (
        "error: --local trains on this machine, and this Python has no TensorFlow; install it: pip install '.[cpu]' in "
        f"a clone, or pip install './trainer-{trainer.__version__}-py3-none-any.whl[cpu]' beside the wheel\n"
    )
    assert not (tmp_path / "run").exists()


def test_more_workers_than_the_machine_has_files_for(tmp_path: pathlib.Path) -> None:
    command = f"ulimit -n 24; exec {sys.executable} -m trainer.launch --local --workers=20 -- --run_dir={tmp_path}/run"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "of 20 cannot be started on this machine: [Errno 24] Too many open files; fewer --workers" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cores_are_shared_out() -> None:
    assert [fleet.share([0, 1, 2, 3], index, 2) for index in range(2)] == [[0, 1], [2, 3]]
    assert [fleet.share([4, 5, 6], index, 2) for index in range(2)] == [[4], [5, 6]]
    assert [fleet.share([1, 3], index, 3) for index in range(3)] == [[1], [3], [1]]


def test_the_live_view_has_a_line_a_worker_and_one_bar() -> None:
    console = rich.console.Console(record=True, force_terminal=True, width=100)
    view = LiveFleetView(2, console)
    state = StateLine(
        worker=1, workers=2, attempt=3, state="training", restarts=2, pid=1, spare="ready", last="peer_lost"
    )
    progress = Progress(
        worker=0,
        workers=2,
        attempt=3,
        epoch=2,
        epochs=5,
        step=117,
        steps=234,
        metrics={"loss": 0.25, "accuracy": 0.9},
        examples_per_second=1234.0,
    )
    with view.live:
        view.state(state, "")
        view.progress(progress, "")
        view.say("worker 1 | [bad] markup stays as it is")
    text = console.export_text()
    assert "worker 1 | [bad] markup stays as it is" in text
    assert "epoch 2/5  loss 0.2500  accuracy 0.9000  1234 examples/s" in text
    assert "50%" in text
    last = [line.split() for line in text.splitlines() if line.split()[:1] == ["1"]][-1]
    assert last == ["1", "training", "3", "0", "2"]


def descendants(pid: int) -> list[int]:
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def one_core() -> int:
    return min(os.sched_getaffinity(0))


@pytest.mark.parametrize("learning_rate", ["1e-3", "1e30"])
def test_json_for_programs(learning_rate: str, tmp_path: pathlib.Path, small_mnist: pathlib.Path) -> None:
    training = [f"--data_dir={small_mnist}", "--global_batch_size=64", "--epochs=1", f"--learning_rate={learning_rate}"]
    with launched("--workers=1", "--json", training=[*training, f"--run_dir={tmp_path}/run"]) as launcher:
        code = launcher.end()
        lines = [json.loads(line) for line in launcher.lines]
    last = lines[-1]
    assert {line["event"] for line in lines} >= {"notice", "log", "verdict"}
    assert (last["event"], last["exit_code"]) == ("verdict", code)
    if learning_rate == "1e-3":
        assert code == 0
        (progress,) = [line for line in lines if line["event"] == "progress" and "val_accuracy" in line]
        assert progress["val_accuracy"] == pytest.approx(last["result"]["val_accuracy"], abs=1e-4)
        assert last["result"] == json.loads((tmp_path / "run" / "result.json").read_text())
    else:
        assert code == 125
        assert last["text"] == "failed: worker 0 ended with 65 (bad data, checkpoint or loss)"
        assert any("error: " in line.get("text", "") for line in lines if line["event"] == "notice")
