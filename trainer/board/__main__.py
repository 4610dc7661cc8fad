"""`python -m trainer.board --logdir ...`: TensorBoard for a run on disk, in gs:// or in s3://.

Where TensorFlow reads object stores (`trainer.core.tensorflow_line`), TensorBoard reads them through it: gs:// by its
own file system, s3:// by that of tensorflow-io, which has to be imported first. TensorBoard's own fast reader of gs://
does not know service accounts (tensorflow/tensorboard#5850). Elsewhere a process beside this one brings the event
files to a folder of this disk as they grow (`trainer.output.event_files`), and TensorBoard reads that. The profiles of
a bucket come to the disk that way on both lines: the plugin that shows them reads no s3://.

Local files need no TensorFlow, and without it TensorBoard takes a quarter of the memory. It does without when there is
a module of the name `tensorboard.compat.notf`.

The projector is left out: it hands out any file that this process may read, credentials too, to whoever can put a
`projector_config.pbtxt` among the logs (tensorflow/tensorboard#7115, #7119). The plugin for profiles, where it is
installed, is held by `trainer.board.profile_page` to what it is given.
"""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import types

from trainer.core import tensorflow_line
from trainer.core.process import spawn
from trainer.core.s3_environ import tell_tensorflow_io

_ADDRESS = re.compile("(?:gs|s3)://[^,]*")  # --logdir_spec has several, with commas between them.
_LEFT_OUT = "projector"


def _bring(address: str, *options: str) -> tuple[str, subprocess.Popen[bytes]]:
    """A folder to which another process brings what is in a bucket, and that process."""
    folder = tempfile.mkdtemp(prefix="tensorboard-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "trainer.output.event_files", address, folder, *options]
    return folder, spawn(command, os.environ)


def _profiles_brought_here(address: str) -> str:
    """A folder to which the profiles of an address come; TensorBoard goes on without what does not."""
    return _bring(address, "profiles")[0]


def _brought_here(address: re.Match[str]) -> str:
    """A folder to which the event files of an address come, and profiles."""
    folder, process = _bring(address[0])

    def end_with_it() -> None:  # What has stopped growing must not look like a run that has.
        code = process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(max(code, 1))

    threading.Thread(target=end_with_it, daemon=True).start()
    return folder


def _read_through_tensorflow() -> None:
    if any("s3://" in argument for argument in sys.argv):
        tell_tensorflow_io(os.environ)
        import tensorflow_io  # noqa: F401  Importing it registers s3://.
    sys.argv.append("--load_fast=false")


def main() -> None:
    """Serves until it is killed, as `tensorboard.main` does."""
    sys.argv[0] = "tensorboard"
    if not tensorflow_line.reads_buckets():
        sys.argv[1:] = [_ADDRESS.sub(_brought_here, argument) for argument in sys.argv[1:]]
    if any(_ADDRESS.search(argument) for argument in sys.argv):
        _read_through_tensorflow()
    else:
        sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")

    # TensorBoard looks for that module when it is imported.
    from absl import app
    from tensorboard import default, main_lib, program
    from tensorboard.plugins import base_plugin

    from trainer.board import profile_page

    main_lib.global_init()
    plugins = [plugin for plugin in default.get_plugins() if getattr(plugin, "plugin_name", "") != _LEFT_OUT]
    if profile_page.is_installed():
        plugins = [plugin for plugin in plugins if not plugin.__module__.startswith(profile_page.REPLACED)]
        plugins.append(profile_page.Loader(_profiles_brought_here))
    tensorboard = program.TensorBoard(plugins=plugins)
    try:
        app.run(tensorboard.main, flags_parser=tensorboard.configure)
    except base_plugin.FlagsError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
