"""The README's first screen, and what the project's frame promises."""

import re

import yaml

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def test_the_first_screen_has_what_a_person_decides_by() -> None:
    first_screen = README.partition("\n## ")[0]
    assert len(first_screen.splitlines()) <= 60
    for part in ("docs/launcher.svg", "docs/architecture.md", "docs/reference.md"):
        assert f"({part})" in first_screen
    for command in ("helm install mnist-train ./helm", "python -m trainer.launch --workers 4", "make train"):
        assert re.search(rf"^\$ {re.escape(command)}( |$)", first_screen, re.MULTILINE), command
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"):
        assert f"({page})" in first_screen


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\((docs/\w+\.md)", README))
    assert linked == {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")} - {"docs/README.md"}


def test_the_index_of_the_documentation_has_every_page() -> None:
    listed = re.findall(r"^\| \[(\w+\.md)\]", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert set(listed) == {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}


def test_both_kinds_of_ci_run_the_commands_that_are_named() -> None:
    named = README + (ROOT / "CONTRIBUTING.md").read_text()
    ci = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    suites = ("check", "test", "test-thorough", "test-current", "test-chart", "e2e", "e2e-ipv6")
    assert ci == [f"make {suite}" for suite in suites]
    for command in ci:
        assert re.search(rf"^\$ {command}( |$)", named, re.MULTILINE), command
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert [step for step in steps if "make " in step and "apt-get" not in step] == ci


def test_the_changelog_begins_with_the_version_that_is_being_made() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == len(numbers)


def test_issue_forms_are_forms() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= form.keys()
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)
