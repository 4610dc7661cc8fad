"""Turns a frozen dataclass into flags.

A field declared with `setting` is the flag, its check, its documentation and its place in a JSON schema.

Each program keeps its flags in an `absl.flags.FlagValues` of its own, so that two of them can share a command line
(`python -m trainer.agent [agent flags] -- [trainer flags]`).
"""

import dataclasses
import math
import operator
import sys
from collections.abc import Sequence, Set
from typing import Any, TypeVar

from absl import flags

from trainer.core.exit_codes import UsageError

T = TypeVar("T")

_DEFINE: dict[type, Any] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_multi_string,
}

_SCHEMA: dict[type, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    tuple: {"type": "array", "items": {"type": "string"}},
}

_BOUNDS = (
    ("minimum", operator.ge, "at least"),
    ("above", operator.gt, "greater than"),
    ("below", operator.lt, "less than"),
)


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
    kind: type | None = None,
) -> Any:
    """A dataclass field that is a flag.

    Args:
      default: its value when the flag is not given; its type is the flag's type (bool, int, float, str, or tuple for
        a flag that may be repeated).
      doc: one sentence without a full stop, with the unit.
      minimum: the least value allowed.
      above: the value must be greater than this.
      below: the value must be less than this.
      choices: the values allowed, for a str.
      kind: the flag's type, where None is the default.
    """
    rule: dict[str, Any] = {"doc": doc, "minimum": minimum, "above": above, "below": below, "choices": tuple(choices)}
    rule["kind"] = kind or type(default)
    return dataclasses.field(default=default, metadata=rule)


def parse(cls: type[T], argv: Sequence[str], *, program: str) -> T:
    """Makes a `cls` from command-line arguments; see `parse_known` for arguments that are partly another's.

    Args:
      cls: a frozen dataclass whose fields were declared with `setting`.
      argv: the arguments, without the program's name.
      program: how a person starts it, for messages ("python -m trainer").

    Raises:
      UsageError: an unknown flag, a value of the wrong type, or what `check` refuses.
      SystemExit: with code 0 after --help has printed the flags.
    """
    values, rest = _parsed(cls, argv, program)
    if values["help"].value:
        print(f"usage: {program} [flags]\n\n{help_text(cls)}")
        sys.exit(0)
    if rest:
        raise UsageError(
            f"{program} takes flags only, got {' '.join(rest)!r}; write --flag=value "
            f"(`{program} --help` lists the flags)"
        )
    return _made(cls, values)


def parse_known(cls: type[T], argv: Sequence[str], *, program: str) -> tuple[T, list[str]]:
    """Makes a `cls` from those arguments that are its flags; returns the others, too. --help is one of the others.

    Raises:
      UsageError: a value of the wrong type, or what `check` refuses.
    """
    values, rest = _parsed(cls, argv, program, known_only=True)
    return _made(cls, values), rest


def _made(cls: type[T], values: flags.FlagValues) -> T:
    settings = cls(**{field.name: _frozen(values[field.name].value) for field in _fields(cls)})
    check(settings)
    return settings


def given(cls: type, argv: Sequence[str], *, program: str, known_only: bool = False) -> set[str]:
    """The names of the flags that these arguments, or files that --flagfile names, give; raises as `parse`."""
    values, _ = _parsed(cls, argv, program, known_only=known_only)
    return {field.name for field in _fields(cls) if values[field.name].present}


def switched_on(name: str, argv: Sequence[str], *, program: str) -> bool:
    """Whether these arguments switch a boolean flag on, whatever other flags there are.

    Args:
      name: the flag's name.
      argv: the arguments, in any spelling that `parse` takes: --name, -name, --name=1, --noname.
      program: how a person starts it, for messages.

    Raises:
      UsageError: the value is none that a boolean flag takes.
    """
    values = flags.FlagValues()  # type: ignore[no-untyped-call]  # absl's own constructor has no types.
    flags.DEFINE_boolean(name, False, "", flag_values=values)
    values.set_gnu_getopt(True)  # Values of other flags may stand before it, as in `--name x --local`.
    _read(values, argv, program, known_only=True)
    return bool(values[name].value)


def values(settings: Any, cls: type) -> dict[str, Any]:
    """The values of those flags that `cls`, which `settings` is one of, declares; by name."""
    return {field.name: getattr(settings, field.name) for field in _fields(cls)}


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts a command line at the first `--`: the program's own flags, and the training program's."""
    if "--" not in arguments:
        return list(arguments), []
    at = arguments.index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def check(settings: Any) -> None:
    """Checks every field against what it was declared with.

    Raises:
      UsageError: names the flag, the value given and the values allowed.
    """
    for field in _fields(type(settings)):
        value, rule = getattr(settings, field.name), field.metadata
        if value is None:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{field.name}={value} must be a finite number; {_fallback(field)}")
        for name, holds, words in _BOUNDS:
            bound = rule[name]
            if bound is not None and not holds(value, bound):
                raise UsageError(f"--{field.name}={value} must be {words} {bound}; {_fallback(field)}")
        if rule["choices"] and value not in rule["choices"]:
            allowed = ", ".join(rule["choices"])
            raise UsageError(f"--{field.name}={value} is none of: {allowed}; {_fallback(field)}")


def arguments(settings: Any, *, also: Set[str] = frozenset()) -> list[str]:
    """The shortest command line that `parse` turns back into `settings`; with the flags `also`, if defaults, too."""
    given = {field.name: getattr(settings, field.name) for field in _fields(type(settings))
             if field.name in also or getattr(settings, field.name) != field.default}  # fmt: skip
    return [
        f"--{name}={_text(entry)}"
        for name, value in given.items()
        for entry in (value if isinstance(value, tuple) else (value,))
    ]


def schema(cls: type) -> dict[str, Any]:
    """A strict JSON schema of an object with one key a flag; a flag whose default is None may be null."""
    properties = {}
    for field in _fields(cls):
        rule = field.metadata
        entry: dict[str, Any] = {"description": rule["doc"], **_SCHEMA[rule["kind"]], "default": field.default}
        if field.default is None:
            entry["type"] = [entry["type"], "null"]
        if isinstance(field.default, tuple):
            entry["default"] = list(field.default)
        bounds = {"minimum": "minimum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
        entry |= {key: rule[name] for name, key in bounds.items() if rule[name] is not None}
        if rule["choices"]:
            entry["enum"] = list(rule["choices"])
        if _may_be_bare(field):  # YAML reads true and false as booleans.
            del entry["type"]
            entry["enum"] += [True, False]
        properties[field.name] = entry
    return {"type": "object", "additionalProperties": False, "properties": properties}


def markdown(cls: type) -> str:
    """The flags as a Markdown table, for the documentation."""
    rows = ["| flag | default | what it does |", "| --- | --- | --- |"]
    for field in _fields(cls):
        default = f"`{_text(field.default)}`" if _text(field.default) else ""
        rows.append(f"| `--{field.name}` | {default} | {_described(field).replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def help_text(cls: type) -> str:
    """The flags for a terminal, two lines each."""
    lines = []
    for field in _fields(cls):
        default = f" (default: {_text(field.default)})" if _text(field.default) else ""
        lines.append(f"  --{field.name}{default}\n      {_described(field)}")
    return "\n".join(lines)


def _parsed(
    cls: type, argv: Sequence[str], program: str, *, known_only: bool = False
) -> tuple[flags.FlagValues, list[str]]:
    """All flags, and what is left of the arguments."""
    values = _flag_values(cls, with_help=not known_only)
    bare = {f"--{field.name}" for field in _fields(cls) if _may_be_bare(field)}
    return values, _read(values, [f"{part}=true" if part in bare else part for part in argv], program, known_only)


def _read(values: flags.FlagValues, argv: Sequence[str], program: str, known_only: bool = False) -> list[str]:
    """Sets the flags; returns what is left of the arguments."""
    try:
        return values([program, *argv], known_only=known_only)[1:]
    except flags.Error as error:
        raise UsageError(f"{error} (`{program} --help` lists the flags)") from None
    except UnicodeDecodeError:
        raise UsageError("--flagfile names a file that is no text in UTF-8; expected one with a flag a line") from None


def _may_be_bare(field: dataclasses.Field[Any]) -> bool:
    """Whether the flag alone, without a value, means "true": one that was a boolean before it had more values."""
    return "true" in field.metadata["choices"]


def _flag_values(cls: type, *, with_help: bool) -> flags.FlagValues:
    values = flags.FlagValues()  # type: ignore[no-untyped-call]  # absl's own constructor has no types.
    for field in _fields(cls):
        _DEFINE[field.metadata["kind"]](field.name, field.default, field.metadata["doc"], flag_values=values)
    if with_help:
        flags.DEFINE_boolean("help", False, "show the flags", short_name="h", flag_values=values)
    return values


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _described(field: dataclasses.Field[Any]) -> str:
    choices = field.metadata["choices"]
    return str(field.metadata["doc"]) + (f": {' or '.join(choices)}" if choices else "")


def _fallback(field: dataclasses.Field[Any]) -> str:
    return f"the default is {_text(field.default)}" if _text(field.default) else "leave it out for the default"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text(value: object) -> str:
    if value is None or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
