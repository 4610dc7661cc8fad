import contextlib
import fcntl
import functools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.e2e.launching import Launching
from tests.e2e.made_up import Cluster
from tests.e2e.release import FLAGS, NAME, Json, Release, namespace, run
from tests.e2e.store_pod import PORT, StorePod, store_pod
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.session_folder import session_folder
from trainer.core.config import Config

SHORT_SECONDS = 8.0
"""Of the steps of a short run: a checkpoint takes 2, and what is to see it in the log or the store up to 3 more."""


MADE_UP = re.compile(r"test_launcher_(api|checks|sweep)\.py")
"""Tests that share no node with any other."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types.
    """Two tests of the cluster at a time, and beside them one of made-up nodes.

    pytest-xdist's own `--dist=loadgroup` groups nothing with pytest 9.2, which has another place for an item's name.
    """

    def _split_scope(self, nodeid: str) -> str:
        if MADE_UP.search(nodeid):
            return "made-up nodes"
        half = re.search(r"test_(gang|kueue|launcher|launcher_scale|losses)\.py", nodeid)
        return "nodes" if half else "nodes, too"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def own_cluster() -> pathlib.Path:
    """The folder of the cluster that tests/cluster started: its nodes are this machine's processes."""
    if "OWN_CLUSTER" not in os.environ:
        pytest.skip("needs the nodes of tests/cluster: on another cluster nothing here can reach a node's processes")
    return pathlib.Path(os.environ["CLUSTER_DIR"])


@contextlib.contextmanager
def _nodes(*, alone: bool) -> Iterator[None]:
    """The cluster's nodes, with others or alone. Who asks for them alone comes before who asks later."""
    folder = pathlib.Path(tempfile.gettempdir())
    with (folder / "trainer-e2e-nodes").open("w") as nodes:
        with (folder / "trainer-e2e-turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(nodes, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _is_alone(node: pytest.Item | pytest.Module) -> bool:
    return node.get_closest_marker("alone") is not None


@pytest.fixture(scope="module", autouse=True)
def nodes_of_a_file(request: pytest.FixtureRequest) -> Iterator[bool]:
    """For all of a file where it is marked `alone`, or its tests share a release; whether it is so."""
    tests = [test for test in request.session.items if isinstance(test, pytest.Function) and test.path == request.path]
    shares = any("shared_release" in test.fixturenames for test in tests)
    if alone := _is_alone(request.node):
        assert not MADE_UP.search(request.node.nodeid)
    with _nodes(alone=alone) if alone or shares else contextlib.nullcontext():
        yield alone or shares


@pytest.fixture(autouse=True)
def nodes_of_a_test(request: pytest.FixtureRequest, nodes_of_a_file: bool) -> Iterator[None]:
    """For a test at a time where not."""
    needs_none = nodes_of_a_file or MADE_UP.search(request.node.nodeid)
    with contextlib.nullcontext() if needs_none else _nodes(alone=_is_alone(request.node)):
        yield


@pytest.fixture
def release() -> Iterator[Release]:
    """A release-to-be of this test alone."""
    with namespace() as release:
        yield release


@pytest.fixture(scope="module")
def shared_release() -> Iterator[Release]:
    """A release-to-be that the tests of a file share."""
    with namespace() as release:
        yield release


class Claim:
    """The claim `runs`, as an output, and what lies on it."""

    def __init__(self, release: Release, folder: pathlib.Path | None) -> None:
        self._release, self._folder = release, folder
        # Where no folder of this machine is behind it, TensorBoard's pod reads it.
        self.values = f"output=pvc:runs,tensorboard.enabled={str(folder is None).lower()}"

    def read(self, pattern: str) -> str:
        """The text of the one file that matches."""
        if self._folder:
            (file,) = self._folder.glob(pattern)
            return file.read_text()
        return self._release.kubectl("exec", f"deploy/{NAME}-tensorboard", "--", "sh", "-c", f"cat /runs/{pattern}")


@pytest.fixture
def claim(release: Release) -> Iterator[Claim]:
    """On tests/cluster a folder of this machine, and so of no node that could be lost; elsewhere of $STORAGE_CLASS."""
    if "OWN_CLUSTER" not in os.environ:
        storage = os.environ.get("STORAGE_CLASS")
        if not storage:
            pytest.skip(
                "needs a claim that pods on several nodes can write: STORAGE_CLASS=... names a class with ReadWriteMany"
            )
        release.kubectl("apply", "--filename", "-", text=json.dumps(_claim({"storageClassName": storage})))
        yield Claim(release, None)
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="runs-"))
    folder.chmod(0o777)
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": release.namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": str(folder)},
            "storageClassName": release.namespace,
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
    bound = _claim({"storageClassName": release.namespace, "volumeName": release.namespace})
    for value in (volume, bound):
        release.kubectl("apply", "--filename", "-", text=json.dumps(value))
    yield Claim(release, folder)
    run("kubectl", "delete", "persistentvolume", release.namespace, "--wait=false")
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def _claim(storage: dict[str, str]) -> Json:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, **storage}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "runs"}, "spec": spec}


@pytest.fixture
def reached_store(own_cluster: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorePod]:
    """An S3 server in a pod, which this machine reaches by the pod's address: it is the pod's node."""
    assert own_cluster.is_dir()
    with store_pod("s3") as pod:
        address = Release(pod.namespace).get("pod", "store")["status"]["podIP"]
        for name, value in {**pod.environ, "AWS_ENDPOINT_URL": f"http://{address}:{PORT}"}.items():
            monkeypatch.setenv(name, value)
        yield pod
        Launching.end_all()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, own_cluster: pathlib.Path) -> Iterator[ControlPlane]:
    """A control plane with two nodes that are made up; it needs no cluster, and no root."""
    assert own_cluster.is_dir()  # On another cluster these would test nothing of it, after minutes of building.
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        running.node("node1", cpus=16)
        running.node("node2", cpus=16)
        yield running


@pytest.fixture
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    """A namespace of it."""
    used = Cluster(plane)
    yield used
    Launching.end_all()
    used.empty()


@pytest.fixture(scope="session")
def locally(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Json]:
    """`result.json` of so many epochs trained by two processes of this machine, without Kubernetes; once each."""
    folder = session_folder(tmp_path_factory)

    @functools.cache
    def trained(epochs: int) -> Json:
        run_dir = folder / f"local-{epochs}"
        flags = [f"--run_dir={run_dir}", *(f"--{name}={value}" for name, value in FLAGS.items()), f"--epochs={epochs}"]
        with run_dir.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (run_dir / "result.json").exists():
                run(sys.executable, "-m", "trainer.launch", "--local", "--workers=2", "--", *flags)
        return dict(json.loads((run_dir / "result.json").read_text()))

    return trained


@pytest.fixture(scope="session")
def local_weights(locally: Callable[[int], Json]) -> str:
    """`weights_sha256` of the epochs that the program has by itself."""
    return str(locally(Config.epochs)["weights_sha256"])


@pytest.fixture(scope="session")
def short(locally: Callable[[int], Json]) -> int:
    """Epochs of runs that lose something: long enough to lose it in the middle, however fast the machine."""
    seen = locally(Config.epochs)
    an_epoch: float = seen["steps"] / seen["epochs"] * seen["global_batch_size"] / seen["images_per_second"]
    return max(2, math.ceil(SHORT_SECONDS / an_epoch))


@pytest.fixture(scope="session")
def short_weights(locally: Callable[[int], Json], short: int) -> str:
    """Those of a short run."""
    return str(locally(short)["weights_sha256"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests saw, beside what they assert."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")
