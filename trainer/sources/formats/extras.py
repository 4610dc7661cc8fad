"""Packages that only some readers need."""

import importlib
from typing import Any

from trainer.core import installing
from trainer.core.exit_codes import UsageError


def needed(module: str, package: str) -> Any:
    """Imports a module of a package that an extra of this one brings.

    Raises:
      UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"this reader needs the package {package}, which cannot be imported here ({error}); install it: "
            + installing.package(package)
        ) from None
