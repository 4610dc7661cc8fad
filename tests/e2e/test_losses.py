"""Whatever a worker is lost to, the job ends by itself with the weights of a run that lost nothing."""

import json
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e import node_processes
from tests.e2e.conftest import Claim
from tests.e2e.release import NAME, VALUES, Json, Release, run
from tests.support.paths import TESTS
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

CLUSTER = str(TESTS / "cluster" / "cluster")
STEP = 250  # When the loss comes, in the first epoch.
END = 400  # Seconds until a job that lost something has ended; on a busy machine.
APART = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "DoNotSchedule",
    "nodeTaintsPolicy": "Honor",
    "labelSelector": {"matchLabels": {"trainer/role": "worker"}},
}
"""The two workers are on two nodes while there are two; a node that is drained is none."""
CGROUP_V2 = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()

HOG = """
import os, subprocess, sys, time
hogs = []
while os.path.exists("/proc/PID"):
    hogs.append(subprocess.Popen([sys.executable, "-c", "import time; kept = b'x' * 100_000_000; time.sleep(60)"]))
    time.sleep(0.05)
for hog in hogs:
    hog.kill()
"""
"""Takes memory in pieces smaller than a training process, so that the kernel prefers that one, until it is gone."""


def delete(release: Release, pod: Json) -> None:
    release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")


def delete_by_force(release: Release, pod: Json) -> None:
    release.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0", "--wait=false")


def evict(release: Release, pod: Json) -> None:
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{release.namespace}/pods/{name}/eviction"
    run("kubectl", "create", "--raw", path, "--filename", "-", text=json.dumps(eviction))


@pytest.fixture
def training(release: Release, claim: Claim, short: int) -> Release:
    """Two workers in mid-training, each on a node of its own, the run directory on a claim."""
    apart = f"worker.topologySpreadConstraints={json.dumps([APART])}"
    release.install(*VALUES, "--set", f"train.epochs={short},{claim.values}", "--set-json", apart)
    release.at_step(STEP)
    return release


@pytest.fixture
def both_nodes(own_cluster: pathlib.Path) -> Iterator[None]:
    """Puts the nodes back as they were."""
    yield
    for node in ("node1", "node2"):
        if not (own_cluster / "run" / f"kubelet{node[-1]}.pid").exists():
            run(CLUSTER, "node", node)
        run("kubectl", "wait", "--for=condition=Ready", f"node/{node}", "--timeout=90s")


def resumed(release: Release, claim: Claim, weights: str) -> list[Json]:
    """Waits for the end, checks that it is the right one, and returns the attempts."""
    assert release.ended(END)[0] == "Complete", release.story()
    result = release.message()
    attempts = [json.loads(line) for line in claim.read("*/attempts.jsonl").splitlines()]
    assert result["weights_sha256"] == weights
    assert result["restarts"] >= 1
    assert all(attempt["step_from"] > 0 for attempt in attempts if attempt["attempt"] > 1), attempts
    for attempt in attempts:
        for worker in attempt["workers"]:
            log = claim.read(f"*/workers/{worker}/attempt-{attempt['attempt']}.log")
            assert f"agent {worker}: attempt {attempt['attempt']} begins" in log
    return attempts


def untouched(release: Release, uids: dict[int, str], *indexes: int, attempt: int = 2) -> None:
    """While a later attempt trains: at the Job's end Kubernetes deletes the pods of workers that are not done yet."""
    release.at_step(STEP, END, attempt=attempt)
    for index in indexes:
        seen = [pod["metadata"]["uid"] for pod in release.pods(index)]
        assert seen == [uids[index]], f"worker {index} has other pods than before\n{release.story()}"


def not_counted(release: Release) -> None:
    """The Job has counted no failure of a pod."""
    assert not release.job()["status"].get("failed"), release.story()


def uids(release: Release) -> dict[int, str]:
    return {index: release.pod(index)["metadata"]["uid"] for index in (0, 1)}


@pytest.mark.parametrize(("lose", "index"), [(delete, 1), (delete_by_force, 0), (delete_by_force, 1), (evict, 0)])
def test_a_lost_pod(
    training: Release,
    claim: Claim,
    short_weights: str,
    lose: Callable[[Release, Json], None],
    index: int,
    record_property: Callable[[str, object], None],
) -> None:
    before = uids(training)
    began = time.time()
    lose(training, training.pod(index))
    other = 1 - index
    untouched(training, before, other)
    if lose is evict:
        not_counted(training)
    name = training.pod(other)["metadata"]["name"]
    steps = until(30, "its steps", lambda: [at for at, seen in training.timed_progress(name) if seen.attempt > 1])
    record_property("seconds to the next step", round(steps[0] - began, 1))
    resumed(training, claim, short_weights)


@pytest.mark.usefixtures("own_cluster")  # Its pods' processes are this machine's.
@pytest.mark.parametrize("index", [0, 1], ids=["chief", "worker"])
def test_kill_9_of_training_and_then_of_the_agent(
    training: Release, claim: Claim, short_weights: str, index: int
) -> None:
    """The container dies with the agent, as it does from an out-of-memory kill on cgroup v2."""
    before = uids(training)
    os.kill(node_processes.training(training.pod(index)), signal.SIGKILL)
    untouched(training, before, 0, 1)
    os.kill(node_processes.agent(training.pod(index)), signal.SIGKILL)
    untouched(training, before, 1 - index, attempt=3)
    assert resumed(training, claim, short_weights)[-1]["attempt"] >= 3


@pytest.mark.alone
def test_drain_of_a_node(training: Release, claim: Claim, short_weights: str) -> None:
    before = uids(training)
    node, other = (training.pod(index)["spec"]["nodeName"] for index in (0, 1))
    if node == other and "OWN_CLUSTER" not in os.environ:
        pytest.skip("needs two nodes that workers may run on")
    assert node != other
    # Of the job alone: on a cluster of others, what else runs there is theirs.
    pods = f"--pod-selector=batch.kubernetes.io/job-name={training.job()['metadata']['name']}"
    try:
        run("kubectl", "drain", node, pods, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        untouched(training, before, 1)
        not_counted(training)
        assert training.pod(0)["spec"]["nodeName"] == other
        resumed(training, claim, short_weights)
    finally:
        run("kubectl", "uncordon", node)


@pytest.mark.alone
@pytest.mark.usefixtures("both_nodes")
def test_loss_of_a_node(training: Release, claim: Claim, short_weights: str) -> None:
    """Its machine is gone, and so, as cloud controllers see to, is its Node object."""
    before = uids(training)
    node, other = (training.pod(index)["spec"]["nodeName"] for index in (0, 1))
    assert node != other
    run(CLUSTER, "kill", node)
    run("kubectl", "delete", "node", node)
    untouched(training, before, 1)
    not_counted(training)
    resumed(training, claim, short_weights)


@pytest.mark.usefixtures("own_cluster")  # Its pods' processes are this machine's.
def test_an_out_of_memory_kill_of_training(release: Release, claim: Claim, short: int, short_weights: str) -> None:
    """On cgroup v1 the kernel takes one process, on v2 the kubelet has it take the whole container."""
    release.install(*VALUES, "--set", f"train.epochs={short},worker.resources.limits.memory=2Gi,output=pvc:runs")
    release.at_step(STEP)
    before = uids(release)
    pod = release.pod(1)
    victim = node_processes.training(pod)
    pathlib.Path(f"/proc/{victim}/oom_score_adj").write_text("1000")
    hog = HOG.replace("PID", str(_inside(victim)))
    release.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", hog, check=False)
    until(60, "the kill", lambda: not pathlib.Path(f"/proc/{victim}").exists())
    untouched(release, before, *([0] if CGROUP_V2 else [0, 1]))
    failure = resumed(release, claim, short_weights)[0]["failure"]
    assert failure["worker"] == 1, failure
    assert CGROUP_V2 or failure["signal"] == "SIGKILL", failure  # There the agent is gone, too, and can tell nobody.
    board = f"deploy/{NAME}-tensorboard"  # It reads the claim, and so can a person.
    release.kubectl("rollout", "status", board, "--timeout=120s")
    assert "agent 1: attempt 2 begins" in release.kubectl("exec", board, "--", "sh", "-c", "cat /runs/*/workers/1/*")
    service = f"/api/v1/namespaces/{release.namespace}/services/{NAME}-tensorboard:6006/proxy/data/runs"
    until(60, "the run in TensorBoard", lambda: "/train" in release.kubectl("get", "--raw", service, check=False))
    tested = release.helm("test", NAME, "--timeout", "4m")  # The job is over, and its run is there.
    assert f"TensorBoard shows the scalars of {release.job()['metadata']['name']}" in tested.stderr + tested.stdout


def _inside(pid: int) -> int:
    """The process's id in its container."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
