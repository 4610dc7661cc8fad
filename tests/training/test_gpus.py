"""What a process finds out and sets before it computes on a GPU. No test machine has one: what its driver would say is
recorded text, a small library in C, or made up; TensorFlow and XLA are real.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tests.support.training_processes import Training, result
from trainer.core.config import Config
from trainer.core.exit_codes import AcceleratorError, UsageError
from trainer.training.hardware import cuda, devices, xla
from trainer.training.hardware.devices import Gpu
from trainer.training.stepping import Stepping

OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22-I3)  Tue Sep 23
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04.2)
"""
PROPRIETARY = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023
GCC version:  gcc version 9.4.0 (Ubuntu 9.4.0-1ubuntu1~20.04.1)
"""
BUILD = {"cuda_compute_capabilities": ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"], "cuda_version": "12.3"}
H100 = Gpu(name="NVIDIA H100 80GB HBM3", capability=(9, 0))


@pytest.mark.parametrize(
    ("text", "version"), [(OPEN, (580, 95, 5)), (PROPRIETARY, (535, 104, 5)), ("", ()), ("NVRM version: none", ())]
)
def test_the_version_of_the_driver(text: str, version: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "version").write_text(text)
    assert cuda.driver_version(tmp_path / "version") == version


def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    assert cuda.driver_version(tmp_path / "version") == ()
    assert cuda.uuids("libnowhere.so.1") == []


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize(("failing", "expected"), [("none", ["00" * 15 + "30", "00" * 15 + "31"]), ("cuInit", [])])
def test_identities_by_cudas_library(failing: str, expected: list[str], tmp_path: Path) -> None:
    """A library with CUDA's signatures stands in for the driver's."""
    source = tmp_path / "cuda.c"
    source.write_text(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", f"-DFAIL_{failing}", "-o", tmp_path / "cuda.so", source], check=True)
    assert cuda.uuids(str(tmp_path / "cuda.so")) == expected


LIBRARY = """\
#include <string.h>
typedef struct { unsigned char bytes[16]; } CUuuid;
int cuInit(unsigned flags) {
#ifdef FAIL_cuInit
  return 100;
#endif
  return flags;
}
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0x30 + ordinal; return 0; }
int cuDeviceGetUuid_v2(CUuuid *uuid, int device) {
  memset(uuid, 0, 16);
  uuid->bytes[15] = device;
  return 0;
}
"""


def test_a_driver_or_a_card_that_tensorflow_cannot_use_is_refused() -> None:
    def check(*gpus: Gpu, driver: tuple[int, ...] = (580, 95, 5), tensorflow: str = "2.17.1") -> None:
        devices.check(gpus, driver=driver, build=BUILD, tensorflow=tensorflow)

    def refused(words: str, *gpus: Gpu, driver: tuple[int, ...] = (580, 95, 5)) -> None:
        with pytest.raises(AcceleratorError, match=re.escape(words)):
            check(*gpus, driver=driver)

    check(H100)
    check(H100, driver=())
    check()
    b200, m40 = Gpu(name="NVIDIA B200", capability=(10, 0)), Gpu(name="Tesla M40", capability=(5, 2))
    refused(
        "the GPU NVIDIA B200 has compute capability 10.0, for which TensorFlow 2.17 cannot compile: it was built with "
        "CUDA 12.3, and that takes 12.8 or newer; take a node with", H100, b200
    )  # fmt: skip
    refused(
        "the GPU Tesla M40 has compute capability 5.2, and TensorFlow 2.17 was built for sm_60, sm_70, sm_80, sm_89, "
        "compute_90; take TensorFlow 2.16 (the classic line), which runs there, or a node with another", m40
    )  # fmt: skip
    refused(
        "the GPU NVIDIA H100 80GB HBM3 has the driver 525.60.13, and TensorFlow 2.17 on", H100, driver=(525, 60, 13)
    )
    # TensorFlow sees no GPU with it.
    refused("the GPU has the driver 470.82.1, and TensorFlow 2.17 needs 525 or newer; take", driver=(470, 82, 1))


def test_the_other_line_is_the_way_out_where_it_runs() -> None:
    build = {"cuda_compute_capabilities": BUILD["cuda_compute_capabilities"], "cuda_version": "12.5.1"}
    with pytest.raises(AcceleratorError) as refused:
        devices.check([H100], driver=(550, 54, 15), build=build, tensorflow="2.21.0")
    assert str(refused.value).startswith(
        "the GPU NVIDIA H100 80GB HBM3 has the driver 550.54.15, and TensorFlow 2.21 on compute capability 9.0 needs "
        "555 or newer; take TensorFlow 2.17 (the classic line), which runs there, or a node with another driver or card"
    )
    assert "\n" not in str(refused.value)


def test_a_tensorflow_that_somebody_has_built_for_a_card_may_run_on_it() -> None:
    own = {"cuda_compute_capabilities": ["sm_90", "sm_120"], "cuda_version": "12.8.1"}
    devices.check([Gpu(name="5090", capability=(12, 0))], driver=(570, 1), build=own, tensorflow="2.21.0+own")


@pytest.mark.parametrize(
    ("flags", "tf32", "gpus", "line"),
    [
        (
            {}, True, [H100],
            "GPU: NVIDIA H100 80GB HBM3, compute capability 9.0, driver 580.95.5; "
            "matrix products in TF32 (--tf32=false: in float32); deterministic kernels",
        ),
        ({"tf32": "false"}, False, [H100], "matrix products in float32; "),
        ({}, True, [Gpu(name="Tesla T4", capability=(7, 5))], "matrix products in float32; "),
        ({"precision": "bfloat16"}, True, [H100] * 2, "GPU: 2 × NVIDIA H100 80GB HBM3, "),
        ({"precision": "bfloat16"}, True, [H100], "matrix products in bfloat16; "),
        ({"deterministic": False}, True, [H100], "; kernels that may give other bits in every run"),
    ],
)  # fmt: skip
def test_what_is_said_of_them(flags: dict[str, object], tf32: bool, gpus: list[Gpu], line: str) -> None:
    assert line in devices.said(Config(**flags), gpus, driver=(580, 95, 5), tf32=tf32)  # type: ignore[arg-type]


def test_a_driver_that_is_too_old_ends_a_run_that_asks_for_gpus(training: Training, tmp_path: Path) -> None:
    worker = training.start(
        f"--run_dir={tmp_path}", "--experiment=tests.experiments.pretended_gpus", "--expect_gpus=1",
        environ={"DRIVER": "470.82.1"},
    )  # fmt: skip
    assert worker.wait() == 69
    (line,) = worker.lines
    version = ".".join(tf.__version__.split(".")[:2])
    assert line.startswith(
        f"error: the GPU has the driver 470.82.1, and TensorFlow {version} needs 525 or newer; take a"
    )


@pytest.mark.thorough
def test_settings_for_gpus_change_nothing_without_one(training: Training, tmp_path: Path) -> None:
    """XLA on a CPU takes the flags that are for GPUs, too: were one unknown, it would end the process."""
    flags = ("--epochs=1", "--global_batch_size=50", "--jit_compile=true")
    pretended = "--experiment=tests.experiments.pretended_gpus"
    runs = {
        "plain": (flags, {}),
        "with a driver": ((*flags, pretended), {"DRIVER": "580.95.5"}),
        "inexact": ((*flags, "--nodeterministic", "--tf32=false"), {}),
    }
    for name, (of_run, environ) in runs.items():
        worker = training.start(f"--run_dir={tmp_path / name}", *of_run, environ=environ)
        assert worker.wait() == 0, worker.text
        assert "training steps: first call " in worker.text
        assert "evaluation: first call " in worker.text
    assert len({result(tmp_path / name)["weights_sha256"] for name in runs}) == 1
    assert (tmp_path / "with a driver" / "workers" / "0").is_dir()
    assert not (tmp_path / "plain" / "workers").exists()


def test_what_xla_has_chosen_is_kept_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false --other=1")
    choices = xla.Autotuning(tmp_path / "a run", 3)
    xla.configure(choices, deterministic=True)
    folder = tmp_path / "a run" / "workers" / "3"
    kept = folder / f"autotuning-{tf.__version__}.textproto"
    written = kept.with_name(f".{kept.name}")
    assert os.environ["XLA_FLAGS"] == (
        f'--xla_gpu_deterministic_ops=false --other=1 --xla_gpu_dump_autotune_results_to="{written}"'
    )
    choices.keep()  # Nothing was compiled.
    assert not list(folder.iterdir())
    written.write_text("version: 3")
    choices.keep()
    assert list(folder.iterdir()) == [kept]
    written.write_text("half of it")  # By a process that was killed.
    assert xla.Autotuning(tmp_path / "a run", 3).flags() == [
        f'--xla_gpu_load_autotune_results_from="{kept}"', f'--xla_gpu_dump_autotune_results_to="{written}"',
    ]  # fmt: skip
    assert [path.read_text() for path in folder.iterdir()] == ["version: 3"]
    (tmp_path / "file").touch()
    assert xla.Autotuning(tmp_path / "file", 0).flags() == [], "where nothing can be written"


def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    """No operation of a CPU is one: TensorFlow's error for a GPU is raised here by hand."""
    words = "Deterministic GPU implementation of unsorted segment reduction op not available."
    with (
        pytest.raises(UsageError, match=f"^{re.escape(words)}; use another operation, or .*--deterministic=false$"),
        xla.first_call("a function", jit_compile=True),
    ):
        raise tf.errors.UnimplementedError(None, None, words)
    with pytest.raises(tf.errors.UnimplementedError), xla.first_call("another", jit_compile=True):
        raise tf.errors.UnimplementedError(None, None, "Something else.")


def test_it_is_named_where_it_is_in_the_first_step(tmp_path: Path) -> None:
    """The trainer stands aside: what counts is what is made of its error."""
    words = "Deterministic GPU implementation of unsorted segment reduction op not available."

    class Fails:
        steps_per_epoch, jit_compile = 1, True

        def reach(self, _: int, until: int) -> int:
            return until

        def run(self, *_: object) -> None:
            raise tf.errors.UnimplementedError(None, None, words)

        def without_xla(self) -> None:
            raise AssertionError("XLA has not refused it")

    stepping = Stepping(Fails(), Config(), tmp_path, chief=True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"not available\.; use another operation, or .*--deterministic=false$"):
        stepping.run(0, 1, [])


def test_what_xla_refuses_to_compile_is_told_from_what_fails() -> None:
    """By the words of TensorFlow's own errors, which are of the same classes."""
    text = tf.function(lambda x: tf.strings.length(tf.strings.as_string(x)), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        text(tf.constant([1.0]))
    assert "unsupported operations" in xla.refusal(refused.value)
    assert "\n" not in xla.refusal(refused.value)
    with pytest.raises(tf.errors.InvalidArgumentError) as failed:
        tf.function(lambda x: tf.debugging.check_numerics(x, "too much"))(tf.constant(float("inf")))
    assert xla.refusal(failed.value) == ""


def test_xla_reads_its_flags_after_tensorflow_was_imported(tmp_path: Path) -> None:
    """So that a warm spare, which has imported it before it knows of a run, has them, too."""
    program = (
        "import os, sys, tensorflow as tf; tf.config.list_physical_devices();"
        f"""os.environ["XLA_FLAGS"] = '--xla_dump_to="{tmp_path / "a dump"}"';"""
        "tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([])); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    assert list((tmp_path / "a dump").iterdir())
