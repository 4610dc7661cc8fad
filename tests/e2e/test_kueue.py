"""Kueue itself decides when a job runs: the launcher says so, and a job that it stopped goes on where it was."""

import json
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Claim
from tests.e2e.kueue import kueue
from tests.e2e.launching import Launching, launched
from tests.e2e.release import FLAGS, VALUES, Json, Release, run
from tests.support.paths import CHART
from tests.support.waiting import until
from trainer.launch.codes import LaunchCode

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

STEP = 250  # When it is stopped, in the first epoch.

# Room for two workers of values-cpu.yaml. The scheduler itself is to preempt nothing.
CLUSTER = """
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: training}, value: 1, preemptionPolicy: Never}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: urgent}, value: 2, preemptionPolicy: Never}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: linux}
spec:
  nodeLabels: {kubernetes.io/os: linux}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: all}
spec:
  namespaceSelector: {}
  preemption: {withinClusterQueue: LowerPriority}
  resourceGroups:
    - coveredResources: [cpu, memory]
      flavors:
        - name: linux
          resources:
            - {name: cpu, nominalQuota: 1}
            - {name: memory, nominalQuota: 3000Mi}
"""
QUEUE = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: training}
spec: {clusterQueue: all}
"""
URGENT = """
apiVersion: batch/v1
kind: Job
metadata: {name: urgent, labels: {kueue.x-k8s.io/queue-name: training}}
spec:
  template:
    spec:
      restartPolicy: Never
      priorityClassName: urgent
      containers:
        - name: urgent
          image: IMAGE
          command: ["true"]
          resources: {requests: {cpu: 1, memory: 100Mi}}
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
            runAsNonRoot: true
            seccompProfile: {type: RuntimeDefault}
"""


# Racks, and a queue whose quota leaves it to them what fits.
RACKS = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: Topology
metadata: {name: racks}
spec:
  levels: [{nodeLabel: cloud.provider.com/topology-rack}]
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: racked}
spec:
  nodeLabels: {kubernetes.io/os: linux}
  topologyName: racks
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: racked}
spec:
  namespaceSelector: {}
  resourceGroups:
    - coveredResources: [cpu, memory]
      flavors:
        - name: racked
          resources:
            - {name: cpu, nominalQuota: 100}
            - {name: memory, nominalQuota: 1000Gi}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: training}
spec: {clusterQueue: racked}
"""
RACK = "cloud.provider.com/topology-rack"


@pytest.fixture(scope="module", autouse=True)
def cluster_queue(own_cluster: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kueue, with a quota for one job that a more urgent one may take."""
    assert own_cluster.is_dir()  # Its API server reaches what runs here.
    with kueue(tmp_path_factory.mktemp("kueue")):
        run("kubectl", "apply", "--filename", "-", text=CLUSTER)
        yield
    run("kubectl", "delete", "priorityclass", "training", "urgent")


@pytest.fixture
def team(release: Release) -> Iterator[Release]:
    """A namespace that has the queue `training`."""
    release.kubectl("apply", "--filename", "-", text=QUEUE)
    yield release
    Launching.end_all()


def test_a_queue_is_looked_for(team: Release) -> None:
    code, text = launched("doctor", *submission(team))
    assert code == LaunchCode.DONE, text
    assert "ok    queue: LocalQueue training" in text
    code, text = launched("doctor", *submission(team, "--set=job.queue=nowhere"))
    assert code == LaunchCode.NOT_STARTED
    assert f"FAIL  queue: there is no LocalQueue nowhere in {team.namespace}" in text


def test_an_upgrade_that_changes_nothing_leaves_an_admitted_job(team: Release) -> None:
    values = (*VALUES, "--values", f"{CHART}/values-kueue.yaml")
    team.install(*values)
    before = until(30, "admission", lambda: admitted(team))
    selector = before["spec"]["template"]["spec"]["nodeSelector"]
    assert selector == {"kubernetes.io/os": "linux"}
    team.install(*values)
    after = admitted(team)
    assert after
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_job_waits_for_quota_and_goes_on_after_preemption(
    team: Release, claim: Claim, short: int, short_weights: str
) -> None:
    flags = (*(f"--{name}={value}" for name, value in FLAGS.items()), f"--epochs={short}")
    first = Launching(*submission(team, "--output=pvc:runs", "--set=tensorboard.enabled=false"), trainer=flags)
    until(60, "the first job's admission", lambda: admitted(team))

    second = Launching(*submission(team, "--name=second", "--pending_timeout=6"))
    words = "Kueue has not admitted the job to queue training: couldn't assign flavors to pod set main: insufficient"
    assert second.when(words) - second.when("submitted ") < 5.0, second.text
    assert second.ends() == LaunchCode.NOT_STARTED
    assert "never started: no worker of second ran within --pending_timeout=6 s" in second.text
    assert len(team.get("jobs")["items"]) == 1

    team.at_step(STEP)
    before = {pod["metadata"]["uid"] for pod in team.pods()}
    team.kubectl("apply", "--filename", "-", text=URGENT.replace("IMAGE", os.environ["IMAGE"]))
    first.says("Kueue has stopped the job: Preempted to accommodate a workload")
    assert first.ends() == LaunchCode.DONE, first.text
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in team.pods())
    attempts = [json.loads(line) for line in claim.read("*/attempts.jsonl").splitlines()]
    assert attempts[-1]["attempt"] == 2
    assert attempts[-1]["step_from"] > 0
    assert json.loads(claim.read("*/result.json"))["weights_sha256"] == short_weights


@pytest.fixture
def racks(release: Release) -> Iterator[Release]:
    """A namespace that has the queue `training` on nodes of two racks."""
    for node in ("node1", "node2"):
        run("kubectl", "label", "node", node, f"{RACK}=rack-of-{node}")
    release.kubectl("apply", "--filename", "-", text=RACKS)
    yield release
    Launching.end_all()
    run("kubectl", "label", "nodes", "--all", f"{RACK}-")


def test_all_workers_in_one_rack_or_none(racks: Release) -> None:
    (cpus,) = {int(node["status"]["allocatable"]["cpu"]) for node in racks.get("nodes")["items"]}

    def asks(share: int, *more: str) -> list[str]:
        return submission(racks, f"--set=worker.resources.requests.cpu={cpus * share}m", *more)

    def topology(annotation: str) -> str:
        return f"--set=worker.podAnnotations.kueue\\.x-k8s\\.io/{annotation}={RACK}"

    # Two workers of 0.4 of a node fit one rack; the scheduler by itself gives each worker the emptier node.
    code, text = launched(*asks(400, "--set=job.queue=", "--detach"))
    assert code == LaunchCode.DONE, text
    until(60, "two nodes", lambda: placed(racks) == {"node1", "node2"})
    racks.end_jobs()

    launching = Launching(*asks(400, topology("podset-required-topology")), trainer=("--epochs=1",))
    launching.says("progress worker=0/2")
    pods = racks.pods()
    assert len(pods) == 2
    (node,) = placed(racks)
    assert [pod["spec"]["nodeSelector"][RACK] for pod in pods] == [f"rack-of-{node}"] * 2
    assert launching.ends() == LaunchCode.DONE, launching.text
    racks.end_jobs()

    # Two of 0.6 fit no rack, and do fit the cluster.
    required = topology("podset-required-topology")
    waiting = Launching(*asks(600, required, "--pending_timeout=8"), trainer=("--epochs=1",))
    waiting.says("Kueue has not admitted the job to queue training: ")
    assert waiting.ends() == LaunchCode.NOT_STARTED
    assert "topology" in waiting.text
    preferred = Launching(*asks(600, topology("podset-preferred-topology")), trainer=("--epochs=1",))
    assert preferred.ends() == LaunchCode.DONE, preferred.text


def placed(release: Release) -> set[str]:
    """The nodes that workers have."""
    pods = release.get("pods", "--selector=trainer/role=worker")["items"]
    return {pod["spec"]["nodeName"] for pod in pods if "nodeName" in pod["spec"]}


def admitted(release: Release) -> Json | None:
    """The job, once it may run."""
    return next((job for job in release.get("jobs")["items"] if not job["spec"]["suspend"]), None)


def submission(release: Release, *more: str) -> list[str]:
    where = (f"--namespace={release.namespace}", f"--chart={CHART}", f"--image={os.environ['IMAGE']}")
    values = (f"--values={CHART}/values-cpu.yaml", f"--values={CHART}/values-kueue.yaml")
    return [*where, *values, "--workers=2", "--gpus_per_worker=0", *more]
