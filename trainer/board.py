"""`python -m trainer.board --logdir ...`: TensorBoard for wherever a run is.

It imports TensorFlow where that is installed, to read object stores: gs:// with TensorFlow's own file system, s3://
with that of tensorflow-io, which has to be imported for it. TensorBoard's own fast reader of gs:// does not know a
service account (tensorflow/tensorboard#5850). Local files need none of it, and without it TensorBoard takes a quarter
of the memory; it looks for the name of a module to know that it shall do without.
"""

import os
import sys
import types

from trainer.core.s3_environ import tell_tensorflow_io

_STORES = [store for store in ("gs://", "s3://") if any(store in argument for argument in sys.argv)]

if "s3://" in _STORES:
    tell_tensorflow_io(os.environ)
    import tensorflow_io  # noqa: F401  Importing it registers s3://.
if _STORES:
    sys.argv.append("--load_fast=false")
else:
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")

from tensorboard.main import run_main  # noqa: E402  It looks at once.

if __name__ == "__main__":
    sys.argv[0] = "tensorboard"
    run_main()
