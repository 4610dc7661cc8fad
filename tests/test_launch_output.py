"""What the launcher asks of a run's bucket, on a real S3 server."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.runs import job
from tests.servers import BUCKET, s3_environ, s3_server
from trainer import commands, preflight
from trainer.storage import open_store
from trainer.view import PlainView


@pytest.fixture(autouse=True)
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with s3_server(tmp_path) as address:
        for name, value in s3_environ(address).items():
            monkeypatch.setenv(name, value)
        yield


def test_the_bucket_is_tried_before_anything_is_made() -> None:
    (line,) = preflight.bucket(f"s3://{BUCKET}/runs")
    assert (line.mark, line.text) == ("ok", f"s3://{BUCKET}/runs can be written")
    assert list(open_store(f"s3://{BUCKET}").keys("")) == []
    (line,) = preflight.bucket("s3://no-such-bucket/runs")
    assert line.failed
    assert "create the bucket" in str(line)


def test_logs_outlive_the_pods(capsys: pytest.CaptureFixture[str]) -> None:
    run = job(output=f"s3://{BUCKET}/runs", uid="0123456789")
    store = open_store(f"s3://{BUCKET}/runs/run-1a2b3c4d-01234567")
    store.create("workers/1/attempt-1.log", b"one\n")
    store.create("workers/1/attempt-2.log", b"two\n")
    assert commands._stored_logs(run, "all", PlainView(prefixed=True))
    assert capsys.readouterr().out == "worker 1 | one\nworker 1 | two\n"
    assert not commands._stored_logs(run, "chief", PlainView(prefixed=False))
    assert not commands._stored_logs(job(), "all", PlainView(prefixed=False))
