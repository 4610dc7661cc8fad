r"""The grammar of helm's --set, read as helm reads it.

    a.b=1,c=x\,y      maps, several values, a comma that parts nothing
    a={1,2}           a list
    a[0].b=1          one item of a list

A backslash makes the next character an ordinary one. A value is true, false, null, a whole number, or else text.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json

_WORDS = {"true": True, "false": False, "null": None}
_WHOLE = re.compile(r"0|[+-][0-9]+|[1-9][0-9]*")
_MOST_ITEMS = 65536  # Helm takes no higher index of a list.
_LARGEST = 2**63

_Path = Sequence[str | int]  # The keys of maps and the indexes of lists that lead to a value.


def parse(text: str) -> Json:
    """The values that one --set gives, as nested maps and lists.

    Raises:
      UsageError: helm would not take it either.
    """
    reader = _Reader(text)
    values: Any = {}
    while reader.rest:
        path = _path(reader)
        values = _placed(reader, values, path, _value(reader))
    return dict(values)


def changed(texts: Sequence[str], before: Json) -> Json:
    """What --set changes, as values that can stand in a file: of a list all items, since a file gives lists as a whole.

    Args:
      texts: what was given with --set, in order.
      before: the values that the user's files and flags give.

    Raises:
      UsageError: helm would not take it either.
    """
    values, changes = before, Json()
    paths: list[_Path] = []
    for text in texts:
        reader = _Reader(text)
        while reader.rest:
            path = _path(reader)
            values = _placed(reader, values, path, _value(reader))
            paths.append(list(itertools.takewhile(lambda key: isinstance(key, str), path)))
    for keys in paths:
        value: Any = values
        for key in keys:
            value = value[key] if isinstance(value, dict) else None  # A later --set may have taken the map away.
        changes = merged(changes, _nested(keys, value))
    return changes


def merged(values: Json, later: Json) -> Json:
    """The values of two files, as helm merges them: maps key by key, all else is replaced."""
    both = {key: merged(values[key], value) for key, value in later.items() if _are_maps(values.get(key), value)}
    return {**values, **later, **both}


def _are_maps(first: Any, second: Any) -> bool:
    return isinstance(first, dict) and isinstance(second, dict)


def _nested(keys: _Path, value: Any) -> Json:
    return {str(keys[0]): _nested(keys[1:], value) if len(keys) > 1 else value}


class _Reader:
    """What is left of the text."""

    def __init__(self, text: str) -> None:
        self.text, self.rest = text, text

    def take(self, character: str) -> bool:
        """Takes the next character if it is this one."""
        if not self.rest.startswith(character):
            return False
        self.rest = self.rest[1:]
        return True

    def until(self, stops: str) -> tuple[str, str]:
        """The text before the next of these characters, and that character; "" at the end. Takes both."""
        text = ""
        while self.rest:
            character, self.rest = self.rest[0], self.rest[1:]
            if character in stops:
                return text, character
            if character == "\\":
                character, self.rest = self.rest[:1], self.rest[1:]
            text += character
        return text, ""

    def error(self, why: str) -> UsageError:
        return UsageError(f"--set={self.text} is not of the form key=value: {why}")


def _path(reader: _Reader) -> _Path:
    """The keys and indexes up to the `=`, which is taken too."""
    path: list[str | int] = []
    while True:
        key, stop = reader.until("=[,.")
        if stop in ("", ","):
            raise reader.error(f"{key!r} has no value")
        if not key:
            raise reader.error("a key is empty")
        path.append(key)
        while stop == "[":
            index, _ = reader.until("]")
            if not re.fullmatch("[0-9]+", index) or int(index) > _MOST_ITEMS:
                raise reader.error(f"[{index}] is no index of a list")
            path.append(int(index))
            after, stop = reader.until("[.=")
            if after or not stop:
                raise reader.error(f"{after!r} follows an index" if after else f"[{index}] has no value")
        if stop == "=":
            return path


def _value(reader: _Reader) -> Any:
    """What stands after the `=`, with the comma after it."""
    if not reader.take("{"):
        return _typed(reader.until(",")[0])
    items = []
    while True:
        item, stop = reader.until(",}")
        if not stop:
            raise reader.error("a list must end with }")
        items.append(_typed(item))
        if stop == "}":
            reader.take(",")
            return items


class Whole(int):
    """A whole number that knows how it was typed: where a chart wants text, that is the text."""

    typed: str

    @classmethod
    def read(cls, text: str) -> "Whole":
        """The number that a text is."""
        number = cls(text)
        number.typed = text
        return number


def _typed(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text) and -_LARGEST <= int(text) < _LARGEST:
        return Whole.read(text)
    return text


def _placed(reader: _Reader, container: Any, path: _Path, value: Any) -> Any:
    """The container with the value at the path; maps and lists on the way are made."""
    if not path:
        return value
    first, *rest = path
    if isinstance(first, str):
        if not isinstance(container, dict | None):
            raise reader.error(f"{first!r} would be a key of what is no map")
        entries = container or {}
        return {**entries, first: _placed(reader, entries.get(first), rest, value)}
    if not isinstance(container, list | None):
        raise reader.error(f"[{first}] would be an item of what is no list")
    items = list(container or [])
    items += [None] * (first + 1 - len(items))
    items[first] = _placed(reader, items[first], rest, value)
    return items
