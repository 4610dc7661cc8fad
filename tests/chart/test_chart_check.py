"""The check that `helm test` runs, told what DNS and TensorBoard say; tests on a cluster ask real ones."""

import importlib.util
import itertools
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.support.paths import CHART

FILE = CHART / "files" / "check.py"
JOB = "run-0a1b2c3d"
RUN = f"{JOB}-12345678/train"
NAMES = {f"{JOB}-0.run", f"{JOB}-1.run"}

Check = Callable[..., str | None]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """The check with names that resolve, runs that TensorBoard shows, and a clock that sleeping moves on."""
    spec = importlib.util.spec_from_file_location("check", FILE)
    assert spec
    assert spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock = itertools.count(0, 10)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module.time, "sleep", lambda _: None)

    def run(
        names: set[str],
        shown: list[str],
        *,
        output: str = "",
        tensorboard: str = "run-tensorboard",
        stale: frozenset[str] = frozenset(),
        kept: frozenset[str] = frozenset(),
    ) -> str | None:
        """Names that are stale resolve when they are asked for the first time, kept ones though nobody is there."""
        left = set(stale)
        environ = {"JOB_NAME": JOB, "SERVICE_NAME": "run", "TENSORBOARD": tensorboard, "OUTPUT": output, "WORKERS": "2"}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

        def resolves(name: str) -> bool:
            known = name in names | kept or name in left
            left.discard(name)
            return known

        monkeypatch.setattr(module, "resolves", resolves)
        monkeypatch.setattr(module, "gone", lambda name: name in kept)
        monkeypatch.setattr(module, "runs", lambda _: shown)
        wrong: str | None = module.main()
        return wrong

    return run


@pytest.mark.parametrize("output", ["", "gs://bucket"])
def test_a_run_in_its_midst(check: Check, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(NAMES, [RUN if output else "train"], output=output) is None
    said = capsys.readouterr().out
    assert "2 of 2 workers' names resolve" in said
    assert "TensorBoard shows the scalars of" in said


def test_one_name_is_missing(check: Check) -> None:
    assert check({f"{JOB}-0.run"}, [RUN], output="gs://bucket") == f"these names do not resolve: {JOB}-1.run"


def test_a_job_that_is_over_and_has_left_its_run(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(set(), ["other-99999999-12345678/train", RUN], output="gs://bucket") is None
    assert "0 of 2" in capsys.readouterr().out


def test_a_job_that_is_over_and_of_which_dns_still_knows_a_name(check: Check) -> None:
    assert check(set(), [RUN], output="gs://bucket", stale=frozenset({f"{JOB}-0.run"})) is None


def test_a_job_that_is_over_and_of_which_dns_keeps_a_name(check: Check) -> None:
    kept = frozenset({f"{JOB}-0.run"})
    assert check(set(), [RUN], output="gs://bucket", kept=kept) is None
    assert check(set(), [], output="gs://bucket", kept=kept) == f"these names do not resolve: {JOB}-1.run"


@pytest.mark.parametrize(
    ("output", "tensorboard"), [("", "run-tensorboard"), ("gs://bucket", "run-tensorboard"), ("gs://bucket", "")]
)
def test_a_job_that_is_not_there(check: Check, output: str, tensorboard: str) -> None:
    """Other jobs' runs in the same output say nothing of it."""
    wrong = check(set(), ["other-99999999-12345678/train"], output=output, tensorboard=tensorboard)
    assert wrong is not None
    assert wrong.startswith("no worker's name resolves")


@pytest.mark.parametrize("shown", [[], ["other-99999999-12345678/train"]])
def test_tensorboard_without_the_run(check: Check, shown: list[str]) -> None:
    wrong = check(NAMES, shown, output="gs://bucket")
    assert wrong == f"TensorBoard at http://run-tensorboard:6006 shows no scalars of {JOB}"


def test_no_tensorboard(check: Check) -> None:
    assert check(NAMES, [], tensorboard="") is None
