"""A release of the chart on a real cluster, as the tests act on it and see it: through helm, kubectl and its proxy."""

import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any, TypeVar

from tests.e2e import api_server
from tests.support.paths import CHART
from tests.support.waiting import until
from trainer.core.log_lines import Progress

NAME = "mnist-train"
ACCURACY = 0.977

FLAGS = {"threads": 1, "checkpoint_every": 2, "log_every": 0.5}
"""Of every run whose weights are compared; the rest is as the chart and the program have it."""
VALUES = (
    *("--values", str(CHART / "values-cpu.yaml")),
    *("--set", ",".join(f"train.{name}={value}" for name, value in FLAGS.items())),
)

T = TypeVar("T")
Json = dict[str, Any]


def run(*command: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command, with its output in the error when it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)[:300]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@dataclasses.dataclass(frozen=True)
class Release:
    """The release NAME in a namespace."""

    namespace: str

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        return run("kubectl", "--namespace", self.namespace, *arguments, text=text, check=check).stdout

    def get(self, *arguments: str) -> Json:
        value: Json = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return value

    def listed(self, resource: str, selector: str = "", group: str = "/api/v1") -> list[Json]:
        """As `get`, for what is asked again and again."""
        path = f"{group}/namespaces/{self.namespace}/{resource}"
        items: list[Json] = json.loads(api_server.answer(path, labelSelector=selector))["items"]
        return items

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("helm", "--namespace", self.namespace, *arguments, check=check)

    def install(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`helm upgrade --install` with this run's image; `arguments` are more of it."""
        repository, _, tag = os.environ["IMAGE"].rpartition(":")
        image = ("--set", f"image.repository={repository},image.tag={tag}")
        return self.helm("upgrade", "--install", NAME, str(CHART), *image, *arguments, check=check)

    def job(self) -> Json:
        """The one Job of the release."""
        (job,) = self.listed("jobs", f"app.kubernetes.io/instance={NAME}", group="/apis/batch/v1")
        return job

    def uid(self) -> str:
        """Of the one Job; an old one may still be on its way out."""

        def only() -> str | None:
            jobs = self.get("jobs")["items"]
            return str(jobs[0]["metadata"]["uid"]) if len(jobs) == 1 else None

        return until(120, "one Job", only)

    def pods(self, index: int | None = None) -> list[Json]:
        """The pods of the Job, oldest first; of one worker, or of all."""
        selector = f"batch.kubernetes.io/job-name={self.job()['metadata']['name']}"
        if index is not None:
            selector += f",batch.kubernetes.io/job-completion-index={index}"
        pods = self.listed("pods", selector)
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def pod(self, index: int) -> Json:
        """The pod of a worker that runs, or did last."""
        return until(120, f"a pod of worker {index}", lambda: self.pods(index))[-1]

    def condition(self) -> tuple[str, str, str] | None:
        """How the Job ended: type, reason and message of its condition; None: it goes on."""
        for condition in self.job()["status"].get("conditions", ()):
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                return condition["type"], condition.get("reason", ""), condition.get("message", "")
        return None

    def ended(self, seconds: float) -> tuple[str, str, str]:
        """Waits for the Job's end."""
        try:
            return until(seconds, "the job's end", self.condition)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def end_jobs(self) -> None:
        """By force: a container that does not catch SIGTERM yet ignores it for all of its grace period."""
        pods = "--selector=batch.kubernetes.io/job-name"
        self.kubectl("delete", "jobs", "--all")
        self.kubectl("delete", "pods", pods, "--force", "--grace-period=0", check=False)
        until(60, "the end of the jobs' pods", lambda: not self.get("pods", pods)["items"])

    def message(self, index: int = 0) -> Json:
        """The newest termination message of a worker."""
        for pod in reversed(self.pods(index)):
            for status in pod["status"].get("containerStatuses", ()):
                if text := status["state"].get("terminated", {}).get("message"):
                    value: Json = json.loads(text)
                    return value
        raise AssertionError(f"worker {index} left no termination message\n{self.story()}")

    def progress(self, index: int, lines: int = 20) -> list[Progress]:
        """The newest progress of a worker's newest pod."""
        return [seen for _, seen in self.timed_progress(self.pod(index)["metadata"]["name"], lines)]

    def timed_progress(self, pod: str, lines: int = -1) -> list[tuple[float, Progress]]:
        """Progress with the Unix time at which each line was written."""
        tail = {} if lines < 0 else {"tailLines": str(lines)}
        with contextlib.suppress(AssertionError):  # Its container has not begun.
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
            return list(_timed(api_server.answer(path, timestamps="true", **tail)))
        return []

    def at_step(self, step: int, seconds: float = 180, index: int = 0, attempt: int = 1) -> Progress:
        """Waits until an attempt has passed `step` and a checkpoint lies above step 0."""

        def passed() -> Progress | None:
            assert self.condition() is None, f"the job ended early: {self.condition()}\n{self.story()}"
            seen = self.progress(index)
            if not seen or seen[-1].step < step or seen[-1].attempt < attempt:
                return None
            return seen[-1] if index or seen[-1].saved else None

        try:
            return until(seconds, f"step {step}", passed)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def story(self) -> str:
        """What a person would look at when it went wrong."""
        listed = self.kubectl("get", "pods", "--output", "wide", check=False)
        logs = [
            f"--- {name}\n" + self.kubectl("logs", name, "--tail=25", check=False)
            for name in self.kubectl("get", "pods", "--output", "name", check=False).split()
        ]
        return "\n".join([listed, *logs])


@contextlib.contextmanager
def namespace() -> Iterator[Release]:
    """A release-to-be in a namespace of its own that enforces Pod Security "restricted"."""
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    run("kubectl", "create", "namespace", name)
    run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    release = Release(name)
    # A controller makes it, and the API server takes no pod before.
    until(60, "the default service account", lambda: release.kubectl("get", "serviceaccount", "default", check=False))
    yield release
    # At once and by force: what a test has left is of no interest, and the next one needs the cores.
    release.kubectl("delete", "jobs,deployments,pods", "--all", "--force", "--grace-period=0", check=False)
    run("kubectl", "delete", "namespace", name, "--wait=false")
    until(120, f"the end of the pods in {name}", lambda: not release.listed("pods"))


def idle_pod(name: str, *arguments: str, node: str = "", requests: dict[str, str] | None = None) -> Json:
    """A pod of this run's image that does nothing, or what `arguments` say, on a node if one is named."""
    container = {
        "name": "image",
        "image": os.environ["IMAGE"],
        "args": list(arguments or ("sleep", "infinity")),
        "resources": {"requests": requests or {}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
        "securityContext": security,
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _timed(text: str) -> Iterator[tuple[float, Progress]]:
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        if seen := Progress.parse(rest):
            whole, _, fraction = stamp.rstrip("Z").partition(".")
            moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
            yield moment.timestamp() + float(f"0.{fraction or 0}"), seen
