"""Text that others wrote, made safe to show: no control characters, nothing that turns writing round, no secrets.

What a terminal would take for a command (CVE-2021-25743 was that of kubectl), what would make one line look like two,
and half characters, which cannot be encoded.

No pattern takes longer than in proportion to the text: one that fails gives up before it meets what it can begin with.
"""

import re
from collections.abc import Mapping
from typing import Any

MOST_CHARACTERS = 1000

_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
# Control characters (C0, DEL, C1), marks and overrides of direction, invisible operators, tags, halves of surrogates.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
# A sequence goes as a whole, or what it says would be left: OSC and its like with their end, CSI, two characters.
_STRINGS = r"\x90\x98\x9d-\x9f"  # What begins OSC and its like, as one character.
_SEQUENCE = re.compile(
    rf"(?:\x1b[\]PX^_]|[{_STRINGS}])[^\x07\x1b\x9c\n{_STRINGS}]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
)

_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
_NO_COLOUR = "\x1b[0m"


def printable(text: str, *, colours: bool = False) -> str:
    """The text, with its lines and of any length, as a terminal can be given it.

    Args:
      text: what somebody wrote.
      colours: whether sequences that only change how characters look may stay; they end with the line.
    """
    return "\n".join(_printable_line(line, colours) for line in text.split("\n"))


def _printable_line(line: str, colours: bool) -> str:
    if line.isprintable() and line.isascii():
        return line
    parts = _COLOUR.split(line) if colours else [line]  # Every second one is a colour.
    parts[::2] = [_UNSAFE_CHARACTER.sub("", _BREAKS.sub(" ", _SEQUENCE.sub("", part))) for part in parts[::2]]
    return "".join(parts) + (_NO_COLOUR if len(parts) > 1 else "")


_PASSWORD = re.compile(r"://[^/\s]*@")
_AFTER_SCHEME = re.compile(r"""(://[^\s?"'<>]*)(\?[^\s"'<>]+)?""")  # With a query or without: it never fails.


def redacted(text: str) -> str:
    """A text without the user, the password and the query of any address in it (`scheme://user:password@host?key=…`)."""
    return _AFTER_SCHEME.sub(lambda match: match[1] + ("?…" if match[2] else ""), _PASSWORD.sub("://", text))


def redacted_in(value: Any) -> Any:
    """The same value of JSON, with every text in it `redacted`."""
    match value:
        case str():
            return redacted(value)
        case Mapping():
            return {name: redacted_in(item) for name, item in value.items()}
        case list() | tuple():
            return [redacted_in(item) for item in value]
    return value


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text as one line of at most `most` characters that changes nothing but the place where it is shown."""
    text = text[: 16 * most]  # Whoever sends megabytes is not to be waited for.
    line = _UNSAFE_CHARACTER.sub("", _BREAKS.sub(" ", _SEQUENCE.sub("", text))).strip()
    return line if len(line) <= most else line[: most - 1] + "…"
