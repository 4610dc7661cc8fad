"""`status` of a run that goes on: the live screen's table as lines, and the same for programs."""

import json
import pathlib
from typing import Any

import pytest

from tests.support.api_objects import pod
from tests.support.api_server import api_server
from tests.support.scripted_run import ScriptedRun
from trainer.launch import cli
from trainer.launch.codes import LaunchCode


def unschedulable(index: int) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/50 nodes are available",
    }
    return {**pod(index), "spec": {}, "status": {"phase": "Pending", "conditions": [condition]}}


def evicted(index: int) -> dict[str, Any]:
    return {**pod(index), "status": {**pod(index)["status"], "phase": "Failed", "reason": "Evicted"}}


def status(
    run: ScriptedRun,
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *more: str,
) -> list[str]:
    monkeypatch.setenv("COLUMNS", "60")  # Of some terminal: where the output is none, nothing is cut.
    with api_server(run.answer, folder) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert cli.main(["status", "--name=big", *more]) == LaunchCode.DONE
    return capsys.readouterr().out.splitlines()


def test_a_line_a_worker(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ScriptedRun(3, others={2: unschedulable(2)})
    notice, head, *workers, why, epoch, figures = status(run, tmp_path, monkeypatch, capsys)
    assert notice.startswith("big has been going on for ")
    assert head.split() == ["worker", "phase", "node", "step", "restarts", "reason"]
    assert [line.split() for line in workers] == [
        ["0", "running", "node0", "7"],
        ["1", "running", "node1", "8"],
        ["2", "pending", "0", "unschedulable"],
    ]
    assert why == "worker 2: no node can take it: 0/50 nodes are available"
    assert epoch.startswith("epoch 1/5 ")
    assert figures == "step 7/1000  loss 1.0000  accuracy 0.5000  1 examples/s"
    assert not any("\x1b" in line for line in (head, *workers, epoch, figures))


def test_counts_and_the_odd_ones_out_of_hundreds(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ScriptedRun(500, others={3: unschedulable(3), 400: evicted(400)})
    _, counts, _, *workers, _, _, figures = status(run, tmp_path, monkeypatch, capsys)
    assert counts == "500 workers: 498 running, 1 unschedulable, 1 Evicted"
    assert [line.split() for line in workers] == [
        ["3", "pending", "0", "unschedulable"],
        ["400", "failed", "node0", "407", "Evicted"],
    ]
    assert figures.startswith("step 7/1000 ")  # The chief's.
    assert sum("/log" in request for request in run.requests) == 2


def test_json_has_what_it_had(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = status(ScriptedRun(40, others={2: unschedulable(2)}), tmp_path, monkeypatch, capsys, "--json")
    notice, state, progress = map(json.loads, lines)
    assert (notice["event"], state["event"], progress["event"]) == ("notice", "state", "progress")
    assert state["workers"] == {"running": 39, "unschedulable": 1}
    assert [reason["workers"] for reason in state["pending"]] == [[2]]
    assert (progress["worker"], progress["step"]) == (0, 7)


def ended(index: int, at: str) -> dict[str, Any]:
    result = {"workers": 2, "epochs": 5, "steps": 1000, "images_per_second": 1.0, "restarts": 0, "val_accuracy": 0.98}
    state = {"exitCode": 0, "startedAt": "2026-01-01T00:00:10Z", "finishedAt": at, "message": json.dumps(result)}
    containers = [{"name": "worker", "state": {"terminated": state}}]
    return {**pod(index), "status": {"phase": "Succeeded", "containerStatuses": containers}}


def test_status_and_attach_say_the_same_of_a_run_that_has_ended(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"SuccessCriteriaMet": "2026-01-01T00:01:42Z", "Complete": "2026-01-01T00:02:30Z"}
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind, at in times.items()]
    others = {0: ended(0, "2026-01-01T00:01:40Z"), 1: ended(1, "2026-01-01T00:02:20Z")}
    run = ScriptedRun(2, others=others, status={"conditions": conditions})
    with api_server(run.answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        verdicts = []
        for command in ("status", "attach"):
            assert cli.main([command, "--name=big"]) == LaunchCode.DONE
            lines = capsys.readouterr().out.splitlines()
            verdicts.append(lines[lines.index("succeeded: big reached validation accuracy 0.9800 in 1 min 40 s") :])
        run.done.set()
    assert verdicts[0] == verdicts[1]
    assert verdicts[0][-1] == "  time: starting 10 s, rendezvous 10 s, training 1 min 20 s; goodput 80%"
