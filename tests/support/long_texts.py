"""Lines as long as an agent reads them, made for regular expressions that take the square of a text's length."""

import time
from collections.abc import Callable

_LENGTH = 2**16

# What a pattern may begin with, so that it begins at every place, and what it then goes on with.
PIECES = (
    *"\x90\x98\x9b\x9c\x9d\x9e\x9f\x1b",
    *("\x1b]", "\x1bP", "\x1bX", "\x1b^", "\x1b_", "\x1b[", "\x1b[0;", "\x1b ", "\x9b0;", "\x9b ", "\x9dx"),
    *("\x1b]\x9d", "\x9d\x1b]", "\x1bP\x90", "\x9d\x1b[0"),
    *"?@:/= ax0\u2028",
    *("://", "://a", "a://b@", "://?", "http://", "http://a?", "https://a:b@", "?@", "token=", "=a", "a=", "a=1 "),
)


def long_text(piece: str, start: str = "") -> str:
    """A text that is a piece again and again."""
    return start + piece * (_LENGTH // len(piece))


def cpu_seconds(function: Callable[[str], object], text: str) -> float:
    """The time that this process spends on a call, whatever else the machine does."""
    began = time.process_time()
    function(text)
    return time.process_time() - began
