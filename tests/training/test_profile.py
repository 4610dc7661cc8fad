"""--profile_steps: TensorBoard's profile holds exactly the steps that were asked for, and training is as without."""

import collections
import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.support.memory_store import MemoryStore
from tests.support.mirrored_run import Clock, a_mirror
from tests.support.training_processes import Training, number, result
from trainer.core import step_range
from trainer.core.exit_codes import UsageError
from trainer.training.hardware.profiling import Profile


def events(run_dir: Path) -> collections.Counter[str]:
    """How often each event of the host is in the run's one profile."""
    (file,) = run_dir.glob("train/plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    return collections.Counter(
        plane.event_metadata[event.metadata_id].name
        for plane in space.planes
        if plane.name == "/host:CPU"
        for line in plane.lines
        for event in line.events
    )


def updates(run_dir: Path) -> set[int]:
    """How often each weight was updated while the profiler ran."""
    return {count for name, count in events(run_dir).items() if name.endswith(":ResourceApplyAdam")}


def test_it_holds_these_steps_and_changes_nothing(training: Training, tmp_path: Path) -> None:
    flags = ("--epochs=2", "--global_batch_size=64")
    training.run(f"--run_dir={tmp_path / 'plain'}", *flags)
    (worker,) = training.run(f"--run_dir={tmp_path / 'run'}", *flags, "--profile_steps=8:13")  # Over an epoch's end.
    assert updates(tmp_path / "run") == {5}
    assert result(tmp_path / "run")["weights_sha256"] == result(tmp_path / "plain")["weights_sha256"]
    assert any(line.startswith("profiled steps 8 to 13: ") for line in worker.lines)
    assert not list((tmp_path / "run").glob(".tmp*"))


def test_of_two_workers_the_chief_writes_it(training: Training, tmp_path: Path) -> None:
    flags = (f"--run_dir={tmp_path / 'run'}", "--epochs=1", "--global_batch_size=64", "--chunk_steps=7")
    training.run(*flags, "--profile_steps=3:6", count=2)
    assert sum("CollectiveReduce" in name for name in events(tmp_path / "run")) > 0
    assert result(tmp_path / "run")["steps"] == 10


def test_a_resume_in_the_middle_profiles_what_is_left(training: Training, tmp_path: Path) -> None:
    flags = ("--global_batch_size=64", "--profile_steps=8:13")
    training.run(f"--run_dir={tmp_path / 'one'}", "--global_batch_size=64", "--epochs=1")
    on = f"--resume_from={tmp_path / 'one'}"
    (worker,) = training.run(f"--run_dir={tmp_path / 'two'}", on, "--epochs=2", *flags)
    assert updates(tmp_path / "two") == {3}
    assert "profiled steps 10 to 13: " in worker.text
    (worker,) = training.run(f"--run_dir={tmp_path / 'three'}", on, "--epochs=2", flags[0], "--profile_steps=3:8")
    assert "no profile: --profile_steps=3:8 are before step 10, where this start goes on" in worker.lines


def test_a_run_that_is_killed_while_it_profiles_profiles_from_where_it_resumes(
    training: Training, tmp_path: Path
) -> None:
    flags = (f"--run_dir={tmp_path / 'run'}", "--epochs=3", "--global_batch_size=64", "--chunk_steps=1",
             "--profile_steps=8:25", "--experiment=tests.experiments.paced")  # fmt: skip
    worker = training.start(*flags, environ={"PACE": "0.1"})
    worker.wait_for_step(13)
    worker.kill()
    assert worker.wait() == -9, worker.text
    assert not list((tmp_path / "run").glob("train/plugins/profile/*"))
    (resumed,) = training.run(*flags)
    step = number(r"resuming at step (\d+)", resumed.text)
    assert 8 < step < 25
    assert updates(tmp_path / "run") == {25 - step}
    assert not list((tmp_path / "run").glob(".tmp*"))


def test_steps_that_the_run_does_not_have_are_refused(training: Training, tmp_path: Path) -> None:
    flags = ("--epochs=1", "--global_batch_size=64", "--profile_steps=5:11")
    worker = training.start(f"--run_dir={tmp_path / 'run'}", *flags)
    assert worker.wait() == 64, worker.text
    assert "error: --profile_steps=5:11 ends after the last step of the run, 10; name earlier ones" in worker.lines


@pytest.mark.parametrize("text", ["5", "10:10", "10:5", "-1:5", "a:b", "0:2000", "1:2:3", " 1:2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no range of 1 to 1000 steps; expected the completed steps"):
        step_range.parse(text)


def test_chunks_end_at_its_boundaries() -> None:
    profile = Profile(range(10, 13), Path("/nowhere"), writes=False, of=100)
    assert [profile.cut(step, step + 8) for step in (0, 4, 10, 11, 13)] == [8, 10, 13, 13, 21]
    assert Profile(None, Path("/nowhere"), writes=True, of=5).cut(0, 3) == 3


def test_a_profile_that_cannot_be_written_costs_a_line(training: Training, tmp_path: Path) -> None:
    (tmp_path / "run" / "train").mkdir(parents=True)
    (tmp_path / "run" / "train" / "plugins").touch()  # In the way.
    (worker,) = training.run(
        f"--run_dir={tmp_path / 'run'}", "--epochs=1", "--global_batch_size=64", "--profile_steps=3:5"
    )
    assert len([line for line in worker.lines if "the profile of the steps could not be written" in line]) == 1


def test_it_is_in_the_output_before_the_run_has_ended(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    mirror = a_mirror(store, tmp_path, Clock(), [])
    key = "train/plugins/profile/2026_11_28_10_33_28/host.xplane.pb"
    (tmp_path / key).parent.mkdir(parents=True)
    (tmp_path / key).write_bytes(b"events")
    (tmp_path / ".tmp.profile" / "plugins" / "profile" / "later").mkdir(parents=True)
    (tmp_path / ".tmp.profile" / "plugins" / "profile" / "later" / "host.xplane.pb").write_bytes(b"ha")
    assert key in mirror.missing()
    mirror.copy_checkpoint()
    assert {name: found.data for name, found in store.objects.items() if "profile" in name} == {key: b"events"}
    assert key not in mirror.missing()
