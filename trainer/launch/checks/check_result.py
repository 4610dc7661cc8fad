"""What a check found, as a person and a program read it."""

import dataclasses
import enum
from collections.abc import Callable, Iterator

from trainer.launch.cluster.api_server import KubeError


class Mark(enum.StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"  # Something to know, or that could not be found out; it keeps no run from being submitted.
    FAIL = "FAIL"  # Nothing should be submitted.


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What one check found. The fields are the keys that `doctor --json` prints."""

    mark: Mark
    what: str  # What was checked, in a word or two.
    text: str
    fix: str = ""  # What to do about it.

    @property
    def failed(self) -> bool:
        """Whether nothing should be submitted."""
        return self.mark is Mark.FAIL

    def __str__(self) -> str:
        """The line for a person, and the fix on a second one."""
        line = f"{self.mark:4}  {self.what}: {self.text}"
        return f"{line}\n      fix: {self.fix}" if self.fix else line


def unless_forbidden(check: Callable[[], Iterator[CheckResult]], what: str, unknown: str) -> list[CheckResult]:
    """What a check finds, or a note where this user has no right to what it looks at.

    Args:
      check: the check.
      what: what it checks.
      unknown: says what the user may not see and what is therefore not known, up to "is not known".
    """
    try:
        return list(check())
    except KubeError as error:
        if error.status == 403:
            return [CheckResult(Mark.NOTE, what, f"{unknown} is not known")]
        raise
