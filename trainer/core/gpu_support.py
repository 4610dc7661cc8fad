"""Which GPUs and drivers TensorFlow runs on: the trainer asks before it starts one, the launcher before it submits.

A TensorFlow from pip brings CUDA, but not the driver, and neither knows cards that came after it.
"""

import dataclasses

Version = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Support:
    """What one version of TensorFlow runs on."""

    driver: int  # Oldest major version of the driver.
    hopper_driver: int  # The same for compute capability 9, whose code the driver compiles from PTX.
    newest: int  # Major compute capability behind which its CUDA knows none.


TENSORFLOW = (2, 16)  # What the classic line's constraints name, and so what the image has.
SUPPORT = {
    (2, 16): Support(driver=525, hopper_driver=530, newest=9),
    (2, 17): Support(driver=525, hopper_driver=545, newest=9),
}


def refusal(*, driver: Version, capability: Version, tensorflow: Version = TENSORFLOW) -> str:
    """Why TensorFlow cannot run on a GPU, as words that follow "the GPU"; "" where nothing speaks against it.

    Args:
      driver: the driver's version, (580, 95, 5); () where it is not known.
      capability: the GPU's compute capability, (9, 0); () where it is not known.
      tensorflow: major and minor version. Nothing is known of one that is not in `SUPPORT`.
    """
    support = SUPPORT.get((tensorflow[0], tensorflow[1]))
    if support is None:
        return ""
    name = f"TensorFlow {text(tensorflow[:2])}"
    if capability and capability[0] > support.newest:
        return f"has compute capability {text(capability)}, and {name} runs on {support.newest}.x at most"
    oldest = support.hopper_driver if capability and capability[0] >= 9 else support.driver
    if driver and driver[0] < oldest:
        of = f" on compute capability {text(capability)}" if oldest == support.hopper_driver else ""
        return f"has the driver {text(driver)}, and {name}{of} needs {oldest} or newer"
    return ""


def lacking_code(capability: Version, built: list[str]) -> str:
    """The same by what a TensorFlow was built for.

    Args:
      capability: the GPU's, (9, 0).
      built: as `tf.sysconfig.get_build_info` lists it: "sm_80" is machine code, which runs on 8.0 to 8.9; "compute_90"
        is PTX, of which the driver makes code for 9.0 and all that is newer. Empty where it does not say.
    """
    if not built:
        return ""
    major, minor = capability[0], capability[1]
    for name in built:
        kind, _, digits = name.partition("_")
        for_major, for_minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and (for_major, for_minor) <= (major, minor):
            return ""
        if kind == "sm" and for_major == major and for_minor <= minor:
            return ""
    return f"has compute capability {text(capability)}, and this TensorFlow was built for {', '.join(built)}"


def text(version: Version) -> str:
    """A version as it is written.

    >>> text((580, 95, 5))
    '580.95.5'
    """
    return ".".join(map(str, version))
