"""The wheel and the source distribution, built from this checkout and installed where nothing else is."""

import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from tests.support.installed import PIP, copy_of_checkout, install, python, wheel_of
from tests.support.paths import CHART, ROOT
from trainer.core import installing


def names(wheel: pathlib.Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of the checkout."""
    return copy_of_checkout(tmp_path_factory.mktemp("source") / "trainer")


@pytest.fixture(scope="module")
def wheel(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return wheel_of(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of programs of an environment that holds the wheel, and of others only what it needs."""
    return install(wheel, tmp_path_factory.mktemp("installed"))


def run(program: pathlib.Path, *arguments: str, cwd: pathlib.Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "KUBECONFIG": "/nowhere", **environ}
    return subprocess.run([program, *arguments], cwd=cwd, env=clean, capture_output=True, text=True)


def test_the_wheel_holds_the_chart_the_manifests_and_the_examples(wheel: pathlib.Path) -> None:
    held = names(wheel)
    for folder, inside in (("helm", "chart"), ("k8s", "manifests")):
        files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert {f"trainer/launch/{inside}/{file}" for file in files if "__pycache__" not in file.parts} <= held
    assert {"trainer/mnist.py", "trainer/examples/cnn.py", "trainer/data/train-images-idx3-ubyte.gz"} <= held
    assert not any(name.startswith(("tests/", "bench/", "tools/", "helm/")) for name in held)


def test_the_wheel_is_installed_as_messages_say(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    named = re.findall(r"'(\./\S+)'", installing.training())
    assert named == [f"./{wheel.name}[cpu]"]
    python(*PIP, "install", "--dry-run", "--no-deps", "--no-index", f"--target={tmp_path}", *named, cwd=wheel.parent)


def test_a_wheel_of_the_source_distribution_is_the_same(
    source: pathlib.Path, wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    python("setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path), cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert names(wheel_of(unpacked, tmp_path / "wheel")) == names(wheel)


def test_console_scripts_are_the_programs(programs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for script, module in (
        ("trainer", "trainer"), ("trainer-agent", "trainer.agent"), ("trainer-launch", "trainer.launch"),
    ):  # fmt: skip
        told = run(programs / script, "--help", cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert told.stdout == run(programs / "python", "-m", module, "--help", cwd=tmp_path).stdout


def test_a_console_script_finds_an_experiment_in_the_working_directory(
    programs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('mine was imported')\n")
    done = run(programs / "trainer", "--experiment=mine", cwd=tmp_path)
    assert "mine was imported" in done.stderr
    safe = run(programs / "trainer", "--experiment=mine", cwd=tmp_path, PYTHONSAFEPATH="1")
    assert "mine was imported" not in safe.stderr
    assert safe.returncode == 64


def test_the_chart_is_written_out(programs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for more, folder in (((), CHART), (("--manifests",), ROOT / "k8s")):
        to = tmp_path / folder.name
        done = run(programs / "trainer-launch", "chart", f"--to={to}", *more, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        files = {path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts}
        assert {path.relative_to(to) for path in to.rglob("*")} == files
        again = run(programs / "trainer-launch", "chart", f"--to={to}", *more, cwd=tmp_path)
        assert (again.returncode, again.stderr) == (
            2, f"error: --to={to} is there and not empty; name a folder that is not there yet\n",
        )  # fmt: skip


def test_two_workers_train_on_this_machine_from_an_empty_folder(programs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = ("--epochs=1", "--global_batch_size=30000", "--experiment=trainer.examples.regression")
    done = run(programs / "trainer-launch", "--local", "--workers=2", "--", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("logs/fit/*/result.json"))) == 1


def test_an_installation_without_the_chart_says_so(programs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As that in the image: the Dockerfile copies no chart."""
    site = next(programs.parent.glob("lib/python*/site-packages"))
    shutil.copytree(site / "trainer", tmp_path / "trainer", ignore=shutil.ignore_patterns("chart", "data"))
    done = run(programs / "python", "-m", "trainer.launch", "--dry_run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: this launcher was installed without its chart, as in the image of a worker;")


@pytest.mark.chart
def test_a_dry_run_from_an_empty_folder(programs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run(programs / "python", "-m", "trainer.launch", "--workers=4", "--dry_run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "completions: 4" in done.stdout


@pytest.mark.chart
def test_a_folder_helm_of_another_project_is_not_taken_for_the_chart(
    programs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "helm" / "templates").mkdir(parents=True)
    (tmp_path / "helm" / "Chart.yaml").write_text("apiVersion: v2\nname: other\nversion: 1.0.0\n")
    (tmp_path / "helm" / "templates" / "job.yaml").write_text(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: other}\n"
    )
    done = run(programs / "trainer-launch", "--dry_run", cwd=tmp_path)
    assert "name: other" not in done.stdout
    assert "mnist-train" in done.stdout
