"""`python -m tools.arm64_wheels [--download]`: what the CPU image for linux/arm64 is made of, from wheels alone.

Resolves both lines of TensorFlow for each Python that they have, with the versions of the constraints; --download gets
the wheels that the images' requirements name, and checks them by hash. Needs `uv` (`pip install uv`), because pip
resolves for the machine that it runs on.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name

from tools.locked_requirements import PYTHON, arm64_pins, constraints, platforms, written

PYTHONS = {"": ("3.11", "3.12"), "-current": ("3.11", "3.12", "3.13")}


def resolved(line: str, python: str) -> int:
    """Resolves the extra of a line, with versions that the tests run; returns how many packages there are."""
    pinned = {_canonical(pin.partition(" ")[0]) for pin in arm64_pins(f"cpu{line}", python)}
    known = {_canonical(pin) for pin in constraints(f"cpu{line}").read_text().split()}
    if missing := sorted(pinned - known):
        sys.exit(f"error: constraints{line}.txt lacks {', '.join(missing)}; add them")
    return len(pinned)


def _canonical(pin: str) -> str:
    name, _, version = pin.partition("==")
    return f"{canonicalize_name(name)}=={version}"


def downloaded(path: Path, folder: Path) -> int:
    """Downloads what a file of requirements names; returns how many bytes that is."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={PYTHON}", *(f"--platform={name}" for name in platforms("arm64")),
        f"--dest={folder}", f"--requirement={path}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))


def main(argv: list[str]) -> None:
    for line, pythons in PYTHONS.items():
        for python in pythons:
            said = f"cpu{line}, Python {python}: {resolved(line, python)} wheels"
            if "--download" in argv and python == PYTHON:
                with tempfile.TemporaryDirectory() as folder:
                    size = downloaded(written(f"cpu{line}", "arm64"), Path(folder))
                said += f", {size / 1e6:.0f} MB, hashes are right"
            print(said, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
