"""A sweep of two trials on the cluster, with a bucket: what it leaves, and what `list`, `show` and `--status` say."""

import json

import pytest

from tests.e2e.launching import launched, submission
from tests.e2e.release import Release
from tests.e2e.store_pod import StorePod
from tests.support.servers import BUCKET
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e

OUTPUT = f"s3://{BUCKET}/sweep"


def test_a_sweep_of_two_trials(release: Release, reached_store: StorePod) -> None:
    secret = (f"--from-literal={name}={value}" for name, value in reached_store.environ.items())
    release.kubectl("create", "secret", "generic", "store", *secret)
    ours = ["--name=lr", f"--output={OUTPUT}"]
    credentials = "--set=credentials.s3Secret=store"
    grid = "--grid=learning_rate=1e-3,1e-5"
    sweep = ["sweep", *ours, grid, "--parallel=1", "--metric=val_accuracy", *submission(release, credentials)]
    code, text = launched(*sweep, trainer=("--epochs=1", "--threads=1"))
    assert code == LaunchCode.DONE, text
    assert "best: trial 1 (lr-1-" in text
    assert release.get("jobs")["items"] == []  # What it was is in the bucket.

    code, text = launched("list", f"--output={OUTPUT}", "--sort=val_accuracy", "--json")
    runs = [json.loads(line) for line in text.splitlines()]
    assert code == LaunchCode.DONE
    assert [run["flags"]["learning_rate"] for run in runs] == [0.001, 0.00001]
    assert [run["state"] for run in runs] == ["done", "done"]
    assert runs[0]["metrics"]["val_accuracy"] > runs[1]["metrics"]["val_accuracy"]
    assert all(run["workers"] == 2 and run["goodput"] > 0 for run in runs)
    objects = reached_store.objects()
    for run in runs:
        root = [key for key in objects if key.startswith(f"sweep/{run['name']}/events.out.tfevents.")]
        assert len(root) == 2  # For the HParams tab.
    code, text = launched("show", f"{OUTPUT}/{runs[0]['name']}")
    assert code == LaunchCode.DONE
    assert "  epoch 1: " in text
    code, text = launched("sweep", "--status", *ours)
    assert (code, text.splitlines()[-1]) == (LaunchCode.DONE, "lr: 2 done")
