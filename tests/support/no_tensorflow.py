"""A Python that has all that the launcher needs, and not TensorFlow."""

import os
import pathlib
import subprocess
import sys

import rich

from tests.support.paths import ROOT


def without_tensorflow(folder: pathlib.Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a Python without TensorFlow; `folder` takes links to its packages."""
    packages = folder / "packages"
    packages.mkdir()
    for path in pathlib.Path(rich.__file__).parents[1].iterdir():
        if not path.name.lower().startswith(("tensorflow", "keras", "tensorboard")):
            (packages / path.name).symlink_to(path)
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{packages}"}
    return subprocess.run(
        [sys.executable, "-S", *arguments], capture_output=True, text=True, env=environ, timeout=60, check=False
    )
