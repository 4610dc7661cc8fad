"""`list`, `show`, `sweep --status` read what others wrote: it commands no terminal, ends nothing, tells no secret."""

import contextlib
import io
import json
import pathlib
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.launch.report.test_hostile_texts import HOSTILE, JSON, NUMBERS, OBEYED
from tests.launch.runs.test_list import RESULT, attempt, write
from tests.support.event_points import event
from trainer.launch import cli

SECRET = "https://user:password@host/x?X-Amz-Signature=secret"
SWEEP = {
    "format": 1, "name": "s", "metric": "loss", "grid": {"seed": ["1"]}, "random": 0, "halving": False, "training": [],
    "trials": [
        {
            "number": 1, "flags": {"seed": "1"}, "state": "failed", "rung": 0, "runs": ["one"], "job": "", "epochs": 1,
            "metrics": {"loss": 1.0}, "exit_code": 1, "reason": "no data", "seconds": 1.0,
        }
    ],
}  # fmt: skip
FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def said(*arguments: str) -> tuple[int, str]:
    """The exit code of a launcher's command, and all that it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = cli.main(list(arguments))
    return code, out.getvalue()


def asked(folder: pathlib.Path) -> str:
    """What all commands say of what lies in a folder."""
    output = f"--output={folder}"
    commands: list[tuple[str, ...]] = [
        ("list", output), ("list", output, "--json"), ("list", output, "--sort=metric"), ("show", "one", output),
        ("show", "one", output, "--json"), ("sweep", "--local", "--status", "--name=s", f"--folder={folder.parent}"),
        ("sweep", "--local", "--status", "--name=s", f"--folder={folder.parent}", "--json"),
    ]  # fmt: skip
    all_of_it = ""
    for command in commands:
        code, text = said(*command)
        assert code in (0, 1, 3, 125), (command, text)
        assert not OBEYED.search(text), (command, text)
        assert "Traceback" not in text
        if "--json" in command and code in (0, 125):
            for line in text.splitlines():
                json.loads(line, parse_constant=pytest.fail)
        all_of_it += text
    all_of_it.encode()
    return all_of_it


def test_texts_of_others_command_no_terminal(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "s"
    result = {
        **RESULT, HOSTILE: 0.5, "experiment": {"module": HOSTILE, HOSTILE: HOSTILE}, "flags": {HOSTILE: HOSTILE},
    }  # fmt: skip
    line = {**attempt(1, 0, 9, 1.0, HOSTILE), "step_to": f"\n{HOSTILE}"}
    write(folder, "one", **{"result.json": result, "attempts.jsonl": line})
    write(folder, "two", **{"result.json": {**RESULT, "experiment": {"module": "x", HOSTILE: "y"}}})
    write(folder, "three", **{"train/x.tfevents": event(f"epoch_{HOSTILE}", 1, 2.0)})
    trial = {**SWEEP["trials"][0], "flags": {HOSTILE: HOSTILE}, "reason": HOSTILE, "metrics": {HOSTILE: 1.0}}  # type: ignore[index]
    sweep = {**SWEEP, "name": HOSTILE, "metric": HOSTILE, "grid": {HOSTILE: [HOSTILE]}, "trials": [trial]}
    (folder / "s.sweep.json").write_text(json.dumps(sweep))
    text = asked(folder)
    assert "owned" not in text.replace("\\u001b]0;owned", "")  # As JSON has it, a terminal does not.
    assert text.count("[/red] :warning:") >= 8
    shown = said("show", "one", f"--output={folder}")[1].splitlines()
    assert not [row for row in shown if row.startswith("boom")]  # No line of its own.


def test_secrets_in_addresses_are_told_to_nobody(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "s"
    own = {"module": "trainer.mnist", "database": SECRET}
    write(folder, "one", **{"result.json": {**RESULT, "experiment": own}})
    write(folder, "two", **{"result.json": RESULT})
    trial = {**SWEEP["trials"][0], "flags": {"database": SECRET}, "reason": SECRET}  # type: ignore[index]
    (folder / "s.sweep.json").write_text(json.dumps({**SWEEP, "grid": {"database": [SECRET]}, "trials": [trial]}))
    text = asked(folder)
    assert "password" not in text
    assert "secret" not in text
    assert text.count("https://host/x") >= 4


FIELDS = {**RESULT, "flags": {}, "experiment": {}, "versions": {}, "format": 1}


@FUZZED
@given(
    result=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON | NUMBERS)) | JSON,
    line=st.fixed_dictionaries({}, optional=dict.fromkeys(attempt(1, 0, 9, 1.0), JSON | NUMBERS)) | JSON,
    trial=st.fixed_dictionaries({}, optional=dict.fromkeys(SWEEP["trials"][0], JSON | NUMBERS)),  # type: ignore[index]
    sweep=st.fixed_dictionaries({}, optional=dict.fromkeys(SWEEP, JSON | NUMBERS)) | JSON,
    tag=st.text(max_size=8),
    step=st.integers(0, 2**63),
    value=st.floats(width=32),
    cut=st.integers(0, 40),
)
def test_whatever_lies_there(
    result: Any, line: Any, trial: Any, sweep: Any, tag: str, step: int, value: float, cut: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        folder = pathlib.Path(root) / "s"
        whole = {**RESULT, **result} if isinstance(result, dict) else result
        lines = [{**attempt(1, 0, 9, 1.0), **line} if isinstance(line, dict) else line, attempt(2, 3, 9, 1.0)]
        events = event(f"epoch_{tag}", step, value)
        write(
            folder,
            "one",
            **{
                "result.json": json.dumps(whole).encode() if cut else b"",
                "attempts.jsonl": "".join(json.dumps(each) + "\n" for each in lines).encode(),
                "train/x.tfevents": events[: len(events) - cut % 7],
            },
        )
        write(folder, "two", **{"train/x.tfevents": events, "mirror.json": result, "attempts.jsonl": lines[0]})
        trials = [{**SWEEP["trials"][0], **trial}]  # type: ignore[index]
        kept = {**SWEEP, "trials": trials, **sweep} if isinstance(sweep, dict) else sweep
        (folder / "s.sweep.json").write_text(json.dumps(kept))
        asked(folder)
