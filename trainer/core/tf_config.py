"""Who the workers of a job are and which of them this process is: TF_CONFIG, read and made in this one place.

A cluster's workers are counted as TensorFlow counts them: the task `chief`, where there is one, before those of
`worker`. Worker 0 is the chief.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Self

from trainer.core.exit_codes import UsageError

TRAINING_PORT = 2222
AGENT_PORT = 8080
MOST_WORKERS = 4096  # With as many the rendezvous was shown to work (docs/scale.md); the chart has the same bound.

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([^\s:/?#@\[\]]+)):([0-9]{1,5})")
_EXAMPLE = '{"cluster": {"worker": ["host:2222", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """The workers of one job, in order, and this process's place among them."""

    addresses: tuple[str, ...]  # "host:port" of each worker's training process; an IPv6 address is in brackets.
    index: int
    has_chief: bool = False  # Whether TF_CONFIG calls worker 0 `chief`.

    def __post_init__(self) -> None:
        if self.workers > MOST_WORKERS:
            raise UsageError(f"this run has {self.workers} workers; at most {MOST_WORKERS} can meet, so give it fewer")

    @property
    def workers(self) -> int:
        """The number of workers."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this is worker 0, which writes the run directory."""
        return self.index == 0

    def tf_config(self) -> str:
        """The TF_CONFIG of this process, as JSON."""
        spec: dict[str, list[str]] = {}
        task: dict[str, str | int] = {"type": "worker", "index": self.index}
        if self.has_chief:
            spec["chief"] = [self.addresses[0]]
            task = {"type": "worker", "index": self.index - 1} if self.index else {"type": "chief", "index": 0}
        if workers := list(self.addresses[int(self.has_chief) :]):
            spec["worker"] = workers
        return json.dumps({"cluster": spec, "task": task})

    @classmethod
    def from_tf_config(cls, text: str) -> Self | None:
        """Reads a TF_CONFIG; None when it names no cluster (empty or `{}`).

        Raises:
          UsageError: it is no JSON, or not that of a worker of synchronous training.
        """
        if not text.strip():
            return None
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"TF_CONFIG is not JSON ({error}): {text[:200]!r}; expected {_EXAMPLE}") from None
        if value == {}:
            return None
        spec, task = _member(value, "cluster"), _member(value, "task")
        for name in spec:
            if name not in ("chief", "worker"):
                raise UsageError(
                    f"TF_CONFIG names tasks of type {name!r}; synchronous training has only 'worker' and at most one "
                    "'chief': take the others out of the job"
                )
        chiefs, workers = _hosts(spec, "chief"), _hosts(spec, "worker")
        if len(chiefs) > 1:
            raise UsageError(f"TF_CONFIG names {len(chiefs)} chiefs, expected at most one")
        addresses = (*chiefs, *workers)
        if len(set(addresses)) < len(addresses):
            raise UsageError(f"TF_CONFIG names an address twice: {', '.join(addresses)}; each worker needs its own")
        kind, index = task.get("type"), task.get("index")
        own = {"chief": chiefs, "worker": workers}.get(kind) if isinstance(kind, str) else None
        if not own:
            raise UsageError(f"TF_CONFIG's task has the type {kind!r}, but its cluster has only {_described(spec)}")
        if isinstance(index, str) and index.isdecimal():
            index = int(index)  # Some operators write it as a string.
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(own):
            raise UsageError(
                f"TF_CONFIG's task has the index {index!r}, expected 0 to {len(own) - 1}: its cluster has "
                f"{_described(spec)}"
            )
        return cls(
            addresses=addresses,
            index=index + (len(chiefs) if kind == "worker" else 0),
            has_chief=bool(chiefs),
        )

    @classmethod
    def from_job(cls, environ: Mapping[str, str]) -> Self | None:
        """Makes the cluster out of the environment of an Indexed Job's pod; None outside of one.

        JOB_COMPLETION_INDEX is set by Kubernetes; JOB_NAME, SERVICE_NAME and WORKERS by the chart. Pods of an Indexed
        Job have the host name `<job>-<index>`, which the headless Service turns into `<job>-<index>.<service>`.

        Raises:
          UsageError: one of them is missing or not a number in range.
        """
        if "JOB_COMPLETION_INDEX" not in environ:
            return None
        missing = [name for name in ("JOB_NAME", "SERVICE_NAME", "WORKERS") if not environ.get(name)]
        if missing:
            raise UsageError(
                f"JOB_COMPLETION_INDEX is set but {', '.join(missing)} is not; an Indexed Job's pod needs all of them "
                "(the chart sets them), and TF_CONFIG replaces them"
            )
        workers, index = _number(environ, "WORKERS"), _number(environ, "JOB_COMPLETION_INDEX")
        if not 0 <= index < workers:
            raise UsageError(f"JOB_COMPLETION_INDEX={index} must be at least 0 and less than WORKERS={workers}")
        job, service = environ["JOB_NAME"], environ["SERVICE_NAME"]
        return cls(
            addresses=tuple(f"{job}-{worker}.{service}:{TRAINING_PORT}" for worker in range(workers)), index=index
        )


def _member(value: Any, name: str) -> dict[str, Any]:
    member = value.get(name) if isinstance(value, dict) else None
    if not isinstance(member, dict):
        raise UsageError(f"TF_CONFIG lacks the object {name!r}; expected {_EXAMPLE}")
    return member


def _hosts(spec: dict[str, Any], name: str) -> tuple[str, ...]:
    hosts = spec.get(name, [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) and _is_address(host) for host in hosts):
        raise UsageError(
            f"TF_CONFIG's {name!r} is {hosts!r}, expected a list of 'host:port', or '[host]:port' for IPv6 addresses"
        )
    return tuple(hosts)


def address(host: str, port: int) -> str:
    """The address of a port, as TF_CONFIG and URLs write it: an IPv6 address goes in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_and_port(text: str) -> tuple[str, int]:
    """The host, without brackets, and the port of an address.

    Raises:
      ValueError: it is none.
    """
    if not (match := _ADDRESS.fullmatch(text)) or not 0 < int(match[3]) < 65536:
        raise ValueError(f"{text!r} is no address, expected host:port, or [host]:port for IPv6")
    return match[1] or match[2], int(match[3])


def _is_address(text: str) -> bool:
    try:
        return bool(host_and_port(text))
    except ValueError:
        return False


def _described(spec: dict[str, Any]) -> str:
    return ", ".join(f"{len(hosts)} {name}(s)" for name, hosts in spec.items()) or "no tasks"


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError:
        raise UsageError(f"{name}={environ[name]!r} in the environment is not a whole number") from None
