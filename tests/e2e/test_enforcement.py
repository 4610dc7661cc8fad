"""The NetworkPolicy on a network that enforces it, and `helm test` on one that does not."""

import json
import pathlib
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.release import NAME, VALUES, Release, idle_pod, namespace, run
from tests.support.paths import TESTS
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.ipv6]

CLUSTER = str(TESTS / "cluster" / "cluster")
PORTS = (2222, 8080, 6006)
# Prints those of the ports given that the address given opens.
CONNECT = """import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=2).close()
        print(port)
    except OSError:
        pass
"""
MONITORING = {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]}


@pytest.fixture(scope="module")
def training(shared_release: Release, own_cluster: pathlib.Path) -> Release:
    """A run that goes on for longer than these tests, and TensorBoard beside its chief."""
    assert own_cluster.is_dir()  # Elsewhere nobody knows whether policies are enforced.
    policy = ("--set-json", f"networkPolicy={json.dumps(MONITORING)}")
    shared_release.install(*VALUES, *policy, "--set", "train.epochs=400")
    shared_release.at_step(1)
    return shared_release


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Release]:
    """A namespace that has nothing to do with the run."""
    with namespace() as other:
        yield other


def test_a_network_that_enforces_policies_and_one_that_does_not(training: Release, elsewhere: Release) -> None:
    """One test, and alone: what enforces is the whole cluster's."""
    who_reaches_what(training, elsewhere)
    helm_test_sees_that_it_is_enforced(training)
    helm_test_fails_where_it_is_not_enforced(training)


def who_reaches_what(training: Release, elsewhere: Release) -> None:
    chief = training.pod(0)["status"]["podIP"]
    training.kubectl("apply", "--filename", "-", text=json.dumps(idle_pod("foreign")))
    elsewhere.kubectl("apply", "--filename", "-", text=json.dumps(idle_pod("stranger")))
    for release, name in ((training, "foreign"), (elsewhere, "stranger")):
        release.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    worker = training.pod(1)["metadata"]["name"]

    def seen() -> dict[str, set[int]]:
        return {
            "worker": _reached(training, worker, chief),
            "foreign": _reached(training, "foreign", chief),
            "stranger": _reached(elsewhere, "stranger", chief),
        }

    nobody_else = {"worker": set(PORTS), "foreign": {6006}, "stranger": set()}
    _until_it_is(nobody_else, seen)
    run("kubectl", "label", "namespace", elsewhere.namespace, "team=monitoring")
    _until_it_is(nobody_else | {"stranger": {8080}}, seen)


def helm_test_sees_that_it_is_enforced(training: Release) -> None:
    tested = training.helm("test", NAME, "--timeout", "4m")
    assert "this pod, which is no worker, does not reach the workers' 2222" in tested.stdout + tested.stderr


def helm_test_fails_where_it_is_not_enforced(training: Release) -> None:
    run(CLUSTER, "firewall", "off")
    try:
        tested = training.helm("test", NAME, "--timeout", "4m", check=False)
    finally:
        run(CLUSTER, "firewall", "on")
    said = tested.stdout + tested.stderr
    assert tested.returncode, said
    job = training.job()["metadata"]["name"]
    assert f"this pod is no worker, and reaches {job}-0.{NAME}:2222, {job}-1.{NAME}:2222: this cluster does not" in said
    assert "any pod that connects to a worker reads its environment, credentials and files" in said


def _until_it_is(expected: dict[str, set[int]], seen: Callable[[], dict[str, set[int]]]) -> None:
    """A pod that is new, or a label, is known to the network after a moment."""
    found: list[dict[str, set[int]]] = []

    def right() -> bool:
        found.append(seen())
        return found[-1] == expected

    try:
        until(60, "the ports that each reaches", right)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found[-1]}, and not {expected}") from None


def _reached(release: Release, pod: str, address: str) -> set[int]:
    command = ("exec", pod, "--", "python", "-c", CONNECT, address, *map(str, PORTS))
    return {int(port) for port in release.kubectl(*command).split()}
