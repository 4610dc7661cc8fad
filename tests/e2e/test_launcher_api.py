"""The launcher on a real control plane whose nodes are made up: what the API server says and does is real."""

import pathlib
import shutil
import time
from typing import Any

import pytest

from tests.e2e.launching import Launching
from tests.e2e.made_up import RESULT, Cluster
from tests.support.control_plane import ControlPlane
from tests.support.waiting import until
from trainer.launch.cluster.labels import release_labels
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e


def chief(pods: list[dict[str, Any]]) -> dict[str, Any]:
    return next(p for p in pods if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0")


def test_an_api_server_restart_is_survived(plane: ControlPlane, cluster: Cluster) -> None:
    launching = cluster.submit()
    pods = cluster.start()
    launching.says("workers: 2 running")
    plane.stop("apiserver")
    launching.says("cannot be reached")
    time.sleep(30)  # For so long it is to be survived.
    plane.start_again("apiserver")
    until(60, "the API server", plane.ready)
    for waiting in ("controller-manager", "scheduler"):  # For up to a minute they would not ask again.
        plane.stop(waiting)
        plane.start_again(waiting)
    launching.says("the API server answers again")
    for pod in pods:
        cluster.finish(pod, 0, RESULT)
    assert launching.ends() == LaunchCode.DONE
    assert "succeeded: mnist-train reached validation accuracy 0.9800" in launching.text
    code, text = cluster.run("status", *cluster.arguments())
    assert (code, text.splitlines()[0][:10]) == (0, "succeeded:")


def test_a_running_release_is_refused_and_followed_and_replaced(cluster: Cluster) -> None:
    code, text = cluster.run(*cluster.submit_arguments("--detach"))
    assert code == LaunchCode.DONE
    assert f"follow it with: python -m trainer.launch attach --name=mnist-train --namespace={cluster.namespace}" in text
    (first,) = cluster.jobs()
    cluster.start()
    code, text = cluster.run(*cluster.submit_arguments())
    assert code == LaunchCode.NOT_STARTED
    assert "mnist-train is still running as the job" in text
    assert cluster.jobs()[0]["metadata"]["uid"] == first["metadata"]["uid"]

    attached = Launching("attach", *cluster.arguments(), kubeconfig=cluster.plane.kubeconfig)
    attached.says("workers: 2 running")
    attached.interrupt()
    assert attached.ends() == LaunchCode.INTERRUPTED
    assert "mnist-train goes on before its first step; only the watching has ended" in attached.text
    assert "come back with:  python -m trainer.launch attach --name=mnist-train" in attached.text

    code, text = cluster.run(*cluster.submit_arguments("--replace", "--detach"))
    assert code == LaunchCode.DONE, text
    until(30, "the end of the old job", lambda: len(cluster.jobs()) == 1)
    assert cluster.jobs()[0]["metadata"]["uid"] != first["metadata"]["uid"]
    code, text = cluster.run("list", *cluster.arguments())
    assert (code, "active" in text) == (0, True)


def test_a_job_that_somebody_deletes(cluster: Cluster) -> None:
    launching = cluster.submit()
    cluster.start()
    launching.says("workers: 2 running")
    (job,) = cluster.jobs()
    cluster.plane.request("DELETE", f"{cluster.jobs_path}/{job['metadata']['name']}?propagationPolicy=Background")
    assert launching.ends(60) == LaunchCode.FAILED
    assert "deleted: somebody removed the job" in launching.text


def test_watching_has_its_time(cluster: Cluster) -> None:
    launching = cluster.submit("--timeout=10")
    cluster.start()
    assert launching.ends(60) == LaunchCode.TIMEOUT
    assert "timed out: mnist-train has not ended within --timeout=10 s, it goes on" in launching.text
    assert "end it with:     python -m trainer.launch delete --name=mnist-train" in launching.text
    assert len(cluster.jobs()) == 1


def test_a_failed_worker_is_the_verdict_in_json_too(cluster: Cluster) -> None:
    launching = cluster.submit("--json")
    pods = cluster.start()
    why = "worker 0 ended with 64 (flags) at step 0: error: no"
    cluster.finish(chief(pods), 64, {"worker": 0, "exit_code": 64, "reason": why, "errors": ["error: no"]})
    assert launching.ends(60) == LaunchCode.TRAINING
    *_, verdict = launching.lines()
    assert verdict["event"] == "verdict"
    assert verdict["exit_code"] == LaunchCode.TRAINING
    assert verdict["first_cause"]["errors"] == ["error: no"]
    (job,) = cluster.jobs()
    assert (verdict["goes_on"], verdict["job"]) == (False, job["metadata"]["name"])
    checks = [line["check"]["what"] for line in launching.lines() if "check" in line]
    assert {"helm", "nodes", "pods"} <= {*checks}
    assert [line["job"] for line in launching.lines() if "job" in line] == [job["metadata"]["name"]] * 2


def test_an_install_that_fails_leaves_nothing(cluster: Cluster) -> None:
    service = {"metadata": {"name": "mnist-train"}, "spec": {"ports": [{"port": 1}]}}
    cluster.plane.create(f"{cluster.path}/services", service)
    code, text = cluster.run(*cluster.submit_arguments())
    assert code == LaunchCode.FAILED
    assert "helm upgrade failed" in text
    assert cluster.jobs() == []
    assert [s["metadata"]["name"] for s in cluster.plane.get(f"{cluster.path}/services")["items"]] == ["mnist-train"]
    assert cluster.plane.get(f"{cluster.path}/secrets")["items"] == []


@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_delete_leaves_nothing(cluster: Cluster, helm: str) -> None:
    code, text = cluster.run(*cluster.submit_arguments("--detach", f"--helm={helm}"))
    assert code == LaunchCode.DONE, text
    for pod in cluster.placed():  # No kubelet would end them.
        cluster.finish(pod, 0, RESULT)
    code, text = cluster.run("delete", *cluster.arguments(f"--helm={helm}"))
    assert (code, text) == (0, f"mnist-train is gone from namespace {cluster.namespace}")
    for path in ("pods", "services", "secrets"):
        assert cluster.plane.get(f"{cluster.path}/{path}")["items"] == []
    assert cluster.jobs() == []
    assert cluster.run("delete", *cluster.arguments())[0] == LaunchCode.FAILED


@pytest.mark.parametrize("known", [True, False])
def test_delete_finds_what_helm_does_not_know(cluster: Cluster, known: bool) -> None:
    assert cluster.run(*cluster.submit_arguments("--detach"))[0] == LaunchCode.DONE
    for placed in cluster.placed():
        cluster.finish(placed, 0, RESULT)
    nowhere = {"kubernetes.io/hostname": "nowhere"}  # So that no kubelet has to end it.
    failed_test = {
        "metadata": {"name": "mnist-train-test", "labels": release_labels("mnist-train")},
        "spec": {"containers": [{"name": "test", "image": "x"}], "nodeSelector": nowhere},
    }
    cluster.plane.create(f"{cluster.path}/pods", failed_test)
    if not known:
        for secret in cluster.plane.get(f"{cluster.path}/secrets")["items"]:
            cluster.plane.request("DELETE", f"{cluster.path}/secrets/{secret['metadata']['name']}")
    code, text = cluster.run("delete", *cluster.arguments())
    assert (code, text) == (0, f"mnist-train is gone from namespace {cluster.namespace}")
    for path in ("pods", "services"):
        assert cluster.plane.get(f"{cluster.path}/{path}")["items"] == []
    assert cluster.jobs() == []


def test_an_upgrade_that_fails_leaves_what_was_there(cluster: Cluster) -> None:
    assert cluster.run(*cluster.submit_arguments("--detach"))[0] == LaunchCode.DONE
    (job,) = cluster.jobs()
    quota = {"metadata": {"name": "one"}, "spec": {"hard": {"count/jobs.batch": "1"}}}
    path = f"{cluster.path}/resourcequotas"
    cluster.plane.create(path, quota)
    until(30, "the quota", lambda: cluster.plane.get(f"{path}/one").get("status", {}).get("used"))
    code, text = cluster.run(*cluster.submit_arguments("--replace", "--force", "--output=pvc:nothing"))
    assert code == LaunchCode.FAILED, text
    assert "FAIL  quota: one leaves 0 of 1 count/jobs.batch, 1 is asked for" in text
    assert "helm upgrade failed" in text
    assert [one["metadata"]["uid"] for one in cluster.jobs()] == [job["metadata"]["uid"]]
    deployments = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments"  # TensorBoard's, made before the Job.
    until(30, "the end of TensorBoard", lambda: not cluster.plane.get(deployments)["items"])


def test_ctrl_c_lets_helm_finish(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    helm, begun, go = tmp_path / "helm", tmp_path / "begun", tmp_path / "go"
    slow = f"if [ $1 = upgrade ]; then touch {begun}; until [ -e {go} ]; do sleep 0.1; done; fi"
    helm.write_text(f'#!/bin/sh\n{slow}\nexec {shutil.which("helm")} "$@"\n')
    helm.chmod(0o755)
    launching = cluster.submit(f"--helm={helm}")
    until(30, "helm upgrade", begun.exists)
    launching.interrupt()
    launching.says("interrupted; waiting for helm to finish")
    assert cluster.jobs() == []
    go.touch()
    assert launching.ends(60) == LaunchCode.INTERRUPTED
    (job,) = cluster.jobs()
    assert f"submitted {job['metadata']['name']}; come back with `python -m trainer.launch attach" in launching.text
    assert cluster.run("attach", *cluster.arguments("--pending_timeout=1"))[0] == LaunchCode.NOT_STARTED


def test_a_release_whose_job_is_gone(cluster: Cluster) -> None:
    assert cluster.run(*cluster.submit_arguments("--detach"))[0] == LaunchCode.DONE
    (job,) = cluster.jobs()
    cluster.plane.request("DELETE", f"{cluster.jobs_path}/{job['metadata']['name']}?propagationPolicy=Background")
    until(30, "the end of the job", lambda: not cluster.jobs())
    code, text = cluster.run("status", *cluster.arguments())
    assert code == LaunchCode.FAILED
    assert f"the job {job['metadata']['name']} of mnist-train is gone, and it had no output" in text
    code, text = cluster.run("logs", *cluster.arguments("--name=other"))
    assert code == LaunchCode.NOT_STARTED
    assert "there is no run other" in text
