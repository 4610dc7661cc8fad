"""Sweeps on this machine: the launcher as a real process, with real fleets and real training processes."""

import functools
import json
import pathlib
import signal
import urllib.request
from typing import Any

import pytest

from tests.support import tensorboard_client
from tests.support.agents import launched
from tests.support.full_disk import no_room_beyond
from tests.support.training_processes import Training, result
from trainer.core.free_ports import free_ports
from trainer.launch import cli
from trainer.launch.runs.trials import RUNNING, Sweep, Trial
from trainer.launch.sweep.flags import LocalSweepFlags
from trainer.launch.sweep.local_trials import LocalTrials
from trainer.launch.sweep.trial_process import TrialLine

swept = functools.partial(launched, command=["sweep"])


@pytest.fixture
def flags(small_mnist: pathlib.Path) -> list[str]:
    return [f"--data_dir={small_mnist}", "--global_batch_size=64", "--hidden_units=16", "--threads=1"]


def kept(folder: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads((folder / "s" / "s.sweep.json").read_text()))


def test_a_sweep_tells_its_failures_and_ends_well(
    tmp_path: pathlib.Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ["--name=s", f"--folder={tmp_path}"]
    grid = "--grid=learning_rate=1e-2,1e-4,1e30"  # With the last one the loss is soon no number.
    with swept(*ours, grid, training=[*flags, "--epochs=2"]) as launcher:
        assert launcher.end() == 0
        text = launcher.text
    assert "sweep s: 3 trial(s), 3 of them to be trained" in text
    assert "trial 1 has trained 1 epoch(s), val_accuracy 0." in text
    assert "trial 3 failed (125): error: " in text
    measured = [result(tmp_path / "s" / f"s-{number}") for number in (1, 2)]
    assert measured[0]["val_accuracy"] > measured[1]["val_accuracy"]
    assert f"best: trial 1 (s-1), val_accuracy {measured[0]['val_accuracy']:.4f}: --learning_rate=1e-2" in text
    told = kept(tmp_path)
    assert [trial["state"] for trial in told["trials"]] == ["done", "done", "failed"]
    assert told["trials"][0]["metrics"]["val_accuracy"] == measured[0]["val_accuracy"]

    def said(*arguments: str) -> tuple[int, list[str], str]:
        code = cli.main([*arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    code, lines, _ = said("sweep", "--local", *ours, "--status", "--metric=val_loss")
    assert code == 0
    assert lines[0].split() == ["TRIAL", "learning_rate", "val_loss", "EPOCHS", "TIME", "STATE"]
    assert lines[1].split()[:3] == ["1", "1e-2", f"{measured[0]['val_loss']:.4f}"]
    assert lines[-1] == "s: 2 done, 1 failed"
    code, _, error = said("sweep", "--local", *ours, "--status", "--metric=f1")
    assert (code, error.splitlines()) == (
        2, ["error: --metric=f1 is measured by no trial; they have: accuracy, loss, val_accuracy, val_loss"]
    )  # fmt: skip
    code, lines, _ = said("list", f"--output={tmp_path}/s", "--sort=val_loss")
    assert [line.split()[0] for line in lines[:4]] == ["NAME", "s-1", "s-2", "s-3"]
    assert lines[0].split()[3] == "learning_rate"
    # With nothing left to do, the same command says how it stands.
    code, lines, error = said("sweep", "--local", *ours, grid, "--", *flags, "--epochs=2")
    assert code == 0
    assert lines[0].startswith("sweep s: 3 trial(s), 0 of them to be trained")
    code, _, error = said("sweep", "--local", *ours, grid, "--", *flags, "--epochs=3")
    assert code == 2
    assert "is the list of another sweep, whose training was --data_dir=" in error
    assert shown_by_tensorboard(tmp_path / "s") == {
        "s-1": ({"learning_rate": 0.01}, pytest.approx(measured[0]["val_loss"]), "STATUS_SUCCESS"),
        "s-2": ({"learning_rate": 0.0001}, pytest.approx(measured[1]["val_loss"]), "STATUS_SUCCESS"),
        "s-3": ({"learning_rate": 1e30}, None, "STATUS_FAILURE"),
    }


def shown_by_tensorboard(folder: pathlib.Path) -> dict[str, Any]:
    """What the HParams tab shows: of each trial its flags, the loss of validation, how it ended."""
    (port,) = free_ports(1)

    def ask(path: str, **asked: Any) -> Any:
        address = f"http://127.0.0.1:{port}/data/plugin/hparams/{path}"
        body = json.dumps({"experimentName": "", **asked}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(address, body, {"Content-Type": "application/json"}), timeout=60
        ) as response:
            return json.load(response)

    with tensorboard_client.tensorboard(folder, port, fast=True):
        tensorboard_client.wait_for_page(port)
        tensorboard_client.scalars(port, "s-1/validation", "epoch_loss", at_least=2)
        experiment = ask("experiment")
        metric = {"group": "validation", "tag": "epoch_loss"}
        assert metric in [info["name"] for info in experiment["metricInfos"]]
        groups = ask(
            "session_groups",
            allowedStatuses=["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"],
            colParams=[{"metric": metric}], startIndex=0, sliceSize=10,
        )["sessionGroups"]  # fmt: skip
    found = {}
    for group in groups:
        (session,) = group["sessions"]
        value = next((one["value"] for one in session["metricValues"] if one["name"] == metric), None)
        found[session["name"]] = (group["hparams"], value, session["status"])
    return found


def test_a_sweep_that_was_interrupted_goes_on_where_it_was(
    tmp_path: pathlib.Path, flags: list[str], training: Training
) -> None:
    paced = [*flags, "--experiment=tests.experiments.paced", "--epochs=30"]
    ours = ["--name=s", f"--folder={tmp_path}", "--parallel=1", "--grid=seed=1"]
    with swept(*ours, training=paced, environ={"PACE": "0.02"}) as launcher:
        launcher.wait_for_line("trial 1 has trained 2 epoch(s)")
        with swept(*ours, training=paced) as second:
            assert second.end() == 1
            assert "error: another launcher is at work on this sweep" in second.text
        launcher.process.send_signal(signal.SIGINT)
        assert launcher.end() == 130
        assert "interrupted; the trials save and leave" in launcher.text
    assert [trial["state"] for trial in kept(tmp_path)["trials"]] == ["waiting"]
    assert list((tmp_path / "s" / "s-1" / "checkpoints").glob("*.npz"))
    with swept(*ours, training=paced, environ={"PACE": "0"}) as launcher:
        assert launcher.end() == 0
    assert [trial["state"] for trial in kept(tmp_path)["trials"]] == ["done"]
    training.run(*paced, "--seed=1", f"--run_dir={tmp_path}/undisturbed")
    undisturbed = result(tmp_path / "undisturbed")
    assert result(tmp_path / "s" / "s-1")["weights_sha256"] == undisturbed["weights_sha256"]


def test_a_trial_that_gets_no_folder_fails_alone(tmp_path: pathlib.Path, flags: list[str]) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "s-1").write_text("no folder")
    with swept("--name=s", f"--folder={tmp_path}", "--grid=seed=1,2", training=[*flags, "--epochs=1"]) as launcher:
        assert launcher.end() == 0
    (why,) = [line for line in launcher.lines if line.startswith("trial 1 failed: ")]
    assert why.startswith("trial 1 failed: it cannot be started on this machine: [Errno 17] File exists: ")
    assert "Traceback" not in launcher.text
    assert [(trial["state"], trial["exit_code"]) for trial in kept(tmp_path)["trials"]] == [("failed", 1), ("done", 0)]


def test_a_disk_that_takes_nothing_costs_a_trial_its_place_in_hparams(tmp_path: pathlib.Path) -> None:
    kind = LocalTrials(LocalSweepFlags(name="s"), tmp_path, [], 1)
    trial = Trial(1, {"seed": "1"}, RUNNING)
    with no_room_beyond(20):
        assert kind.begin(trial, None)[-1] == f"--run_dir={tmp_path}/s-1"
    (tmp_path / "s-1" / "result.json").write_text(json.dumps({"epochs": 2, "val_loss": 0.5}))
    with no_room_beyond(20):
        assert kind.end(trial, 0) == []
    assert (trial.metrics, trial.epochs, trial.reason) == ({"val_loss": 0.5}, 2, "")
    assert [path.name for path in (tmp_path / "s-1").iterdir()] == ["result.json"]
    kind.begin(trial, None)
    kind.end(trial, 0)
    assert [path.suffix for path in sorted((tmp_path / "s-1").iterdir())] == [".0", ".1", ".json"]


def test_what_the_code_of_a_trial_has_raised_is_told(tmp_path: pathlib.Path) -> None:
    kind, trial = LocalTrials(LocalSweepFlags(name="s"), tmp_path, [], 1), Trial(1, {"seed": "1"}, RUNNING)
    kind.begin(trial, None)
    for text in (
        "worker 0 | Traceback (most recent call last):",
        'worker 0 |   File "mine.py", line 3, in load_data',
        'worker 0 |     raise ValueError("no such day")',
        "worker 0 | ValueError: no such day",
        "worker 0 | and something else",
        "failed: worker 0 ended with 1 (a crash)",
    ):
        kind.read(trial, TrialLine(1, text, error=False))
    assert trial.reason == "failed: worker 0 ended with 1 (a crash): ValueError: no such day"
    kind.begin(trial, None)  # Tried again, it fails for another reason.
    kind.read(trial, TrialLine(1, "failed: worker 0 ended with 139 (SIGSEGV)", error=False))
    assert trial.reason == "failed: worker 0 ended with 139 (SIGSEGV)"


@pytest.mark.thorough
def test_halving_goes_on_from_checkpoints(tmp_path: pathlib.Path, flags: list[str], training: Training) -> None:
    ours = ["--name=s", f"--folder={tmp_path}", "--halving", "--metric=val_loss", "--grid=learning_rate=1e-4,1e-2"]
    with swept(*ours, training=[*flags, "--epochs=4"]) as launcher:
        assert launcher.end() == 0
        assert "1 trial(s) go on to epoch 4: 2" in launcher.text
    told = kept(tmp_path)["trials"]
    assert [(trial["state"], trial["epochs"]) for trial in told] == [("stopped", 2), ("done", 4)]
    assert told[1]["runs"] == ["s-2", "s-2-rung-2"]
    training.run(*flags, "--epochs=4", "--learning_rate=1e-2", f"--run_dir={tmp_path}/at-once")
    at_once = result(tmp_path / "at-once")
    assert result(tmp_path / "s" / "s-2-rung-2")["weights_sha256"] == at_once["weights_sha256"]


@pytest.mark.thorough
def test_a_metric_that_no_trial_measures_ends_it_and_another_goes_on(
    tmp_path: pathlib.Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ["--name=s", f"--folder={tmp_path}", "--grid=seed=1,2", "--parallel=1"]
    with swept(*ours, "--metric=val_acuracy", training=[*flags, "--epochs=1"]) as launcher:
        assert launcher.end() == 2
        assert "--metric=val_acuracy is not measured by trial 1; it has: accuracy, loss, val_accuracy," in launcher.text
        assert "trial 2 begins" not in launcher.text
    with swept(*ours, "--metric=val_accuracy", "--json", training=[*flags, "--epochs=1"]) as launcher:
        assert launcher.end() == 0
    last = json.loads(launcher.lines[-1])
    assert (last["event"], last["metric"], last["counts"]) == ("sweep", "val_accuracy", {"done": 2})
    capsys.readouterr()


@pytest.mark.parametrize("change", [{"flags": {"experiment": "os"}}, {"number": 2}, {"rung": 3}])
def test_a_list_that_others_have_changed(
    change: dict[str, Any], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep("s", {"seed": ("1",)}, 0, False, (), [Trial(1, {"seed": "1"})])
    told = json.loads(sweep.to_json())
    told["trials"][0] |= change
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "s.sweep.json").write_text(json.dumps(told))
    assert cli.main(["sweep", "--local", "--name=s", f"--folder={tmp_path}", "--grid=seed=1"]) == 1
    assert "s.sweep.json has other trials than its grid makes: it is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "a sweep needs --grid, such as --grid learning_rate=1e-3,3e-4"),
        (["--grid=lerning_rate=1,2"], 2, "Did you mean: learning_rate"),
        (["--grid=seed=1,2", "--name=No_Name"], 2, "--name=No_Name must be a name"),
        (["--grid=seed=1,2", f"--name={'a' * 49}"], 2, "of at most 48 characters"),
        (["--grid=learning_rate_schedule=step", "--halving"], 2, "--learning_rate_schedule=step cannot go with"),
        (["--grid=seed=1,2", "--parallel=-1"], 2, "--parallel=-1 must be at least 0"),
        (["--status", "--name=none"], 3, "there is no sweep none in "),
        (["--grid=seed=1,2", "--min_workers=3"], 2, "--min_workers=3 is more than --workers=1"),
        (["--grid=seed=1,2", "--folder=gs://bucket/x"], 2, "--folder=gs://bucket/x is a folder of this machine"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", "--local", f"--folder={tmp_path}", *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
