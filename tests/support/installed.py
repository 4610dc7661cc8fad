"""The package as people get it: a wheel of this checkout, and an environment that it is installed in."""

import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv

from tests.support.paths import ROOT

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
_MADE = ("build", "dist", "logs", "*.egg-info", ".git", ".venv*", ".c*", ".*_cache", "__pycache__")


def python(*arguments: str, cwd: pathlib.Path = ROOT) -> None:
    """Runs this Python, which has to succeed."""
    subprocess.run([sys.executable, *arguments], check=True, cwd=cwd, capture_output=True)


def copy_of_checkout(folder: pathlib.Path) -> pathlib.Path:
    """A copy of what a release is made of: building leaves files beside the source."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_MADE, "tests", "shared"))
    return folder


def wheel_of(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A wheel of a copy of the checkout, in a folder that has no other."""
    python(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source))
    (built,) = folder.glob("*.whl")
    return built


def install(wheel: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Makes an environment that holds the wheel, and of others only what it needs; returns its folder of programs."""
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    python(*PIP, "--python", str(folder), "install", "--no-deps", "--no-index", str(wheel))
    others = pathlib.Path(sysconfig.get_paths()["purelib"])
    # Those of this environment, but not through its own .pth files: they would lead to the checkout.
    (site / "others.pth").write_text(f"{others}\n")
    return folder / "bin"
