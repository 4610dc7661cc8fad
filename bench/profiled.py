"""The profile that explains a table of training's speed: TensorBoard's, of ten steps of such a run."""

import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("logs", "bench")
FIRST, LAST = 200, 210  # Steps: long after the first ones, which compile.


def write(folder: Path = FOLDER, *flags: str) -> str:
    """Trains an epoch as the table's runs do, a few of its steps under the profiler.

    Args:
      folder: where the run directory is made.
      flags: more of the training program's.

    Returns:
      Where the profile is, for a person.
    """
    run_dir = folder / time.strftime("%Y%m%d-%H%M%S")
    ours = ["--epochs=1", "--global_batch_size=32", f"--profile_steps={FIRST}:{LAST}", f"--run_dir={run_dir}"]
    subprocess.run([sys.executable, "-m", "trainer", *ours, *flags], check=True, stdout=subprocess.DEVNULL)
    return (
        f"where the time of {LAST - FIRST} steps goes: {run_dir}/train/plugins/profile; "
        f"`python -m trainer.board --logdir {folder}` shows it with the extra `profile`"
    )
