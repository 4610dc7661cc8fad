"""`make release` without images, which need root: packages and chart, pushed to a real registry, listed and signed."""

import base64
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.servers import registry
from tools import release
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.chart

# Nothing is asked of the network: whoever tried would find that nobody listens there.
ENVIRON = {"COSIGN_PASSWORD": "secret", **{f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS")}}
VERSION = release.version_of(ROOT)


def run(*command: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **ENVIRON, "NO_PROXY": "127.0.0.1"}
    return subprocess.run([str(part) for part in command], env=environ, capture_output=True, text=True, cwd=ROOT)


def released(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "tools.release", "--images=none", *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """With two pairs of keys, right and wrong."""
    folder = tmp_path_factory.mktemp("release")
    for name in ("right", "wrong"):
        assert run("cosign", "generate-key-pair", f"--output-key-prefix={folder / name}").returncode == 0
    return folder


@pytest.fixture(scope="module")
def address(folder: pathlib.Path) -> Iterator[str]:
    """Where the release was pushed to."""
    with registry(folder) as host:
        done = released(f"--registry={host}/team", f"--key={folder / 'right.key'}", f"--to={folder}")
        assert done.returncode == 0, done.stderr
        assert f"pushed and signed: {host}/team/charts/mnist-train:{VERSION}@sha256:" in done.stdout
        yield f"{host}/team"


def verified(folder: pathlib.Path, key: str, address: str, *command: str) -> subprocess.CompletedProcess[str]:
    where = (f"--key={folder / key}", "--insecure-ignore-tlog", "--allow-http-registry")
    return run("cosign", *command, *where, f"{address}/charts/mnist-train:{VERSION}")


def test_what_is_written(address: str, folder: pathlib.Path) -> None:
    assert address
    made = folder / VERSION
    sums = {name: sum_ for sum_, name in map(str.split, (made / "SHA256SUMS").read_text().splitlines())}
    assert sums == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in made.iterdir() if file.name != "SHA256SUMS"
    }
    wheel, chart = f"trainer-{VERSION}-py3-none-any.whl", f"mnist-train-{VERSION}.tgz"
    assert {wheel, chart, f"trainer-{VERSION}.tar.gz", f"mnist-train-chart-{VERSION}.spdx.json"} < set(sums)
    assert (made / "cosign.pub").read_text() == (folder / "right.pub").read_text()


def test_the_chart_names_the_image_beside_it(address: str) -> None:
    shown = run("helm", "show", "values", f"oci://{address}/charts/mnist-train", f"--version={VERSION}", "--plain-http")
    assert f"\n  repository: {address}/mnist-train\n" in shown.stdout, shown.stderr


def test_signatures_are_of_the_right_key_alone(address: str, folder: pathlib.Path) -> None:
    for command in (("verify",), ("verify-attestation", "--type=spdxjson")):
        assert verified(folder, "right.pub", address, *command).returncode == 0
        wrong = verified(folder, "wrong.pub", address, *command)
        assert wrong.returncode != 0
        assert "signature" in wrong.stderr


def test_the_list_of_what_is_in_the_chart_is_in_the_registry(address: str, folder: pathlib.Path) -> None:
    shown = verified(folder, "right.pub", address, "verify-attestation", "--type=spdxjson")
    statement: dict[str, Any] = json.loads(base64.b64decode(json.loads(shown.stdout.splitlines()[0])["payload"]))
    listed = {file["fileName"]: file["checksums"] for file in statement["predicate"]["files"]}
    sums = {entry["algorithm"]: entry["checksumValue"] for entry in listed["templates/job.yaml"]}
    assert sums["SHA256"] == hashlib.sha256((ROOT / "helm" / "templates" / "job.yaml").read_bytes()).hexdigest()


def test_the_launcher_takes_the_chart_by_its_key(
    address: str, folder: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    arguments = [f"--chart=oci://{address}/charts/mnist-train", "--dry_run"]
    assert cli.main([*arguments, f"--chart_key={folder / 'right.pub'}"]) == LaunchCode.DONE
    assert f"image: {address}/mnist-train:{VERSION}\n" in capsys.readouterr().out.replace('"', "")
    assert cli.main([*arguments, f"--chart_key={folder / 'wrong.pub'}"]) == LaunchCode.NOT_STARTED


def test_a_version_that_is_out_is_not_replaced(address: str, folder: pathlib.Path) -> None:
    made = (folder / VERSION / "SHA256SUMS").read_text()
    again = released(f"--registry={address}", f"--key={folder / 'right.key'}", f"--to={folder}")
    said = f"error: {address}/charts/mnist-train:{VERSION} is out already; raise the version\n"
    assert (again.returncode, again.stderr) == (1, said)
    assert (folder / VERSION / "SHA256SUMS").read_text() == made


def test_a_release_that_was_broken_off_is_made_again(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with registry(tmp_path) as host:
        run("helm", "package", ROOT / "helm", "--destination", tmp_path)
        run("helm", "push", tmp_path / f"mnist-train-{VERSION}.tgz", f"oci://{host}/team/charts", "--plain-http")
        done = released(f"--registry={host}/team", f"--key={folder / 'right.key'}", f"--to={tmp_path}")
        assert done.returncode == 0, done.stderr
        assert verified(folder, "right.pub", f"{host}/team", "verify").returncode == 0


def test_a_list_without_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "none.json").write_text('{"packages": []}')
    with pytest.raises(release.ReleaseError, match="syft lists no files that lie in /"):
        release.check_files(tmp_path / "none.json")
    (tmp_path / "one.json").write_text('{"files": [{}]}')
    release.check_files(tmp_path / "one.json")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--key=KEY"], "REGISTRY=; expected HOST[:PORT]/PATH"),
        (["--registry=127.0.0.1:9", "--key=KEY"], "REGISTRY=127.0.0.1:9; expected HOST[:PORT]/PATH"),
        (
            ["--registry=127.0.0.1:9/team"],
            "KEY=; expected cosign's private key, which `cosign generate-key-pair` makes",
        ),
        (["--registry=127.0.0.1:9/team", "--key=/none"], "KEY=/none; expected cosign's private key"),
        (["--registry=127.0.0.1:9/team", "--key=KEY", "--images=tpu"], "IMAGES=tpu: tpu is none of cpu, gpu, "),
        (["--registry=127.0.0.1:9/team", "--key=KEY"], "REGISTRY=127.0.0.1:9/team does not answer: "),
    ],
)
def test_what_cannot_be_released(
    arguments: list[str], words: str, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    given = [argument.replace("KEY", str(folder / "right.key")) for argument in arguments]
    done = released(*given, f"--to={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {words}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_versions_that_differ(tmp_path: pathlib.Path) -> None:
    for name, text in (("trainer/__init__.py", '__version__ = "1.0.0"\n'), ("helm/Chart.yaml", "version: 1.0.1\n")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    with pytest.raises(release.ReleaseError, match=r"several versions: 1\.0\.0, 1\.0\.1"):
        release.version_of(tmp_path)
