"""What the launcher asks of a run's bucket, on real object stores."""

import json
import pathlib
import time

import pytest

from tests.support.servers import BUCKET
from trainer.launch import cli
from trainer.launch.checks import output_access
from trainer.launch.codes import LaunchCode
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Store

pytestmark = pytest.mark.servers

RESULT = {"workers": 2, "epochs": 5, "steps": 2340, "images_per_second": 9.0, "seconds": 75.0, "val_accuracy": 0.98}
LOST = {"attempt": 1, "step_to": 70, "ended": "peer_lost", "reason": "worker 1 was lost", "workers": [0, 1]}
BAD = {"worker": 1, "exit_code": 65, "errors": ["error: no data"]}


def test_the_bucket_is_tried_before_anything_is_made(output: str) -> None:
    (line,) = output_access.check_bucket(output)
    assert (line.mark, line.text) == ("ok", f"{output} can be written")
    assert list(open_store(output).keys("")) == []
    (line,) = output_access.check_bucket(output.replace(BUCKET, "no-such-bucket"))
    assert line.failed
    assert "create the bucket" in str(line)


def written(store: Store, run: str) -> float:
    found = store.get(f"{run}/mirror.json")
    assert found
    return found.written


def test_a_run_outlives_its_job(output: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(output)
    empty = tmp_path / "mirror.json"
    empty.write_text("{}")

    def keep(name: str, **files: object) -> None:
        for key, value in {"mirror.json": {}, **files}.items():
            store.create(f"{name}/{key}", value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n")

    one, other = "mnist-train-1a2b3c4d-01234567", "mnist-train-5e6f7a8b-89abcdef"
    keep(one, **{"attempts.jsonl": LOST, "result.json": RESULT, "workers/1/attempt-1.log": b"one\n"})
    store.create(f"{one}/workers/1/attempt-2.log", b"two\n")
    keep("mnist-train-two-1a2b3c4d-01234567", **{"attempts.jsonl": {**LOST, "failure": BAD}})

    def run(*arguments: str) -> tuple[int, list[str], str]:
        code = cli.main([*arguments, f"--output={output}"])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    assert run("logs", "--logs=all") == (LaunchCode.DONE, ["worker 1 | one", "worker 1 | two"], "")
    code, _, error = run("logs")
    assert (code, error) == (LaunchCode.FAILED, f"error: --logs=chief: there is no such log in {output}/{one}\n")
    code, lines, _ = run("status")
    assert code == LaunchCode.DONE
    assert lines[0] == f"succeeded: {one} reached validation accuracy 0.9800 in 1 min 15 s"
    assert lines[-1] == f"  kept in {output}/{one}"
    code, lines, _ = run("status", "--json")
    told = json.loads(lines[-1])
    assert (code, told["event"], told["run"], told["output"]) == (LaunchCode.DONE, "verdict", one, output)

    keep(other, **{"attempts.jsonl": {**LOST, "failure": BAD}})
    deadline = time.monotonic() + 10
    while written(store, other) <= written(store, one):  # S3 counts whole seconds.
        assert time.monotonic() < deadline
        store.upload(f"{other}/mirror.json", empty, replace=store.version(f"{other}/mirror.json"))
    code, lines, _ = run("status")  # The newest counts.
    assert code == LaunchCode.TRAINING
    assert lines[0].startswith(f"not finished: attempt 1 of {other}, the last, ended at step 70: worker 1 ended")
    assert lines[1] == "  | error: no data"
    code, _, error = run("status", "--name=mnist")
    assert (code, error) == (LaunchCode.NOT_STARTED, f"error: there is no run of mnist in {output}\n")
