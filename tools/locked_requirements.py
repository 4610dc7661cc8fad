"""Writes requirements/cpu.txt and so on, what each image installs, with checksums: `make requirements`.

It asks the package index, and downloads no wheel. Versions are those of constraints*.txt, wheels those of the image's
Python and processor; a package that has none for them is an error.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ACCELERATORS = ("cpu", "gpu", "cpu-current", "gpu-current")  # As pyproject.toml calls the extras.
PYTHON = "3.11"
# pip takes wheels only for platforms that are named, not for older ones that it runs on, too. Bookworm has glibc 2.36.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += [f"manylinux{name}_x86_64" for name in ("2014", "2010", "1")]
HEADER = """# All that the image {accelerator} installs, with checksums of the wheels, for Python {python} on amd64.
# Written by `make requirements` from pyproject.toml and {constraints}; a test holds it to them.
"""


def direct(accelerator: str) -> list[str]:
    """The requirements that pyproject.toml itself names for an image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"][accelerator]]


def constraints(accelerator: str) -> Path:
    """The file of the versions that are tested."""
    return ROOT / f"constraints{'-current' if accelerator.endswith('-current') else ''}.txt"


def written(accelerator: str) -> Path:
    """The file of an image."""
    return ROOT / "requirements" / f"{accelerator}.txt"


def locked(accelerator: str) -> str:
    """Asks the package index: the text of the file of an image."""
    options = ["--dry-run", "--ignore-installed", "--only-binary=:all:", f"--python-version={PYTHON}"]
    options += [f"--platform={name}" for name in PLATFORMS]
    # A folder of wheels that this machine has may hold others than the index.
    environ = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options += [f"--target={folder}/none", f"--report={report}", f"--constraint={constraints(accelerator)}"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, *direct(accelerator)]
        subprocess.run(command, check=True, env=environ)
        found = json.loads(report.read_text())["install"]
    lines = [
        f"{each['metadata']['name']}=={each['metadata']['version']}"
        f" --hash=sha256:{each['download_info']['archive_info']['hashes']['sha256']}\n"
        for each in found
    ]
    header = HEADER.format(accelerator=accelerator, constraints=constraints(accelerator).name, python=PYTHON)
    return header + "".join(sorted(lines, key=str.lower))


def main() -> None:
    for accelerator in sys.argv[1:] or ACCELERATORS:
        written(accelerator).write_text(locked(accelerator))


if __name__ == "__main__":
    main()
