"""`sweep --status` of a sweep in a bucket, on a real S3 server; no cluster is asked."""

import json
import pathlib
from collections.abc import Iterator

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from tests.launch.sweep.test_book import a_sweep
from tests.support.event_points import event
from tests.support.servers import BUCKET, s3_environ, s3_server
from trainer.core.tfrecord import record
from trainer.launch import cli
from trainer.launch.runs.trials import RUNNING
from trainer.output.stores.opening import open_store

pytestmark = pytest.mark.servers

OUTPUT = f"s3://{BUCKET}/runs"


@pytest.fixture(autouse=True)
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with s3_server(tmp_path) as address:
        for name, value in s3_environ(address).items():
            monkeypatch.setenv(name, value)
        yield


def status(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = cli.main(["sweep", "--status", "--name=s", f"--output={OUTPUT}", *arguments])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def test_how_a_sweep_stands(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = a_sweep()
    sweep.trials[1].state, sweep.trials[1].reason = RUNNING, ""
    store = open_store(OUTPUT)
    store.create("s.sweep.json", sweep.to_json())
    # What mirrors keep of the run that goes on; the last epoch's loss is that of the third.
    summary = [Summary(value=[Summary.Value(tag="epoch_loss", simple_value=1 / epoch)]) for epoch in (1, 2, 4)]
    events = [record(Event(step=step, summary=one).SerializeToString()) for step, one in enumerate(summary)]
    store.create("s-2-1a2b3c4d-01234567/validation/events.out.tfevents.0000000000", b"".join(events))
    store.create(
        "s-2-1a2b3c4d-01234567/train/events.out.tfevents.0000000000", event("epoch_examples_per_second", 3, 9.0)
    )
    code, lines, error = status(capsys)
    assert (code, error) == (0, "")
    assert lines[0].split() == ["TRIAL", "seed", "val_loss", "EPOCHS", "TIME", "STATE"]
    assert lines[1].split() == ["2", "2", "0.2500", "3", "running"]
    assert lines[2].split() == ["1", "1", "0.5000", "2", "3", "s", "done"]
    assert lines[-1] == "s: 1 running, 1 done"
    code, lines, _ = status(capsys, "--json")
    told = json.loads(lines[-1])
    assert (told["event"], told["counts"], told["trials"][0]["number"]) == ("sweep", {"running": 1, "done": 1}, 2)
    assert (told["trials"][0]["metrics"], told["trials"][0]["epochs"]) == ({"val_loss": 0.25}, 3)


def test_a_sweep_that_is_not_there_and_one_that_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, error = status(capsys)
    assert (code, lines, error) == (3, [], f"error: there is no sweep s in {OUTPUT}\n")
    open_store(OUTPUT).create("s.sweep.json", b'{"format": 1, "name": "\x1b[2J"}')
    code, lines, error = status(capsys)
    assert (code, lines) == (1, [])
    assert error.startswith(f"error: the sweep s cannot be read: {OUTPUT}/s.sweep.json is no list of trials: ")
    assert len(error.splitlines()) == 1


def test_a_bucket_that_forbids(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    code, _, error = status(capsys)
    assert code == 1
    assert "SignatureDoesNotMatch" in error
    code = cli.main(["sweep", f"--output={OUTPUT}", "--grid=seed=1,2"])
    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith(f"error: {OUTPUT}/s")
    assert len(error.splitlines()) == 1
