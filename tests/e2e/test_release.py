"""What `make release` pushed: its chart, from the registry by helm and by the launcher; an image and its list."""

import json
import os
import pathlib
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.launching import Launching, launched
from tests.e2e.release import NAME, VALUES, Release, run
from tests.support import servers
from tests.support.paths import CHART
from tests.tools import tool
from tools import release as releasing
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A folder with two pairs of keys, right and wrong; cosign and syft are on the PATH."""
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSIGN_PASSWORD", "secret")
        for program in ("cosign", "syft"):
            patch.setenv("PATH", f"{tool(program).parent}:{os.environ['PATH']}")
        for name in ("right", "wrong"):
            run("cosign", "generate-key-pair", f"--output-key-prefix={folder / name}")
        yield folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def chart(registry: str, keys: pathlib.Path) -> str:
    """The address of the chart of a release without images: the nodes have the one that is tested."""
    where = (f"--registry={registry}/team", f"--key={keys / 'right.key'}", "--images=none", f"--to={keys}")
    run(sys.executable, "-m", "tools.release", *where)
    return f"oci://{registry}/team/charts/mnist-train"


def test_helm_installs_the_chart_out_of_the_registry(release: Release, chart: str) -> None:
    repository, _, tag = os.environ["IMAGE"].rpartition(":")
    image = ("--set", f"image.repository={repository},image.tag={tag}")
    release.helm("install", NAME, chart, "--plain-http", *VALUES, *image, "--set", "train.epochs=1")
    assert release.ended(300)[0] == "Complete", release.story()
    result = release.message()
    assert (result["workers"], result["epochs"]) == (2, 1)


def test_the_launcher_trains_with_it_by_the_right_key_alone(release: Release, chart: str, keys: pathlib.Path) -> None:
    where = (f"--namespace={release.namespace}", f"--chart={chart}", f"--image={os.environ['IMAGE']}")
    what = (*where, "--gpus_per_worker=0", f"--values={CHART}/values-cpu.yaml")
    try:
        code, said = launched(*what, f"--chart_key={keys / 'wrong.pub'}")
        assert code == LaunchCode.NOT_STARTED, said
        assert said.startswith(f"error: --chart={chart} is refused: cosign finds no signature of it by --chart_key=")
        assert len(said.splitlines()) == 1
        assert release.get("jobs,services")["items"] == []
        assert release.get("secrets", "--selector=owner=helm")["items"] == []

        code, said = launched(*what, f"--chart_key={keys / 'right.pub'}", trainer=("--epochs=1", "--threads=1"))
        assert code == LaunchCode.DONE, said
    finally:
        Launching.end_all()
    assert release.message()["epochs"] == 1


@pytest.fixture
def storage(own_cluster: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """buildah, which `make e2e` installs, keeps its images in this folder, and mounts nothing."""
    assert own_cluster.is_dir()
    folder = tmp_path / "storage"
    config = f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}"\nrunroot = "{tmp_path}/run"\n'
    (tmp_path / "storage.conf").write_text(config)
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    return folder


@pytest.mark.usefixtures("storage")
def test_an_image_is_pushed_listed_and_signed(registry: str, keys: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A small one: a package of Python, and nothing to run it."""
    package = tmp_path / "image" / "usr" / "lib" / "python3" / "dist-packages" / "sample-1.2.3.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.2.3\n")
    (tmp_path / "image" / "Dockerfile").write_text("FROM scratch\nCOPY usr /usr\n")
    name = f"{registry}/team/sample:1"
    run("buildah", "bud", "--quiet", "--isolation=chroot", f"--tag={name}", str(tmp_path / "image"))
    at = releasing.Registry(f"{registry}/team")
    pushed = releasing.push_image(name, tmp_path, releasing.Signer(at, str(keys / "right.key"), tmp_path), at)
    assert pushed.startswith(f"{name}@sha256:")

    listed = json.loads((tmp_path / "sample-1.spdx.json").read_text())
    versions = {package["name"]: package.get("versionInfo") for package in listed["packages"]}
    assert versions["sample"] == "1.2.3"
    for key, trusted in (("right.pub", True), ("wrong.pub", False)):
        for command in (("verify",), ("verify-attestation", "--type=spdxjson")):
            how = (f"--key={keys / key}", "--insecure-ignore-tlog", "--allow-http-registry")
            assert (run("cosign", *command, *how, name, check=False).returncode == 0) == trusted


def test_images_that_the_disk_does_not_hold(
    storage: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(releasing.NEEDED, "cpu", 0)
    monkeypatch.setitem(releasing.NEEDED, "gpu", 10**9)
    assert releasing.images_that_fit("") == ["cpu", "cpu-current"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"left out: the image gpu needs about 1000000000 GB of disk in {storage}, which has ")
    assert len(said) == 2
    assert releasing.images_that_fit("cpu-current") == ["cpu-current"]
    with pytest.raises(
        releasing.ReleaseError, match=r"the image gpu needs .*; make room, or leave it out of IMAGES=cpu gpu"
    ):
        releasing.images_that_fit("cpu gpu")
