"""What the processes of tests/support/imported.py have imported: see trainer/training/cli.py of a spare."""

import gc

from trainer.training.hardware import tf_logging

gc.disable()
tf_logging.set_up_logging(verbosity=0)

import trainer.training.loop  # noqa: E402, F401
