"""`python -m tools.arm64_wheels [--download]`: what the CPU image for linux/arm64 is made of, from wheels alone.

Resolves both lines of TensorFlow for each Python that they have, with the versions of the constraints; --download gets
the wheels that the images' requirements name, and checks them by hash. Needs `uv` (`pip install uv`), because pip
resolves for the machine that it runs on.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tools.locked_requirements import ROOT, platforms, written

PYTHONS = {"": ("3.11", "3.12"), "-current": ("3.11", "3.12", "3.13")}
IMAGE = "3.11"


def resolved(line: str, python: str, path: Path) -> int:
    """Writes the requirements to a file; returns how many there are."""
    command = [
        "uv", "pip", "compile", "--quiet", "--python-platform=aarch64-manylinux_2_28", f"--python-version={python}",
        "--only-binary=:all:", "--no-header", "--no-annotate", f"--extra=cpu{line}",
        f"--constraint=constraints{line}.txt", f"--output-file={path}", "pyproject.toml",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    pinned = {
        text.partition(" ")[0].lower().replace("_", "-") for text in path.read_text().splitlines() if "==" in text
    }
    known = (ROOT / f"constraints{line}.txt").read_text().lower().replace("_", "-").split()
    if missing := sorted(pinned - set(known)):
        sys.exit(f"error: constraints{line}.txt lacks {', '.join(missing)}; add them")
    return len(pinned)


def downloaded(path: Path, folder: Path) -> int:
    """Downloads what a file of requirements names; returns how many bytes that is."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={IMAGE}", *(f"--platform={name}" for name in platforms("arm64")),
        f"--dest={folder}", f"--requirement={path}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))


def main(argv: list[str]) -> None:
    for line, pythons in PYTHONS.items():
        for python in pythons:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "requirements.txt")
                said = f"cpu{line}, Python {python}: {resolved(line, python, path)} wheels"
                if "--download" in argv and python == IMAGE:
                    size = downloaded(written(f"cpu{line}", "arm64"), Path(folder, "wheels"))
                    said += f", {size / 1e6:.0f} MB, hashes are right"
                print(said, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
