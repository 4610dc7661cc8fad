"""docs/architecture.md against the code: its paths, names, flags and numbers; nothing is imported to see that."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

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
VALUES = yaml.safe_load((ROOT / "helm" / "values.yaml").read_text())

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


def is_chart_value(name: str) -> bool:
    """Whether the chart has a value of that name."""
    values: Any = VALUES
    for key in name.split("."):
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def contracts(kind: str) -> list[dict[str, Any]]:
    """The contracts of a kind that import-linter holds the code to."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [one for one in configuration["tool"]["importlinter"]["contracts"] if one["type"] == kind]


def below(container: str, name: str) -> set[str]:
    """The packages of a container that one of its members may import by the layers alone."""
    (layers,) = [one["layers"] for one in contracts("layers") if one["containers"] == [container]]
    members = [layer.split(" | ") for layer in layers]
    at = next(number for number, layer in enumerate(members) if name in layer)
    folder = ROOT / container.replace(".", "/")
    return {member for layer in members[at + 1 :] for member in layer if (folder / member).is_dir()}


def may_import(package: str) -> set[str]:
    """The packages that a package of trainer/ may import by the contracts, such as output and launch/cluster."""
    first, _, second = package.partition("/")
    allowed = below("trainer", first)
    for forbidden in contracts("forbidden"):
        if f"trainer.{first}" in forbidden["source_modules"]:
            allowed -= {module.removeprefix("trainer.") for module in forbidden["forbidden_modules"]}
    inside = {path.name for path in (TRAINER / first).iterdir() if (path / "__init__.py").exists()}
    if not second:
        return allowed | {f"{first}/{name}" for name in inside}  # Its modules stand on all of them.
    return allowed | {f"{first}/{name}" for name in below(f"trainer.{first}", second)}


def test_what_is_no_name_does_not_resolve() -> None:
    assert resolves("core.config.Config.check")
    assert resolves("core.config.Config.global_batch_size")
    assert resolves("output.stores")
    assert not resolves("core.config.Config.nothing")
    assert not resolves("core.config.settings")
    assert not resolves("core.nothing.Config")


def test_names_are_those_of_the_code() -> None:
    names = {span for span in SPANS if re.fullmatch(r"[a-z]\w*(\.\w+)+", span)} - RUN_FILES - NAMES_OF_OTHERS
    names -= {span for span in names if (ROOT / span).exists() or is_chart_value(span)}  # Files at the root.
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


def test_every_package_is_said_to_import_what_the_contracts_allow() -> None:
    for name, _, imports in rows(section("Packages")):
        package = name.partition("`trainer/")[2].partition("/`")[0]
        said = set(imports.partition(";")[0].split(", ")) - {"none of these"}
        assert said == may_import(package), package
    crossing = [one["ignore_imports"] for one in contracts("forbidden") if "trainer.agent" in one["forbidden_modules"]]
    assert crossing == [["trainer.launch.local.flags -> trainer.agent.flags"]]


def test_packages_without_tensorflow_are_named() -> None:
    (contract,) = [one for one in contracts("forbidden") if "numpy" in one["forbidden_modules"]]
    names = [name.removeprefix("trainer.") for name in contract["source_modules"]]
    sentence = " ".join(section("Packages").split())
    assert f"The packages {', '.join(names[:-1])} and {names[-1]} may not import them" in sentence


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


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("An output on az://", r"s3://|s3Secret"),
        ("A JobSet in the place of the Job", r"batch/v1|job-name|job-completion|JOB_[A-Z]|controller-uid"),
    ],
)
def test_a_list_of_what_a_change_touches_is_whole(section: str, names: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().partition(f"### {section}\n")[2].partition("\n### ")[0]
    files = [path for folder in ("trainer", "helm") for path in (ROOT / folder).rglob("*") if path.is_file()]
    code = [
        path
        for path in files
        if path.suffix in (".py", ".tpl", ".yaml", ".json", ".txt") and "values-" not in path.name
    ]
    found = {str(path.relative_to(ROOT)) for path in code if re.search(names, path.read_text())}
    assert len(found) > 10
    assert sorted(path for path in found if f"`{path}`" not in text) == []
