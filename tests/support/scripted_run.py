"""A run as a scripted API server tells it, for launchers that watch one."""

import dataclasses
import threading
from typing import Any

from tests.support.api_server import Handler, Query
from trainer.core.log_lines import Progress

NAME = "big-1a2b3c4d"  # The name of its Job; the release is called big.
DEADLINE = 60.0


def job(workers: int, status: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "metadata": {
            "name": NAME,
            "uid": "j",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"app.kubernetes.io/instance": "big"},
        },
        "spec": {"completions": workers},
        "status": status or {},
    }


def pod(index: int) -> dict[str, Any]:
    running = {"name": "worker", "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}}}
    return {
        "metadata": {
            "name": f"{NAME}-{index}-abcde",
            "uid": f"p{index}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"batch.kubernetes.io/job-completion-index": str(index)},
            "annotations": {"filler": "x" * 4000},  # So that it is about as large as a real pod.
        },
        "spec": {"nodeName": f"node{index % 50}"},
        "status": {"phase": "Running", "containerStatuses": [running], "conditions": []},
    }


@dataclasses.dataclass
class ScriptedRun:
    """The answers of an API server that knows one run."""

    workers: int
    change: dict[str, Any] | None = None  # What a watch of pods tells: a pod as it has become.
    others: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)  # Pods that do more than run.
    status: dict[str, Any] | None = None  # The status of the Job; None: it goes on.
    refusal: str = ""  # The message with which a watch of pods is refused; "": it is not.
    requests: list[str] = dataclasses.field(default_factory=list)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    def answer(self, server: Handler, query: Query) -> None:
        path = server.path.split("?")[0]
        self.requests.append(server.path)
        if path.endswith("/log"):
            worker = int(path.split("/")[-2].split("-")[-2])
            line = Progress(  # No two workers are at one step, so that it can be seen whose is shown.
                worker=worker, workers=self.workers, attempt=1, epoch=1, epochs=5, step=7 + worker, steps=1000,
                loss=1.0, accuracy=0.5, images_per_second=1.0,
            )  # fmt: skip
            server.begin()
            server.send(f"2026-01-01T00:00:20.000000001Z {line.format()}\n".encode())
            if "follow" in query and not self.status:
                self._wait(server)
            else:
                server.end()
        elif "watch" in query and path.endswith("/pods") and self.refusal:
            server.refuse(401, self.refusal)
        elif "watch" in query:
            server.begin()
            if path.endswith("/pods") and self.change:
                server.send_event("MODIFIED", self.change)
            self._wait(server)
        else:
            pods = [self.others.get(index) or pod(index) for index in range(self.workers)]
            by_name = {item["metadata"]["name"]: item for item in pods}
            last = path.rsplit("/", 1)[1]
            items = {"jobs": [job(self.workers, self.status)], "pods": pods}.get(last, [])
            server.reply(by_name.get(last, {"metadata": {"resourceVersion": "1"}, "items": items}))

    def _wait(self, server: Handler) -> None:
        self.done.wait(DEADLINE)
        server.end()
