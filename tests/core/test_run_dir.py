"""The names of runs."""

import pytest

from trainer.core.run_dir import run_name, run_name_parts

UID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("job", "release"),
    [("mnist-train-1a2b3c4d", "mnist-train"), ("mnist-train", ""), ("a-1a2b3c4d-1a2b3c4d", "a-1a2b3c4d")],
)
def test_a_runs_name_tells_its_job_and_its_release(job: str, release: str) -> None:
    name = run_name(job, UID)
    assert name == f"{job}-01234567"
    assert run_name_parts(name) == (job, release)


@pytest.mark.parametrize("name", ["", "mnist-train", "20260101-120000", "mnist-train-1a2b3c4", "-01234567"])
def test_other_folders_are_no_runs_of_a_job(name: str) -> None:
    assert run_name_parts(name) is None
