"""An experiment's code as it travels: one archive, unpacked for a worker, with the packages that it asks for.

    FOLDER/src        the files of the archive
    FOLDER/packages   what its requirements.txt asks for beyond what is installed, pure Python alone

Both are then on PYTHONPATH, in this order.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from trainer.core.exit_codes import OutputError, UsageError
from trainer.core.run_dir import CODE

ARCHIVE = CODE  # Also the key in the ConfigMap that brings it to the pods.
REQUIREMENTS = "requirements.txt"
CONFIG_MAP_BYTES = 2**20  # A ConfigMap brings no larger archive to the pods; the output does.
MOST_BYTES = 64 * 2**20  # Of an archive.
MOST_UNPACKED = 256 * 2**20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SOURCE, _PACKAGES = "src", "packages"
_PURE = re.compile(r"-none-any\.whl(?:[?#]|$)")
INSTALL_SECONDS = 600.0  # For all of it; the chart's startupProbe waits for longer.
# What is waited for is waited for in turns of so long: a signal that comes right before a wait does not end it, and is
# heard after it.
TURN_SECONDS = 0.5


def pack(files: Mapping[str, Path]) -> bytes:
    """An archive of files, by their paths in it; equal files make equal bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)


def digest(archive: bytes) -> str:
    """The SHA-256 of an archive, which says what it holds."""
    return hashlib.sha256(archive).hexdigest()


def checksum(archive: bytes) -> str:
    """The part of it that people read, and that names a ConfigMap."""
    return digest(archive)[:10]


def python_path(folder: Path, before: str = "") -> str:
    """PYTHONPATH with what `unpack` and `install` have made in a folder, and what was on it before."""
    return os.pathsep.join(filter(None, (str(folder / _SOURCE), str(folder / _PACKAGES), before)))


def unpack(archive: bytes, folder: Path) -> None:
    """Unpacks an archive that `pack` has made.

    Raises:
      UsageError: it is no such archive, or the folder may not be written.
      OutputError: there is no room for it, which another machine may have.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
            if sum(entry.size for entry in files.getmembers()) > MOST_UNPACKED:
                raise UsageError(f"the code unpacks to more than {MOST_UNPACKED // 2**20} MiB")
            if odd := [entry.name for entry in files.getmembers() if not _stays_inside(entry)]:
                raise UsageError(f"the code that was sent holds {odd[0]!r}, which is no file of it")
            files.extractall(folder / _SOURCE)  # noqa: S202  Python before 3.11.4 has no filter of its own.
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:  # The last: of odd names.
        raise UsageError(f"the code that was sent is damaged: {error}") from None
    except OSError as error:
        kind = OutputError if error.errno in _NO_ROOM else UsageError
        raise kind(f"the code cannot be unpacked: {folder} cannot be written: {error.strerror}") from None


def _stays_inside(entry: tarfile.TarInfo) -> bool:
    """Whether an entry is a file or a folder below where it is unpacked."""
    parts = PurePosixPath(entry.name).parts
    return (entry.isfile() or entry.isdir()) and not entry.name.startswith("/") and ".." not in parts


def install(folder: Path) -> int:
    """Installs what requirements.txt of the unpacked code asks for beyond what is there; returns how many packages.

    Raises:
      UsageError: what cannot be had, or is not pure Python, or would replace what is installed.
      OutputError: there is no room for it, which another machine may have.
    """
    requirements = folder / _SOURCE / REQUIREMENTS
    if not requirements.is_file():
        return 0
    deadline = time.monotonic() + INSTALL_SECONDS
    # The first pass only resolves, against what is installed: that TensorFlow is there already is the point.
    plan = json.loads(_pip(deadline, "--dry-run", "--quiet", "--report", "-", "--requirement", str(requirements)))
    wanted = {}
    for item in plan["install"]:
        name, url = item["metadata"]["name"], item["download_info"]["url"]
        if not _PURE.search(url):
            raise UsageError(
                f"{REQUIREMENTS}: {name} {item['metadata']['version']} would have to be installed and is not pure "
                f"Python ({url.rsplit('/', 1)[-1]}); build an image that has it"
            )
        sha256 = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        wanted[name] = f"{name} @ {url}" + (f" --hash=sha256:{sha256}" if sha256 else "")
    if not wanted:
        return 0
    pinned = folder / "pinned.txt"
    try:
        pinned.write_text("".join(f"{line}\n" for line in wanted.values()))
    except OSError as error:
        raise OutputError(f"{REQUIREMENTS} cannot be installed: {pinned}: {error.strerror}") from None
    target = ("--quiet", "--no-deps", "--no-compile", "--target", str(folder / _PACKAGES))
    _pip(deadline, *target, "--requirement", str(pinned))
    return len(wanted)


def _pip(deadline: float, *arguments: str) -> str:
    """What `pip install` prints with these arguments, if it ends before the time.monotonic of a deadline.

    Raises:
      UsageError, OutputError: with pip's own reason.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-cache-dir"]
    only = ("--only-binary", ":all:")
    with subprocess.Popen(
        [*command, *only, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            stdout, stderr = _outputs(process, deadline)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = [line for line in stderr.splitlines() if line.startswith("ERROR: ")] or stderr.splitlines()
        reason = "; ".join(dict.fromkeys(line.removeprefix("ERROR: ") for line in lines[-3:])) or "pip said nothing"
        full = any(f"[Errno {number}]" in reason for number in _NO_ROOM)
        raise (OutputError if full else UsageError)(f"{REQUIREMENTS} cannot be installed: {reason}")
    return stdout


def _outputs(process: subprocess.Popen[str], deadline: float) -> tuple[str, str]:
    while True:
        try:
            return process.communicate(timeout=TURN_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"{REQUIREMENTS} took longer than {INSTALL_SECONDS:g} s; is there a package index?"
                ) from None
