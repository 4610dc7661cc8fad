"""Writes requirements/cpu-amd64.txt and so on, what each image installs, with checksums: `make requirements`.

It asks the package index, and downloads no wheel. Versions are those of constraints*.txt, wheels those of the image's
Python and processor; a package that has none for them is an error. What the images for arm64 need is found by `uv`
(`pip install uv`), because pip knows only what packages need on the machine that it runs on.
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
PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64"}  # As images call them, and as Python does.
EXTRA = "profile"  # Which every image has, too: TensorBoard's page for profiles.
IMAGES = [*((name, "amd64") for name in ACCELERATORS), ("cpu", "arm64"), ("cpu-current", "arm64")]
PYTHON = "3.11"
HEADER = """# All that the image {accelerator} installs, with checksums of the wheels: Python {python} on {processor}.
# Written by `make requirements` from pyproject.toml and {constraints}; a test holds it to them.
"""


def platforms(processor: str) -> list[str]:
    """All that wheels for a processor may be called: pip takes no older ones by itself. Bookworm has glibc 2.36."""
    named = [f"manylinux_2_{minor}" for minor in range(36, 4, -1)] + ["manylinux2014", "manylinux2010", "manylinux1"]
    return [f"{name}_{PROCESSORS[processor]}" for name in named]


def direct(accelerator: str) -> list[str]:
    """The requirements that pyproject.toml itself names for an image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras[accelerator], *extras[EXTRA]]


def constraints(accelerator: str) -> Path:
    """The file of the versions that are tested."""
    return ROOT / f"constraints{'-current' if accelerator.endswith('-current') else ''}.txt"


def written(accelerator: str, processor: str) -> Path:
    """The file of an image."""
    return ROOT / "requirements" / f"{accelerator}-{processor}.txt"


def locked(accelerator: str, processor: str) -> str:
    """Asks the package index: the text of the file of an image."""
    wanted = direct(accelerator) if processor == "amd64" else arm64_pins(accelerator)
    options = ["--dry-run", "--ignore-installed", "--only-binary=:all:", f"--python-version={PYTHON}"]
    options += [f"--platform={name}" for name in platforms(processor)]
    if processor != "amd64":
        options.append("--no-deps")  # The pins are all.
    # A folder of wheels that this machine has may hold others than the index.
    environ = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options += [f"--target={folder}/none", f"--report={report}", f"--constraint={constraints(accelerator)}"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, *wanted]
        subprocess.run(command, check=True, env=environ)
        found = json.loads(report.read_text())["install"]
    lines = [
        f"{each['metadata']['name']}=={each['metadata']['version']}"
        f" --hash=sha256:{each['download_info']['archive_info']['hashes']['sha256']}\n"
        for each in found
    ]
    name = constraints(accelerator).name
    header = HEADER.format(accelerator=accelerator, constraints=name, python=PYTHON, processor=processor)
    return header + "".join(sorted(lines, key=str.lower))


def arm64_pins(accelerator: str, python: str = PYTHON) -> list[str]:
    """What an extra needs on arm64, each package with its version; `uv` must be there."""
    command = [
        "uv", "pip", "compile", "--quiet", "--python-platform=aarch64-manylinux_2_36", f"--python-version={python}",
        "--only-binary=:all:", "--no-header", "--no-annotate", f"--extra={accelerator}",
        f"--extra={EXTRA}", f"--constraint={constraints(accelerator)}", "pyproject.toml",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith(("#", " "))]


def main() -> None:
    for accelerator, processor in IMAGES:
        if not sys.argv[1:] or written(accelerator, processor).stem in sys.argv[1:]:
            written(accelerator, processor).write_text(locked(accelerator, processor))


if __name__ == "__main__":
    main()
