"""`show`: one run with its curves, from a folder and from real object stores."""

import json
import pathlib
import re

import pytest

from tests.launch.runs.test_list import RESULT, attempt, keep, write
from tests.support.mirrored_run import point
from tests.support.training_processes import Training, result
from trainer.core.tfrecord import record
from trainer.launch import cli
from trainer.launch.codes import LaunchCode
from trainer.launch.runs import places
from trainer.launch.runs.curve import drawn
from trainer.launch.runs.event_scalars import scalars
from trainer.output.stores.opening import open_store


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["show", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_real_run(training: Training, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "a-run"
    training.run("--epochs=3", "--hidden_units=16", f"--run_dir={run_dir}")
    measured = result(run_dir)
    code, text, _ = shown(capsys, str(run_dir))
    assert code == LaunchCode.DONE
    lines = text.splitlines()
    assert lines[0].startswith("a-run: done ")
    assert lines[0].endswith(f", val_accuracy {measured['val_accuracy']:.4f}")
    assert re.match(r"  1 worker\(s\), 3 epoch\(s\), \d+ s, 0 restart\(s\)$", lines[1])
    assert "--hidden_units=16" in lines[2]
    epochs = [line for line in lines if line.startswith("  epoch ")]
    assert [line.split(":")[0] for line in epochs] == ["  epoch 1", "  epoch 2", "  epoch 3"]
    assert f"  val_accuracy {measured['val_accuracy']:.4f}" in epochs[-1]
    _, text, _ = shown(capsys, "a-run", f"--output={tmp_path}", "--json")
    (told,) = [json.loads(line) for line in text.splitlines()]
    assert told["curves"]["val_loss"]["3"] == pytest.approx(measured["val_loss"])
    assert told["metrics"]["val_loss"] == measured["val_loss"]
    (run_dir / "result.json").unlink()
    _, text, _ = shown(capsys, str(run_dir), "--json")
    told = json.loads(text)
    assert (told["state"], told["epochs"]) == ("unfinished", 3)
    assert told["metrics"].keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert told["metrics"]["val_loss"] == pytest.approx(measured["val_loss"])
    assert {"learning_rate", "examples_per_second"} < told["curves"].keys()


def test_why_it_ended_and_what_it_left(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = {"metric": "val_loss", "mode": "min", "epoch": 2, "value": 0.09, "model_epoch": 2}
    write(tmp_path, "early", **{"result.json": {**RESULT, "end": {"by": "early_stopping", "why": "no"}, "best": best}})
    _, text, _ = shown(capsys, str(tmp_path / "early"))
    assert "  early_stopping ended it after epoch 5: no\n  best val_loss 0.09 after epoch 2; the model is" in text
    outputs = {"file": "/runs/p/predictions.npy", "examples": 200}
    predicted = {"mode": "predict", "workers": 2, "seconds": 3.0, "outputs": outputs, "flags": {"mode": "predict"}}
    write(tmp_path, "predicted", **{"result.json": predicted})
    code, text, error = shown(capsys, str(tmp_path / "predicted"))
    assert (code, error) == (LaunchCode.DONE, "")
    assert text.splitlines()[1:] == [
        "  2 worker(s), 3 s, 0 restart(s)", "  --mode=predict", "  predictions.npy has the outputs for 200 examples",
    ]  # fmt: skip
    write(tmp_path, "begun", **{"checkpoints/step-0000000010.npz": b""})
    assert shown(capsys, str(tmp_path / "begun"))[1].splitlines()[0] == "begun: unfinished"
    _, text, _ = shown(capsys, str(tmp_path / "early"), "--json")
    assert json.loads(text)["best"] == best


@pytest.mark.servers
def test_a_run_in_a_bucket(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(output)
    lost = {**attempt(1, 0, 70, 9.0, "worker 1 \x1b[2J was lost")}
    keep(store, "one", **{"result.json": RESULT, "attempts.jsonl": lost, "train/events.out.tfevents.0": b"no events"})
    keep(store, "torn", **{"result.json": b"{"})
    for arguments in (["one", f"--output={output}"], [f"{output}/one"], [f"--run={output}/one/"]):
        code, text, error = shown(capsys, *arguments)
        assert (code, error) == (LaunchCode.DONE, "")
        assert "attempt 1 ended at step 70: worker 1  was lost" in text
        assert "\x1b" not in text
    assert shown(capsys, f"{output}/two")[::2] == (
        LaunchCode.NOT_STARTED,
        f"error: there is no run two in {output}; `list --output={output}` shows those that are\n",
    )
    code, _, error = shown(capsys, f"{output}/torn")
    assert (code, error[:7]) == (LaunchCode.FAILED, "error: ")
    assert "result.json is no JSON object: it is damaged" in error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "show needs a run"),
        (["s3://bucket"], 2, "s3://bucket is the address of a bucket; expected that of a run in it"),
        (["../x", "--output=."], 2, "--run=../x is no run's name"),
        (["..", "--output=."], 2, "--run=.. is no run's name"),
        (["nothing"], 3, "there is no run nothing in .; `list --output=.` shows those that are"),
        (["/nothing"], 3, "there is no run nothing in /; `list --output=/` shows those that are"),
        (["logs/nope/run"], 3, "there is no run run: logs/nope is no folder; expected one in which runs lie"),
        (["run", "--output=nope"], 3, "there is no run run: nope is no folder; expected one in which runs lie"),
        (["one", "--metric=f1"], 2, "--metric=f1 is not measured by one; it has: loss, val_accuracy, val_loss"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path, "one", **{"result.json": RESULT})
    monkeypatch.chdir(tmp_path)
    ended, text, error = shown(capsys, *arguments)
    assert (ended, text) == (code, "")
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "place", "path"),
    [
        ("/run", "/", "/run"),
        ("/runs/run/", "/runs", "/runs/run"),
        ("run", ".", "./run"),
        ("gs://bucket/path/run", "gs://bucket/path", "gs://bucket/path/run"),
    ],
)
def test_the_place_of_a_run(address: str, place: str, path: str) -> None:
    assert places.split_address(address) == (place, "run")
    if "://" not in place:
        assert places.RunFolder(places.open_place(place), "run").url == path


def test_events_that_nobody_wrote_are_passed_over() -> None:
    whole = record(point(3, 0))
    forged = [record(data) for data in (b"\xff" * 12, b"\x2a\x7f\x01", b"\x0a\xff", b"\x2a\x04\x0a\x02\x0a\xff")]
    assert [*scalars(b"".join([*forged, whole]))] == [("loss", 3, 3.0)]
    assert [*scalars(b"no record")] == []
    assert [*scalars(whole + whole[:-3])] == [("loss", 3, 3.0)]


def test_a_drawing_has_the_ends_of_its_curve() -> None:
    lines = drawn({1: 0.5, 2: 0.25, 3: 0.0, 4: float("nan")}, width=30, height=4)
    assert lines[0].startswith("0.5000 ┤⠉")
    assert lines[3].startswith("0.0000 ┤")
    assert lines[3].endswith("⣀")
    assert lines[4].split() == ["epoch", "1", "3"]
    assert max(map(len, lines)) <= 30
    assert drawn({}, width=30) == []
    assert len(drawn({1: 2.0}, width=30)) == 9
