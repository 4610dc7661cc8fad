"""`python -m trainer.board --logdir ...`: TensorBoard for a run on disk, in gs:// or in s3://.

An object store is read through TensorFlow: gs:// by its own file system, s3:// by that of tensorflow-io, which has to
be imported first. TensorBoard's own fast reader of gs:// does not know service accounts (tensorflow/tensorboard#5850).
Local files need no TensorFlow, and without it TensorBoard takes a quarter of the memory. It does without when there is
a module of the name `tensorboard.compat.notf`.
"""

import os
import sys
import types

from trainer.core.s3_environ import tell_tensorflow_io

_SCHEMES = [scheme for scheme in ("gs://", "s3://") if any(scheme in argument for argument in sys.argv)]

if "s3://" in _SCHEMES:
    tell_tensorflow_io(os.environ)
    import tensorflow_io  # noqa: F401  Importing it registers s3://.
if _SCHEMES:
    sys.argv.append("--load_fast=false")
else:
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")

from tensorboard.main import run_main  # noqa: E402  TensorBoard looks for that module when it is imported.

if __name__ == "__main__":
    sys.argv[0] = "tensorboard"
    run_main()
