import re
import subprocess
import sys

from tests.support.paths import ROOT


def test_the_tables_are_what_the_code_says() -> None:
    subprocess.run([sys.executable, "-m", "tools.flag_tables", "--check"], cwd=ROOT, check=True)


def test_ci_runs_the_commands_that_are_named() -> None:
    named = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    ci = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert ci == ["make check", "make test", "make test-chart", "make e2e"]
    for command in ci:
        assert re.search(rf"^\$ {command}\b", named, re.MULTILINE), command


def test_the_commands_that_are_named_are_there() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for file in ("README.md", "CONTRIBUTING.md", "docs/kubernetes.md", "docs/output.md", "docs/launcher.md"):
        text = (ROOT / file).read_text()
        commands = re.findall(r"(?:^\$ |`)(?:[A-Z_]+=\S+ )*make ([\w-]+)", text, re.MULTILINE)
        assert set(commands) <= set(targets), file
