"""Programs of others that the tests run: see ./build."""

import json
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent


def tool(name: str) -> Path:
    """The binary of a program, built if it is not there yet (minutes, once)."""
    done = subprocess.run([_HERE / "build", name], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip()) / name


def source(module: str) -> Path:
    """The folder of a module that a program comes from: what else is in it."""
    command = ("go", "mod", "download", "-json", module)
    done = subprocess.run(command, cwd=_HERE, check=True, capture_output=True, text=True)
    return Path(json.loads(done.stdout)["Dir"])
