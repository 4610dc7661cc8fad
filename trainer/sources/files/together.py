"""The same for many files, at the same time: each is a wait of some milliseconds where they lie in a bucket."""

import concurrent.futures
from collections.abc import Callable, Iterable
from typing import TypeVar

AT_ONCE = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What the function returns for each, in their order; raises what it raises for the first that fails."""
    items = list(items)
    if len(items) < 2:
        return [function(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(min(AT_ONCE, len(items)), "files") as threads:
        try:
            return list(threads.map(function, items))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
