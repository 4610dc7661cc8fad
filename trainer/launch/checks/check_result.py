"""A check's answer, as a person and a program read it."""

import dataclasses
from collections.abc import Callable, Iterator

from trainer.launch.cluster.api_server import KubeError


@dataclasses.dataclass(frozen=True)
class Line:
    """One check's answer."""

    mark: str  # "ok", "note" or "FAIL".
    what: str
    text: str
    fix: str = ""

    @property
    def failed(self) -> bool:
        """Whether nothing should be submitted."""
        return self.mark == "FAIL"

    def __str__(self) -> str:
        """The line for a person, and the fix on a second one."""
        line = f"{self.mark:4}  {self.what}: {self.text}"
        return f"{line}\n      fix: {self.fix}" if self.fix else line


def asking(ask: Callable[[], Iterator[Line]], what: str, unknown: str) -> list[Line]:
    """The answers of a check that the cluster may forbid, which is then said: `unknown` names what is not known."""
    try:
        return list(ask())
    except KubeError as error:
        if error.status == 403:
            return [Line("note", what, f"{unknown} is not known")]
        raise
