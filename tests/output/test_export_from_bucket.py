"""`python -m trainer.export` of a run whose disk is gone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tests.support.object_stores import Server, s3_first
from tests.support.paths import ROOT
from tests.support.servers import BUCKET
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy

pytestmark = pytest.mark.servers


def export(server: Server, address: str, folder: Path, *, at: str = "") -> subprocess.CompletedProcess[str]:
    """Exports a run of the server, or of what stands before it `at` another address."""
    environ = {**os.environ, **server.environ(at), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "trainer.export", address, "--export=tflite"]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


@s3_first
def test_a_run_in_a_bucket_is_exported_to_a_folder_of_its_name(server: Server, tmp_path: Path) -> None:
    name, run = "mnist-1f2e3d4c", "runs/mnist-1f2e3d4c"
    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    store = server.store(run)
    store.upload("model.keras", tmp_path / "model.keras")
    store.create("result.json", json.dumps({"experiment": {"module": "trainer.mnist", "hidden_units": 3}}).encode())
    done = export(server, f"{server.scheme}://{BUCKET}/{run}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"exported as tflite to {name}/export/model.tflite; it gives what the model gives\n"
    assert (tmp_path / name / "export" / "model.tflite").stat().st_size > 0


def test_a_run_that_is_not_there_is_said_in_one_line(server: Server, tmp_path: Path) -> None:
    done = export(server, f"{server.scheme}://{BUCKET}/runs/nothing", tmp_path)
    assert done.returncode == 64
    assert "holds no result.json: name the folder of a run that has ended" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_bucket_that_is_not_there_is_a_wrong_address(server: Server, tmp_path: Path) -> None:
    done = export(server, f"{server.scheme}://nothing-of-that-name/run", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1), done.stderr
    if server.scheme == "s3":  # Of Google's, the emulator says no more than that there is no such object.
        assert "there is no such bucket; check its address, and the credentials and the endpoint" in done.stderr


@pytest.mark.parametrize(("status", "code"), [(403, 64), (503, 74)])
def test_a_bucket_that_refuses_is_no_bucket_that_is_away(
    server: Server, tmp_path: Path, status: int, code: int
) -> None:
    with refusing_proxy(server.address) as (address, proxy):
        proxy.answer = lambda _method, _path: (status, S3_ERROR % (b"AccessDenied", b"because"))
        done = export(server, f"{server.scheme}://{BUCKET}/run", tmp_path, at=address)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert f"the run in {server.scheme}://{BUCKET}/run cannot be read: " in done.stderr
