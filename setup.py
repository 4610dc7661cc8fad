"""What pyproject.toml cannot say: the wheel has the chart and the plain manifests, which lie outside of trainer/."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

_CARRIED = {"helm": "trainer/launch/chart", "k8s": "trainer/launch/manifests"}
"""The folders of this repository, and where `trainer.launch.helm.own_files` looks for them in an installed package."""


class _WithChart(build_py):
    """Copies them to the modules. An editable install reads them where they lie, and the image is built without."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder, target in _CARRIED.items():
            source, copy = pathlib.Path(__file__).parent / folder, pathlib.Path(self.build_lib) / target
            shutil.rmtree(copy, ignore_errors=True)  # What an earlier build has left.
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": _WithChart})
