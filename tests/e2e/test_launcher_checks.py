"""What the launcher finds before it makes anything, and why workers do not run, on a real control plane."""

import pathlib
from typing import Any

import pytest

from tests.e2e.launching import Launching, launched
from tests.e2e.made_up import Cluster
from tests.support.control_plane import ControlPlane
from tests.support.paths import CHART
from tests.support.waiting import until
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e


def test_pods_that_no_quota_allows_and_the_time_for_them(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "1500m"}}}
    cluster.plane.create(f"{cluster.path}/resourcequotas", quota)
    until(30, "the quota", lambda: cluster.plane.get(f"{cluster.path}/resourcequotas/small")["status"].get("hard"))
    code, text = cluster.run(*cluster.submit_arguments())
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  quota: small leaves 1.5 of 1500m requests.cpu, 2 is asked for" in text
    assert cluster.jobs() == []
    larger = "--set=worker.resources.requests.cpu=2"
    launching = cluster.submit("--force", larger, "--pending_timeout=5")
    soon(launching, "the namespace's quota does not allow the pods")
    assert launching.ends() == LaunchCode.NOT_STARTED
    assert "removing mnist-train, which never started" in launching.text
    assert cluster.jobs() == []


def test_code_goes_to_the_cluster_and_with_its_job(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.py").write_text("def load_data(config): ...\ndef build_model(config): ...\n")
    code = (f"--code={tmp_path}", "--set=job.gang=false", "--detach", "--", "--experiment=mine")
    maps = f"{cluster.path}/configmaps"

    def sent() -> list[dict[str, Any]]:
        return [item for item in cluster.plane.get(maps)["items"] if "-code-" in item["metadata"]["name"]]

    for replace in ((), ("--replace",)):  # The same code once more: its ConfigMap outlives the first Job.
        exit_code, text = cluster.run(*cluster.submit_arguments("--pending_timeout=5", *replace, *code))
        assert exit_code == LaunchCode.DONE, text
        assert "ok    code: mine can be imported" in text
        assert "ok    rights: to make, watch and remove all of it" in text
        (job,) = until(30, "the one Job", lambda: [jobs] if len(jobs := cluster.jobs()) == 1 else None)[0]
        (config_map,) = sent()
        owners = [owner["uid"] for owner in config_map["metadata"]["ownerReferences"]]
        assert owners == [job["metadata"]["uid"]]
        assert config_map["immutable"] is True
        volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
        assert volumes["sent"]["configMap"]["name"] == config_map["metadata"]["name"]
    # Without the launcher, too, it goes with the Job.
    cluster.plane.request("DELETE", f"{cluster.jobs_path}?propagationPolicy=Background")
    until(60, "the end of the code", lambda: not sent())


def test_a_gang_that_the_cluster_would_drop_in_silence(cluster: Cluster) -> None:
    code, text = cluster.run("doctor", *cluster.submit_arguments("--set=job.gang=true"))
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  gang: job.gang is true, and this cluster does not schedule a Job's pods together" in text


def test_what_preflight_finds(plane: ControlPlane, cluster: Cluster) -> None:
    code, text = cluster.run("doctor", *cluster.submit_arguments())
    assert code == LaunchCode.DONE, text
    assert "ok    rights: to make, watch and remove all of it" in text
    assert "ok    nodes: all 2 worker(s) fit now on 2 node(s)" in text

    code, text = cluster.run("doctor", *cluster.submit_arguments("--workers=100", "--image=x:latest"))
    assert code == LaunchCode.NOT_STARTED
    assert "at most 10 of 100 worker(s) ever fit on 2 node(s)" in text
    assert "FAIL  image: x:latest" in text

    code, text = cluster.run("doctor", f"--chart={CHART}", f"--namespace={cluster.namespace}")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  GPUs: each worker asks for 1, and none of the 2 node(s) has any" in text

    code, text = cluster.run("doctor", f"--chart={CHART}", "--namespace=nowhere")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  namespace: nowhere does not exist" in text
    assert "kubectl create namespace nowhere" in text

    code, text = cluster.run("doctor", *cluster.submit_arguments("--output=pvc:runs", "--set=job.queue=team"))
    assert code == LaunchCode.NOT_STARTED
    assert f"FAIL  output: there is no claim runs in {cluster.namespace}" in text
    assert "FAIL  queue: job.queue is team, and this cluster has no Kueue" in text

    code, text = launched("doctor", *cluster.submit_arguments(), kubeconfig=plane.kubeconfig_of("nobody"))
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  rights: this user may not: get, create, patch, delete, list, watch jobs.batch; " in text
    assert "note  nodes: this user may not list nodes and pods" in text
    assert "note  pods: whether the namespace admits them is not known" in text


def test_gpus_are_found_out_and_said(plane: ControlPlane, cluster: Cluster) -> None:
    plane.node("gpu1", cpus=64, memory="64Gi", gpus=5)
    try:
        arguments = [argument for argument in cluster.submit_arguments() if not argument.startswith("--gpus")]
        code, text = cluster.run(*arguments, "--detach")
    finally:
        plane.request("DELETE", "/api/v1/nodes/gpu1")
    assert code == LaunchCode.DONE, text
    assert "ok    GPUs: 2 for each worker, found out from the nodes" in text
    assert "ok    GPUs: 5 of 5 are free, 4 are asked for" in text
    (job,) = cluster.jobs()
    assert container(job)["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "--expect_gpus=2" in container(job)["args"]


def test_claims(plane: ControlPlane, cluster: Cluster) -> None:
    claims = {"runs": cluster.namespace, "lost": "no-such-class"}
    waiting = {"provisioner": "test/none", "volumeBindingMode": "WaitForFirstConsumer"}
    plane.create("/apis/storage.k8s.io/v1/storageclasses", {"metadata": {"name": cluster.namespace}, **waiting})
    for name, storage in claims.items():
        wanted = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        claim = {"metadata": {"name": name}, "spec": {**wanted, "storageClassName": storage}}
        plane.create(f"{cluster.path}/persistentvolumeclaims", claim)
    code, text = cluster.run("doctor", *cluster.submit_arguments("--output=pvc:runs"))
    assert code == LaunchCode.DONE, text
    assert f"{cluster.namespace} makes the volume when the first worker has its node" in text
    code, text = cluster.run("doctor", *cluster.submit_arguments("--output=pvc:lost"))
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  storage class: claim lost has no volume, and its storage class no-such-class does not exist" in text
    launching = cluster.submit("--force", "--output=pvc:lost")
    soon(launching, "unbound immediate PersistentVolumeClaims")


def test_a_namespace_that_admits_no_such_pods(plane: ControlPlane, cluster: Cluster) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    plane.patch(f"/api/v1/namespaces/{cluster.namespace}", {"metadata": {"labels": labels}})
    code, text = cluster.run("doctor", *cluster.submit_arguments())
    assert code == LaunchCode.DONE, text
    assert "ok    pods: the namespace admits them (Pod Security" in text
    changed = cluster.submit_arguments("--set=podSecurityContext.runAsNonRoot=null")
    code, text = cluster.run("doctor", *changed)
    assert code == LaunchCode.NOT_STARTED
    assert 'FAIL  pods: the namespace does not admit them: violates PodSecurity "restricted:latest"' in text
    launching = Launching(*changed, "--force", kubeconfig=plane.kubeconfig)
    soon(launching, "the namespace's Pod Security does not allow the pods")


def test_a_limit_range_and_a_priority_that_is_not_there(plane: ControlPlane, cluster: Cluster) -> None:
    code, text = cluster.run("doctor", *cluster.submit_arguments("--set=worker.priorityClassName=urgent"))
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  pods: the namespace does not admit them: no PriorityClass with name urgent was found" in text
    limits = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Pod", "max": {"memory": "1Gi"}}]}}
    plane.create(f"{cluster.path}/limitranges", limits)
    code, text = cluster.run("doctor", *cluster.submit_arguments("--set=worker.resources.limits.memory=4Gi"))
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  pods: the namespace does not admit them: maximum memory usage per Pod is 1Gi" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set=worker.resources.requests.cpu=1000",), "Insufficient cpu"),
        (("--output=pvc:nothing",), 'persistentvolumeclaim "nothing" not found'),
    ],
)
def test_pods_that_wait_say_why(cluster: Cluster, arguments: tuple[str, ...], words: str) -> None:
    soon(cluster.submit("--force", *arguments), words)


def soon(launching: Launching, words: str) -> None:
    """It gives the reason within 5 s of submitting."""
    submitted = launching.when("submitted ")
    assert launching.when(words) - submitted < 5.0, launching.text


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)
