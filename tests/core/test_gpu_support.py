"""Which GPUs and drivers are refused before anything starts on them."""

import re

import pytest

from tests.support.paths import ROOT
from trainer.core.gpu_support import SUPPORT, Version, lines, pinned, refusal, text, way_out

BLACKWELL = "has compute capability {0}, for which TensorFlow {1} cannot compile: it was built with CUDA {2}, and that"


@pytest.mark.parametrize(
    ("driver", "capability", "tensorflow", "why"),
    [
        ((580, 95, 5), (9, 0), (2, 17), ""),
        ((535, 104, 5), (8, 0), (2, 17), ""),
        ((525, 60, 13), (8, 9), (2, 21), ""),
        ((535, 104, 5), (9, 0), (2, 16), ""),
        ((535, 104, 5), (9, 0), (2, 17), "has the driver 535.104.5, and TensorFlow 2.17 on compute capability 9.0"),
        ((550, 54, 15), (9, 0), (2, 17), ""),
        ((550, 54, 15), (9, 0), (2, 21), "has the driver 550.54.15, and TensorFlow 2.21 on compute capability 9.0"),
        ((555, 42, 2), (9, 0), (2, 21), ""),
        ((470, 82, 1), (7, 5), (2, 17), "has the driver 470.82.1, and TensorFlow 2.17 needs 525 or newer"),
        ((470, 82, 1), (), (2, 21), "has the driver 470.82.1, and TensorFlow 2.21 needs 525 or newer"),
        ((580, 95, 5), (10, 0), (2, 17), BLACKWELL.format("10.0", "2.17", "12.3")),
        ((580, 95, 5), (12, 0), (2, 21), BLACKWELL.format("12.0", "2.21", "12.5")),
        ((), (12, 0), (2, 16), BLACKWELL.format("12.0", "2.16", "12.3")),
        ((), (), (2, 17), ""),
        ((580, 95, 5), (5, 2), (2, 16), ""),
        ((580, 95, 5), (5, 2), (2, 17), "has compute capability 5.2, and TensorFlow 2.17 was built for sm_60, sm_70"),
    ],
)  # fmt: skip
def test_drivers_and_cards(driver: Version, capability: Version, tensorflow: Version, why: str) -> None:
    found = refusal(driver=driver, capability=capability, tensorflow=tensorflow)
    assert found.startswith(why)
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    ("driver", "capability", "tensorflow", "way"),
    [
        ((550, 54, 15), (9, 0), (2, 21), "TensorFlow 2.17 (the classic line)"),
        ((535, 104, 5), (9, 0), (2, 21), "TensorFlow 2.16 (the classic line)"),
        ((535, 104, 5), (9, 0), (2, 17), "TensorFlow 2.16 (the classic line)"),
        ((580, 95, 5), (12, 0), (2, 17), ""),
        ((525, 60, 13), (9, 0), (2, 17), ""),
    ],
)
def test_another_version_is_named_only_where_it_runs(
    driver: Version, capability: Version, tensorflow: Version, way: str
) -> None:
    assert refusal(driver=driver, capability=capability, tensorflow=tensorflow)
    assert way_out([(driver, capability)], tensorflow=tensorflow) == way


def test_one_way_out_for_all_gpus() -> None:
    assert way_out([((550, 54), (9, 0)), ((535, 104), (9, 0))], tensorflow=(2, 21)).startswith("TensorFlow 2.16")
    assert way_out([((550, 54), (9, 0)), ((550, 54), (12, 0))], tensorflow=(2, 21)) == ""


@pytest.mark.parametrize("capability", [(6, 0), (6, 1), (7, 5), (8, 6), (8, 9), (9, 0)])
def test_what_there_is_code_for(capability: Version) -> None:
    assert refusal(driver=(580,), capability=capability, tensorflow=(2, 17)) == ""


def test_what_a_tensorflow_says_of_itself_counts_more_than_its_version() -> None:
    def why(capability: Version, *, cuda: Version = (), code: tuple[str, ...] = ()) -> str:
        return refusal(driver=(530, 1), capability=capability, tensorflow=(2, 21), cuda=cuda, code=code)

    blackwell = ("sm_80", "sm_90a", "sm_100", "sm_120a", "compute_120")
    for capability in ((9, 0), (10, 0), (12, 0), (12, 1)):
        assert why(capability, cuda=(12, 8, 1), code=blackwell) == ""
    assert "was built for sm_80, sm_90a" in why((7, 0), cuda=(12, 8), code=blackwell)
    assert "was built for sm_90" in why((10, 0), cuda=(12, 8), code=("sm_90",)), "without PTX nothing newer"
    assert "built with CUDA 12.4" in why((12, 0), cuda=(12, 4))
    assert "needs 555 or newer" in why((9, 0), cuda=(12, 5))
    assert refusal(driver=(1,), capability=(99, 0), tensorflow=(9, 9)) == "", "of which nothing is known"


def test_the_versions_are_those_that_the_lines_name() -> None:
    assert lines() == ["classic", "current"]
    for line, name in (("classic", "constraints.txt"), ("current", "constraints-current.txt")):
        assert re.search(rf"^tensorflow=={re.escape(text(pinned(line)))}\.", (ROOT / name).read_text(), re.MULTILINE)
    assert all(support.line in lines() for support in SUPPORT.values())
