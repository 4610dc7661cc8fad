"""The values that a user gives, before helm sees them: keys left blank, numbers for text, contradictions."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json

Keys = tuple[str, ...]

_REMOVABLE = {"podSecurityContext", "securityContext", "resources"}  # Below these null takes a default away.


@dataclasses.dataclass(frozen=True)
class Source:
    """Where values come from."""

    name: str  # Such as --values=FILE.
    values: Json


def check(chart: str, sources: Sequence[Source]) -> None:
    """Refuses what helm would take for something else than was meant, or refuse without saying what to do.

    Args:
      chart: the chart's folder.
      sources: in the order in which they count, the last one most.

    Raises:
      UsageError: names the source and the key.
    """
    defaults, schema = _read(chart, "values.yaml"), _read(chart, "values.schema.json")
    last: dict[Keys, tuple[str, Any]] = {}
    for source in sources:
        for keys, value in leaves(source.values):
            last[keys] = (source.name, value)
    for keys, (name, value) in last.items():
        if value is None and _at(defaults, keys) is not None and not _REMOVABLE & set(keys[:-1]):
            raise UsageError(
                f"{name}: {'.'.join(keys)} is given as null; expected a value, or leave it out for its default"
            )
        for inside, each in _not_text(schema, _rule(schema, keys), value):
            what = "the word" if isinstance(each, bool) else "the number"
            key = "".join((".".join(keys), *inside))
            raise UsageError(
                f"{name}: {key} is {what} {json.dumps(each)} as YAML reads it, and must be text; put it between "
                f'quotes, as in {key.rpartition(".")[2]}: "1.0"'
            )


def check_once(name: str, documents: Iterable[yaml.Node | None]) -> None:
    """Refuses a key that stands twice in a map: helm would take the last, without a word.

    Args:
      name: where the documents come from, such as --values=FILE.
      documents: as `yaml.compose` makes them.

    Raises:
      UsageError: names the key and both lines.
    """
    nodes, seen = [node for node in documents if node], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):  # An alias may lead back to where it stands.
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, word = key.start_mark.line + 1, str(key.value)
            if word in lines:
                raise UsageError(
                    f"{name}: {word} stands in line {lines[word]}, and again in line {line}; leave one out"
                )
            lines[word] = line
            nodes.append(value)


def texts(chart: str, values: Json) -> Json:
    """The values that --set gives, with whole numbers as they were typed where the chart wants text."""
    schema = _read(chart, "values.schema.json")

    def text(rule: Json, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: text(_below(schema, rule, key), each) for key, each in value.items()}
        if isinstance(value, list):
            return [text(_resolved(schema, rule.get("items")), each) for each in value]
        return getattr(value, "typed", value) if rule.get("type") == "string" else value

    given: Json = text(schema, values)
    return given


def contradictions(sources: Sequence[Source]) -> Iterator[str]:
    """What two sources give differently, in a sentence each: the first that it names counts."""
    seen: dict[Keys, tuple[str, Any]] = {}
    for source in sources:
        for keys, value in leaves(source.values):
            if keys in seen and seen[keys][1] != value:
                before, other = seen[keys]
                key = ".".join(keys)
                earlier = "an earlier one" if before == source.name else before
                yield f"{key} is {_shown(value)}, by {source.name}, and not {_shown(other)}, by {earlier}"
            seen[keys] = (source.name, value)


def value(chart: str, sources: Sequence[Source], keys: Keys) -> Any:
    """What counts at these keys, of the sources or else of the chart itself; None where there is nothing."""
    found = [_at(source.values, keys) for source in sources]
    given = [each for each in found if each is not None]
    return given[-1] if given else _at(_read(chart, "values.yaml"), keys)


def without_lists(values: Json) -> Json:
    """The values but for lists, of which one --set may give one item, and another the next."""
    inside = {key: without_lists(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in inside.items() if not isinstance(value, list)}


def leaves(values: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The values that are no maps, with the keys that lead to them."""
    if isinstance(values, dict) and (values or not keys):
        for key, value in values.items():
            yield from leaves(value, (*keys, str(key)))
    else:
        yield keys, values


def _shown(value: Any) -> str:
    return '""' if value == "" else str(value) if isinstance(value, str) else json.dumps(value, default=str)


def _read(chart: str, name: str) -> Any:
    """A file of the chart; {} where it has none that can be read, which helm then says."""
    try:
        return yaml.safe_load((pathlib.Path(chart) / name).read_text()) or {}  # JSON is YAML.
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _at(values: Any, keys: Keys) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _rule(schema: Any, keys: Keys) -> Json:
    """What the schema says of the value at these keys; {}: nothing."""
    rule = _resolved(schema, schema)
    for key in keys:
        rule = _below(schema, rule, key)
    return rule


def _below(schema: Any, rule: Json, key: str) -> Json:
    """What a rule of the schema says of the value at a key; {}: nothing."""
    properties, more = rule.get("properties"), rule.get("additionalProperties")
    return _resolved(schema, properties[key] if isinstance(properties, dict) and key in properties else more)


def _not_text(schema: Any, rule: Json, value: Any, inside: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The numbers and words of YAML in a value where the schema wants text, with the way to each."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _not_text(schema, _resolved(schema, rule.get("items")), each, (*inside, f"[{index}]"))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _not_text(schema, _below(schema, rule, str(key)), each, (*inside, f".{key}"))
    elif isinstance(value, bool | int | float) and rule.get("type") == "string":
        yield inside, value


def _resolved(schema: Any, rule: Any) -> Json:
    reference = rule.get("$ref") if isinstance(rule, dict) else None
    if isinstance(reference, str):
        rule = _at(schema, tuple(reference.removeprefix("#/").split("/")))
    return rule if isinstance(rule, dict) else {}
