"""Five losses of worker 1's pod in a row, each of which the Job controller answers twice as late as the one before.

Exact: nothing but that wait and a start is added. Elastic: steps go on all the while.
"""

import datetime
import itertools
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Claim
from tests.e2e.release import VALUES, Json, Release
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

WAITS = (11, 21, 41, 81, 161)  # Seconds that the Job controller takes: its back-off, and a second to see the loss.
LEAVING = 15  # Seconds that a worker may take to save and leave before that, with what a busy machine adds.
BETWEEN = 200  # Steps from the replacement's first to the next loss.
START = 25  # Seconds that a pod's start may add to the controller's wait: import, rendezvous, restore, first step.
STANDSTILL = 30  # Seconds without a step in which an elastic attempt may be handed over to the next.


def lose(release: Release) -> tuple[float, str]:
    """Deletes worker 1's pod; returns when, and its UID."""
    pod = release.pod(1)["metadata"]
    moment = time.time()
    release.kubectl("delete", "pod", pod["name"], "--wait=false")
    return moment, pod["uid"]


def replacement(release: Release, lost: str) -> float:
    """When the pod was made that took the place of the one with this UID."""
    pod = until(400, "a replacement", lambda: _other(release, lost))
    created = str(pod["metadata"]["creationTimestamp"]).rstrip("Z")
    return datetime.datetime.fromisoformat(created).replace(tzinfo=datetime.UTC).timestamp()


def _other(release: Release, lost: str) -> Json | None:
    pods = release.pods(1)  # A pod that was deleted is soon not among them.
    return pods[-1] if pods and pods[-1]["metadata"]["uid"] != lost else None


def test_exact(
    release: Release, claim: Claim, local_weights: str, record_property: Callable[[str, object], None]
) -> None:
    release.install(*VALUES, "--set", claim.values)
    release.at_step(BETWEEN)
    for lost, wait in enumerate(WAITS, 1):
        gone, uid = lose(release)
        made = replacement(release, uid)
        name = release.pod(0)["metadata"]["name"]

        def stepped(name: str = name, gone: float = gone, lost: int = lost) -> float | None:
            after = [when for when, seen in release.timed_progress(name, 50) if when > gone and seen.attempt > lost]
            return min(after, default=None)

        first = until(200, "the next step", stepped)
        record_property(f"loss {lost}", f"replaced after {made - gone:.0f} s, next step after {first - gone:.0f} s")
        assert made - gone <= wait + LEAVING
        assert first - made <= START
        if lost < len(WAITS):
            release.at_step(BETWEEN * (lost + 1))
    assert release.ended(300)[0] == "Complete", release.story()
    assert release.message()["weights_sha256"] == local_weights


def test_elastic(release: Release, record_property: Callable[[str, object], None]) -> None:
    release.install(*VALUES, "--set", "worker.minWorkers=1,agent.elastic_wait=2,train.epochs=5000")
    release.at_step(BETWEEN)
    began = time.time()
    for lost, wait in enumerate(WAITS, 1):
        gone, uid = lose(release)
        made = replacement(release, uid)
        record_property(f"loss {lost}", f"replaced after {made - gone:.0f} s")
        assert made - gone <= wait + LEAVING
        until(120, "both workers", lambda: [seen.workers for seen in release.progress(0)][-1:] == [2])
    log = release.timed_progress(release.pod(0)["metadata"]["name"])
    moments = [when for when, _ in log if when > began]
    longest = max(after - before for before, after in itertools.pairwise(moments))
    record_property("longest time without a step", f"{longest:.0f} s of {moments[-1] - began:.0f} s")
    assert longest <= STANDSTILL
