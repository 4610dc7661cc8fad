"""What all pages have in common: their links, paths and commands lead somewhere, and they are written alike."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.documents import DOCUMENTS, anchors, code_spans, commands, name, prose
from tests.support.paths import ROOT
from tools.manifests import SET_BY_CHART
from tools.reference_tables import TABLES, escaped, generated

WIDTH = 120
FOLDERS = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("logs", "build", "dist")]

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name)


def test_the_tables_are_what_the_code_says() -> None:
    subprocess.run([sys.executable, "-m", "tools.reference_tables", "--check"], cwd=ROOT, check=True)


@pytest.mark.parametrize("file", TABLES)
def test_a_table_that_is_not_what_the_code_says_is_written_anew(file: str) -> None:
    text = (ROOT / file).read_text()
    damaged = re.sub(r"^\| .*\|\n(?=<!-- end of)", "", text, flags=re.MULTILINE)
    assert damaged != text
    assert generated(damaged, TABLES[file]) == text


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table 'flags'"):
        generated("# A page\n", {"flags": str})


def test_what_a_cell_holds_ends_no_cell_and_makes_no_tag() -> None:
    assert escaped("a <b> | `<c> | d`") == r"a \<b> \| `<c> \| d`"


def test_the_reference_has_the_charts_default_where_it_is_another() -> None:
    rows = re.findall(r"^\| `--(\w+)` \| (.*?) \|", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    others = {name: default for name, default in rows if "the chart" in default}
    assert others == {"warm_spare": "`false`, the chart: `true`", "rendezvous_timeout": "`600.0`, the chart: `1800`"}


def test_the_reference_names_the_flags_that_the_chart_sets_itself() -> None:
    text = (ROOT / "docs" / "reference.md").read_text().partition("## Values of the chart\n")[2].partition("<!--")[0]
    assert set(re.findall(r"`--(\w+)`", text)) == {name for names in SET_BY_CHART.values() for name in names}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, fragment = target.partition("#")
        page = (document.parent / file).resolve() if file else document
        assert page.exists(), target
        if fragment:
            assert fragment in anchors(page), target


@each_document
def test_paths_exist(document: Path) -> None:
    for span in code_spans(document):
        if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", span) and span.split("/")[0] in FOLDERS:
            assert (ROOT / span).exists(), span


@each_document
def test_targets_of_make_exist(document: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands(document):
        if match := re.match(r"(?:\w+=\S+ )*make((?: [a-z][\w-]*)+)", command):
            assert set(match[1].split()) <= set(targets), command


@each_document
def test_lines_wrap(document: Path) -> None:
    for number, line in enumerate(prose(document).splitlines(), 1):
        assert len(line) <= WIDTH or line.startswith(("|", "!", "<!--")), f"line {number}: {line}"
