"""Sweeps of two trials on the cluster, with a bucket: what they leave, and what `list`, `show` and `--status` say."""

import json

import pytest

from tests.e2e.launching import launched, submission
from tests.e2e.release import Release
from tests.e2e.store_pod import StorePod
from tests.support.progress_lines import progress_in
from tests.support.servers import BUCKET
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e

OUTPUT = f"s3://{BUCKET}/sweep"


def arguments(release: Release, store: StorePod, *ours: str) -> list[str]:
    """Those of a sweep of two trials, of which the first one is the better."""
    secret = (f"--from-literal={name}={value}" for name, value in store.environ.items())
    release.kubectl("create", "secret", "generic", "store", *secret)
    grid = "--grid=learning_rate=1e-3,1e-5"
    return ["sweep", *ours, grid, "--metric=val_accuracy", *submission(release, "--set=credentials.s3Secret=store")]


def test_a_sweep_of_two_trials(release: Release, reached_store: StorePod) -> None:
    ours = ["--name=lr", f"--output={OUTPUT}"]
    sweep = [*arguments(release, reached_store, *ours), "--parallel=1"]
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


def test_halving_goes_on_with_the_better_trial_from_its_checkpoint(release: Release, reached_store: StorePod) -> None:
    store, output = reached_store, f"s3://{BUCKET}/halving"
    ours = ["--name=half", f"--output={output}"]
    sweep = [*arguments(release, store, *ours), "--halving", "--workers=1", "--parallel=2"]
    code, text = launched(*sweep, trainer=("--epochs=2", "--threads=1"))
    assert code == LaunchCode.DONE, text
    assert "1 trial(s) go on to epoch 2: 1" in text
    assert (text.count("trial 2 begins"), text.count("trial 2 is done")) == (1, 1), text  # With its one epoch.
    better, worse = json.loads(store.read("halving/half.sweep.json"))["trials"]
    assert [(trial["state"], trial["epochs"], len(trial["runs"])) for trial in (better, worse)] == [
        ("done", 2, 2), ("stopped", 1, 1),
    ]  # fmt: skip
    assert better["metrics"]["val_accuracy"] > worse["metrics"]["val_accuracy"]
    assert release.get("jobs")["items"] == []

    first, second = better["runs"]
    before, after = (json.loads(store.read(f"halving/{run}/result.json")) for run in (first, second))
    assert (before["epochs"], after["epochs"], after["steps"]) == (1, 2, 2 * before["steps"])
    assert after["flags"]["resume_from"] == f"{output}/{first}"
    log = store.read(f"halving/{second}/workers/0/attempt-1.log").splitlines()
    steps = [progress.step for progress in progress_in(log)]
    assert before["steps"] < steps[0] <= steps[-1] == after["steps"]  # Not from scratch.
    runs = {key.split("/")[1] for key in store.objects() if key.startswith("halving/") and key.endswith("/result.json")}
    assert runs == {first, second, *worse["runs"]}

    code, status = launched("sweep", "--status", *ours)
    assert code == LaunchCode.DONE
    title, one, two, best, counts = status.splitlines()
    assert title.split() == ["TRIAL", "learning_rate", "val_accuracy", "EPOCHS", "TIME", "STATE"]
    shown = [(row.split()[0], row.split()[1], row.split()[3], row.split()[-1]) for row in (one, two)]
    assert shown == [("1", "1e-3", "2", "done"), ("2", "1e-5", "1", "stopped")]
    assert best.startswith(f"best: trial 1 ({second}), val_accuracy ")
    assert counts == "half: 1 done, 1 stopped"
    assert status.splitlines() == text.splitlines()[-5:]  # As the sweep itself ended.
