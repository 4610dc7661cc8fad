"""Whether the code that --code sends has the experiment, and can be imported where that can be tried."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from trainer.core import shipped_code
from trainer.core.exit_codes import UsageError
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.code_folder import Code

_SECONDS = 120
_TRY = """
import importlib, json, sys, traceback
try:
    module = importlib.import_module(sys.argv[1])
except ModuleNotFoundError as error:
    found = {"lacks": error.name or str(error)}
except BaseException as error:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(sys.argv[2])]
    where = f"{frames[-1].filename[len(sys.argv[2]) + 1:]}, line {frames[-1].lineno}: " if frames else ""
    found = {"failed": where + " ".join(f"{type(error).__name__}: {error}".split())}
else:
    found = {"without": [name for name in ("load_data", "build_model") if not callable(getattr(module, name, None))]}
print("\\n" + json.dumps(found))
"""


def check_module(code: Code, experiment: str) -> None:
    """Refuses an experiment that neither the folder nor the image has.

    Raises:
      UsageError: says what the folder has.
    """
    if not code.has_module(experiment) and experiment.partition(".")[0] != "trainer":
        raise UsageError(
            f"--experiment={experiment} is not in --code={code.folder}, which has: {', '.join(code.modules())}"
        )
    if not code.has_module(experiment):
        raise UsageError(
            f"--code={code.folder} is sent, and --experiment={experiment} would be trained; name the module in it: "
            f"-- --experiment={(code.modules() or ['my_model'])[0]}"
        )


def check_code(code: Code, experiment: str) -> Iterator[CheckResult]:
    """Says what is sent, and imports the experiment in a process of its own, if TensorFlow is here."""
    yield CheckResult(Mark.OK, "code", str(code))
    if importlib.util.find_spec("tensorflow") is None:
        text = f"{experiment} is not imported here: this Python has no TensorFlow; the workers try"
        yield CheckResult(Mark.NOTE, "code", text)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.realpath(folder)
        files = {name: path for name, path in code.files.items() if name != shipped_code.REQUIREMENTS}
        for name, path in files.items():
            target = os.path.join(root, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(path.read_bytes())
        environ = {**os.environ, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-c", _TRY, experiment, root]
        try:
            done = subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True, timeout=_SECONDS)
            found = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            yield CheckResult(Mark.NOTE, "code", f"importing {experiment} did not end within {_SECONDS} s")
            return
        except (ValueError, IndexError):
            found = {"failed": f"the process that imports it ended with {done.returncode}"}
    if lacks := found.get("lacks"):
        known = shipped_code.REQUIREMENTS in code.files
        text = f"{experiment} needs {lacks}, which is not installed here"
        fix = "" if known else f"a {shipped_code.REQUIREMENTS} in the folder, if the image does not have it either"
        yield CheckResult(Mark.NOTE, "code", text, fix)
    elif failed := found.get("failed"):
        yield CheckResult(Mark.FAIL, "code", f"{experiment} cannot be imported: {failed}", "--force submits it")
    elif without := found.get("without"):
        fix = "see trainer/mnist.py for what they do"
        yield CheckResult(Mark.FAIL, "code", f"{experiment} lacks {' and '.join(without)}", fix)
    else:
        yield CheckResult(Mark.OK, "code", f"{experiment} can be imported")
