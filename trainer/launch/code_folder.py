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
from trainer.core.run_dir import sent_code_key
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

    @property
    def goes_through_output(self) -> bool:
        """Whether a cluster's pods get it out of the output's bucket, since it is too large for a ConfigMap."""
        return len(self.archive) > shipped_code.CONFIG_MAP_BYTES

    @property
    def key(self) -> str:
        """Its key below the output's address, where it goes through that."""
        return sent_code_key(shipped_code.digest(self.archive))

    def __str__(self) -> str:
        return (
            f"{len(self.files)} file(s) of {self.folder}, {_size(len(self.archive))} packed, checksum {self.checksum}"
        )

    def value(self, release: str) -> str:
        """What the chart's value `code` is for it."""
        if self.goes_through_output:
            return f"sha256:{shipped_code.digest(self.archive)}"
        name: str = self.config_map(release)["metadata"]["name"]
        return name

    def objects(self, release: str) -> list[Json]:
        """What is made of it on a cluster for a release."""
        return [] if self.goes_through_output else [self.config_map(release)]

    def check_output(self, output: str) -> None:
        """Refuses an output through which it cannot go, where it has to.

        Raises:
          UsageError: says what is to be done.
        """
        if not self.goes_through_output or "://" in output:
            return
        there = f"the output {output} can be written by pods alone" if output else "there is no output"
        raise UsageError(
            f"--code={self.folder} packs to {_size(len(self.archive))}; more than "
            f"{_size(shipped_code.CONFIG_MAP_BYTES)} goes through a bucket, and {there}: name one by --output=gs://… "
            f"or s3://…, or let git ignore what is no code; the largest files are {_largest(self.files)}"
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
    unpacked = sum(path.stat().st_size for path in files.values())
    if unpacked > shipped_code.MOST_UNPACKED:
        raise _too_large(folder, f"holds {_size(unpacked)}", shipped_code.MOST_UNPACKED, files)
    try:
        archive = shipped_code.pack(files)
    except OSError as error:
        raise UsageError(f"--code={folder}: {error.filename} cannot be read: {error.strerror}") from None
    if len(archive) > shipped_code.MOST_BYTES:
        raise _too_large(folder, f"packs to {_size(len(archive))}", shipped_code.MOST_BYTES, files)
    return Code(folder=root, archive=archive, files=files)


def _too_large(folder: str, what: str, most: int, files: Mapping[str, pathlib.Path]) -> UsageError:
    return UsageError(
        f"--code={folder} {what}, and at most {_size(most)} can be sent; the largest files are {_largest(files)}: let "
        "git ignore what is no code, or build an image"
    )


def _largest(files: Mapping[str, pathlib.Path]) -> str:
    largest = sorted(files.items(), key=lambda item: -item[1].stat().st_size)[:_NAMED]
    return ", ".join(f"{name} ({_size(path.stat().st_size)})" for name, path in largest)


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
