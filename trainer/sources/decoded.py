"""A source with a function that the readers apply: decoding, resizing, random choices."""

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex


class Decoded:
    """Another source, with a `decode` that runs in the readers, after reading."""

    def __init__(self, source: Any, decode: Callable[[Any, Any], Any]) -> None:
        """Takes both.

        Args:
          source: any source.
          decode: takes an example and a seed, uint32 [2], another one for each epoch and row; returns an example.
            Random choices that depend on the seed alone are the same after any kill and for any number of workers:
            `np.random.default_rng(seed)`.
        """
        self._source, self._decode = source, decode

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: SupportsIndex) -> Any:
        return self._source[index]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """Several examples, not decoded yet."""
        if hasattr(self._source, "__getitems__"):
            return list(self._source.__getitems__(indices))
        return [self._source[index] for index in indices]

    def decode(self, example: Any, seed: Any) -> Any:
        """Decodes an example; where the source has a `decode` of its own, after that."""
        inner = getattr(self._source, "decode", None)
        return self._decode(inner(example, seed) if inner else example, seed)

    def identity(self) -> dict[str, Any] | None:
        """The source's own."""
        identity = getattr(self._source, "identity", None)
        return identity() if identity else None
