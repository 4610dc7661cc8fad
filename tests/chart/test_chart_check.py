"""The check that `helm test` runs, told what DNS and TensorBoard say; tests on a cluster ask real ones."""

import importlib.util
import itertools
import socket
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.support.paths import CHART

FILE = CHART / "files" / "check.py"
JOB = "run-0a1b2c3d"
RUN = f"{JOB}-12345678/train"
NAMES = {f"{JOB}-0.run", f"{JOB}-1.run"}

Check = Callable[..., str | None]


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """The check with names that resolve, runs that TensorBoard shows, and a clock that sleeping moves on."""
    module = loaded()
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
        closed: str = "2222 8080",
        opened: tuple[set[int], ...] = (set(),),
        ended: bool = False,
    ) -> str | None:
        """Names that are stale resolve when they are asked for the first time, kept ones though nobody is there.

        `opened` are the ports that a worker opens to this pod at the first try, the second, and so on. When these are
        over the job may have `ended`, without one of its connections refused: a network may answer nothing.
        """
        left = set(stale)
        environ = {"JOB_NAME": JOB, "SERVICE_NAME": "run", "TENSORBOARD": tensorboard, "OUTPUT": output, "WORKERS": "2"}
        environ["CLOSED_PORTS"] = closed
        tries = itertools.chain(opened, itertools.repeat(opened[-1]))
        now: dict[str, set[int]] = {}

        def connects(name: str, port: int) -> bool:
            if (name, port) == (tensorboard, 6006):
                return not ended
            if (name, port) == (f"{JOB}-0.run", 2222):  # What each try begins with.
                now["open"] = next(tries)
            return port in now["open"]

        monkeypatch.setattr(module, "connects", connects)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

        def resolves(name: str) -> bool:
            known = name in names | kept or name in left
            known = known and not (ended and "open" in now)
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


@pytest.mark.parametrize("output", ["", "gs://bucket"])
def test_a_policy_that_is_enforced(check: Check, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(NAMES, [RUN], output=output) is None
    assert "this pod, which is no worker, does not reach the workers' 2222 and 8080" in capsys.readouterr().out


def test_a_policy_that_is_not_enforced(check: Check) -> None:
    wrong = check(NAMES, [RUN], opened=({2222, 8080},))
    assert wrong is not None
    ports = ", ".join(f"{JOB}-{index}.run:{port}" for index in range(2) for port in (2222, 8080))
    assert wrong.startswith(
        f"this pod is no worker, and reaches {ports}: this cluster does not enforce NetworkPolicies"
    )
    assert "reads its environment, credentials and files, and can change the model" in wrong
    assert "networkPolicy.enabled=false" in wrong


def test_a_policy_that_holds_after_a_moment(check: Check) -> None:
    assert check(NAMES, [RUN], opened=({2222, 8080}, set())) is None


def test_an_agent_that_listens_after_a_moment(check: Check) -> None:
    assert check(NAMES, [], tensorboard="", opened=(set(), {8080})) is not None


def test_a_port_that_the_values_open_is_not_tried(check: Check) -> None:
    assert check(NAMES, [RUN], closed="2222", opened=({8080},)) is None


def test_no_policy(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(NAMES, [RUN], closed="", opened=({2222, 8080},)) is None
    assert "networkPolicy.enabled is false: any pod that connects to a worker reads" in capsys.readouterr().out


def test_a_job_that_is_over_is_not_tried(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(set(), [RUN], output="gs://bucket", opened=({2222},)) is None
    assert "was not tried" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["", "gs://bucket"])
def test_workers_that_have_ended_say_nothing_of_the_policy(
    check: Check, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: tuple[set[int], ...] = ({2222, 8080}, set())
    assert check(NAMES, [RUN], output=output, opened=opened, ended=True) is None
    said = capsys.readouterr().out
    assert "the job has ended meanwhile: whether the NetworkPolicy is enforced is not known" in said
    assert "does not reach" not in said


def test_a_name_that_dns_keeps_says_nothing_of_the_policy(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(NAMES, [RUN], output="gs://bucket", kept=frozenset(NAMES)) is None
    assert "whether the NetworkPolicy is enforced is not known" in capsys.readouterr().out


def test_workers_of_which_nobody_says_that_they_listen(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(NAMES, [], tensorboard="") is None
    assert "without TensorBoard nobody says that they listen" in capsys.readouterr().out


def test_connections() -> None:
    module = loaded()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert module.connects("127.0.0.1", port)
    assert not module.connects("127.0.0.1", port)
