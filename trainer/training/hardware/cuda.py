"""What the NVIDIA driver says, without TensorFlow."""

import ctypes
import re
from pathlib import Path

from trainer.core.gpu_support import Version

_DRIVER = Path("/proc/driver/nvidia/version")
_VERSION = re.compile(r"^NVRM version:.*?\s(\d{3,}(?:\.\d+)+)\s", re.MULTILINE)
_UUID_BYTES = 16


def driver_version(file: Path = _DRIVER) -> Version:
    """The version of the driver that the kernel has loaded; () where there is none."""
    try:
        match = _VERSION.search(file.read_text())
    except OSError:
        return ()
    return tuple(map(int, match[1].split("."))) if match else ()


def uuids(library: str = "libcuda.so.1") -> list[str]:
    """The identity of each GPU that this process may use, in CUDA's order, which no other GPU anywhere has.

    Returns:
      32 hexadecimal digits each; nothing where CUDA does not say.
    """
    try:
        cuda = ctypes.CDLL(library)
        of = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid  # The newer one knows parts of a GPU.
        count, device = ctypes.c_int(), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
            return []
        found = []
        for index in range(count.value):
            identity = (ctypes.c_ubyte * _UUID_BYTES)()
            if cuda.cuDeviceGet(ctypes.byref(device), index) or of(ctypes.byref(identity), device):
                return []
            found.append(bytes(identity).hex())
    except (OSError, AttributeError):
        return []
    return found
