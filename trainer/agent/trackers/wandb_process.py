"""The process in which the client of Weights & Biases runs: a line of JSON asks, a line answers.

{"begin": {...}} → "ok <last step>"    {"log": [[step, {name: value}], ...]}, {"end": {...}} → "ok -"
"refused: why": it will not do it, however often it is asked;    anything else: try again
"""

import contextlib
import hashlib
import importlib
import json
import os
import sys
from typing import Any

from trainer.core import installing


def main() -> None:
    """Answers until its input ends, which it does with the agent."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What the client prints is no answer.
    run: Any = None
    for line in sys.stdin:
        ((what, asked),) = json.loads(line).items()
        try:
            answer = "ok -"
            if what == "begin":
                run = _begin(asked)
                answer = f"ok {max(run.step - 1, 0)}"
            elif what == "log":
                for step, metrics in asked:
                    run.log(metrics, step=step)
            else:
                run.summary.update({f"final/{name}": value for name, value in asked["result"].items()})
                run.finish(exit_code=asked["code"])
        except ModuleNotFoundError:
            answer = f"refused: wandb is not installed; {installing.package('wandb')}, or unset WANDB_API_KEY"
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            refused = type(error).__name__ in ("AuthenticationError", "UsageError")
            answer = f"refused: {text}" if refused else f"error: {text}"
        print(answer, file=out, flush=True)
    with contextlib.suppress(Exception):
        out.close()
    os._exit(0)  # The agent is gone: what the client still has stays in its folder.


def _begin(asked: dict[str, Any]) -> Any:
    wandb = importlib.import_module("wandb")
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT") or "trainer",
        id=hashlib.sha256(asked["name"].encode()).hexdigest()[:16],  # The same in every pod of the run.
        name=asked["name"],
        config=asked["flags"],
        resume="allow" if asked["goes_on"] else None,
        settings=wandb.Settings(console="off", silent=True),
    )


if __name__ == "__main__":
    main()
