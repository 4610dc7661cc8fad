"""A chart in a registry, `--chart=oci://HOST/PATH` with `:VERSION` behind it or this launcher's own version."""

import atexit
import functools
import pathlib
import re
import shutil
import tempfile

import trainer
from trainer.core.exit_codes import UsageError
from trainer.launch import helm_program
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.helm_program import HelmError

SCHEME = "oci://"
_ADDRESS = re.compile(r"(oci://(?P<host>\[[0-9a-f:]+\](?::\d+)?|[^/@\s]+)/[a-z0-9._/-]+)(?::(?P<version>[\w.+-]+))?")
_THIS_MACHINE = re.compile(r"(localhost|127\.[\d.]+|\[::1\])(:\d+)?")


@functools.cache
def folder(address: str, helm: str) -> str:
    """The folder of a chart that was pulled; it goes with this process.

    Args:
      address: where it is.
      helm: the program.

    Raises:
      UsageError: that is no address of a chart.
      LaunchError: helm cannot be used, or the chart cannot be had.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"--chart={address} is no address of a chart; expected oci://HOST/PATH or that with :VERSION")
    target = tempfile.mkdtemp(prefix="trainer-chart-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    options = ["--version", match["version"] or trainer.__version__, "--untar", "--untardir", target]
    if _THIS_MACHINE.fullmatch(match["host"]):  # A registry here has no certificate.
        options.append("--plain-http")
    try:
        helm_program.run(helm, "pull", match[1], *options)
        (chart,) = pathlib.Path(target).iterdir()
    except HelmError as error:
        why = " ".join(str(error).split())
        raise LaunchError(f"--chart={address} cannot be had: {why}", LaunchCode.NOT_STARTED) from None
    except ValueError:
        raise LaunchError(f"--chart={address} is no chart", LaunchCode.NOT_STARTED) from None
    return str(chart)
