"""Sweeps on a real control plane whose nodes are made up: a release a trial, quotas, a launcher that leaves."""

import json
import pathlib
from typing import Any

import pytest

from tests.e2e.launching import Launching
from tests.e2e.made_up import RESULT, Cluster
from tests.support.waiting import until
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e

GRID = "--grid=learning_rate=1e-2,1e-3"
BAD = {"format": 2, "worker": 0, "exit_code": 65, "errors": ["error: no data"]}


def arguments(cluster: Cluster, folder: pathlib.Path, *more: str) -> list[str]:
    return ["sweep", "--name=s", f"--folder={folder}", GRID, *cluster.submit_arguments(*more)]


def kept(folder: pathlib.Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "s" / "s.sweep.json").read_text())["trials"])


def release_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["app.kubernetes.io/instance"])


def finish(cluster: Cluster, release: str, code: int, message: dict[str, Any]) -> None:
    pods = until(60, f"two pods of {release}", lambda: _two(cluster, release))
    for pod in pods:
        cluster.set(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    for pod in pods:
        cluster.finish(pod, code, message)


def _two(cluster: Cluster, release: str) -> list[dict[str, Any]] | None:
    pods = [pod for pod in cluster.pods() if release_of(pod) == release and pod["spec"].get("nodeName")]
    return pods if len(pods) == 2 else None


def test_trials_that_cannot_all_be_admitted(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "3"}}}
    cluster.plane.create(f"{cluster.path}/resourcequotas", quota)
    until(30, "the quota", lambda: cluster.plane.get(f"{cluster.path}/resourcequotas/small")["status"].get("hard"))
    code, text = cluster.run(*arguments(cluster, tmp_path))
    assert code == LaunchCode.NOT_STARTED
    assert text.splitlines()[-1] == (
        "error: no trial was submitted: quota: leaves room for 1 trial(s) at a time, 2 are asked for; --parallel=1, or "
        "a larger quota (--force submits anyway)"
    )
    assert cluster.jobs() == []
    launching = Launching(*arguments(cluster, tmp_path, "--parallel=1"), kubeconfig=cluster.plane.kubeconfig)
    launching.says("trial 1 begins: --learning_rate=1e-2")
    finish(cluster, "s-1", 0, RESULT)
    launching.says("trial 1 is done: val_accuracy 0.9800")
    finish(cluster, "s-2", 65, BAD)
    assert launching.ends() == LaunchCode.DONE
    assert "trial 2 failed (125): failed: worker " in launching.text
    assert "best: trial 1, val_accuracy 0.9800: --learning_rate=1e-2" in launching.text
    assert [trial["state"] for trial in kept(tmp_path)] == ["done", "failed"]
    assert {release_of(job) for job in cluster.jobs()} == {"s-1", "s-2"}  # Without an output their logs are here alone.
    (job,) = [job for job in cluster.jobs() if release_of(job) == "s-1"]
    assert "--learning_rate=0.01" in job["spec"]["template"]["spec"]["containers"][0]["args"]


def test_trials_go_on_without_the_launcher_and_are_followed_again(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    launching = Launching(*arguments(cluster, tmp_path), kubeconfig=cluster.plane.kubeconfig)
    until(60, "both jobs", lambda: len(cluster.jobs()) == 2)
    until(60, "both jobs in the list", lambda: all(trial["job"] for trial in kept(tmp_path)))
    launching.interrupt()
    assert launching.ends() == LaunchCode.INTERRUPTED
    assert "interrupted; they go on" in launching.text
    jobs = {job["metadata"]["uid"] for job in cluster.jobs()}
    assert len(jobs) == 2
    assert [trial["state"] for trial in kept(tmp_path)] == ["running", "running"]
    finish(cluster, "s-1", 0, RESULT)
    launching = Launching(*arguments(cluster, tmp_path), kubeconfig=cluster.plane.kubeconfig)
    launching.says("trial 2 goes on: --learning_rate=1e-3")
    launching.says("trial 1 is done: val_accuracy 0.9800")
    finish(cluster, "s-2", 0, {**RESULT, "val_accuracy": 0.99})
    assert launching.ends() == LaunchCode.DONE
    assert "best: trial 2, val_accuracy 0.9900: --learning_rate=1e-3" in launching.text
    assert {job["metadata"]["uid"] for job in cluster.jobs()} == jobs
    code, text = cluster.run("sweep", "--status", "--name=s", f"--folder={tmp_path}")
    assert (code, text.splitlines()[-1]) == (LaunchCode.DONE, "s: 2 done")


def test_a_trial_whose_time_is_over_is_tried_again(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    command = [part for part in arguments(cluster, tmp_path, "--grid=seed=1") if part != GRID]
    code, text = cluster.run(*command, "--set=job.activeDeadlineSeconds=2")
    assert code == LaunchCode.TRAINING, text
    assert "trial 1 failed (124): timed out: s-1 was ended" in text
    (trial,) = kept(tmp_path)
    assert (trial["state"], trial["exit_code"], trial["job"]) == ("failed", 124, "")
    first = {job["metadata"]["uid"] for job in cluster.jobs()}
    cluster.plane.request("DELETE", f"{cluster.path}/pods?gracePeriodSeconds=0")  # No kubelet would.
    until(60, "the end of its pods", lambda: not cluster.pods())
    again = Launching(*command, "--retry_failed", kubeconfig=cluster.plane.kubeconfig)
    again.says("trial 1 begins: --seed=1")
    until(60, "another job", lambda: {job["metadata"]["uid"] for job in cluster.jobs()} - first)
    finish(cluster, "s-1", 0, RESULT)
    assert again.ends() == LaunchCode.DONE
    assert "trial 1 is done: val_accuracy 0.9800" in again.text


def test_a_trial_that_is_not_admitted_waits_for_another_to_end(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    grid = "--grid=learning_rate=1e-2,1e-3,1e-4"
    more = ("--parallel=2", grid)
    command = [part for part in arguments(cluster, tmp_path, *more) if part != GRID]
    launching = Launching(*command, kubeconfig=cluster.plane.kubeconfig)
    until(60, "two jobs", lambda: len(cluster.jobs()) == 2)
    until(60, "pods of both", lambda: _two(cluster, "s-1") and _two(cluster, "s-2"))
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "2"}}}
    cluster.plane.create(f"{cluster.path}/resourcequotas", quota)

    def used() -> str:
        return str(cluster.plane.get(f"{cluster.path}/resourcequotas/small").get("status", {}).get("used"))

    until(30, "the quota", lambda: "'4'" in used())
    finish(cluster, "s-1", 0, RESULT)
    launching.says("trial 3 waits until another has ended: FAIL ")
    assert "small" in launching.text.partition("trial 3 waits")[2]  # The quota's own check, or that of admission.
    finish(cluster, "s-2", 0, RESULT)
    finish(cluster, "s-3", 0, RESULT)
    assert launching.ends() == LaunchCode.DONE
    assert "s: 3 done" in launching.text
