"""What can be wrong with data, and with where they lie.

TrainerError
 ├── UsageError          64  an address, credentials or a format that can never work
 ├── DataError           65  data that are missing, or were changed while they were read
 │    └── DamagedRecord  65  one record cannot be read; the others can
 └── StoreAwayError      74  a store did not answer for minutes: another start may succeed
"""

from collections.abc import Callable
from typing import Any

from trainer.core.exit_codes import DataError, ExitCode, TrainerError
from trainer.core.safe_text import one_line


class DamagedRecord(DataError):  # noqa: N818  What it is called in the documentation and in --skip_bad_records.
    """One record cannot be read."""

    def __init__(self, file: str, offset: int, reason: str, *, unit: str = "byte") -> None:
        """Says where.

        Args:
          file: the path or address of the file.
          offset: where in the file: its first byte, or its number from 0 where the format counts rows.
          reason: what is wrong with it.
          unit: what the offset counts: "byte", "row" or "record".
        """
        super().__init__(one_line(f"{file}, {unit} {offset}: {reason}"))
        self.file, self.offset, self.reason, self.unit = file, offset, reason, unit

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it travel from a reader's process to the one that trains."""
        return _damaged, (self.file, self.offset, self.reason, self.unit)


def parsed(parse: Callable[[Any], Any], record: Any, file: str, offset: int, *, unit: str = "byte") -> Any:
    """What a user's function makes of a record, which a DataError of its marks as damaged.

    Raises:
      DamagedRecord: it is.
    """
    try:
        return parse(record)
    except DamagedRecord:
        raise
    except DataError as error:
        raise DamagedRecord(file, offset, str(error), unit=unit) from None


class StoreAwayError(TrainerError):
    """A store, or a mounted one, did not answer for as long as a reader waits."""

    exit_code = ExitCode.OUTPUT


def _damaged(file: str, offset: int, reason: str, unit: str) -> DamagedRecord:
    return DamagedRecord(file, offset, reason, unit=unit)
