"""`python -m trainer.board --logdir ...`: TensorBoard without TensorFlow, a quarter of the memory beside training.

TensorBoard imports TensorFlow where it is installed, to read object stores; local files need none of it. It looks for
this module name to know that it shall do without.
"""

import sys
import types

sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")

from tensorboard.main import run_main  # noqa: E402 (it looks at once)

if __name__ == "__main__":
    sys.argv[0] = "tensorboard"
    run_main()
