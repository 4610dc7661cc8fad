"""Which GPUs and drivers are refused before anything starts on them."""

import tomllib

import pytest

from tests.support.paths import ROOT
from trainer.core.gpu_support import SUPPORT, TENSORFLOW, Version, lacking_code, refusal

BUILT = ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"]  # As pip's TensorFlow 2.16 to 2.19 say of themselves.


@pytest.mark.parametrize(
    ("driver", "capability", "why"),
    [
        ((580, 95, 5), (9, 0), ""),
        ((535, 104, 5), (8, 0), ""),
        ((525, 60, 13), (8, 0), ""),
        ((525, 60, 13), (9, 0), "has the driver 525.60.13, and TensorFlow 2.16 on compute capability 9.0 needs 530 or"),
        ((470, 82, 1), (7, 5), "has the driver 470.82.1, and TensorFlow 2.16 needs 525 or newer"),
        ((470, 82, 1), (), "has the driver 470.82.1, and TensorFlow 2.16 needs 525 or newer"),
        ((580, 95, 5), (10, 0), "has compute capability 10.0, and TensorFlow 2.16 runs on 9.x at most"),
        ((580, 95, 5), (12, 0), "has compute capability 12.0, and TensorFlow 2.16 runs on 9.x at most"),
        ((), (12, 0), "has compute capability 12.0, and TensorFlow 2.16 runs on 9.x at most"),
        ((), (), ""),
    ],
)
def test_drivers_and_cards(driver: Version, capability: Version, why: str) -> None:
    found = refusal(driver=driver, capability=capability)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_a_newer_tensorflow_needs_a_newer_driver() -> None:
    assert refusal(driver=(530, 1), capability=(9, 0), tensorflow=(2, 16)) == ""
    assert "needs 545 or newer" in refusal(driver=(530, 1), capability=(9, 0), tensorflow=(2, 17))
    assert refusal(driver=(1,), capability=(99, 0), tensorflow=(9, 9)) == "", "of which nothing is known"


@pytest.mark.parametrize("capability", [(6, 0), (6, 1), (7, 5), (8, 6), (8, 9), (9, 0), (12, 0)])
def test_what_there_is_code_for(capability: Version) -> None:
    assert lacking_code(capability, BUILT) == ""


def test_what_there_is_no_code_for() -> None:
    assert lacking_code((5, 2), BUILT) == (
        "has compute capability 5.2, and this TensorFlow was built for sm_60, sm_70, sm_80, sm_89, compute_90"
    )
    assert "was built for sm_90" in lacking_code((10, 0), ["sm_90"]), "without PTX nothing newer"
    assert lacking_code((10, 0), []) == ""


def test_the_version_is_the_one_that_is_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    major, minor = TENSORFLOW
    assert any(line.startswith(f"tensorflow[and-cuda]>={major}.{minor}.") for line in extras["gpu"])
    assert TENSORFLOW in SUPPORT
