"""A release of 0.1.0 is upgraded, and a run that 0.1.0 has left in a bucket goes on in it."""

import json
import os
import pathlib
import sys

import pytest

from tests.e2e.release import FLAGS, NAME, Release, run
from tests.e2e.store_pod import PORT, StorePod, store_pod
from tests.support.object_stores import opened
from tests.support.paths import TESTS
from tests.support.servers import BUCKET

pytestmark = pytest.mark.e2e

CHART = TESTS / "chart" / "written_by_0_1_0" / "mnist-train-0.1.0.tgz"
LEFT = TESTS / "output" / "written_by_0_1_0" / "two_workers"
STEP, STEPS, EPOCHS = 560, 1404, 3


def leave(store: StorePod, run_name: str) -> None:
    """Puts the run into the bucket; the store's pod can be reached from here, where its node is."""
    pod = json.loads(run("kubectl", "-n", store.namespace, "get", "pod", "store", "--output", "json").stdout)
    with opened(f"s3://{BUCKET}/e2e/{run_name}", f"http://{pod['status']['podIP']}:{PORT}") as there:
        for path in LEFT.rglob("*"):
            if path.is_file():
                there.create(path.relative_to(LEFT).as_posix(), path.read_bytes())


def resumed_here(folder: pathlib.Path) -> str:
    """The weights that the run ends with on this machine."""
    flags = {**FLAGS, "epochs": EPOCHS, "hidden_units": 2, "dropout": 0, "resume_from": LEFT, "run_dir": folder}
    given = [f"--{name}={value}" for name, value in flags.items()]
    run(sys.executable, "-m", "trainer.launch", "--local", "--workers=2", "--", *given)
    return str(json.loads((folder / "result.json").read_text())["weights_sha256"])


@pytest.mark.usefixtures("own_cluster")
def test_a_release_is_upgraded_and_its_run_goes_on(release: Release, tmp_path: pathlib.Path) -> None:
    repository, _, tag = os.environ["IMAGE"].rpartition(":")
    flags = ",".join(f"train.{name}={value}" for name, value in FLAGS.items())
    with store_pod("s3") as store:
        leave(store, "left")
        literals = (f"--from-literal={name}={value}" for name, value in store.environ.items())
        release.kubectl("create", "secret", "generic", "store", *literals)
        # As somebody has installed it; its pods find no node, since no image of 0.1.0 is here.
        release.helm(
            "install", NAME, str(CHART), "--set", f"image.repository={repository},image.tag={tag}",
            "--set", f"workers=2,worker.gpus=0,{flags},train.epochs={EPOCHS},train.hidden_units=2,train.dropout=0",
            "--set", f"output=s3://{BUCKET}/e2e,credentials.s3Secret=store,tensorboard.enabled=false",
            "--set", "worker.resources.requests.cpu=500m,worker.nodeSelector.nowhere=here",
        )  # fmt: skip
        first = release.uid()

        refused = release.install("--reset-then-reuse-values", check=False)
        assert refused.returncode
        assert "additional properties" in refused.stderr
        assert "'hidden_units'" in refused.stderr
        assert release.uid() == first, "what is refused changes nothing"

        release.install(
            "--reset-then-reuse-values",
            "--set", "train.hidden_units=null,train.dropout=null,experiment.hidden_units=2,experiment.dropout=0",
            "--set", f"train.resume_from=s3://{BUCKET}/e2e/left,worker.nodeSelector.nowhere=null",
        )  # fmt: skip
        assert release.ended(400)[0] == "Complete", release.story()
        assert release.uid() != first
        log = release.kubectl("logs", release.pod(0)["metadata"]["name"])
        assert f"resuming at step {STEP} of {STEPS}" in log
        result = release.message()
        assert result["weights_sha256"] == resumed_here(tmp_path / "here")
        # The new run stands beside the old one, which is as it was.
        runs = {key.split("/")[1] for key in store.objects() if key.endswith("/mirror.json")}
        assert len(runs) == 2
        assert "left" in runs
        assert store.read("e2e/left/mirror.json") == (LEFT / "mirror.json").read_text()
