"""Arrays of numpy.ma, whose masks a model would not see."""

from typing import Any

import numpy as np

from trainer.core.exit_codes import UsageError


def check_unmasked(value: Any, what: str) -> None:
    """Refuses an array with a mask, which would be lost, and what it hides be trained on.

    Raises:
      UsageError: names it.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise UsageError(
            f"{what} is a masked array, whose mask no model sees; fill it (`array.filled(0)`) and give a mask or "
            "sample weights beside it, or leave these examples out"
        )
