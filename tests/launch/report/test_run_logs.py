"""`logs` of pods that are there, that are gone, that have not begun, on nodes that do not answer."""

import json
import pathlib
import threading
from typing import Any

import pytest

from tests.support.api_objects import job as job_json
from tests.support.api_objects import pod as pod_json
from tests.support.api_server import Handler, Query, api_server
from tests.support.memory_store import MemoryStore
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

OUTPUT = "s3://bucket/runs"
RUN = "big-1a2b3c4d-01234567"  # The Job's name and what its UID begins with.


class Run:
    """Pods and their logs; a number in place of a log is the status of a refusal."""

    def __init__(self, workers: int, logs: dict[str, list[str] | int], *, output: str = "", ended: str = "") -> None:
        self.job = job_json(workers)
        self.job["metadata"]["uid"] = "01234567-89ab"
        self.job["spec"]["template"] = {"spec": {"containers": [{"args": [f"--output={output}"] if output else []}]}}
        if ended:
            condition = {"type": ended, "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}
            self.job["status"] = {"conditions": [condition]}
        self.logs = logs
        self.changes: dict[str, list[dict[str, Any]]] = {}  # That watches tell, by what they watch.
        self.done = threading.Event()
        self.pods: list[dict[str, Any]] = []
        for name in logs:
            pod = pod_json(int(name.split("-")[0]))
            pod["metadata"] |= {"name": name, "uid": name}
            self.pods.append(pod)

    def answer(self, server: Handler, query: Query) -> None:
        path = server.path.split("?")[0]
        if "watch" in query:
            server.begin()
            for change in self.changes.pop(path.rsplit("/", 1)[1], ()):
                server.send_event("MODIFIED", change)
            self.done.wait(20)
            server.end()
        elif path.endswith("/log"):
            lines = self.logs[path.split("/")[-2]]
            if isinstance(lines, int):
                server.refuse(lines, "it is away")
                return
            server.begin()
            for number, line in enumerate(lines, 1):
                server.send(f"2026-01-01T00:00:20.{number:09}Z {line}\n".encode())
            server.end()
        else:
            items = {"jobs": [self.job], "pods": self.pods}.get(path.rsplit("/", 1)[1], [])
            # Of a pod's own address nothing is read but whether it is still the same: it is not.
            server.reply({"metadata": {"resourceVersion": "1", "uid": ""}, "items": items})


def state(worker: int, attempt: int) -> str:
    doing = "training" if attempt else "meeting"
    return f"agent worker={worker}/2 attempt={attempt} state={doing} restarts=0 pid=0 spare=none last=new"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run has left in its bucket; real ones are in test_launch_output.py."""
    logs = {f"workers/{worker}/attempt-{attempt}.log": f"kept {worker} of attempt {attempt}\n".encode()
            for worker, attempt in ((0, 1), (0, 2), (0, 3), (1, 1))}  # fmt: skip
    stores = {address: MemoryStore(etags=True) for address in (OUTPUT, f"{OUTPUT}/{RUN}")}
    for key, data in {**logs, "mirror.json": b"{}"}.items():
        stores[OUTPUT].create(f"{RUN}/{key}", data)
        stores[f"{OUTPUT}/{RUN}"].create(key, data)
    monkeypatch.setattr(
        "trainer.launch.report.finished_run.open_store", lambda output, run="": stores[f"{output}/{run}".rstrip("/")]
    )


def logs(
    run: Run, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, list[str], str]:
    with api_server(run.answer, folder) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        code = cli.main(["logs", "--name=big", *flags])
        run.done.set()
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_pods_that_cannot_be_read_do_not_keep_the_others_from_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(3, {"0-a": 500, "1-a": [], "2-a": [state(2, 1), "two"]})
    run.pods[1]["status"] = {"phase": "Pending"}
    code, lines, _ = logs(run, tmp_path, monkeypatch, capsys, "--logs=all")
    assert code == LaunchCode.DONE
    assert lines == [
        "the log of worker 0's pod 0-a on node0 cannot be read: it is away",
        "worker 1 has no log yet: its pod 1-a has not started",
        f"worker 2 | {state(2, 1)}",
        "worker 2 | two",
    ]
    code, _, error = logs(run, tmp_path, monkeypatch, capsys, "--logs=1")
    assert (code, error) == (LaunchCode.FAILED, "error: --logs=1: big-1a2b3c4d has no such log yet\n")
    code, _, error = logs(run, tmp_path, monkeypatch, capsys, "--logs=7")
    assert (code, error) == (LaunchCode.USAGE, "error: --logs=7: big-1a2b3c4d has 3 worker(s)\n")


def test_a_refusal_is_none_of_a_pod(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, error = logs(Run(2, {"0-a": 403, "1-a": ["x"]}), tmp_path, monkeypatch, capsys, "--logs=all")
    assert (code, lines, error) == (LaunchCode.FAILED, [], "error: it is away\n")


@pytest.mark.usefixtures("kept")
def test_what_earlier_pods_left_comes_from_the_output(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(2, {"0-b": [state(0, 0), state(0, 3), "now"]}, output=OUTPUT)
    code, lines, _ = logs(run, tmp_path, monkeypatch, capsys, "--logs=all")
    assert code == LaunchCode.DONE
    assert lines == [
        "worker 0 | kept 0 of attempt 1",
        "worker 0 | kept 0 of attempt 2",
        f"worker 0 | {state(0, 0)}",
        f"worker 0 | {state(0, 3)}",
        "worker 0 | now",
        "worker 1 | kept 1 of attempt 1",  # It has no pod.
    ]
    code, lines, _ = logs(Run(2, {"1-b": 500}, output=OUTPUT), tmp_path, monkeypatch, capsys, "--logs=1")
    assert (code, lines[-1]) == (LaunchCode.DONE, "kept 1 of attempt 1")
    # One that has not begun its first attempt.
    code, lines, _ = logs(Run(2, {"1-b": [state(1, 0)]}, output=OUTPUT), tmp_path, monkeypatch, capsys, "--logs=1")
    assert (code, lines) == (LaunchCode.DONE, ["kept 1 of attempt 1", state(1, 0)])


@pytest.mark.usefixtures("kept")
def test_all_pods_are_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = logs(Run(2, {}, output=OUTPUT), tmp_path, monkeypatch, capsys)
    assert (code, lines) == (LaunchCode.DONE, [f"kept 0 of attempt {attempt}" for attempt in (1, 2, 3)])


@pytest.mark.usefixtures("kept")
def test_the_job_is_gone_and_its_release_is_not(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helm = tmp_path / "helm"
    helm.write_text(f"#!/bin/sh\necho '{json.dumps({**Run(2, {}, output=OUTPUT).job, 'kind': 'Job'})}'\n")
    helm.chmod(0o755)
    with api_server(lambda server, _: server.reply({"items": []}), tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert cli.main(["logs", "--name=big", f"--helm={helm}", "--logs=1"]) == LaunchCode.DONE
    assert capsys.readouterr().out == "kept 1 of attempt 1\n"


def test_without_an_output_it_says_what_is_missing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(2, {"0-b": [state(0, 3), "now"]})
    code, lines, _ = logs(run, tmp_path, monkeypatch, capsys, "--logs=all")
    assert code == LaunchCode.DONE
    assert lines[0] == "worker 0's pod began with attempt 3; as for earlier attempts, no output kept its log"
    assert lines[-1] == "worker 1: no pod is left, and no output kept its log"


def test_json(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines, _ = logs(Run(1, {"0-a": [state(0, 1), "a line"]}), tmp_path, monkeypatch, capsys, "--json")
    events = [json.loads(line) for line in lines]
    assert [(event["event"], event["worker"], event["text"]) for event in events] == [
        ("log", 0, state(0, 1)),
        ("log", 0, "a line"),
    ]


@pytest.mark.parametrize(("ended", "code"), [("Complete", LaunchCode.DONE), ("Failed", LaunchCode.TRAINING)])
def test_following_a_run_that_has_ended_ends_as_it_ended(
    ended: str, code: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(1, {"0-a": [state(0, 1), "a line"]}, ended=ended)
    assert logs(run, tmp_path, monkeypatch, capsys, "--follow")[:2] == (code, [state(0, 1), "a line"])
    assert logs(run, tmp_path, monkeypatch, capsys)[0] == LaunchCode.DONE


@pytest.mark.parametrize(("ended", "exit_code", "code"), [("Complete", 0, 0), ("Failed", 65, LaunchCode.TRAINING)])
def test_following_ends_with_the_run_and_as_it_ended(
    ended: str, exit_code: int, code: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = Run(1, {"0-a": [state(0, 1), "a line"]})
    over = Run(1, {"0-a": []}, ended=ended)
    times = {"startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:59:00Z"}
    worker = {"name": "worker", "state": {"terminated": {"exitCode": exit_code, **times}}}
    over.pods[0]["status"] = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [worker]}
    run.changes = {"pods": over.pods, "jobs": [over.job]}
    ended_with, lines, error = logs(run, tmp_path, monkeypatch, capsys, "--follow")
    assert (ended_with, error) == (code, "")
    assert [line for line in lines if line in (state(0, 1), "a line")] == [state(0, 1), "a line"]
