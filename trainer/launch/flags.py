"""The launcher's flags: one frozen dataclass for each command that has flags of its own."""

import dataclasses
import re

from trainer.core.exit_codes import UsageError
from trainer.core.settings import setting
from trainer.core.tf_config import MOST_WORKERS

PROGRAM = "python -m trainer.launch"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 53  # Helm takes no longer one; the chart shortens the names that it makes of it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterFlags:
    """The flags of `list`, which all other commands have too: the cluster and the namespace."""

    namespace: str = setting("", "namespace (default: the context's)")
    context: str = setting("", "kubeconfig context (default: the current one)")
    json: bool = setting(False, "one JSON object a line, for programs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleaseFlags(ClusterFlags):
    """The flags of `delete`, and of all commands that are about one release."""

    name: str = setting("mnist-train", "the release")
    helm: str = setting("helm", "the helm program, 3 or 4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttachFlags(ReleaseFlags):
    """The flags of `attach`: watching a run to its end."""

    logs: str = setting("chief", "whose log lines to show: chief, all, none or a worker's index")
    timeout: float = setting(0.0, "seconds after which watching ends with exit code 124; 0: none", minimum=0.0)
    pending_timeout: float = setting(
        0.0, "seconds that a run which never trained waits for its workers, then exit code 3; 0: none", minimum=0.0
    )
    tensorboard: bool = setting(False, "forward TensorBoard to http://localhost:6006 while watching")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubmitFlags(AttachFlags):
    """The flags of `submit` and `doctor`: the checks before a run, submitting it, watching it."""

    workers: int | None = setting(
        None, "worker pods (default: as values say, else 4)", minimum=1, below=MOST_WORKERS + 1, kind=int
    )
    gpus_per_worker: int | None = setting(
        None,
        "GPUs of a worker; 0 trains on CPUs (default: as values say, else the most that nodes have for all)",
        minimum=0,
        kind=int,
    )
    image: str = setting("", "the image to run, with its tag or digest (default: as values say)")
    output: str = setting("", "where the run is kept: gs://bucket/path, s3://bucket/path or pvc:NAME")
    code: str = setting("", "a folder with the experiment's code, sent to the workers without what git ignores")
    values: tuple[str, ...] = setting((), "a file of chart values; may be repeated")
    set: tuple[str, ...] = setting((), "a chart value, as key=value; may be repeated")
    chart: str = setting(
        "", "the chart's folder, or oci://HOST/PATH[:VERSION] (default: the launcher's own; `chart --to=...` writes it)"
    )
    chart_key: str = setting("", "cosign's public key: a chart in a registry without a signature by it is refused")
    dry_run: bool = setting(False, "print the manifests and touch nothing")
    force: bool = setting(False, "submit although a check failed")
    replace: bool = setting(False, "end a run of this name that still goes on, and start this one")
    detach: bool = setting(False, "submit and do not watch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusFlags(ReleaseFlags):
    """The flags of `status`: a run that may be over."""

    output: str = setting("", "gs:// or s3:// address to read the newest run of this name from; no cluster is asked")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogsFlags(StatusFlags):
    """The flags of `logs`."""

    logs: str = setting("chief", "whose: chief, all or a worker's index")
    follow: bool = setting(False, "go on until the run ends; then the exit code says how")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChartFlags:
    """The flags of `chart`, which asks no cluster."""

    to: str = setting("", "the folder to write the launcher's own chart to; it must not be there yet, or be empty")
    manifests: bool = setting(False, "the same as plain manifests for `kubectl apply -k`, instead of the chart")


def check(flags: object) -> None:
    """Checks the values whose rule `setting` cannot say.

    Raises:
      UsageError: names the flag, the value given and the values allowed.
    """
    if isinstance(flags, ReleaseFlags):
        _check_name(flags.name)
    if isinstance(flags, LogsFlags):
        _check_logs(flags.logs, ("chief", "all"))
    elif isinstance(flags, AttachFlags):
        _check_logs(flags.logs, ("chief", "all", "none"))


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise UsageError(
            f"--name={name} must be a name of at most {_LONGEST_NAME} characters: lower-case letters, digits and "
            f"hyphens, a letter first (it has {len(name)} characters)"
        )


def _check_logs(logs: str, words: tuple[str, ...]) -> None:
    if logs not in words and not logs.isdecimal():
        raise UsageError(f"--logs={logs} is none of: {', '.join(words)}, a worker's index")
