"""Which GPUs and drivers TensorFlow runs on: the trainer asks before it starts one, the launcher before it submits.

A TensorFlow from pip brings CUDA, but not the driver, and neither knows cards that came after it.
"""

import dataclasses
from collections.abc import Iterable

Version = tuple[int, ...]

_PASCAL_ON = ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Support:
    """What one version of TensorFlow runs on, as its wheels say of themselves (`tf.sysconfig.get_build_info`)."""

    line: str  # The line of TensorFlow (`trainer.core.tensorflow_line`) that it is of.
    cuda: Version  # What it was built with.
    code: tuple[
        str, ...
    ]  # "sm_80" is machine code, for 8.0 to 8.9; "compute_90" is PTX, for 9.0 and all that is newer.
    driver: int  # Oldest major version of the driver: any of CUDA 12 runs machine code that was built with CUDA 12.
    hopper_driver: int  # The same for compute capability 9, whose code the driver compiles from PTX.


# What the constraints name comes before what the package's metadata allow, too.
SUPPORT = {
    (2, 17): Support(line="classic", cuda=(12, 3), code=_PASCAL_ON, driver=525, hopper_driver=545),
    (2, 16): Support(
        line="classic",
        cuda=(12, 3),
        code=("sm_50", "sm_60", "sm_70", "sm_80", "compute_90"),
        driver=525,
        hopper_driver=530,
    ),
    (2, 21): Support(line="current", cuda=(12, 5), code=_PASCAL_ON, driver=525, hopper_driver=555),
}
# The first CUDA whose PTX, which is what XLA writes, has names for compute capability 10 and newer: with an older one
# TensorFlow aborts there (tensorflow#111958), whatever the driver could make of the PTX that it brings.
_BLACKWELL_CUDA = (12, 8)


def lines() -> list[str]:
    """The lines of TensorFlow, the default first."""
    return list(dict.fromkeys(support.line for support in SUPPORT.values()))


def pinned(line: str) -> Version:
    """Major and minor version of the TensorFlow that a line's constraints name, and so its image has."""
    return next(version for version, support in SUPPORT.items() if support.line == line)


def refusal(
    *, driver: Version, capability: Version, tensorflow: Version, cuda: Version = (), code: Iterable[str] = ()
) -> str:
    """Why TensorFlow cannot run on a GPU, as words that follow "the GPU"; "" where nothing speaks against it.

    Args:
      driver: the driver's version, (580, 95, 5); () where it is not known.
      capability: the GPU's compute capability, (9, 0); () where it is not known.
      tensorflow: major and minor version.
      cuda: major and minor version of the CUDA that it was built with, where it says so itself: a build of somebody
        else's runs on other cards than the wheels that pip finds.
      code: the same of what it was built for (`Support.code`).
    """
    support = SUPPORT.get((tensorflow[0], tensorflow[1]))
    cuda = cuda[:2] or (support.cuda if support else ())
    code = tuple(code) or (support.code if support else ())
    name = f"TensorFlow {text(tensorflow[:2])}"
    if capability and code and not _covers(code, capability):
        return f"has compute capability {text(capability)}, and {name} was built for {', '.join(code)}"
    if cuda and capability >= (10,) and cuda < _BLACKWELL_CUDA:
        return (
            f"has compute capability {text(capability)}, for which {name} cannot compile: it was built with CUDA "
            f"{text(cuda)}, and that takes {text(_BLACKWELL_CUDA)} or newer"
        )
    if support is None or (cuda, code) != (support.cuda, support.code):
        return ""
    oldest = support.hopper_driver if capability >= (9,) else support.driver
    if driver and driver[0] < oldest:
        of = f" on compute capability {text(capability)}" if oldest == support.hopper_driver else ""
        return f"has the driver {text(driver)}, and {name}{of} needs {oldest} or newer"
    return ""


def way_out(gpus: Iterable[tuple[Version, Version]], *, tensorflow: Version) -> str:
    """Another version of TensorFlow that runs on these GPUs, as "TensorFlow 2.17 (the classic line)"; "": none does.

    Args:
      gpus: driver and compute capability of each.
      tensorflow: major and minor version of the one that cannot.
    """
    gpus = list(gpus)
    for version, support in SUPPORT.items():
        runs = not any(refusal(driver=driver, capability=card, tensorflow=version) for driver, card in gpus)
        if version != tensorflow[:2] and runs:
            return f"TensorFlow {text(version)} (the {support.line} line)"
    return ""


def _covers(code: Iterable[str], capability: Version) -> bool:
    """Whether there is code for a GPU."""
    major, minor = capability[0], capability[1]
    for name in code:
        kind, _, digits = name.partition("_")
        digits = digits.rstrip("af")  # "sm_90a" has what 9.0 alone has.
        for_major, for_minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and (for_major, for_minor) <= (major, minor):
            return True
        if kind == "sm" and for_major == major and for_minor <= minor:
            return True
    return False


def text(version: Version) -> str:
    """A version as it is written.

    >>> text((580, 95, 5))
    '580.95.5'
    """
    return ".".join(map(str, version))
