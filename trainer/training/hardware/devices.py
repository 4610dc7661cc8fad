"""What this process computes on: its GPUs, checked before one is started, or its CPUs."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.core.config import Config
from trainer.core.exit_codes import AcceleratorError
from trainer.core.gpu_support import Version, refusal, text, way_out
from trainer.core.tf_config import Cluster
from trainer.training.hardware import cuda, xla

_TF32_SINCE = 8  # Major compute capability of the first GPUs that have it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as TensorFlow describes it."""

    name: str  # "NVIDIA H100 80GB HBM3"
    capability: Version  # (9, 0); () where TensorFlow does not say.


def configure(config: Config, cluster: Cluster | None, run_dir: Path) -> None:
    """Sets what TensorFlow must know before it starts: threads, memory taken as needed, which kernels it may take.

    Raises:
      AcceleratorError: there are fewer GPUs than `--expect_gpus`, or TensorFlow cannot run on them.
    """
    driver = cuda.driver_version()
    if driver:
        _configure_xla(config, cluster, run_dir)
    devices = tf.config.list_physical_devices("GPU")
    gpus = [_described(device) for device in devices]
    if gpus or config.expect_gpus:
        check(gpus, driver=driver, build=tf.sysconfig.get_build_info(), tensorflow=tf.__version__)
    if len(gpus) < config.expect_gpus:
        raise AcceleratorError(
            f"asked for {config.expect_gpus} GPU{'s' * (config.expect_gpus != 1)}, TensorFlow sees {len(gpus)}; "
            "check the driver, the device plugin and that the image is the GPU one, or train on CPUs: "
            "--expect_gpus=0 (in the chart: worker.gpus=0)"
        )
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)
    if gpus:
        _configure_arithmetic(config)
        tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
        print(said(config, gpus, driver=driver, tf32=tf32), flush=True)
    if config.threads:
        tf.config.threading.set_intra_op_parallelism_threads(config.threads)
        tf.config.threading.set_inter_op_parallelism_threads(config.threads)


def check(gpus: Sequence[Gpu], *, driver: Version, build: dict[str, Any], tensorflow: str) -> None:
    """Refuses GPUs on which TensorFlow would end with an error, or compile for half an hour to end with one.

    Args:
      gpus: those that TensorFlow sees: none, where the driver is too old for it.
      driver: the driver's version, () where it is not known.
      build: `tf.sysconfig.get_build_info()`.
      tensorflow: its version.

    Raises:
      AcceleratorError: names the first of them.
    """
    version, cuda = _major_and_minor(tensorflow), _major_and_minor(str(build.get("cuda_version", "")))
    code = list(build.get("cuda_compute_capabilities", ()))
    for gpu in gpus or (Gpu(name="", capability=()),):
        why = refusal(driver=driver, capability=gpu.capability, tensorflow=version, cuda=cuda, code=code)
        if why:
            other = way_out([(driver, gpu.capability)], tensorflow=version)
            raise AcceleratorError(
                f"the GPU{f' {gpu.name}' if gpu.name else ''} {why}; take "
                f"{f'{other}, which runs there, or ' if other else ''}a node with another driver or card (in the "
                "chart: worker.nodeSelector), or train on CPUs: CUDA_VISIBLE_DEVICES=-1 (in the chart: worker.gpus=0)"
            )


def said(config: Config, gpus: Sequence[Gpu], *, driver: Version, tf32: bool) -> str:
    """The line that says what a worker computes on, and in which numbers."""
    names = Counter(f"{gpu.name}, compute capability {text(gpu.capability) or 'unknown'}" for gpu in gpus)
    cards = "; ".join(f"{count} × {name}" if count > 1 else name for name, count in names.items())
    has_tf32 = all(gpu.capability >= (_TF32_SINCE,) for gpu in gpus)
    if config.precision == "bfloat16":
        numbers = "bfloat16"
    elif tf32 and has_tf32:
        numbers = "TF32 (--tf32=false: in float32)"
    else:
        numbers = "float32"
    kernels = "deterministic kernels" if config.deterministic else "kernels that may give other bits in every run"
    return f"GPU: {cards}, driver {text(driver) or 'unknown'}; matrix products in {numbers}; {kernels}"


def _major_and_minor(version: str) -> Version:
    """(12, 5) of "12.5.1"; () of what is no such version."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()


def _described(device: Any) -> Gpu:
    details = tf.config.experimental.get_device_details(device)
    return Gpu(name=details.get("device_name", "unknown"), capability=tuple(details.get("compute_capability", ())))


def _configure_xla(config: Config, cluster: Cluster | None, run_dir: Path) -> None:
    worker = cluster.index if cluster else 0
    # A worker that is not the chief and was not told of a run directory has none.
    autotuning = xla.Autotuning(run_dir.absolute(), worker) if not worker or config.run_dir else None
    xla.configure(autotuning, deterministic=config.deterministic)


def _configure_arithmetic(config: Config) -> None:
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.tf32 != "auto":
        tf.config.experimental.enable_tensor_float_32_execution(config.tf32 == "true")
    if config.tf32 == "false":
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # For NVIDIA's own libraries, whoever calls them.
