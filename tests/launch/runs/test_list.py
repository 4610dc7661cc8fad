"""`list --output`: the runs of a bucket on real object stores, and of a folder; what is broken among them."""

import json
import pathlib
import time
from typing import Any

import pytest

from tests.support.event_points import event
from tests.support.servers import BUCKET, s3_environ, s3_server
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from trainer.launch import cli
from trainer.launch.codes import LaunchCode
from trainer.launch.runs import places, summary
from trainer.launch.runs.trials import RUNNING, Sweep, Trial
from trainer.output.stores.errors import UnreachableError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Store

RESULT = {
    "workers": 2, "global_batch_size": 128, "epochs": 5, "steps": 2340, "loss": 0.1, "val_loss": 0.09,
    "val_accuracy": 0.98, "examples_per_second": 9.0, "seconds": 75.0, "restarts": 1,
    "experiment": {"module": "trainer.mnist", "hidden_units": 512, "dropout": 0.2}, "flags": {},
    "versions": {"trainer": "0.2.0"},
}  # fmt: skip


def attempt(number: int, first: int, last: int, seconds: float, reason: str = "worker 0 is done") -> dict[str, Any]:
    return {
        "format": 2, "attempt": number, "workers": [0, 1], "step_from": first, "step_to": last, "reason": reason,
        "seconds": {"rendezvous": 1.0, "start_up": 4.0, "training": seconds}, "ended": "done",
    }  # fmt: skip


def keep(store: Store, run: str, **files: object) -> None:
    for key, value in {"mirror.json": {}, **files}.items():
        store.create(f"{run}/{key}", value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n")


def write(folder: pathlib.Path, run: str, **files: object) -> None:
    for key, value in files.items():
        path = folder / run / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n")


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = cli.main(["list", *arguments])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


@pytest.mark.servers
def test_the_runs_of_a_bucket(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(output)
    assert listed(capsys, f"--output={output}") == (LaunchCode.DONE, [f"no runs in {output}"], "")
    one, two = "mnist-train-1a2b3c4d-01234567", "mnist-train-5e6f7a8b-89abcdef"
    keep(store, one, **{"result.json": RESULT, "attempts.jsonl": attempt(1, 0, 2340, 70.0)})
    other = {**RESULT, "val_accuracy": 0.97, "experiment": {**RESULT["experiment"], "hidden_units": 64}}  # type: ignore[dict-item]
    lost = [attempt(1, 0, 100, 10.0, "worker 1 was lost"), attempt(2, 50, 2340, 70.0)]
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in lost)
    keep(store, two, **{"result.json": other, "attempts.jsonl": lines})
    keep(store, "torn", **{"result.json": b"{"})
    keep(store, "forged", **{"result.json": {"val_accuracy": "\x1b[2J", "restarts": -1}})
    keep(store, "\u202etxt", **{"result.json": [1]})
    store.create("notes/readme.txt", b"no run")

    code, rows, error = listed(capsys, f"--output={output}", "--sort=val_accuracy")
    assert (code, error) == (LaunchCode.DONE, "")
    assert rows[0].split() == ["NAME", "WHEN", "WORKERS", "hidden_units", "val_accuracy", "EPOCHS", "TIME", "RESTARTS",
                               "GOODPUT"]  # fmt: skip
    assert rows[1].split()[0] == one
    assert rows[1].split()[3:] == ["2", "512", "0.9800", "5", "1", "min", "15", "s", "1", "93%"]
    assert rows[2].split()[0] == two
    assert rows[2].split()[-1] == f"{(10 * 50 / 100 + 70) / 90:.0%}"  # Half of the first attempt was made again.
    assert sorted(row.split()[0] for row in rows[3:6]) == ["forged", "torn", "txt"]
    assert sorted(rows[6:]) == [
        "forged is broken: result.json has no metric of any kind: it is damaged, or no trainer wrote it",
        "torn is broken: result.json is no JSON object: it is damaged",
        "txt is broken: result.json is no JSON object: it is damaged",
    ]
    assert not {"\x1b", "\u202e"} & set("".join(rows))

    _, rows, _ = listed(capsys, f"--output={output}", "--json", "--sort=-val_accuracy")
    found = [json.loads(row) for row in rows]
    assert [run["name"] for run in found[:2]] == [two, one]
    assert found[1]["flags"]["hidden_units"] == 512
    assert abs(found[1]["written"] - time.time()) < 600
    assert {run["state"] for run in found[2:]} == {"broken"}


@pytest.mark.servers
def test_a_bucket_that_forbids_and_one_that_is_not_there(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    with s3_server(tmp_path) as address:
        for name, value in {**s3_environ(address), "AWS_SECRET_ACCESS_KEY": "another"}.items():
            monkeypatch.setenv(name, value)
        code, rows, error = listed(capsys, f"--output=s3://{BUCKET}/runs")
        assert (code, rows) == (LaunchCode.FAILED, [])
        assert error.startswith(f"error: s3://{BUCKET}/runs cannot be read: s3://{BUCKET}/runs: SignatureDoesNotMatch")
        assert len(error.splitlines()) == 1
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_environ(address)["AWS_SECRET_ACCESS_KEY"])
        code, rows, error = listed(capsys, "--output=s3://nothing-here/runs")
        assert (code, rows) == (LaunchCode.FAILED, [])
        assert "there is no such bucket" in error


@pytest.mark.servers
def test_many_runs_are_read_a_few_at_a_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for number in range(100):
        write(tmp_path / BUCKET / "runs", f"run-{number:03d}", **{"result.json": RESULT, "mirror.json": {}})
    with s3_server(tmp_path) as address, refusing_proxy(address) as (front, proxy):
        for name, value in s3_environ(front).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(summary, "READERS", 4)
        code, rows, _ = listed(capsys, f"--output=s3://{BUCKET}/runs")
        assert (code, len(rows)) == (LaunchCode.DONE, 101)
        # One for the folders and one for lists of trials; result, result's time and attempts of each run.
        assert len(proxy.requests) <= 2 + 3 * 100


@pytest.mark.servers
def test_a_store_that_is_busy_is_asked_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for number in range(8):
        write(tmp_path / BUCKET / "runs", f"run-{number}", **{"result.json": RESULT, "mirror.json": {}})
    with s3_server(tmp_path) as address, refusing_proxy(address) as (front, proxy):
        for name, value in s3_environ(front).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(summary, "_WAITS", (0.1, 0.1))
        asked: dict[str, int] = {}

        def busy(_method: str, path: str) -> tuple[int, bytes] | None:
            asked[path] = asked.get(path, 0) + 1
            refused = "run-7/" in path or ("result.json" in path and asked[path] < 2)
            return (503, S3_ERROR % (b"SlowDown", b"Please reduce your request rate.")) if refused else None

        proxy.answer = busy
        code, rows, _ = listed(capsys, f"--output=s3://{BUCKET}/runs")
    assert code == LaunchCode.DONE
    assert [row.split()[-1] for row in rows[1:9]].count("broken") == 1
    assert "run-7 is broken: s3://bucket/runs/run-7/result.json: SlowDown: Please reduce" in rows[-1]


def test_the_runs_of_a_folder(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "one", **{"result.json": {**RESULT, "flags": {"learning_rate": 0.001}}})
    write(tmp_path, "two", **{"result.json": {**RESULT, "flags": {"learning_rate": 0.01}}})
    for run, value in (("four", 1), ("five", 2)):  # Markup and emoji are text.
        write(tmp_path / "odd", run, **{"result.json": {**RESULT, "flags": {"[red]x:smile:\x1b[2J": f"[b]{value}"}}})
    _, rows, _ = listed(capsys, f"--output={tmp_path}/odd")
    assert "[red]x:smile:" in rows[0]
    assert "[b]1" in rows[1] + rows[2]
    assert "\x1b" not in "".join(rows)
    write(tmp_path, "three", **{"attempts.jsonl": attempt(3, 0, 100, 10.0)})
    write(tmp_path, "not-one", readme=b"")
    code, rows, _ = listed(capsys, f"--output={tmp_path}", "--sort=-learning_rate", "--metric=val_loss")
    assert code == LaunchCode.DONE
    assert [row.split()[0] for row in rows] == ["NAME", "two", "one", "three"]
    assert rows[0].split()[3:5] == ["learning_rate", "val_loss"]
    assert rows[3].split() == ["three", "unfinished", "2", "15", "s", "2", "67%"]
    for sort in ("--sort=loss", "--sort=-loss"):  # By what nobody sees, the order would say nothing.
        assert "loss" in listed(capsys, f"--output={tmp_path}", sort)[1][0].split()


def test_a_resume_behind_an_earlier_checkpoint_loses_steps_of_all_attempts_before(tmp_path: pathlib.Path) -> None:
    lines = [attempt(1, 0, 100, 10.0), attempt(2, 100, 120, 10.0), attempt(3, 20, 200, 10.0)]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    write(tmp_path, "one", **{"result.json": RESULT, "attempts.jsonl": data})
    write(tmp_path, "two", **{"result.json": RESULT, "attempts.jsonl": {**lines[0], "step_to": "100"}})
    one, two = (summary.summary(places.RunFolder(places.open_place(str(tmp_path)), run), run) for run in ("one", "two"))
    assert one
    assert one.goodput == pytest.approx((2.0 + 0.0 + 10.0) / 45.0)
    assert two
    assert two.goodput is None


def test_an_unfinished_run_has_metrics_alone(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TensorBoard has an epoch's speed, waiting and learning rate beside them, and a flag is called as the last."""
    figures = {"loss": 0.5, "learning_rate": 0.25, "examples_per_second": 900.0, "data_wait_seconds": 3.0}
    for run, rate in (("one", 0.1), ("two", 0.2)):
        train = b"".join(event(f"epoch_{name}", 1, value * rate) for name, value in figures.items())
        write(tmp_path, run, **{"train/x.tfevents": train, "validation/x.tfevents": event("epoch_loss", 1, rate)})
    sweep = Sweep("s", {"learning_rate": ("1e-3", "1e-4")}, 0, False, (), [])
    sweep.trials = [Trial(number, {"learning_rate": value}, RUNNING, runs=[run])
                    for number, (run, value) in enumerate((("one", "1e-3"), ("two", "1e-4")), 1)]  # fmt: skip
    (tmp_path / "s.sweep.json").write_bytes(sweep.to_json())
    _, rows, _ = listed(capsys, f"--output={tmp_path}", "--json", "--sort=learning_rate")
    told = [json.loads(row) for row in rows]
    assert [run["name"] for run in told] == ["two", "one"]  # By the flag.
    assert [run["metrics"] for run in told] == [
        {"loss": pytest.approx(0.1), "val_loss": pytest.approx(0.2)},
        {"loss": pytest.approx(0.05), "val_loss": pytest.approx(0.1)},
    ]
    assert [run["epochs"] for run in told] == [2, 2]
    code, rows, error = listed(capsys, f"--output={tmp_path}", "--metric=data_wait_seconds")
    assert (code, rows) == (2, [])
    assert error.endswith("--metric=data_wait_seconds is measured by none of these runs; they have: loss, val_loss\n")


def test_a_flag_that_was_not_given_has_its_default(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "plain", **{"result.json": RESULT})
    write(tmp_path, "sgd", **{"result.json": {**RESULT, "flags": {"optimizer": "sgd", "learning_rate": 0.0001}}})
    _, rows, _ = listed(capsys, f"--output={tmp_path}", "--sort=-learning_rate")
    assert rows[0].split()[3:6] == ["learning_rate", "optimizer", "val_accuracy"]
    assert [row.split()[0] for row in rows[1:]] == ["plain", "sgd"]
    assert [row.split()[4:6] for row in rows[1:]] == [["0.001", "adam"], ["0.0001", "sgd"]]
    _, rows, _ = listed(capsys, f"--output={tmp_path}", "--json", "--sort=name")
    told = [json.loads(row) for row in rows]
    assert "optimizer" not in told[0]["flags"]
    assert told[0].keys() == told[1].keys()
    assert "all_flags" not in told[0]
    assert cli.main(["show", f"{tmp_path}/plain"]) == 0
    assert "--optimizer" not in capsys.readouterr().out

    old = {name: value for name, value in RESULT.items() if name != "flags"}  # 0.1.0 did not say which were given.
    write(tmp_path, "old", **{"result.json": old})
    _, rows, _ = listed(capsys, f"--output={tmp_path}", "--sort=learning_rate")
    assert [row.split()[0] for row in rows[1:]] == ["sgd", "plain", "old"]
    assert rows[3].split()[4:6] == ["0.9800", "5"]


def test_a_run_that_measured_a_model_says_so_beside_one_that_trained(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "trained", **{"result.json": RESULT})
    measured = {name: value for name, value in RESULT.items() if name != "epochs"}
    flags = {"mode": "evaluate", "model": "trained"}
    write(tmp_path, "measured", **{"result.json": {**measured, "mode": "evaluate", "flags": flags}})
    _, rows, _ = listed(capsys, f"--output={tmp_path}", "--sort=-name")
    assert rows[0].split()[3:5] == ["mode", "model"]
    assert rows[1].split()[:1] + rows[1].split()[4:6] == ["trained", "train", "0.9800"]
    assert rows[2].split()[:1] + rows[2].split()[4:6] == ["measured", "evaluate", "trained"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--metric=val_acuracy"], 2, "--metric=val_acuracy is measured by none of these runs; they have: loss, val_a"),
        (["--sort=speed"], 2, "--sort=speed is none of: activation, dropout, epochs, experiment, global_batch_size, "),
        (["--output=pvc:claim"], 2, "--output=pvc:claim can be read by pods alone; expected gs://bucket/path, s3://"),
        (["--output=gs://"], 2, "is no address of an object store; expected gs://bucket/path or s3://bucket/path"),
        (["--output=http://bucket/x"], 2, "is no address of an object store"),
        (["--output=/nowhere/at/all"], 1, "/nowhere/at/all is no folder; expected one in which runs lie"),
        (["--output=", "--sort=when"], 2, "--sort=when needs --output=…"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = {"module": "trainer.mnist", "activation": "relu", "dropout": 0.1}
    write(tmp_path, "one", **{"result.json": {**RESULT, "experiment": experiment}})
    ended, rows, error = listed(capsys, f"--output={tmp_path}", *arguments)
    assert (ended, rows) == (code, [])
    assert error.startswith("error: ")
    assert words in error
    assert len(error.splitlines()) == 1


def test_flags_that_only_a_sweep_knows_are_of_the_types_of_a_result(tmp_path: pathlib.Path) -> None:
    """A result has no flag that was given its default: the list of trials has it, as text."""
    write(tmp_path, "one", **{"result.json": {**RESULT, "flags": {"seed": 7}}})
    said = {
        "learning_rate": "1e-3",
        "epochs": "3",
        "warm_spare": "true",
        "optimizer": "sgd",
        "clip": "nan",
        "seed": "8",
    }
    found = summary.summary(places.RunFolder(places.open_place(str(tmp_path)), "one"), "one", said)
    assert found
    typed = {name: found.flags[name] for name in said}
    assert typed == {
        "learning_rate": 0.001,
        "epochs": 5,
        "warm_spare": True,
        "optimizer": "sgd",
        "clip": "nan",
        "seed": 7,
    }


def test_a_folder_that_cannot_be_listed_is_a_line() -> None:
    with pytest.raises(UnreachableError, match="File name too long"):
        places.LocalFolder(pathlib.Path("a" * 300)).children()
