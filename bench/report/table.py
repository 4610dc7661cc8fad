"""A benchmark's figures, as a table for a person."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    figure: float
    goal: str = ""  # "≥ 4" or "≤ 1.3"; empty where there is none.

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if not self.goal:
            return None
        relation, _, bound = self.goal.partition(" ")
        return self.figure >= float(bound) if relation == "≥" else self.figure <= float(bound)


def show(rows: Iterable[Row]) -> None:
    """Prints the table."""
    words = {None: "", True: "met", False: "not met"}
    for row in rows:
        print(f"{row.what:<78} {row.figure:>9.2f}  {row.goal:<6} {words[row.met]}", flush=True)
