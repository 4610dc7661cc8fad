"""Ranges of files of any kind, many at once; what comes from a bucket can be kept on the disk."""

import concurrent.futures
import os
import threading
from collections.abc import Sequence

from trainer.sources.files import bucket, local
from trainer.sources.files.disk_cache import BLOCK, DiskCache
from trainer.sources.files.file import File
from trainer.sources.files.spans import Pieces, Span, requests

CONNECTIONS = 64  # Requests at the same time, of all threads of the process together.
PART_BYTES = 4 * 2**20  # Of one request.
GAP_BYTES = 32 * 2**10  # Between two ranges that are asked for together.


class _Process:
    """What all threads of this process share."""

    cache: DiskCache | None = None
    threads: concurrent.futures.ThreadPoolExecutor | None = None
    lock = threading.Lock()


def use_cache(folder: str | os.PathLike[str] | None, max_bytes: int = 0) -> None:
    """Keeps what is read from buckets in a folder, of which any number of processes may make use.

    Args:
      folder: made if it is not there; None: nothing is kept.
      max_bytes: how much, over all processes.

    Raises:
      UsageError: the folder cannot be written to.
    """
    _Process.cache = DiskCache(folder, max_bytes) if folder is not None else None


def read(file: File, start: int = 0, size: int | None = None) -> bytes:
    """Reads a range, or the whole file.

    Raises:
      UsageError: the store or its file system refuses it, or there is no such bucket.
      DataError: it is not there, was changed, or is cut.
      StoreAwayError: the store did not answer for minutes.
    """
    return read_many([(file, start, file.size - start if size is None else size)])[0]


def read_many(ranges: Sequence[tuple[File, int, int]]) -> list[bytes]:
    """Reads ranges (file, start, size), those of buckets at the same time. They lie within their files.

    Raises:
      UsageError, DataError, StoreAwayError: as `read` does.
    """
    far = [Span(file, start, start + size) for file, start, size in ranges if not file.is_local]
    if not far:
        return local.read_many(ranges)
    pieces = Pieces(_read_far(far))
    near = iter(local.read_many([one for one in ranges if one[0].is_local]))
    spans = iter(far)
    return [next(near) if file.is_local else pieces.cut(next(spans)) for file, _, _ in ranges]


def _read_far(spans: list[Span]) -> dict[Span, bytes]:
    cache = _Process.cache
    if cache is None:
        return _ask_for(requests(spans, gap=GAP_BYTES, most=PART_BYTES))
    found: dict[Span, bytes] = {}
    missing: dict[Span, None] = {}
    for span in spans:
        for number in _blocks(span):
            block = _block(span.file, number)
            part = Span(span.file, max(span.start, block.start), min(span.end, block.end))
            data = cache.get(span.file, number, part.start - block.start, part.end - block.start)
            if data is None:
                missing[block] = None
            else:
                found[part] = data
    for span, data in _ask_for(requests(missing, gap=0, most=PART_BYTES)).items():
        for number in _blocks(span):
            block = _block(span.file, number)
            found[block] = data[block.start - span.start : block.end - span.start]
            cache.put(span.file, number, found[block])
    return found


def _blocks(span: Span) -> range:
    return range(span.start // BLOCK, -(-span.end // BLOCK))


def _block(file: File, number: int) -> Span:
    return Span(file, number * BLOCK, min((number + 1) * BLOCK, file.size))


def _ask_for(spans: list[Span]) -> dict[Span, bytes]:
    if len(spans) < 2:
        return {span: _ask(span) for span in spans}
    return dict(zip(spans, _threads().map(_ask, spans), strict=True))


def _ask(span: Span) -> bytes:
    return bucket.read(span.file, span.start, span.end - span.start)


def _threads() -> concurrent.futures.ThreadPoolExecutor:
    with _Process.lock:
        if _Process.threads is None:
            _Process.threads = concurrent.futures.ThreadPoolExecutor(CONNECTIONS, "data")
        return _Process.threads


def _after_fork() -> None:
    _Process.threads = None
    _Process.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
