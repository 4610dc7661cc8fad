"""Values out of JSON that another program wrote, each of the type and in the range that it must have, or refused.

JSON's types are not Python's: `true` is an int, 1e999 is infinite, a key may be missing, a number may have 400 digits.
"""

import json
from collections.abc import Mapping
from typing import Any

MOST = 2**53  # Whole numbers up to here are the same in every program that reads JSON.


def loads(data: bytes | str, *, lenient: bool = False) -> Any:
    """JSON as the standard has it; `lenient` takes NaN and Infinity, too, as 0.1.0 wrote them.

    Raises:
      ValueError: it is none, or so deep or long that only somebody who means harm would write it.
    """
    try:
        return json.loads(data, parse_constant=float if lenient else _refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def an_object(value: Any, what: str) -> dict[str, Any]:
    """An object; `what` names it in the error. Every function here raises ValueError for a value of another kind."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {_shown(value)}, expected an object")
    return value


def whole(value: Mapping[str, Any], name: str, *, least: int = 0, most: int = MOST) -> int:
    """A whole number from `least` to `most`."""
    number = value.get(name)
    if type(number) is not int or not least <= number <= most:
        raise ValueError(f"{name} is {_shown(number)}, expected a whole number from {least} to {most}")
    return number


def number(value: Mapping[str, Any], name: str) -> float:
    """A number that is finite."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) <= MOST:
        raise ValueError(f"{name} is {_shown(found)}, expected a number")
    return float(found)


def text(value: Mapping[str, Any], name: str) -> str:
    """A text, of any length."""
    found = value.get(name)
    if not isinstance(found, str):
        raise ValueError(f"{name} is {_shown(found)}, expected a text")
    return found


def texts(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts."""
    found = value.get(name)
    if not isinstance(found, list | tuple) or not all(isinstance(entry, str) for entry in found):
        raise ValueError(f"{name} is {_shown(found)}, expected a list of texts")
    return tuple(found)


def wholes(value: Mapping[str, Any], name: str, *, most: int) -> tuple[int, ...]:
    """A list of different whole numbers from 0 to `most`, in their order."""
    found = value.get(name)
    if not isinstance(found, list | tuple) or not all(type(entry) is int and 0 <= entry <= most for entry in found):
        raise ValueError(f"{name} is {_shown(found)}, expected whole numbers from 0 to {most}")
    if list(found) != sorted(set(found)):
        raise ValueError(f"{name} is {_shown(found)}, expected each number once, in their order")
    return tuple(found)


def _shown(value: Any) -> str:
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of more than 20 digits"
    return text if len(text) <= 40 else f"{text[:40]}…"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
