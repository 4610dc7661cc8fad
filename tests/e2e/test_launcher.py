"""What a person does with the launcher on a real cluster, and what they are told."""

import html
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.launching import Launching, at, launched, of_workers, submission, typed
from tests.e2e.release import ACCURACY, Release, run
from tests.support.waiting import until
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e

FLAGS = ("--threads=1", "--checkpoint_every=2", "--log_every=1")


@pytest.fixture(autouse=True)
def no_launcher_left() -> Iterator[None]:
    yield
    Launching.end_all()


def tensorboard(path: str) -> Any:
    """What TensorBoard answers on this machine's port; None: nothing yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:6006/{path}", timeout=10) as answer:
            return json.load(answer)
    except (OSError, http.client.HTTPException):
        return None


def picture(release: Release, path: pathlib.Path) -> str:
    """What a terminal shows of a run that has ended, as text; PICTURES=docs make e2e draws the README's pictures so."""
    command = (sys.executable, "-m", "tools.launcher_pictures", "-", str(path), "attach", at(release))
    subprocess.run(command, capture_output=True, timeout=120)
    if wanted := os.environ.get("PICTURES"):
        shutil.copy(path, wanted)
    return html.unescape(path.read_text()).replace("\xa0", " ")


def test_a_run_is_left_and_come_back_to_and_loses_a_worker(release: Release, tmp_path: pathlib.Path) -> None:
    arguments, kubeconfig = typed(release, tmp_path)
    submitted = Launching(*arguments, kubeconfig=kubeconfig)
    submitted.says("progress worker=0/2")
    submitted.interrupt()
    assert submitted.ends() == LaunchCode.INTERRUPTED
    assert "come back with:  python -m trainer.launch attach --name=mnist-train" in submitted.text

    attached = Launching("attach", at(release), "--logs=all", "--tensorboard")
    attached.says("progress worker=0/2")
    release.kubectl("delete", "pod", release.pod(1)["metadata"]["name"], "--wait=false")
    attached.says("ended with exit code 143")
    code, text = launched("status", at(release))
    assert code == 0, text
    assert "mnist-train has been going on for" in text
    attached.says("attempt=2 state=training")
    runs = until(120, "TensorBoard's runs", lambda: tensorboard("data/runs"))
    assert any(name.endswith("train") for name in runs)
    attached.says("progress worker=1/2 attempt=2")
    # Now, because the job succeeds with the chief, and may take the other's pod along with its log.
    code, text = launched("logs", at(release), "--logs=1")
    assert code == 0, text
    assert "progress worker=1/2" in text
    assert attached.ends(600) == LaunchCode.DONE, attached.text
    headline = next(line for line in attached.text.splitlines() if line.startswith("succeeded:"))
    assert float(headline.split("accuracy ")[1].split()[0]) >= ACCURACY
    # The log of the pod that took the place of the deleted one, which saw attempt 1 only.
    assert re.search(r"^worker 1 \| progress worker=1/2 attempt=[2-9]", attached.text, re.MULTILINE), attached.text
    assert "its pod was replaced" in attached.text
    assert "lost to failures" in attached.text
    drawn = picture(release, tmp_path / "launcher.svg")
    assert "restarts" in drawn
    assert "succeeded: mnist-train reached validation accuracy" in drawn

    code, text = launched("logs", at(release))
    assert code == 0, text
    assert "progress worker=0/2" in text
    code, text = launched("status", at(release), "--json")
    assert (code, json.loads(text.splitlines()[-1])["result"]["workers"]) == (0, 2)
    assert launched("delete", at(release))[0] == 0
    left = release.kubectl("get", "all,networkpolicies,secrets,serviceaccounts", "--output", "name").split()
    assert left == ["serviceaccount/default"]


def test_ones_own_code_without_an_image(release: Release, tmp_path: pathlib.Path) -> None:
    """What it asks for is in the image already: the pods reach no package index, here one that refuses them at once."""
    model = """
from trainer import mnist
load_data, preprocess = mnist.load_data, mnist.preprocess

def build_model(config):
    import keras
    layers = keras.layers
    return keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(10, activation="softmax")])
"""
    (tmp_path / "mine.py").write_text(model)
    (tmp_path / "requirements.txt").write_text("numpy>=1.20\n")
    pip = of_workers({"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"})
    arguments = submission(release, f"--code={tmp_path}", pip)
    trainer = (*FLAGS, "--experiment=mine", "--epochs=1")
    code, text = launched(*arguments, trainer=trainer)
    assert code == LaunchCode.DONE, text
    assert "is unpacked, and 0 package(s) installed for it" in text
    (tmp_path / "mine.py").write_text(model.replace("    import keras\n", '    raise ValueError("no model")\n'))
    code, text = launched(*arguments, trainer=trainer)
    assert code == LaunchCode.TRAINING, text
    assert "ValueError: no model (mine.py:6, in build_model)" in text
    (tmp_path / "requirements.txt").write_text("nothing-like-it\n")
    code, text = launched(*arguments, trainer=trainer)
    assert code == LaunchCode.TRAINING, text
    assert "requirements.txt cannot be installed: " in text
    assert launched("delete", at(release))[0] == 0
    maps = release.kubectl("get", "configmaps", "--output", "name").split()
    assert maps == ["configmap/kube-root-ca.crt"]


def test_data_that_is_missing_is_the_verdict(release: Release, tmp_path: pathlib.Path) -> None:
    code, text = launched(*submission(release, "--json"), trainer=(*FLAGS, "--data_dir=/nowhere"))
    assert code == LaunchCode.TRAINING, text
    verdict = json.loads(text.splitlines()[-1])
    assert verdict["first_cause"]["exit_code"] == 65
    assert "--data_dir=/nowhere is not a folder" in verdict["first_cause"]["errors"][-1]
    assert launched("status", at(release))[0] == LaunchCode.TRAINING
    assert "| error: --data_dir=/nowhere is not a folder" in picture(release, tmp_path / "launcher-failed.svg")
    assert release.ended(60)[:2] == ("Failed", "PodFailurePolicy"), "there may be retries"


@pytest.mark.parametrize(
    ("values", "words", "why"),
    [
        (("--set=train.experiment=no.such",), "exit code 64", "PodFailurePolicy"),
        (  # Both workers once, and at least one of them anew.
            ("--set=worker.resources.limits.memory=300Mi,worker.resources.requests.memory=300Mi",
             "--set=agent.max_restarts=1,agent.warm_spare=false,job.backoffLimit=2"),
            "memory",
            "BackoffLimitExceeded",
        ),
    ],
)  # fmt: skip
def test_training_that_fails(release: Release, values: tuple[str, ...], words: str, why: str) -> None:
    code, text = launched(*submission(release, *values), trainer=FLAGS)
    assert code == LaunchCode.TRAINING, text
    headline = next(line for line in text.splitlines() if line.startswith("failed:"))
    assert words in headline
    assert why in text


def test_gpus_that_tensorflow_does_not_see(release: Release, own_cluster: pathlib.Path) -> None:
    assert own_cluster.is_dir()  # Its nodes may be made to advertise what they do not have.
    nodes = run("kubectl", "get", "nodes", "--output", "name").stdout.split()
    where = ("capacity", "allocatable")

    def advertise(operation: dict[str, str]) -> None:
        patch = json.dumps([{**operation, "path": f"/status/{place}/nvidia.com~1gpu"} for place in where])
        for node in nodes:
            run("kubectl", "patch", node, "--subresource=status", "--type=json", f"--patch={patch}")

    arguments = [argument for argument in submission(release) if not argument.startswith("--gpus")]
    code, text = launched(*arguments, "--set=worker.gpus=1")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  GPUs: each worker asks for 1, and none of the 2 node(s) has any" in text
    advertise({"op": "add", "value": "2"})
    try:
        code, text = launched(*arguments, "--set=worker.gpus=1", trainer=FLAGS)
    finally:
        advertise({"op": "remove"})
    assert code == LaunchCode.TRAINING, text
    assert "4 of 4 are free, 2 are asked for" in text
    assert "ended with exit code 69" in text
    assert "| error: asked for 1 GPU, TensorFlow sees 0" in text


def test_what_never_starts_says_why(release: Release) -> None:
    image = "localhost/mnist-train:none"  # No other machine is asked for it.
    launching = Launching(*submission(release, f"--image={image}", "--pending_timeout=15"))
    submitted = launching.when("submitted ")
    assert launching.when(f'Failed to pull image "{image}"') - submitted < 5.0, launching.text
    assert launching.ends() == LaunchCode.NOT_STARTED
    greedy = ("--set=worker.resources.requests.cpu=1000", "--pending_timeout=5")
    code, text = launched(*submission(release, *greedy))
    assert (code, "nothing was submitted" in text) == (LaunchCode.NOT_STARTED, True)
    code, text = launched(*submission(release, *greedy, "--force"))
    assert code == LaunchCode.NOT_STARTED
    assert "no node can take it: 0/" in text
    assert "Insufficient cpu" in text
    assert release.kubectl("get", "jobs,services", "--output", "name") == ""


@pytest.mark.alone  # Whoever is on that node is preempted.
def test_a_worker_that_is_preempted_is_named(release: Release, short: int) -> None:
    launching = Launching(
        *submission(release, "--set=worker.resources.requests.cpu=1"), trainer=(*FLAGS, f"--epochs={short}")
    )
    launching.says("progress worker=0/2")
    node = release.pod(1)["spec"]["nodeName"]
    free = run("kubectl", "get", "node", node, "--output", "jsonpath={.status.allocatable.cpu}").stdout
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    urgent = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "urgent"},
        "spec": {
            "priorityClassName": release.namespace,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "urgent",
                    "image": os.environ["IMAGE"],
                    "command": ["sleep", "1000"],
                    "resources": {"requests": {"cpu": str(int(free) - 0.5)}},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    priority["metadata"] = {"name": release.namespace}
    try:
        release.kubectl("create", "--filename=-", text=json.dumps(priority))
        release.kubectl("create", "--filename=-", text=json.dumps(urgent))
        launching.says("preempted by a pod of higher priority")
        release.kubectl("delete", "pod", "urgent", "--wait=false")
        assert launching.ends(600) == LaunchCode.DONE, launching.text
    finally:
        run("kubectl", "delete", "priorityclass", release.namespace, "--ignore-not-found")
