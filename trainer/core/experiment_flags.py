"""The flags that an experiment adds to ours, found without importing it where that can be: it may need TensorFlow.

An experiment declares them in a dataclass of its own:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flags:
        hidden_units: int = setting(512, "width of the hidden layer", minimum=1)
"""

import ast
import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.core import settings
from trainer.core.config import PROGRAM, Config
from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import one_line
from trainer.core.settings import setting

NAME = "Flags"
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class UnreadableError(Exception):
    """What flags an experiment has can be said only by importing it."""


def parse(argv: Sequence[str]) -> tuple[Config, list[str]]:
    """The configuration of a run, and those arguments that only the experiment's module can check.

    Args:
      argv: the training program's arguments.

    Returns:
      A `Config` with the experiment's own flags among its fields, where they can be read without importing it; and what
      is left, which is nothing then. Beside --model the experiment is that of the model's run, unless it is given.

    Raises:
      UsageError: names the flag, the value given and the values allowed.
      SystemExit: with code 0 after --help has printed the flags.
    """
    config, rest = settings.parse_known(Config, argv, program=PROGRAM)
    try:
        if config.model and "experiment" not in settings.given(Config, argv, program=PROGRAM, known_only=True):
            raise UnreadableError("which experiment it is says the model's run, which may lie in a bucket")
        return parse_with(read(config.experiment), argv), []
    except UnreadableError:
        if help_flags := [argument for argument in rest if argument.lstrip("-") in ("h", "help")]:
            settings.parse(Config, help_flags, program=PROGRAM)
        config.check()
        return config, rest


def parse_with(flags: type | None, argv: Sequence[str]) -> Config:
    """The configuration of a run whose experiment has these flags; raises as `parse`."""
    config = settings.parse(with_flags(flags), argv, program=PROGRAM)
    config.check()
    return config


def given(flags: type | None, argv: Sequence[str]) -> set[str]:
    """The names of the flags that these arguments give; raises as `parse`."""
    return settings.given(with_flags(flags), argv, program=PROGRAM)


def over_model(config: Config, argv: Sequence[str]) -> set[str]:
    """The names of those flags in the arguments of `config` that count though they give defaults.

    Beside --model what is not given is what the model's run had. Not so --global_batch_size, which the chart always
    gives: its default is taken for none.
    """
    if config.mode == "train":
        return set()
    return settings.given(type(config), argv, program=PROGRAM, known_only=True) - {"global_batch_size"}


def with_flags(flags: type | None) -> type[Config]:
    """`Config` with the fields of an experiment's `Flags`, too.

    Raises:
      UsageError: one of them has the name of one of ours, or cannot be a flag.
    """
    if flags is None:
        return Config
    if not dataclasses.is_dataclass(flags):
        raise UsageError(f"the experiment's {NAME} must be a dataclass, with a `setting(...)` for each flag")
    ours = reserved()
    fields = []
    for field in dataclasses.fields(flags):
        if field.name in ours:
            raise UsageError(
                f"the experiment's flag --{field.name} has the name of one of the trainer's own; give it another"
            )
        if field.default is dataclasses.MISSING or not isinstance(field.default, bool | int | float | str | tuple):
            raise UsageError(
                f"the experiment's flag --{field.name} needs a default of a flag's type, as in "
                f'{field.name}: int = setting(3, "what it is"); expected bool, int, float, str or a tuple of texts'
            )
        declared = dict(field.metadata) if "doc" in field.metadata else setting(field.default, "").metadata
        fields.append((field.name, field.type, dataclasses.field(default=field.default, metadata=declared)))
    namespace = {
        "own_flags": staticmethod(lambda: tuple(name for name, *_ in fields)),
        # A source that holds the flags may be sent to a process that reads.
        "__reduce__": lambda config: (_again, (flags, dict(vars(config)))),
    }
    return dataclasses.make_dataclass(
        "ExperimentConfig", fields, bases=(Config,), frozen=True, kw_only=True, namespace=namespace
    )


def reserved() -> set[str]:
    """The names that no flag of an experiment's own has: those of the trainer's, and those that absl takes."""
    return {*dir(Config), *(field.name for field in dataclasses.fields(Config)), "help", "flagfile", "undefok"}


def said_by_result(module: object, own: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The experiment that a result.json names, and which flags of its own it says that it had.

    The file may come from a bucket, whose writers have no say in where a program writes: nothing is taken for a flag
    that is the trainer's or absl's, such as --run_dir and --flagfile.

    Raises:
      ValueError: it names no module.
    """
    if not isinstance(module, str) or not _MODULE.fullmatch(module):
        raise ValueError(f"{one_line(ascii(module), 40)} is no module's name")
    ours = {*reserved(), "module"}
    return module, {name: value for name, value in own.items() if name.isidentifier() and name not in ours}


def _again(flags: type, values: dict[str, Any]) -> Config:
    return with_flags(flags)(**values)


def own(config: Config) -> dict[str, Any]:
    """The experiment's own flags and their values."""
    return {name: getattr(config, name) for name in config.own_flags()}


def read(experiment: str) -> type | None:
    """The `Flags` of a module, out of its source; None where it has none.

    Raises:
      UnreadableError: the module was not found here, or its flags are not written out in it.
    """
    source = _source(experiment)
    if source is None:
        raise UnreadableError(f"{experiment} was not found")
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        raise UnreadableError(f"{source} cannot be read") from None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == NAME:
            return _declared(node)
        names = {alias.asname or alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)}
        assigned = [part for target in getattr(node, "targets", ()) for part in ast.walk(target)]
        targets = {part.id for part in assigned if isinstance(part, ast.Name)}
        if names & {NAME, "*"} or NAME in targets:
            raise UnreadableError(f"{source} has its {NAME} from elsewhere")
    return None


def _declared(node: ast.ClassDef) -> type:
    """The class as a dataclass, whose fields are made by the same `setting`."""
    if node.bases:
        raise UnreadableError(f"{NAME} has fields of another class")
    fields = []
    for statement in node.body:
        if isinstance(statement, ast.Expr | ast.Pass):  # The docstring.
            continue
        try:
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                raise UnreadableError(f"{NAME} holds more than fields")
            fields.append((statement.target.id, Any, _default(statement.value)))
        except (ValueError, TypeError, SyntaxError):
            raise UnreadableError(f"{NAME} is not made of plain values") from None
    return dataclasses.make_dataclass(NAME, fields, frozen=True, kw_only=True)


def _default(value: ast.expr | None) -> Any:
    if value is None:
        raise UnreadableError("a field has no default")
    if not isinstance(value, ast.Call):
        return dataclasses.field(default=ast.literal_eval(value))
    name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    if name != "setting":
        raise UnreadableError(f"a default is made by {name}")
    kinds = {"bool": bool, "int": int, "float": float, "str": str}
    keywords: dict[str, Any] = {
        keyword.arg or "": kinds[keyword.value.id] if isinstance(keyword.value, ast.Name) and keyword.value.id in kinds
        else ast.literal_eval(keyword.value)
        for keyword in value.keywords
    }  # fmt: skip
    return setting(*map(ast.literal_eval, value.args), **keywords)


def _source(module: str) -> Path | None:
    """The file of a module, found without importing it or the packages that it lies in."""
    first, *rest = module.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for location in spec.submodule_search_locations or ():
        folder = Path(location).joinpath(*rest[:-1])
        for path in (folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py"):
            if path.is_file():
                return path
    return None
