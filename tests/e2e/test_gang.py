"""Where Kubernetes schedules the pods of a Job together: all workers get their nodes, or none does."""

import json
import os
import pathlib
import time
from collections.abc import Iterator

import pytest

from tests.e2e.launching import Launching, launched, submission
from tests.e2e.release import FLAGS, Json, Release, idle_pod, run
from tests.support.paths import TESTS
from tests.support.waiting import until
from trainer.launch.codes import LaunchCode

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

CLUSTER = str(TESTS / "cluster" / "cluster")
STEP = 250  # When a worker is taken away, in the first epoch.
WATCHED_SECONDS = 8.0  # A node is given to a pod within one.


@pytest.fixture(scope="module", autouse=True)
def gates(own_cluster: pathlib.Path) -> Iterator[None]:
    """A control plane with the feature gates that this needs, and which are off by default."""
    assert own_cluster.is_dir()  # Its control plane is this machine's processes.
    run(CLUSTER, "gang", "on")
    yield
    made = ("kubectl", "get", "podgroups,workloads.scheduling.k8s.io", "--all-namespaces", "--output", "name")
    until(120, "the end of all groups, which nothing knows without the gates", lambda: not run(*made).stdout)
    run(CLUSTER, "gang", os.environ.get("GANG", "off"))


@pytest.fixture(autouse=True)
def no_launcher_left() -> Iterator[None]:
    yield
    Launching.end_all()


def test_a_gang_trains_and_a_lost_worker_is_replaced(release: Release, short: int, short_weights: str) -> None:
    launching = Launching(*together(release), trainer=(*flags(), f"--epochs={short}"))
    launching.says("ok    gang: all workers get their nodes together, or none does")
    launching.says("submitted mnist-train-")
    release.at_step(STEP)
    policy = {"gang": {"minCount": 2}}
    assert release.job()["spec"]["scheduling"]["schedulingPolicy"] == policy
    (group,) = release.get("podgroups")["items"]
    assert group["spec"]["schedulingPolicy"] == policy
    assert {pod["spec"]["schedulingGroup"]["podGroupName"] for pod in release.pods()} == {group["metadata"]["name"]}

    lost = release.pod(1)["metadata"]["name"]
    release.kubectl("delete", "pod", lost, "--wait=false")
    launching.says("attempt=2 state=training")
    assert release.pod(1)["metadata"]["name"] != lost
    assert launching.ends() == LaunchCode.DONE, launching.text
    assert release.message()["weights_sha256"] == short_weights


def test_no_worker_takes_a_node_while_another_has_none(release: Release) -> None:
    (cpus,) = {node["status"]["allocatable"]["cpu"] for node in release.get("nodes")["items"]}
    # A worker needs more than half a node, and on one of the two there is less left.
    ask = f"--set=worker.resources.requests.cpu={int(int(cpus) * 600)}m"
    filler = idle_pod("filler", node="node1", requests={"cpu": f"{int(int(cpus) * 500)}m"})
    release.kubectl("apply", "--filename", "-", text=json.dumps(filler))
    release.kubectl("wait", "--for=condition=PodScheduled", "pod/filler", "--timeout=60s")

    code, text = launched(*submission(release, "--workers=2", ask, "--name=alone", "--detach"))
    assert code == LaunchCode.DONE, text
    until(30, "one worker of a job without a gang on a node", lambda: len(placed(release)) == 1)
    release.end_jobs()

    launching = Launching(*together(release, ask), trainer=(*flags(), "--epochs=1"))
    launching.says("it gets a node when the others do (job.gang): minCount (2) cannot be satisfied: 1 scheduled")
    launching.says("no node can take it: 0/2 nodes are available: ")
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end:
        assert placed(release) == []
        time.sleep(0.5)
    assert len(workers(release)) == 2

    release.kubectl("delete", "pod", "filler")
    until(30, "a node for each worker", lambda: sorted(placed(release)) == ["node1", "node2"])
    assert launching.ends() == LaunchCode.DONE, launching.text


def flags() -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in FLAGS.items())


def together(release: Release, *more: str) -> list[str]:
    return submission(release, "--workers=2", "--set=job.gang=true", *more)


def workers(release: Release) -> list[Json]:
    pods: list[Json] = release.get("pods", "--selector=trainer/role=worker")["items"]
    return pods


def placed(release: Release) -> list[str]:
    """The nodes that workers have."""
    return [pod["spec"]["nodeName"] for pod in workers(release) if "nodeName" in pod["spec"]]
