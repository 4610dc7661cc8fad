"""Data in a bucket that are read while they are trained on, by two pods of which one is lost in mid-epoch."""

import base64
import itertools
import json
import pathlib

import numpy as np
import pytest

from tests.e2e.release import VALUES, Release, run
from tests.e2e.store_pod import PORT, StorePod, store_pod
from tests.support.object_stores import opened
from tests.support.servers import BUCKET
from trainer.core import shipped_code
from trainer.core.tfrecord import record
from trainer.training.data import idx_files

pytestmark = pytest.mark.e2e

STEP = 250  # Of the first epoch's 468.
SHARDS = 5
EXPERIMENT = """
import numpy as np
from trainer import sources
from trainer.mnist import Flags, build_model, preprocess
from trainer.training.data import idx_files


def parse(record):
    return np.frombuffer(record, np.uint8, offset=1).reshape(28, 28), np.uint8(record[0])


def load_data(config):
    _, validation = idx_files.load("")
    return sources.TFRecords(config.data_dir, parse), validation
"""


def upload(store: StorePod, folder: str) -> None:
    """The training images of MNIST as shards; the store's pod can be reached from here, where its node is."""
    pod = json.loads(run("kubectl", "-n", store.namespace, "get", "pod", "store", "--output", "json").stdout)
    (images, labels), _ = idx_files.load("")
    with opened(f"s3://{BUCKET}/{folder}", f"http://{pod['status']['podIP']}:{PORT}") as there:
        for shard, (begin, end) in enumerate(
            itertools.pairwise(np.linspace(0, len(images), SHARDS + 1).astype(int).tolist())
        ):
            framed = [
                record(bytes([label]) + image.tobytes())
                for image, label in zip(images[begin:end], labels[begin:end].tolist(), strict=True)
            ]
            there.create(f"train-{shard}-of-{SHARDS}.tfrecord", b"".join(framed))


@pytest.mark.usefixtures("own_cluster")
def test_shards_in_a_bucket_are_trained_on_exactly_though_a_pod_is_lost(
    release: Release, short: int, short_weights: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    archive = shipped_code.pack({"mine.py": tmp_path / "mine.py"})
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mine"},
        "binaryData": {shipped_code.ARCHIVE: base64.b64encode(archive).decode()},
    }
    release.kubectl("apply", "--filename", "-", text=json.dumps(code))
    with store_pod("s3") as store:
        upload(store, "mnist")
        literals = (f"--from-literal={name}={value}" for name, value in store.environ.items())
        release.kubectl("create", "secret", "generic", "store", *literals)
        data = f"train.data_dir=s3://{BUCKET}/mnist,train.data_cache=/cache,train.data_cache_gib=1"
        values = f"code=mine,credentials.s3Secret=store,tensorboard.enabled=false,train.epochs={short},{data}"
        release.install(*VALUES, "--set", values, "--set", "train.experiment=mine")
        release.at_step(STEP)
        release.kubectl("delete", "pod", release.pod(1)["metadata"]["name"], "--force", "--grace-period=0",
                        "--wait=false")  # fmt: skip
        assert release.ended(400)[0] == "Complete", release.story()
        result = release.message()
        assert result["weights_sha256"] == short_weights
        assert result["restarts"] >= 1
        assert any(line.data_wait is not None for line in release.progress(0))
        indexes = [key for key in store.objects() if key.endswith(".index")]
        assert len(indexes) == SHARDS
