"""Nests: what an example's x, y and weight are built of: dicts, lists and tuples of values."""

from typing import Any

from trainer.core.exit_codes import DataError

Nest = Any  # An array, or a dict, list or tuple of arrays.


def leaves_of(parts: Any, template: Any) -> list[Any]:
    """The leaves of an example in the order of the first one's.

    Raises:
      DataError: it is built in another way.
    """
    if template is None:
        if parts is None:
            return []
    elif isinstance(template, dict):
        if isinstance(parts, dict) and parts.keys() == template.keys():
            return [leaf for key in template for leaf in leaves_of(parts[key], template[key])]
    elif isinstance(template, tuple | list):
        if isinstance(parts, tuple | list) and len(parts) == len(template):
            return [leaf for part, like in zip(parts, template, strict=True) for leaf in leaves_of(part, like)]
    elif parts is not None and not isinstance(parts, dict | tuple | list):
        return [parts]
    raise DataError(f"it is built of {_built(parts)}, the first one of {_built(template)}; all must be built alike")


def packed(template: Any, leaves: Any) -> Nest:
    """A nest built as the template is, of the next of an iterator's leaves."""
    if template is None:
        return None
    if isinstance(template, dict):
        return {key: packed(part, leaves) for key, part in template.items()}
    if isinstance(template, tuple | list):
        parts = [packed(part, leaves) for part in template]
        return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)
    return next(leaves)


def _built(parts: Any) -> str:
    if isinstance(parts, dict):
        return "{" + ", ".join(map(str, parts)) + "}"
    if isinstance(parts, tuple | list):
        return "(" + ", ".join(_built(part) for part in parts) + ")"
    return "nothing" if parts is None else "a value"
