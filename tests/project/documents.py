"""The Markdown files of the repository, as the tests of this folder read them."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", ".github/**/*.md", "tests/*.md") for path in ROOT.glob(pattern)
)

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """The text without its blocks of code, whose lines are left empty."""
    return _FENCE.sub(lambda block: "\n" * block[0].count("\n"), path.read_text())


def code_spans(path: Path) -> list[str]:
    """What stands between backticks, line breaks as spaces."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(path))]


def commands(path: Path) -> Iterator[str]:
    """The commands that are to be typed: lines that begin with `$ ` in blocks of code, and code spans."""
    for block in _FENCE.findall(path.read_text()):
        yield from (line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))
    yield from code_spans(path)


def anchors(path: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def name(path: Path) -> str:
    """The path from the root, for messages."""
    return str(path.relative_to(ROOT))
