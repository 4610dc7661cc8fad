"""A sweep with --code: the values of all trials are checked by the modules in the folder before anything starts."""

import pathlib

import pytest

from tests.launch.test_code_folder import MODEL
from trainer.launch import cli
from trainer.launch.codes import LaunchCode


@pytest.mark.parametrize("local", [(), ("--local",)])
@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("widht=1,2", "--grid: trial 1 (--widht=1): Unknown command line flag 'widht'. Did you mean: width"),
        ("width=1,0", "--grid: trial 2 (--width=0): --width=0 must be at least 1"),
    ],
)
def test_values_that_a_module_of_the_folder_refuses(
    grid: str,
    words: str,
    local: tuple[str, ...],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert words in refused(tmp_path, capsys, *local, f"--grid={grid}", "--", "--experiment=my_model")


def test_a_module_that_is_not_in_the_folder(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(tmp_path, capsys, "--local", "--grid=experiment=my_model,other")
    assert f"--experiment=other is not in --code={tmp_path}/mine, which has: my_model" in error
    assert "name the module in it: -- --experiment=my_model" in refused(tmp_path, capsys, "--local", "--grid=seed=1,2")


def refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line with which a sweep is refused that sends a folder with `my_model`."""
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine" / "my_model.py").write_text(MODEL)
    sweep = ["sweep", f"--folder={tmp_path}/sweeps", f"--code={tmp_path}/mine", *arguments]
    assert cli.main(sweep) == LaunchCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert not (tmp_path / "sweeps").exists()
    return line
