"""Writes the tables of the documentation that the code knows better: `make docs`. With --check it only compares.

A table stands between two comments in a Markdown file, `<!-- NAME: made by `make docs` -->` and `<!-- end of NAME -->`.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from trainer import index
from trainer.agent.flags import AgentConfig
from trainer.core import settings
from trainer.core.config import Config
from trainer.core.exit_codes import TABLE
from trainer.export import ExportFlags
from trainer.launch.cli import COMMAND_FLAGS
from trainer.launch.codes import LaunchCode
from trainer.launch.flags import ClusterFlags, SubmitFlags
from trainer.launch.local.flags import LocalFlags

ROOT = Path(__file__).parents[1]
VALUES = ROOT / "helm/values.yaml"

LAUNCHER_CODES = {
    0: "succeeded",
    1: "the launcher or the cluster's API failed, or somebody deleted the job",
    2: "usage",
    3: "never started: a check failed, or training did not begin within `--pending_timeout` because workers never ran "
    "(what was submitted is then removed)",
    124: "`--timeout` (the run goes on) or the chart's `job.activeDeadlineSeconds`",
    125: "training failed",
    130: "Ctrl-C; the run goes on",
}


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(cell: str) -> str:
    """A cell's text without what would end the cell, or be taken for a tag of HTML outside of a code span."""
    spans = cell.split("`")
    spans[::2] = [span.replace("<", r"\<") for span in spans[::2]]
    return "`".join(spans).replace("|", r"\|")


def training_codes() -> str:
    """How a training process ends, and what the agent and the Job make of it."""
    rows = [
        [outcome.description, "other" if outcome.code is None else str(int(outcome.code)), outcome.agent, outcome.job]
        for outcome in TABLE
    ]
    return table(["what ended a training process, or its agent", "exit code", "the agent", "the Job"], rows)


def launcher_codes() -> str:
    """How the launcher ends."""
    assert set(LAUNCHER_CODES) == set(LaunchCode), "LAUNCHER_CODES and trainer.launch.codes name different exit codes"
    return table(["exit code", "what it says"], [[str(code), text] for code, text in LAUNCHER_CODES.items()])


def flags(config: type, *, values: str = "") -> str:
    """The flags that a dataclass of settings declares.

    Args:
      config: the dataclass.
      values: the chart's values that set flags of it; a default of theirs that is another stands beside the flag's.
    """
    chart = yaml.safe_load(VALUES.read_text())[values] if values else {}
    rows = []
    for flag, default, text in rows_of(settings.markdown(config)):
        name = flag.strip("`-")
        if name in chart and chart[name] != getattr(config, name):
            default = f"{default}, the chart: {default_text(chart[name])}".removeprefix(", ")
        rows.append([flag, default, text])
    return table(["flag", "default", "what it does"], rows)


def local_flags() -> str:
    """The flags of a local run that are not the agent's."""
    agent, local = (rows_of(settings.markdown(config)) for config in (AgentConfig, LocalFlags))
    left_out = {flag for flag, _, _ in agent} - {flag for flag, _, _ in local}
    assert left_out == {"`--port`", "`--chief_agent`"}, (
        "docs/reference.md says that only these two are the agent's alone"
    )
    return table(["flag", "default", "what it does"], [list(row) for row in local if row not in agent])


def launcher_flags() -> str:
    """The flags of all commands of the launcher; a flag that means two things has two rows."""
    commands: dict[tuple[str, str, str], list[str]] = {}
    for command, config in COMMAND_FLAGS.items():
        for row in rows_of(settings.markdown(config)):
            commands.setdefault(row, []).append(command)
    every = [command for command, config in COMMAND_FLAGS.items() if issubclass(config, ClusterFlags)]
    rows = [
        [flag, default, "all but chart" if users == every else ", ".join(users), text]
        for (flag, default, text), users in commands.items()
    ]
    return table(["flag", "default", "commands", "what it does"], rows)


def index_flags() -> str:
    """The flags of the program that makes indexes, which argparse knows."""
    rows = []
    for action in index.parser()._actions:
        if action.option_strings and action.dest != "help":
            default = f"`{str(action.default).lower()}`"
            rows.append([f"`{action.option_strings[-1]}`", default, str(action.help).partition(" (default ")[0]])
    return table(["flag", "default", "what it does"], rows)


def rows_of(markdown: str) -> list[tuple[str, str, str]]:
    """The cells of a table of flags, without its head."""
    cells = (re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown.splitlines()[2:])
    return [(flag.strip(), default.strip(), text.strip().replace(r"\|", "|")) for flag, default, text in cells]


def chart_values() -> str:
    """The chart's values: each key below a comment that begins with `# --`, its default, and that comment."""
    defaults = yaml.safe_load(VALUES.read_text())
    rows: list[list[str]] = []
    path: list[str] = []
    comment = ""
    for line in VALUES.read_text().splitlines():
        if match := re.match(r" *# -- (.*)", line):
            comment = match[1]
        elif match := re.match(r"( *)([\w-]+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if comment:
                rows.append([f"`{'.'.join(path)}`", default_text(value_at(defaults, path)), comment])
            comment = ""
    return table(["value", "default", "what it is"], rows)


def value_at(values: object, path: list[str]) -> object:
    """The value below these keys."""
    for key in path:
        assert isinstance(values, dict)
        values = values[key]
    return values


def default_text(value: object) -> str:
    """A default as a table shows it; a map that has keys of its own is shown as YAML on one line."""
    if value in ("", None):
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"exit codes of training": training_codes},
    "docs/launcher.md": {
        "exit codes of the launcher": launcher_codes,
        "flags of submit": lambda: flags(SubmitFlags),
    },
    "docs/reference.md": {
        "flags of training": lambda: flags(Config, values="train"),
        "flags of the agent": lambda: flags(AgentConfig, values="agent"),
        "flags of the launcher": launcher_flags,
        "flags of a local run": local_flags,
        "flags of export": lambda: flags(ExportFlags),
        "flags of index": index_flags,
        "exit codes of training": training_codes,
        "exit codes of the launcher": launcher_codes,
        "values of the chart": chart_values,
    },
}
"""The tables of each file, by name."""


def generated(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A file's text with its tables as the code has them.

    Raises:
      ValueError: the text has no place for one of them.
    """
    for name, make in tables.items():
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"\n<!-- end of {name} -->"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"no place for the table {name!r}; expected {begin.strip()} and {end.strip()}")
        text = before + begin + make() + end + after
    return text


def main() -> None:
    outdated = []
    for name, tables in TABLES.items():
        path = ROOT / name
        before = path.read_text()
        after = generated(before, tables)
        if before == after:
            continue
        outdated.append(name)
        if "--check" not in sys.argv:
            path.write_text(after)
    if outdated and "--check" in sys.argv:
        sys.exit(f"{', '.join(outdated)}: the tables are not what the code says; `make docs` writes them")


if __name__ == "__main__":
    main()
