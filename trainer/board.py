"""`python -m trainer.board --logdir ...`: TensorBoard for a run on disk, in gs:// or in s3://.

An object store is read through TensorFlow: gs:// by its own file system, s3:// by that of tensorflow-io, which has to
be imported first. TensorBoard's own fast reader of gs:// does not know service accounts (tensorflow/tensorboard#5850).
Local files need no TensorFlow, and without it TensorBoard takes a quarter of the memory. It does without when there is
a module of the name `tensorboard.compat.notf`.

The projector is left out: it hands out any file that this process may read, credentials too, to whoever can put a
`projector_config.pbtxt` among the logs (tensorflow/tensorboard#7115, #7119).
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

# TensorBoard looks for that module when it is imported.
from absl import app  # noqa: E402
from tensorboard import default, main_lib, program  # noqa: E402
from tensorboard.plugins import base_plugin  # noqa: E402

_LEFT_OUT = "projector"


def main() -> None:
    """Serves until it is killed, as `tensorboard.main` does."""
    sys.argv[0] = "tensorboard"
    main_lib.global_init()
    plugins = [plugin for plugin in default.get_plugins() if getattr(plugin, "plugin_name", "") != _LEFT_OUT]
    tensorboard = program.TensorBoard(plugins=plugins)
    try:
        app.run(tensorboard.main, flags_parser=tensorboard.configure)
    except base_plugin.FlagsError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
