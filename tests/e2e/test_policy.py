"""What the Job makes of each exit code, row by row of the failure table; and GPUs that are not there."""

import copy
import json

import pytest
import yaml

from tests.e2e.release import NAME, Json, Release, run
from tests.support.waiting import until
from trainer.core.exit_codes import TABLE, ExitCode, PodEnd, rule

pytestmark = pytest.mark.e2e

CRASH = 3  # Any code that no row names.
CODES = sorted(CRASH if row.code is None else int(row.code) for row in TABLE)


def test_exit_codes(release: Release) -> None:
    """The rendered Job with a worker that only exits: with the row's code once, then with 0."""
    release.install("--set", "workers=1,worker.gpus=0,job.backoffLimit=0")
    release.kubectl("delete", "job", "--all", "--force", "--grace-period=0")
    text = release.helm("get", "manifest", NAME).stdout
    rendered = next(value for value in yaml.safe_load_all(text) if value and value["kind"] == "Job")
    for code in CODES:
        release.kubectl("apply", "--filename", "-", text=json.dumps(_exits(rendered, code)))

    def outcomes() -> dict[int, str] | None:
        found = {code: seen for code in CODES if (seen := _outcome(release, code))}
        return found if len(found) == len(CODES) else None

    outcome = until(120, "the end of all jobs", outcomes)
    expected = {
        PodEnd.COMPLETES: "SuccessPolicy",
        PodEnd.FAILS: "PodFailurePolicy",
        PodEnd.IGNORED: "replaced",
        PodEnd.COUNTED: "BackoffLimitExceeded",
    }
    assert outcome == {code: expected[rule(code).pod_end] for code in CODES}


@pytest.mark.usefixtures("own_cluster")  # Its nodes may be made to offer what they do not have.
def test_gpus_that_tensorflow_does_not_see(release: Release) -> None:
    """A node offers GPUs, the image has TensorFlow for CPUs: exit 69, not a run on CPUs, and no retry."""
    nodes = json.loads(run("kubectl", "get", "nodes", "--output", "json").stdout)["items"]
    names = [node["metadata"]["name"] for node in nodes]
    _gpus(names, add=True)
    try:
        release.install("--set", "worker.resources.requests.cpu=100m")
        kind, reason, message = release.ended(300)
        pods = release.pods()
    finally:
        _gpus(names, add=False)
    assert (kind, reason) == ("Failed", "PodFailurePolicy"), message
    # Those that had not ended yet are gone with the Job's failure, or have been told to go.
    indexes = [pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for pod in pods]
    assert len(indexes) == len(set(indexes)), f"there were retries: {indexes}"
    states = [status["state"] for pod in pods for status in pod["status"].get("containerStatuses", ())]
    ended = [state["terminated"] for state in states if "terminated" in state]
    codes = {state["exitCode"] for state in ended}
    assert ExitCode.ACCELERATOR in codes, ended
    assert codes <= {ExitCode.ACCELERATOR, ExitCode.TERMINATED}, ended
    said = " ".join(str(state.get("message")) for state in ended)
    assert "asked for 1 GPU" in said, said
    assert "sees 0" in said, said


def _exits(rendered: Json, code: int) -> Json:
    job = copy.deepcopy(rendered)
    job["metadata"] = {"name": f"exit-{code}"}
    spec = job["spec"]["template"]["spec"]
    spec["subdomain"] = ""
    (container,) = spec["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del container[probe]
    container["command"], container["args"] = ["/bin/sh", "-c", f"exit {code}"], []
    return job


def _outcome(release: Release, code: int) -> str | None:
    status = release.get("job", f"exit-{code}")["status"]
    for condition in status.get("conditions", ()):
        if condition["type"] in ("Failed", "SuccessCriteriaMet") and condition["status"] == "True":
            return str(condition["reason"])
    pods = release.get("pods", "--selector", f"batch.kubernetes.io/job-name=exit-{code}")["items"]
    return "replaced" if len(pods) > 1 and not status.get("failed") else None


def _gpus(nodes: list[str], *, add: bool) -> None:
    patch = [
        {"op": "add", "path": f"/status/{where}/nvidia.com~1gpu", "value": "2"}
        if add
        else {"op": "remove", "path": f"/status/{where}/nvidia.com~1gpu"}
        for where in ("capacity", "allocatable")
    ]
    for node in nodes:
        run("kubectl", "patch", "node", node, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")
