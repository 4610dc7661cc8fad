"""A run whose output is an object store: its chief's pod is lost with its disk, and goes on from the store."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e import api_server
from tests.e2e.release import NAME, VALUES, Json, Release
from tests.e2e.screenshot import screenshot
from tests.e2e.store_pod import StorePod, store_pod
from tests.support.servers import BUCKET, SECRET
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

LASTS = {"s3": 3, "gs": 1}
"""Times the epochs of a short run; long enough on s3 for TensorBoard, which starts with the workers, to show the run in
the middle.
"""
STEP = 250  # Of the first epoch's 468.


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest, own_cluster: Any) -> Iterator[StorePod]:
    """A store of each kind."""
    assert own_cluster.is_dir()
    with store_pod(request.param) as pod:
        yield pod


class Board:
    """The chart's TensorBoard of one run."""

    def __init__(self, release: Release, name: str) -> None:
        self._release, self._name = release, name

    def epochs(self, kind: str) -> list[int]:
        """The epochs that it shows, asked through the API server; none while it does not answer."""
        service = f"/api/v1/namespaces/{self._release.namespace}/services/{NAME}-tensorboard:6006/proxy"
        try:
            scalars = api_server.answer(
                f"{service}/data/plugin/scalars/scalars", tag="epoch_loss", run=f"{self._name}/{kind}"
            )
        except AssertionError:
            return []
        epochs = [step for _, step, _ in json.loads(scalars)]
        assert epochs == list(range(len(epochs))), f"TensorBoard shows the epochs {epochs} of {kind}"
        return epochs

    def picture(self, path: pathlib.Path) -> None:
        """Its page, seen on a node, which is this machine."""
        (pod,) = self._release.get("pods", "--selector", "trainer/role=tensorboard")["items"]
        screenshot(f"http://{pod['status']['podIP']}:6006", path)


def test_a_lost_chief_goes_on_from_the_store(
    release: Release, store: StorePod, locally: Callable[[int], Json], short: int, tmp_path: pathlib.Path
) -> None:
    epochs = LASTS[store.scheme] * short
    weights = locally(epochs)["weights_sha256"]
    release.kubectl(
        "create", "secret", "generic", "store", *(f"--from-literal={k}={v}" for k, v in store.environ.items())
    )
    # TensorFlow's gs:// cannot be pointed at an emulator, so TensorBoard shows only what lies on the S3 server.
    shown = store.scheme == "s3"
    credentials = "credentials.s3Secret=store" if shown else "worker.envFrom[0].secretRef.name=store"
    output = f"output={store.scheme}://{BUCKET}/e2e,{credentials},tensorboard.enabled={str(shown).lower()}"
    release.install(*VALUES, "--set", f"train.epochs={epochs},agent.mirror_interval=1,{output}")
    release.at_step(STEP)
    name = until(120, "a checkpoint in the store", store.run_with_a_checkpoint)
    board = Board(release, name) if shown else None
    before = len(until(180, "TensorBoard", lambda: board.epochs("train"))) if board else 0
    release.kubectl("delete", "pod", release.pod(0)["metadata"]["name"], "--force", "--grace-period=0", "--wait=false")

    on_the_way = before

    def ended() -> tuple[str, str, str] | None:
        nonlocal on_the_way
        so_far = len(board.epochs("train")) if board else 0
        if condition := release.condition():
            return condition
        on_the_way = max(on_the_way, so_far)
        return None

    assert until(400, "the job's end", ended)[0] == "Complete", release.story()
    result = json.loads(store.read(f"e2e/{name}/result.json"))
    assert result["weights_sha256"] == weights
    assert result["restarts"] >= 1, "the job has ended before it lost its chief"
    assert result == release.message()
    last = json.loads(store.read(f"e2e/{name}/attempts.jsonl").splitlines()[-1])
    assert last["step_from"] > 0
    logs = [f"e2e/{name}/workers/{worker}/attempt-{last['attempt']}.log" for worker in (0, 1)]
    assert {*logs, f"e2e/{name}/model.keras"} <= set(store.objects())
    if board:
        assert on_the_way > before, "TensorBoard showed no more epochs between the loss and the end"
        for kind in ("train", "validation"):
            until(120, f"every epoch of {kind}", lambda: len(board.epochs(kind)) == epochs)  # noqa: B023
        board.picture(tmp_path / "tensorboard.png")
        if wanted := os.environ.get("PICTURE"):  # docs/tensorboard.png was made so.
            shutil.copy(tmp_path / "tensorboard.png", wanted)
    kinds = "jobs,pods,services,deployments,networkpolicies,serviceaccounts,configmaps,events"
    told = [release.kubectl("get", kinds, "--output", "json"), release.helm("get", "all", NAME).stdout]
    told += [release.kubectl("logs", pod) for pod in release.kubectl("get", "pods", "--output", "name").split()]
    told += [store.read(key) for key in logs]
    assert SECRET not in "".join(told)
