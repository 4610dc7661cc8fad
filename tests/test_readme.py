import subprocess
import sys

from tests.processes import ROOT


def test_the_tables_are_what_the_code_says() -> None:
    subprocess.run([sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, check=True)


def test_ci_runs_the_commands_that_the_readme_names() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for command in ("make check", "make test"):
        assert command in readme
        assert f"\n{command}\n" in ci
