"""Writes the tables of the README that the code knows better: `make docs`. With --check it only compares."""

import sys
from pathlib import Path

from trainer.agent.flags import AgentConfig
from trainer.core import settings
from trainer.core.config import Config
from trainer.core.exit_codes import TABLE

README = Path(__file__).parents[1] / "README.md"


def outcomes() -> str:
    rows = ["| what ended the training process | exit code | the agent | the Job |", "| --- | --- | --- | --- |"]
    for outcome in TABLE:
        code = "other" if outcome.code is None else int(outcome.code)
        rows.append(f"| {outcome.cause} | {code} | {outcome.agent} | {outcome.job} |")
    return "\n".join(rows)


def generated(text: str) -> str:
    """The README with its tables as the code has them."""
    tables = {
        "flags": settings.markdown(Config),
        "agent flags": settings.markdown(AgentConfig),
        "outcomes": outcomes(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + table + end + after
    return text


if __name__ == "__main__":
    found = README.read_text()
    if "--check" not in sys.argv:
        README.write_text(generated(found))
    elif found != generated(found):
        sys.exit("README.md: its tables are not what the code says; `make docs` writes them")
