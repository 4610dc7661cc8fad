"""docs/architecture.md against the code: its paths, names, flags and numbers; nothing is imported to see that."""

import ast
import re
from pathlib import Path

from tests.project.documents import code_spans, prose
from tests.support.paths import ROOT
from trainer.agent.flags import AgentConfig
from trainer.core import run_dir, settings
from trainer.core.config import Config
from trainer.launch.cli import COMMAND_FLAGS
from trainer.launch.local.flags import LocalFlags

PAGE = ROOT / "docs" / "architecture.md"
TRAINER = ROOT / "trainer"
RUN_FILES = {value for value in vars(run_dir).values() if isinstance(value, str)}
NAMES_OF_OTHERS = {"tf.summary"}

SPANS = code_spans(PAGE)


def section(title: str) -> str:
    """The page from a heading to the next of its level."""
    return prose(PAGE).partition(f"\n## {title}")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows that begin with `| ` in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = {number - 1 for number, row in enumerate(cells) if set(row) == {"---"}}
    return [row for number, row in enumerate(cells) if number not in heads and set(row) != {"---"}]


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module's or a class's body defines, by name; what is only imported is not."""
    names: dict[str, ast.stmt] = {}
    for node in body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names[node.name] = node
            case ast.Assign():
                names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names[name] = node
    return names


def resolves(name: str) -> bool:
    """Whether `package.module.Name.member` is there, from the folder trainer/."""
    folder: Path = TRAINER
    parts = name.split(".")
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    if not parts:
        return True
    file = folder / f"{parts.pop(0)}.py"
    if not file.exists():
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for part in parts:
        node = defined(body).get(part)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


def test_what_is_no_name_does_not_resolve() -> None:
    assert resolves("core.config.Config.check")
    assert resolves("core.config.Config.global_batch_size")
    assert resolves("output.stores")
    assert not resolves("core.config.Config.nothing")
    assert not resolves("core.config.settings")
    assert not resolves("core.nothing.Config")


def test_names_are_those_of_the_code() -> None:
    names = {span for span in SPANS if re.fullmatch(r"[a-z]\w*(\.\w+)+", span)} - RUN_FILES - NAMES_OF_OTHERS
    names -= {span for span in names if (ROOT / span).exists()}  # Files at the root.
    assert len(names) >= 15
    assert [name for name in sorted(names) if not resolves(name)] == []


def test_names_in_the_derivation_are_those_of_the_code() -> None:
    names = [span for span in code_spans(ROOT / "docs" / "backpropagation.md") if re.match(r"training\.\w+\.\w", span)]
    assert len(names) >= 4
    assert [name for name in names if not resolves(name)] == []


def test_paths_are_those_of_the_code() -> None:
    paths = {span for span in SPANS if re.fullmatch(r"[\w./-]+\.(py|md|tpl|ya?ml|json|toml|svg)", span)} - RUN_FILES
    assert len(paths) >= 50
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_flags_are_those_of_the_programs() -> None:
    programs = {Config, AgentConfig, LocalFlags, *COMMAND_FLAGS.values()}
    known = {flag for program in programs for flag in re.findall(r"^\| `--(\w+)`", settings.markdown(program), re.M)}
    named = {flag for span in SPANS for flag in re.findall(r"--(\w+)", span)}
    assert {"mirror_interval", "global_batch_size", "local", "tensorboard"} <= named
    assert named <= known


def test_every_package_has_a_line() -> None:
    packages = {f"{file.parent.relative_to(ROOT)}/" for file in TRAINER.glob("*/**/__init__.py")}
    named = {match[1] for row in rows(section("Packages")) if (match := re.match(r"\[?`(trainer/[\w/]+/)`", row[0]))}
    assert named == packages


def test_the_arrows_of_the_drawing_are_those_of_the_table() -> None:
    drawing = (ROOT / "docs" / "architecture.svg").read_text()
    drawn = {int(number) for number in re.findall(r"<circle [^>]*/><text [^>]*>(\d+)</text>", drawing)}
    listed = [int(row[0]) for row in rows(section("Processes")) if row[0].isdigit()]
    assert listed == sorted(drawn) == list(range(1, len(listed) + 1))


def test_every_question_is_answered_with_one_or_two_files() -> None:
    questions = rows(section("Where do I change"))
    assert len(questions) >= 20
    for what, files, _ in questions:
        assert 1 <= len(re.findall(r"`[\w./-]+\.\w+`", files)) <= 2, what


def test_the_glossary_is_sorted() -> None:
    words = [row[0].lower() for row in rows(section("Glossary"))]
    assert len(words) >= 20
    assert words == sorted(words)
