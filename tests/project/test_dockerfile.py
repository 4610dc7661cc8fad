"""The Dockerfile's environment, without the image: what `python -m` runs there does not come from where data lies."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
HOSTILE = 'import sys; sys.exit("the code of the bucket ran")\n'


@pytest.mark.parametrize("program", ["trainer.agent", "trainer.launch", "trainer"])
def test_no_module_comes_from_the_working_directory_or_from_home(tmp_path: Path, program: str) -> None:
    block = re.search(r"^ENV ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    assert block
    environ = dict(re.findall(r"(PYTHON\w+)=(\S+)", block[1]))
    home = tmp_path / "home"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    user_site = home / ".local" / "lib" / version / "site-packages"
    user_site.mkdir(parents=True)
    (user_site / "usercustomize.py").write_text(HOSTILE)
    for name in ("absl", "keras", "numpy", "rich", "prometheus_client", "dataclasses", "json"):
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    ended = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the code of the bucket ran" not in ended.stdout + ended.stderr
    assert "usage:" in ended.stdout


def test_nobody_can_write_the_working_directory() -> None:
    """It is made by root, after nothing that gives it away; relative run directories go to /tmp."""
    (folder,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)
    assert folder not in ("/", "/tmp", "/runs")
    made = DOCKERFILE.partition("USER 10001")[0]
    assert f"mkdir {folder} && ln -s /tmp {folder}/logs" in made
    assert "chown" not in DOCKERFILE
    assert "chmod" not in DOCKERFILE


@pytest.mark.parametrize("line", ["", "-current"])
def test_each_line_of_tensorflow_has_its_extras_and_versions(line: str) -> None:
    """What the Dockerfile's LINE and make's TENSORFLOW name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pins = dict(pin.split("==") for pin in (ROOT / f"constraints{line}.txt").read_text().lower().split())
    for accelerator in ("cpu", "gpu"):
        for requirement in map(Requirement, extras[f"{accelerator}{line}"]):
            assert requirement.specifier.contains(pins[requirement.name]), requirement
        assert (ROOT / "requirements" / f"{accelerator}{line}-amd64.txt").is_file()
    assert f"constraints{line}.txt" in (ROOT / "MANIFEST.in").read_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("TENSORFLOW=newest", "TENSORFLOW=newest is no line of TensorFlow; expected classic or current"),
        ("ACCELERATOR=tpu", "ACCELERATOR=tpu; expected cpu or gpu"),
        ("PLATFORM=linux/s390x", "PLATFORM=linux/s390x; expected linux/amd64, or linux/arm64 for CPUs"),
    ],
)
def test_an_image_that_cannot_be_built(given: str, words: str) -> None:
    done = subprocess.run(["env", given, ROOT / "tools" / "image", "none"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"image: {words}")
    assert len(done.stderr.splitlines()) == 1
