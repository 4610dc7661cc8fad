"""One's own code on a real cluster, as a person has it who has the wheel alone: no clone, and no image of their own."""

import json
import os
import pathlib
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.launching import Launching, launched, of_workers, submission, typed
from tests.e2e.release import Release, idle_pod, run
from tests.e2e.store_pod import PORT, store_pod
from tests.support.installed import copy_of_checkout, install, wheel_of
from tests.support.servers import BUCKET
from tests.support.waiting import until
from trainer.core.shipped_code import digest
from trainer.launch import code_folder
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e

MODEL = """
from trainer import mnist
load_data, preprocess = mnist.load_data, mnist.preprocess

def build_model(config):
    import keras
    layers = keras.layers
    return keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(10, activation="softmax")])
"""
LARGE = """
import pathlib
assert pathlib.Path(__file__).with_name("noise.bin").stat().st_size == 2 * 2**20
"""
FLAGS = ("--experiment=mine", "--threads=1", "--epochs=1")


@pytest.fixture(autouse=True)
def no_launcher_left() -> Iterator[None]:
    yield
    Launching.end_all()


def test_from_an_empty_folder_and_an_empty_home(release: Release, tmp_path: pathlib.Path) -> None:
    wheel = wheel_of(copy_of_checkout(tmp_path / "source"), tmp_path / "wheel")
    programs = install(wheel, tmp_path / "installed")
    folder, home = tmp_path / "folder", tmp_path / "home"
    for made in (folder / "mine", home):
        made.mkdir(parents=True)
    (folder / "mine" / "mine.py").write_text(MODEL)
    arguments, kubeconfig = typed(release, tmp_path)
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(kubeconfig)}

    def does(*command: str) -> str:
        done = subprocess.run(
            [programs / command[0], *command[1:]], cwd=folder, env=environ, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "succeeded: " in does("trainer-launch", "--local", "--workers", "2", "--", "--epochs=1")
    said = does("python", "-m", "trainer.launch", *arguments, "--code", "./mine", "--", *FLAGS)
    assert "code: 1 file(s) of mine, 1 KiB packed" in said
    assert "succeeded: mnist-train reached validation accuracy" in said
    assert launched("delete", f"--namespace={release.namespace}")[0] == LaunchCode.DONE


@pytest.mark.usefixtures("own_cluster")
def test_what_is_too_large_for_a_config_map_goes_through_the_bucket(release: Release, tmp_path: pathlib.Path) -> None:
    """The store's pod can be reached from here, where its node is."""
    (tmp_path / "mine.py").write_text(LARGE + MODEL)
    (tmp_path / "noise.bin").write_bytes(os.urandom(2 * 2**20))
    sent = digest(code_folder.read(str(tmp_path)).archive)
    with store_pod("s3") as store:
        literals = (f"--from-literal={name}={value}" for name, value in store.environ.items())
        release.kubectl("create", "secret", "generic", "store", *literals)
        pod = json.loads(run("kubectl", "-n", store.namespace, "get", "pod", "store", "--output", "json").stdout)
        here = {**store.environ, "AWS_ENDPOINT_URL": f"http://{pod['status']['podIP']}:{PORT}"}
        to = (f"--output=s3://{BUCKET}/e2e", "--set=credentials.s3Secret=store,tensorboard.enabled=false")
        for words in ("was written to", "is already in"):
            code, text = launched(*submission(release, f"--code={tmp_path}", *to), trainer=FLAGS, environ=here)
            assert code == LaunchCode.DONE, text
            assert f"the code {words} s3://{BUCKET}/e2e/.code/{sent}.tar.gz" in text
        kept = store.objects()
        assert kept.count(f"e2e/.code/{sent}.tar.gz") == 1
        assert len([key for key in kept if key.endswith("/code.tar.gz")]) == 2, "each run keeps what it was sent"
        assert "-code-" not in release.kubectl("get", "configmaps", "--output", "name")


def test_a_pod_that_still_installs_goes_when_it_is_told_to(release: Release, tmp_path: pathlib.Path) -> None:
    """Its package index takes every connection and never answers, and pip asks it for a long time."""
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "requirements.txt").write_text("nothing-like-it\n")
    silent = "import socket, time; server = socket.create_server(('', 8080)); time.sleep(1e6)"
    release.kubectl("apply", "--filename", "-", text=json.dumps(idle_pod("index", "python", "-c", silent)))
    index = str(until(60, "the index's address", lambda: release.get("pod", "index")["status"].get("podIP")))
    host = f"[{index}]" if ":" in index else index
    # One of plain HTTP that is not trusted is not asked at all.
    pip = {"PIP_INDEX_URL": f"http://{host}:8080/simple", "PIP_TRUSTED_HOST": index, "PIP_RETRIES": "100"}
    of_pods = (of_workers(pip), "--set=worker.gracePeriodSeconds=120")
    arguments = submission(release, f"--code={tmp_path}", "--detach", *of_pods)
    code, text = launched(*arguments, trainer=FLAGS)
    assert code == LaunchCode.DONE, text
    name = release.pod(1)["metadata"]["name"]
    # Rows of connections: what pip asks is under way (01), to port 8080.
    asked = re.compile(r":1F90 01 ")
    connections = ("exec", name, "--", "sh", "-c", "cat /proc/net/tcp /proc/net/tcp6")
    until(120, "pip's question", lambda: asked.search(release.kubectl(*connections, check=False)))
    told = time.monotonic()
    release.kubectl("delete", "pod", name, "--wait=false")
    until(100, f"the end of {name}", lambda: name not in release.kubectl("get", "pods", "--output", "name"))
    assert time.monotonic() - told < 60, "its grace period is two minutes"
    assert launched("delete", f"--namespace={release.namespace}")[0] == LaunchCode.DONE
