"""A run of any number of workers as a scripted API server tells of it, for launchers that watch it."""

import dataclasses
import threading
from typing import Any

from tests.support.api_objects import job, pod
from tests.support.api_server import Handler, Query
from trainer.core.log_lines import Progress

DEADLINE = 60.0


@dataclasses.dataclass
class ScriptedRun:
    """The API server's answers: every worker runs and has said one line, but for what is given."""

    workers: int
    change: dict[str, Any] | None = None  # A pod as it is a moment later.
    others: dict[int, dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )  # Pods that do not simply run, by index.
    status: dict[str, Any] | None = None  # The Job's, where it has ended.
    refusal: str = ""  # What a watch of pods is answered with, as 401.
    requests: list[str] = dataclasses.field(default_factory=list)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)  # Set: open watches end.

    def answer(self, server: Handler, query: Query) -> None:
        path = server.path.split("?")[0]
        self.requests.append(server.path)
        if path.endswith("/log"):
            worker = int(path.split("/")[-2].split("-")[-2])
            line = Progress(  # No two workers are at one step, so that it can be seen whose is shown.
                worker=worker, workers=self.workers, attempt=1, epoch=1, epochs=5, step=7 + worker, steps=1000,
                metrics={"loss": 1.0, "accuracy": 0.5}, examples_per_second=1.0,
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
            by_name = {entry["metadata"]["name"]: entry for entry in pods}
            last = path.rsplit("/", 1)[1]
            items = {"jobs": [job(self.workers, self.status)], "pods": pods}.get(last, [])
            server.reply(by_name.get(last, {"metadata": {"resourceVersion": "1"}, "items": items}))

    def _wait(self, server: Handler) -> None:
        self.done.wait(DEADLINE)
        server.end()
