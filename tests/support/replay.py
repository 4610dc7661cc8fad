"""What a cluster once told while a run went on (`tests/recorded`, written by `tools/recorded_runs.py`), told again."""

from collections.abc import Callable
from typing import Any

from trainer.launch.cluster.watches import Changed, Gone, Listed, LogEnd, LogLine, News

Tell = Callable[[News], None]


class Replay:
    """Tells a record in its order, as soon as the watches are asked for; stands in for the cluster that told it."""

    namespace = "recorded"

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.changes = [line for line in lines if line["kind"] != "log"]
        self.logs = [line for line in lines if line["kind"] == "log"]
        self.job = next(line["object"]["metadata"]["name"] for line in self.changes if line["kind"] == "job")
        self.followed: list[str] = []

    def watch(self, kind: str, path: str, tell: Tell, **query: str) -> None:  # noqa: ARG002
        if kind != "event":  # The last that is asked for begins it.
            return
        tell(Listed("pod", ()))
        for line in self.changes:
            change = {"DELETED": Gone}.get(line["type"], Changed)
            if line["kind"] != "job" or line["object"]["metadata"]["name"] == self.job:
                tell(change(line["kind"], line["object"]))

    def follow(self, pod: str, uid: str, tell: Tell) -> None:
        self.followed.append(pod)
        for line in self.logs:
            if line["uid"] == uid:
                stamp, _, text = line["line"].partition(" ")
                tell(LogLine(uid, stamp, text))
        tell(LogEnd(uid))

    def close(self) -> None:
        """Nothing is open."""
