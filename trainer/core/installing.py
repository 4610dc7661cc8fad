"""How a part of this package that is not there is installed, for the messages that say that it is missing.

Never by this package's name alone, `pip install trainer[...]`: the package index has somebody else's under it.
"""

import importlib.metadata

import trainer


def training() -> str:
    """What to type for TensorFlow and what else training needs, in a clone and where only the wheel is.

    >>> training().replace(trainer.__version__, "1.0.0")
    "pip install '.[cpu]' in a clone, or pip install './trainer-1.0.0-py3-none-any.whl[cpu]' beside the wheel"
    """
    wheel = f"./trainer-{trainer.__version__}-py3-none-any.whl"
    return f"pip install '.[cpu]' in a clone, or pip install '{wheel}[cpu]' beside the wheel"


def package(name: str) -> str:
    """What to type for a package that an extra of this one brings, anywhere: in a Dockerfile, too.

    >>> package("no-such-package")
    "pip install 'no-such-package'"
    """
    try:
        required = importlib.metadata.requires("trainer") or []
    except importlib.metadata.PackageNotFoundError:  # It runs from a clone that is not installed.
        required = []
    ranges = [text.partition(";")[0].strip() for text in required]
    wanted = next((text for text in ranges if text.startswith((f"{name}<", f"{name}>"))), name)
    return f"pip install '{wanted}'"
