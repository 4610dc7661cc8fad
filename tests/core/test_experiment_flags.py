"""Flags of an experiment, found without importing it."""

import dataclasses
import pathlib

import pytest

from trainer.core import experiment_flags
from trainer.core.exit_codes import UsageError

FLAGS = '''
import dataclasses
import no_such_module_is_ever_imported
from trainer.core.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Its flags."""

    width: int = setting(3, "units", minimum=1)
    kind: str = setting("a", "of layer", choices=("a", "b"))
    rate: float = 0.5
'''


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def test_flags_are_read_from_the_source(folder: pathlib.Path) -> None:
    (folder / "model.py").write_text(FLAGS)
    config, rest = experiment_flags.parse(["--experiment=mine.model", "--width=5", "--epochs=2"])
    assert rest == []
    assert experiment_flags.own(config) == {"width": 5, "kind": "a", "rate": 0.5}
    assert config.epochs == 2
    for argument, words in (("--width=0", "at least 1"), ("--kind=c", "none of: a, b"), ("--depth=1", "Unknown")):
        with pytest.raises(UsageError, match=words):
            experiment_flags.parse(["--experiment=mine.model", argument])


@pytest.mark.parametrize(
    "source",
    [
        "from other import Flags",
        "from other import *",
        "import other\nFlags = other.Flags",
        "import other\nload_data, Flags = other.load_data, other.Flags",
        "class Flags:\n    width: int = setting(len('abc'), 'units')",
        "import other\nclass Flags(other.Flags):\n    depth: int = 3",
        "class Flags:\n    def method(self): pass",
        "this is no Python",
    ],
)
def test_flags_that_cannot_be_read_are_left_to_the_module(source: str, folder: pathlib.Path) -> None:
    (folder / "model.py").write_text(source)
    config, rest = experiment_flags.parse(["--experiment=mine.model", "--width=5", "--epochs=2"])
    assert (config.epochs, rest) == (2, ["--width=5"])


def test_a_module_without_flags_has_none(folder: pathlib.Path) -> None:
    (folder / "model.py").write_text("def load_data(config): ...")
    with pytest.raises(UsageError, match="width"):
        experiment_flags.parse(["--experiment=mine.model", "--width=5"])


def test_a_flag_of_ours_is_refused() -> None:
    flags = dataclasses.make_dataclass("Flags", [("epochs", int, 3)], frozen=True)
    with pytest.raises(UsageError, match="--epochs has the name of one of the trainer's own"):
        experiment_flags.with_flags(flags)


def test_beside_a_model_the_flags_are_those_of_its_run_which_is_not_known_here(folder: pathlib.Path) -> None:
    (folder / "model.py").write_text(FLAGS)
    applied = ["--mode=evaluate", "--model=gs://bucket/run", "--seed=3", "--width=5"]
    config, rest = experiment_flags.parse(applied)
    assert (config.model, config.seed, rest) == ("gs://bucket/run", 3, ["--width=5"])
    config, rest = experiment_flags.parse([*applied, "--experiment=mine.model"])
    assert (experiment_flags.own(config)["width"], rest) == (5, [])
    with pytest.raises(UsageError, match="Unknown command line flag 'depth'"):
        experiment_flags.parse([*applied, "--experiment=mine.model", "--depth=1"])
    with pytest.raises(UsageError, match="--to=x is of --mode=predict"):
        experiment_flags.parse([*applied, "--to=x"])


@pytest.mark.parametrize("spelled", ["--help", "-h", "-help"])
def test_help_is_shown_though_not_all_flags_are_known(spelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--experiment=nowhere.at_all"], ["--mode=predict", "--model=run", "--width=5"]):
        with pytest.raises(SystemExit) as ended:
            experiment_flags.parse([*argv, spelled])
        assert ended.value.code == 0
        assert "--run_dir" in capsys.readouterr().out
