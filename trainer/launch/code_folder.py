"""The folder of --code: which of its files are sent, whether they can be, and the ConfigMap that brings them."""

import base64
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

from trainer.core import shipped_code
from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json
from trainer.launch.cluster.labels import release_labels

_LEFT_OUT = {".git", "__pycache__"}
_NAMED = 3  # Files that are named of those that are too large.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Code:
    """What --code sends."""

    folder: pathlib.Path
    archive: bytes
    files: Mapping[str, pathlib.Path]  # By their path in the folder.

    @property
    def checksum(self) -> str:
        """What the code is called by: equal for equal files."""
        return shipped_code.checksum(self.archive)

    def __str__(self) -> str:
        return (
            f"{len(self.files)} file(s) of {self.folder}, {_size(len(self.archive))} packed, checksum {self.checksum}"
        )

    def has_module(self, name: str) -> bool:
        """Whether a module, or the package that it lies in, is in the folder."""
        first = name.split(".")[0]
        return f"{first}.py" in self.files or any(file.startswith(f"{first}/") for file in self.files)

    def modules(self) -> list[str]:
        """The modules and packages at the top of the folder."""
        python = [file for file in self.files if file.endswith(".py")]
        return sorted({file.partition("/")[0].removesuffix(".py") for file in python})

    def config_map(self, release: str) -> Json:
        """The ConfigMap that brings it to the pods of a release. It is called by its content, which never changes."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{release[:40]}-code-{self.checksum}", "labels": release_labels(release)},
            "immutable": True,
            "binaryData": {shipped_code.ARCHIVE: base64.b64encode(self.archive).decode()},
        }


@contextlib.contextmanager
def importable(code: Code | None) -> Iterator[None]:
    """Lets the flags of an experiment in the folder be found, inside of the block."""
    if code is None:
        yield
        return
    sys.path.insert(0, str(code.folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(code.folder.resolve()))


def read(folder: str) -> Code:
    """Packs a folder, without what git ignores.

    Raises:
      UsageError: there is no such folder, or it cannot be sent.
    """
    root = pathlib.Path(folder)
    if not os.path.isdir(folder):  # It takes any text, where pathlib raises for some.
        raise UsageError(f"--code={folder} is not a folder; name the one that holds your experiment's module")
    files = {name: root / name for name in _listed(root) if (root / name).is_file()}
    if not files:
        raise UsageError(f"--code={folder} holds no files, besides what git ignores")
    hidden = sorted(set(Code(folder=root, archive=b"", files=files).modules()) & {*sys.stdlib_module_names, "trainer"})
    if hidden:
        raise UsageError(
            f"--code={folder}: {hidden[0]} has the name of a module of Python or of this program, and would hide it; "
            "give it another"
        )
    try:
        archive = shipped_code.pack(files)
    except OSError as error:
        raise UsageError(f"--code={folder}: {error.filename} cannot be read: {error.strerror}") from None
    if len(archive) > shipped_code.MOST_BYTES:
        largest = sorted(files.items(), key=lambda item: -item[1].stat().st_size)[:_NAMED]
        named = ", ".join(f"{name} ({_size(path.stat().st_size)})" for name, path in largest)
        raise UsageError(
            f"--code={folder} packs to {_size(len(archive))}, and at most {_size(shipped_code.MOST_BYTES)} can be "
            f"sent; the largest files are {named}: let git ignore what is no code, or build an image"
        )
    return Code(folder=root, archive=archive, files=files)


def _listed(root: pathlib.Path) -> list[str]:
    """The files below a folder, by their path in it, without what git ignores; without git: all."""
    listed = _git("-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        with tempfile.TemporaryDirectory() as empty:  # A .gitignore counts outside of a repository, too.
            _git("init", "--quiet", empty)
            where = (f"--git-dir={empty}/.git", f"--work-tree={root.resolve()}")
            listed = _git(*where, "-C", str(root), "ls-files", "-z", "--others", "--exclude-standard")
    if listed is None:
        listed = [str(path.relative_to(root)) for path in root.rglob("*")]
    return [name for name in listed if name and not _LEFT_OUT & set(pathlib.PurePath(name).parts)]


def _git(*arguments: str) -> list[str] | None:
    """What git lists; None: it is not installed, or fails, as outside of a repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True)
    except OSError:
        return None
    return os.fsdecode(done.stdout).split("\0") if done.returncode == 0 else None


def _size(number: int) -> str:
    return f"{number / 2**20:.1f} MiB" if number >= 2**20 else f"{max(1, number // 1024)} KiB"
