"""Kueue itself decides when a job runs: the launcher says so, and a job that it stopped goes on where it was."""

import json
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e.kueue import kueue
from tests.e2e.launching import CHART, Launching, launched
from tests.e2e.release import FLAGS, Release, run, until
from trainer.launch_codes import LaunchCode

pytestmark = pytest.mark.e2e

STEP = 250  # Of 1404, when it is stopped.
QUOTA = {"cpu": "1", "memory": "3000Mi"}  # What two workers of values-cpu.yaml ask for.
KUEUE = "kueue.x-k8s.io/v1beta2"


@pytest.fixture(scope="module", autouse=True)
def cluster_queue(own_cluster: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kueue, with room for one job of two workers, which a more urgent one may take."""
    assert own_cluster.is_dir()  # Its API server reaches what runs here.
    quota = [{"name": name, "nominalQuota": amount} for name, amount in QUOTA.items()]
    group = {"coveredResources": list(QUOTA), "flavors": [{"name": "default", "resources": quota}]}
    preemption = {"withinClusterQueue": "LowerPriority"}
    queue = {"namespaceSelector": {}, "resourceGroups": [group], "preemption": preemption}
    # The scheduler itself is to preempt nothing.
    classes = [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": "Never",
        }
        for name, value in (("training", 1), ("urgent", 2))
    ]
    with kueue(tmp_path_factory.mktemp("kueue")):
        apply(
            *classes,
            {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "default"}},
            {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": "all"}, "spec": queue},
        )
        yield
    run("kubectl", "delete", "priorityclass", "training", "urgent")


@pytest.fixture
def team(release: Release) -> Iterator[Release]:
    """A namespace that has the queue `training`."""
    spec = {"clusterQueue": "all"}
    metadata = {"name": "training", "namespace": release.namespace}
    apply({"apiVersion": KUEUE, "kind": "LocalQueue", "metadata": metadata, "spec": spec})
    yield release
    Launching.end_all()


def test_a_queue_is_looked_for(team: Release) -> None:
    code, text = launched("doctor", *submission(team))
    assert code == LaunchCode.DONE, text
    assert "ok    queue: LocalQueue training" in text
    code, text = launched("doctor", *submission(team, "--set=job.queue=nowhere"))
    assert code == LaunchCode.NOT_STARTED
    assert f"FAIL  queue: there is no LocalQueue nowhere in {team.namespace}" in text


def test_a_job_waits_for_quota_and_goes_on_after_preemption(
    team: Release, claim: pathlib.Path, short_weights: str
) -> None:
    flags = (*(f"--{name}={value}" for name, value in FLAGS.items()), "--epochs=3")
    first = Launching(*submission(team, "--output=pvc:runs", "--set=tensorboard.enabled=false"), trainer=flags)
    until(60, "the first job's admission", lambda: team.get("jobs")["items"] and not team.job()["spec"].get("suspend"))

    second = Launching(*submission(team, "--name=second", "--pending_timeout=6"))
    words = "Kueue has not admitted the job to queue training: couldn't assign flavors to pod set main: insufficient"
    assert second.when(words) - second.when("submitted ") < 5.0, second.text
    assert second.ends() == LaunchCode.NOT_STARTED
    assert "never started: no worker of second ran within --pending_timeout=6 s" in second.text
    assert len(team.get("jobs")["items"]) == 1

    team.at_step(STEP)
    before = {pod["metadata"]["uid"] for pod in team.pods()}
    apply(urgent(team))
    first.says("Kueue has stopped the job: Preempted to accommodate a workload")
    assert first.ends() == LaunchCode.DONE, first.text
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in team.pods())
    (file,) = claim.glob("*/attempts.jsonl")
    attempts = [json.loads(line) for line in file.read_text().splitlines()]
    assert attempts[-1]["attempt"] == 2
    assert attempts[-1]["step_from"] > 0
    (result,) = claim.glob("*/result.json")
    assert json.loads(result.read_text())["weights_sha256"] == short_weights


def submission(release: Release, *more: str) -> list[str]:
    where = (f"--namespace={release.namespace}", f"--chart={CHART}", f"--image={os.environ['IMAGE']}")
    values = (f"--values={CHART}/values-cpu.yaml", f"--values={CHART}/values-kueue.yaml")
    return [*where, *values, "--workers=2", "--gpus_per_worker=0", *more]


def urgent(release: Release) -> dict[str, object]:
    """A job that takes all of the quota for a moment."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "urgent",
        "image": os.environ["IMAGE"],
        "command": ["true"],
        "resources": {"requests": {"cpu": QUOTA["cpu"], "memory": "100Mi"}},
        "securityContext": security,
    }
    pod = {"restartPolicy": "Never", "priorityClassName": "urgent", "containers": [container]}
    labels = {"kueue.x-k8s.io/queue-name": "training"}
    metadata = {"name": "urgent", "namespace": release.namespace, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": pod}}}


def apply(*objects: dict[str, object]) -> None:
    run("kubectl", "apply", "--filename", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
