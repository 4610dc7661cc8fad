"""An agent's place among the workers: out of the environment, and into the training process's."""

import dataclasses
import socket
import time
from collections.abc import Mapping, Sequence

from trainer.core.tf_config import Cluster

_PAUSE = 0.5  # Seconds between tries to resolve a name.


class Place:
    """Which worker this is, of how many, and how each attempt's TF_CONFIG follows from it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Reads TF_CONFIG, or else what an Indexed Job's pod has.

        Raises:
          UsageError: neither can be used.
        """
        self._given = environ.get("TF_CONFIG", "")
        cluster = Cluster.from_tf_config(self._given)
        if cluster is None:
            self._given, cluster = "", Cluster.from_job(environ)
        self._cluster = cluster
        self.workers = cluster.workers if cluster else 1
        self.index = cluster.index if cluster else 0

    def chief_host(self) -> str:
        """The host of worker 0."""
        return self._cluster.addresses[0].rpartition(":")[0] if self._cluster else "127.0.0.1"

    def tf_config(self, present: Sequence[int]) -> str:
        """The TF_CONFIG of an attempt of the workers `present`; one that was given is passed on as it is.

        Returns:
          JSON; "{}" outside of a cluster.
        """
        cluster = self._cluster
        if cluster is None:
            return "{}"
        if len(present) == cluster.workers:
            return self._given or cluster.tf_config()
        addresses = tuple(cluster.addresses[index] for index in present)
        return dataclasses.replace(cluster, addresses=addresses, index=present.index(self.index)).tf_config()

    def unresolved(self, present: Sequence[int], timeout: float) -> str:
        """Waits, at most `timeout` seconds, until the names of the workers `present` resolve.

        Returns:
          What is wrong with one that does not; empty if all do.
        """
        deadline = time.monotonic() + timeout
        for index in present if self._cluster else ():
            host = self._cluster.addresses[index].rpartition(":")[0].strip("[]") if self._cluster else ""
            while problem := _problem(host):
                if time.monotonic() > deadline:
                    return f"the name of worker {index}, {host!r}, did not resolve within {timeout:g} s: {problem}"
                time.sleep(_PAUSE)
        return ""


def _problem(host: str) -> str:
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return str(error)
    return ""
