"""Programs of others that the tests run: see ./build."""

import json
import re
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent


def tool(name: str) -> Path:
    """The binary of a program, built if it is not there yet (minutes, once)."""
    done = subprocess.run([_HERE / "build", name], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip()) / name


def source(name: str) -> Path:
    """The folder of the module that a program comes from which is built from its own go.mod: what else is in it."""
    (found,) = re.findall(rf"\[{name}\]=(\S+)/cmd/\S+(@\S+)", (_HERE / "build").read_text())
    command = ("go", "mod", "download", "-json", "".join(found))
    done = subprocess.run(command, cwd=_HERE, check=True, capture_output=True, text=True)
    return Path(json.loads(done.stdout)["Dir"])
