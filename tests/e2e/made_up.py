"""A namespace of a real control plane whose nodes are made up: the test says what a kubelet would."""

import json
import uuid
from typing import Any

from tests.e2e.launching import Launching, launched
from tests.support.control_plane import ControlPlane
from tests.support.paths import CHART
from tests.support.waiting import until

RESULT = {"workers": 2, "epochs": 5, "steps": 2340, "images_per_second": 1000.0, "restarts": 0, "val_accuracy": 0.98}


class Cluster:
    """A namespace, and what a kubelet would say in it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.namespace = plane, f"l-{uuid.uuid4().hex[:6]}"
        self.path = f"/api/v1/namespaces/{self.namespace}"
        self.jobs_path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        plane.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def arguments(self, *more: str) -> list[str]:
        return [f"--namespace={self.namespace}", *more]

    def submit_arguments(self, *more: str) -> list[str]:
        base = (f"--chart={CHART}", "--workers=2", "--gpus_per_worker=0", "--image=registry.test/mnist-train:1")
        return self.arguments(*base, *more)

    def submit(self, *more: str) -> Launching:
        return Launching(*self.submit_arguments(*more), kubeconfig=self.plane.kubeconfig)

    def run(self, *arguments: str) -> tuple[int, str]:
        return launched(*arguments, kubeconfig=self.plane.kubeconfig)

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.plane.get(self.jobs_path)["items"])

    def pods(self) -> list[dict[str, Any]]:
        return list(self.plane.get(f"{self.path}/pods")["items"])

    def placed(self, count: int = 2) -> list[dict[str, Any]]:
        """Waits until so many pods have a node."""

        def there() -> list[dict[str, Any]] | None:
            pods = [pod for pod in self.pods() if pod["spec"].get("nodeName")]
            return pods if len(pods) >= count else None

        return list(until(30, f"{count} pods on nodes", there))

    def set(self, pod: dict[str, Any], phase: str, state: dict[str, Any]) -> None:
        """Writes a pod's status as its kubelet would."""
        status = {
            "phase": phase,
            "containerStatuses": [
                {"name": "worker", "state": state, "image": "", "imageID": "", "ready": True, "restartCount": 0}
            ],
        }
        self.plane.patch(f"{self.path}/pods/{pod['metadata']['name']}/status", {"status": status})

    def start(self) -> list[dict[str, Any]]:
        """Lets both workers run."""
        pods = self.placed()
        for pod in pods:
            self.set(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        return pods

    def finish(self, pod: dict[str, Any], code: int, message: dict[str, Any]) -> None:
        ended = {
            "exitCode": code,
            "message": json.dumps(message),
            "reason": "Error" if code else "Completed",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:01:00Z",
        }
        self.set(pod, "Failed" if code else "Succeeded", {"terminated": ended})

    def empty(self) -> None:
        """Gives the nodes' room back; no kubelet would."""
        self.plane.request("DELETE", f"{self.jobs_path}?propagationPolicy=Background")
        deployments = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        self.plane.request("DELETE", f"{deployments}?propagationPolicy=Foreground")
        until(60, "the end of TensorBoard", lambda: not self.plane.get(deployments)["items"])
        self.plane.request("DELETE", f"{self.path}/pods?gracePeriodSeconds=0")
        until(60, "the end of its pods", lambda: not self.pods())
