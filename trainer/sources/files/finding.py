"""The files that an address names: one, those of a folder, or those that a pattern matches."""

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence

from trainer.core.exit_codes import DataError
from trainer.core.safe_text import redacted
from trainer.output.stores.errors import StorageError
from trainer.output.stores.ranges import Entry
from trainer.sources.files import bucket, local
from trainer.sources.files.file import File, join, split
from trainer.sources.files.retries import Retries
from trainer.sources.files.together import each

Address = str | os.PathLike[str]

_WILDCARD = re.compile(r"[*?\[]")
_HIDDEN = (".", "_")  # Names that begin so are no data: _SUCCESS, .ipynb_checkpoints.


def find(where: Address | Sequence[Address], *, names: Iterable[str] = ("*",)) -> list[File]:
    """The files that an address or several name, each address's in the order of their names.

    Args:
      where: a file, a folder or a pattern (`*`, `?`, `[a-z]`; `**/` for folders of any depth), or several of these;
        local paths, gs:// or s3://.
      names: patterns; of a folder the files that match one of them. Names that begin with `.` or `_` are left out.

    Raises:
      DataError: an address names nothing.
      UsageError: an address is none, or its store refuses to look.
    """
    addresses = [where] if isinstance(where, str | os.PathLike) else list(where)
    if not addresses:
        raise DataError("no address of data was given; expected a path, gs://bucket/path or s3://bucket/path")
    patterns = list(names)
    return [file for found in each(lambda address: _find(os.fspath(address), patterns), addresses) for file in found]


def look(address: Address) -> File | None:
    """The file of exactly that name; None when there is none.

    Raises:
      UsageError: it is no address, or its store refuses to look.
    """
    address = os.fspath(address)
    if split(address)[0]:
        return bucket.describe(address)
    return local.describe(address) if os.path.isfile(address) else None


def entries(folder: str) -> list[Entry]:
    """All files below a folder at any depth, by their names below it, in no order.

    Raises:
      DataError: there is no such folder.
      UsageError: its store refuses to look.
    """
    return _entries(folder, deep=True)


def _find(address: str, names: list[str]) -> list[File]:
    address = address if address.strip("/") == "" else address.rstrip("/") if split(address)[2] else address
    exact = _exact(address)
    if exact is not None:
        return [exact]
    folder, pattern = _folder_and_pattern(address)
    if pattern:
        matches = re.compile(_translated(pattern))
        hidden = pattern.rpartition("/")[2].startswith(".")  # As in a shell: `*` does not stand for a dot at the start.
        found = [
            entry
            for entry in _entries(folder, deep="/" in pattern)
            if matches.fullmatch(entry.key) and (hidden or not entry.key.rpartition("/")[2].startswith("."))
        ]
        expected = f"matches {redacted(address)}"
    else:
        found = [
            entry
            for entry in _entries(folder, deep=False)
            if not entry.key.startswith(_HIDDEN) and any(fnmatch.fnmatchcase(entry.key, name) for name in names)
        ]
        expected = f"in {redacted(address)} is called {' or '.join(names)}"
    if not found:
        raise DataError(f"no file {expected}; name a file, a folder with such files, or a pattern")
    return [
        File(join(folder, entry.key), entry.size, entry.version) for entry in sorted(found, key=lambda entry: entry.key)
    ]


def _folder_and_pattern(address: str) -> tuple[str, str]:
    """The part before the first wildcard's folder, and the rest; no rest where there is no wildcard.

    What a folder of this machine is called is no wildcard.
    """
    scheme, _, key = split(address)
    for wildcard in _WILDCARD.finditer(key):
        end = key.find("/", wildcard.start())
        if not scheme and os.path.isdir(key if end < 0 else key[:end]):
            continue
        begin = key.rfind("/", 0, wildcard.start()) + 1
        folder = address[: len(address) - len(key) + begin]
        return folder.rstrip("/") or ("/" if folder else "."), key[begin:]
    return address, ""


def _exact(address: str) -> File | None:
    """The file of exactly that name; None when it is a folder, or there is none."""
    scheme, _, key = split(address)
    if scheme:
        return bucket.describe(address) if key and not _WILDCARD.search(key) else None
    if os.path.isdir(address) or (_WILDCARD.search(address) and not os.path.exists(address)):
        return None
    return local.describe(address)


def _entries(folder: str, *, deep: bool) -> list[Entry]:
    scheme, _, key = split(folder)
    if scheme:
        start = len(key.rstrip("/")) + 1 if key.rstrip("/") else 0
        below = (Entry(entry.key[start:], entry.size, entry.version) for entry in bucket.entries(folder))
        found = [entry for entry in below if entry.key and (deep or "/" not in entry.key)]
        if not found and not deep:
            raise DataError(f"{redacted(folder)}: there is no such file, and no folder with files in it")
        return found
    retries = Retries(folder)
    while True:
        try:
            return list(local.entries(folder, deep=deep))
        except StorageError as error:
            retries.failed(error)


def _translated(pattern: str) -> str:
    """The regular expression of a pattern: `*`, `?` and sets end at a slash, `**/` is any number of folders."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif pattern[at] == "*":
            parts.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            parts.append("[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            parts.append(f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]")
            at = end + 1
        else:
            parts.append(re.escape(pattern[at]))
            at += 1
    return "".join(parts)
