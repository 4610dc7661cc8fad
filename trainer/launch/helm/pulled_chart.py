"""A chart in a registry, `--chart=oci://HOST/PATH` with `:VERSION` behind it or this launcher's own version.

With `--chart_key` only a chart that has a signature by that key, as cosign verifies it, is taken. The registry may move
a tag at any moment, so what is pulled is the digest that was verified.
"""

import atexit
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import yaml

import trainer
from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import one_line
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.helm import helm_program
from trainer.launch.helm.helm_program import HelmError

SCHEME = "oci://"
_ADDRESS = re.compile(r"(oci://(?P<host>\[[0-9a-f:]+\](?::\d+)?|[^/@\s]+)/[a-z0-9._/-]+)(?::(?P<version>[\w.+-]+))?")
THIS_MACHINE = re.compile(r"(localhost|127\.[\d.]+|\[::1\])(:\d+)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SIGNATURES = (
    "https://sigstore.dev/cosign/sign/v1",
    "cosign container image signature",
)  # Of cosign 3, and of older ones.
_SECONDS = 120


@functools.cache
def folder(address: str, helm: str, key: str = "") -> str:
    """The folder of a chart that was pulled; it goes with this process.

    Args:
      address: where it is.
      helm: the program.
      key: the public key of its signature: a file, or where cosign finds it, such as k8s://...; "": any chart will do.

    Raises:
      UsageError: that is no address of a chart, or no key.
      LaunchError: helm or cosign cannot be used, the chart cannot be had, or it has no such signature.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"--chart={address} is no address of a chart; expected oci://HOST/PATH or that with :VERSION")
    here = THIS_MACHINE.fullmatch(match["host"]) is not None  # A registry here has no certificate.
    version = match["version"] or trainer.__version__
    what = [match[1], "--version", version]
    if key:
        tag = version.replace("+", "_")  # As Helm writes it there: a tag may have no plus sign.
        what = [f"{match[1]}@{_signed(address, f'{match[1].removeprefix(SCHEME)}:{tag}', key, here=here)}"]
    target = tempfile.mkdtemp(prefix="trainer-chart-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    options = ["--untar", "--untardir", target]
    if here:
        options.append("--plain-http")
    try:
        helm_program.run(helm, "pull", *what, *options)
        (file,) = pathlib.Path(target).glob("*/Chart.yaml")  # Helm leaves an empty folder, too, called by the digest.
    except HelmError as error:
        why = " ".join(str(error).split())
        raise LaunchError(f"--chart={address} cannot be had: {why}", LaunchCode.NOT_STARTED) from None
    except ValueError:
        raise LaunchError(f"--chart={address} is no chart", LaunchCode.NOT_STARTED) from None
    if key and (found := _version_in(file)) != version:  # A signature says nothing of the tag that it is found by.
        text = f"--chart={address} is refused: the chart that is signed there has the version {one_line(found)}"
        raise LaunchError(text, LaunchCode.NOT_STARTED)
    return str(file.parent)


def _version_in(file: pathlib.Path) -> str:
    try:
        return str(yaml.safe_load(file.read_text())["version"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return "?"


def _signed(address: str, reference: str, key: str, *, here: bool) -> str:
    """The digest of what the reference names, when it has a signature by the key."""
    if "://" not in key and not os.path.isfile(key):
        raise UsageError(f"--chart_key={key} is not a file; expected a public key of cosign, such as cosign.pub")
    cosign = shutil.which("cosign")
    if cosign is None:
        text = "cosign was not found on PATH, and --chart_key needs it; install it (https://docs.sigstore.dev/cosign)"
        raise LaunchError(text, LaunchCode.NOT_STARTED)
    # The key is what is trusted. A public log of signatures proves nothing more of it, and cannot be asked everywhere.
    command = [cosign, "verify", "--key", key, "--insecure-ignore-tlog", *["--allow-http-registry"] * here, reference]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if not line.startswith("WARNING:")]
            raise ValueError(said[0].removeprefix("Error: ") if said else f"it ended with {done.returncode}")
        verified = [entry["critical"] for entry in json.loads(done.stdout)]
        signed = [entry for entry in verified if entry["type"] in _SIGNATURES]
        if not signed:  # cosign 3 counts whatever the key has said of it, such as a list of what is in it.
            raise ValueError("the key has only said other things of it")
        (digest,) = {entry["image"]["docker-manifest-digest"] for entry in signed}
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"it verified {digest!r}, which is no digest")
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        text = f"--chart={address} is refused: cosign finds no signature of it by --chart_key={key}"
        raise LaunchError(f"{text}: {one_line(str(error))}", LaunchCode.NOT_STARTED) from None
    return str(digest)
