"""The lines of every view: for a person on standard output or above a live screen, for programs as JSON."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

import rich.console

from trainer.core.safe_text import printable

EVENT_KEYS = ("time", "event")
"""The keys that every line for programs has."""


class Say(Protocol):
    """Tells a notice to a person; `facts` say the same to a program, which reads no prose."""

    def __call__(self, text: str, **facts: object) -> None:
        """Takes the notice."""


class PlainLines:
    """Lines on standard output."""

    def say(self, text: str, **facts: object) -> None:  # noqa: ARG002
        """Prints a notice."""
        print(printable(text), flush=True)


class ScreenLines:
    """Lines above a live screen."""

    def __init__(self, console: rich.console.Console) -> None:
        """Takes the console on which the screen is drawn."""
        self._console = console

    def say(self, text: str, **facts: object) -> None:  # noqa: ARG002
        """Prints a notice above the screen."""
        self._console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


class JsonLines:
    """A JSON object on each line, with its time and the kind of event."""

    def say(self, text: str, **facts: object) -> None:
        """Writes a notice."""
        self._write("notice", {"text": text, **facts})

    def _write(self, event: str, fields: Mapping[str, object]) -> None:
        """Writes an event, whose time and kind no field can take the place of."""
        keys = dict(zip(EVENT_KEYS, (round(time.time(), 3), event), strict=True))
        print_json({**keys, **fields, **keys})


def print_json(value: Mapping[Any, object]) -> None:
    """Prints an object on a line, with null in place of NaN and infinity, which JSON does not have."""
    print(json.dumps(_json(value), allow_nan=False), flush=True)


def _json(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _json(item) for key, item in value.items()}
        case list() | tuple():
            return [_json(item) for item in value]
    return value
