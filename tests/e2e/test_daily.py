"""What people do every day, on the cluster: a run that stops in time, what is made of it, and who is told of it."""

import contextlib
import io
import json
import pathlib
import re

import numpy as np
import pytest

from tests.e2e.launching import launched, submission
from tests.e2e.release import VALUES, Release
from tests.e2e.store_pod import StorePod
from tests.support.servers import BUCKET
from tests.support.servers.mlflow_server import mlflow_server
from tests.support.tensorboard_client import ProfilePage
from tests.support.waiting import until
from trainer.launch.codes import LaunchCode
from trainer.training.data import idx_files

pytestmark = pytest.mark.e2e

OUTPUT = f"s3://{BUCKET}/daily"
STORE = "credentials.s3Secret=store"
FLAGS = (
    "--epochs=6", "--threads=1", "--log_every=1", "--histogram_freq=0",
    # No epoch is better by so much: whatever the machine, the third one is the last.
    "--early_stopping=val_loss:patience=2,min_delta=9", "--keep_best=val_accuracy:2", "--restore_best",
    "--learning_rate_schedule=cosine", "--warmup_steps=100", "--profile_steps=100:105", "--export=savedmodel,tflite",
)  # fmt: skip
STEPS = 3 * (60000 // 128)


def test_a_run_that_stops_in_time_is_measured_and_used(release: Release, reached_store: StorePod) -> None:
    store = reached_store
    secret = (f"--from-literal={name}={value}" for name, value in store.environ.items())
    release.kubectl("create", "secret", "generic", "store", *secret)

    def submitted(name: str, *more: str, trainer: tuple[str, ...]) -> str:
        shown = f"--set=tensorboard.enabled={str(name == 'first').lower()}"
        ours = (f"--name={name}", f"--output={OUTPUT}", shown, *more)
        code, text = launched(*ours, *submission(release, f"--set={STORE}"), trainer=trainer)
        assert code == LaunchCode.DONE, f"{text}\n{release.story()}"
        return text

    text = submitted("first", trainer=FLAGS)
    assert "early_stopping ended it after epoch 3: val_loss was" in text
    found = re.search(rf"on one page: {OUTPUT}/(\S+)/report.html", text)
    assert found, text
    run = found[1]
    result = json.loads(store.read(f"daily/{run}/result.json"))
    best = result["best"]
    assert (result["workers"], result["steps"], result["end"]["by"]) == (2, STEPS, "early_stopping")
    assert f"best val_accuracy {best['value']:.6g} after epoch {best['epoch']}; the model is that of epoch" in text
    assert (best["metric"], best["model_epoch"], best["value"]) == (
        "val_accuracy", best["epoch"], result["val_accuracy"],
    )  # fmt: skip
    kept = [key.removeprefix(f"daily/{run}/") for key in store.objects() if key.startswith(f"daily/{run}/")]
    assert {"report.html", "export/model.tflite", "export/saved_model/saved_model.pb"} <= set(kept)
    assert len([key for key in kept if key.startswith("best/step-")]) == 2
    (profile,) = {key.split("/")[3] for key in kept if key.startswith("train/plugins/profile/")}
    shows_the_profile(release, f"{run}/train/{profile}")
    assert "</html>" in store.read(f"daily/{run}/report.html")

    text = submitted("second", "--workers=1", trainer=("--mode=evaluate", f"--model={OUTPUT}/{run}", "--threads=1"))
    assert f"succeeded: second reached validation accuracy {result['val_accuracy']:.4f} in" in text

    release.install(
        *VALUES, "--set", f"mode=predict,train.model={OUTPUT}/{run},output={OUTPUT},{STORE},tensorboard.enabled=false"
    )
    assert release.ended(300)[0] == "Complete", release.story()
    assert release.message()["outputs"]["examples"] == 10000
    (key,) = [key for key in store.objects() if key.endswith("/predictions.npy")]
    outputs = np.load(io.BytesIO(store.read_bytes(key)))
    right = float(np.mean(outputs.argmax(1) == idx_files.load("")[1][1]))
    assert right == pytest.approx(result["val_accuracy"], abs=2e-4)

    code, text = launched("list", f"--output={OUTPUT}", "--json")
    runs = [json.loads(line) for line in text.splitlines()]
    assert (code, len(runs)) == (LaunchCode.DONE, 3), text
    assert {one["state"] for one in runs} == {"done"}
    assert {one["flags"].get("mode", "train") for one in runs} == {"train", "evaluate", "predict"}
    code, text = launched("show", f"{OUTPUT}/{run}", "--json")
    assert code == LaunchCode.DONE, text
    shown = json.loads(text)
    assert (shown["end"], shown["best"]) == (result["end"], best)
    rates = list(shown["curves"]["learning_rate"].values())
    assert len(rates) == 3
    assert 0.001 > rates[0] > rates[1] > rates[2] > 0  # It falls as in a run of six epochs.


def shows_the_profile(release: Release, name: str) -> None:
    """The chart's TensorBoard does, in a pod of the image, of what is in the store; and it captures none."""
    (pod,) = release.get("pods", "--selector", "trainer/role=tensorboard")["items"]
    page = ProfilePage(6006, host=pod["status"]["podIP"])  # On a node, which is this machine.

    def is_there() -> bool:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            return name in json.loads(page.get("/runs")[1])
        return False

    until(120, "the profile", is_there)
    overview = page.json("/data", run=name, tag="overview_page")
    assert any(table["p"].get("device_type") == "CPU" for table in overview if "p" in table)
    assert "train" in page.get("/data", run=name, tag="trace_viewer@")[1]
    assert page.get("/capture_profile", service_addr="127.0.0.1:1")[0] == 404
    assert page.get("/runs", session_path="/tmp")[0] == 400
    until(60, "the page in TensorBoard's list", page.is_active)
    # The page needs more memory than all else that TensorBoard does.
    (pod,) = release.get("pods", "--selector", "trainer/role=tensorboard")["items"]
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]


def test_mlflow_is_told_of_a_run(release: Release, own_cluster: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The server runs on this machine, which is the pods' node."""
    assert own_cluster.is_dir()
    with mlflow_server(tmp_path, others=True) as server:
        node = next(
            address["address"]
            for address in release.get("nodes")["items"][0]["status"]["addresses"]
            if address["type"] == "InternalIP"
        )
        address = f"--from-literal=MLFLOW_TRACKING_URI=http://{node}:{server.port}"
        release.kubectl("create", "secret", "generic", "tracker", address)
        values = "workers=1,train.epochs=1,worker.envFrom[0].secretRef.name=tracker"
        release.install(*VALUES, "--set", values)
        assert release.ended(300)[0] == "Complete", release.story()
        (told,) = server.runs()
        assert told["info"]["status"] == "FINISHED"
        steps = [step for step, _ in server.history(told, "loss")]
        assert steps == sorted(set(steps))
        assert steps[-1] == 60000 // 128
