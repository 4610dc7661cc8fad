"""The names of runs, and the folders that are theirs alone."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.core.exit_codes import UsageError
from trainer.core.run_dir import folder_of_run, run_name, run_name_parts

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


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "logs/fit/20261130-120000")
    with ThreadPoolExecutor(8) as starts:
        made = sorted(map(str, starts.map(folder_of_run, [""] * 12)))
    name = "logs/fit/20261130-120000"
    assert made == sorted([name, *(f"{name}-{number}" for number in range(2, 13))])
    assert sorted(map(str, Path("logs/fit").iterdir())) == made
    assert folder_of_run("", claim=False) == Path(name)


def test_a_folder_that_a_flag_names_is_not_made_by_its_name(tmp_path: Path) -> None:
    assert folder_of_run(str(tmp_path / "mine")) == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


def test_where_no_folder_can_be_made_another_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").write_text("mine")
    with pytest.raises(UsageError, match=r"^logs/fit/[-\d]+ cannot be made \(.+\); name another folder with --run_dir"):
        folder_of_run("")


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--run_dir=.*x cannot be used \(File name too long\); name another folder$"):
        folder_of_run(str(tmp_path / ("x" * 300)))
