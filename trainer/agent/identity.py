"""Which worker an agent is, out of its environment, and the TF_CONFIG that follows from it."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

from trainer.agent.name_look_ups import problem_with
from trainer.core.free_ports import loopback
from trainer.core.tf_config import Cluster, host_and_port

_PAUSE = 0.5  # Seconds between two look-ups of a name.


class Identity:
    """Which worker this is, of how many, and where the others are."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Reads TF_CONFIG or, where there is none, what an Indexed Job's pod has.

        Raises:
          UsageError: neither can be used.
        """
        self._tf_config = environ.get("TF_CONFIG", "")
        cluster = Cluster.from_tf_config(self._tf_config)
        if cluster is None:
            self._tf_config, cluster = "", Cluster.from_job(environ)
        self._cluster = cluster
        self.workers = cluster.workers if cluster else 1
        self.index = cluster.index if cluster else 0

    def tf_config(self, present: Sequence[int]) -> str:
        """The TF_CONFIG of an attempt of the workers `present`; if that is all of them, the one that was given, if any.

        Returns:
          JSON; "{}" outside of a cluster.
        """
        cluster = self._cluster
        if cluster is None:
            return "{}"
        if len(present) == cluster.workers:
            return self._tf_config or cluster.tf_config()
        addresses = tuple(cluster.addresses[index] for index in present)
        return dataclasses.replace(cluster, addresses=addresses, index=present.index(self.index)).tf_config()

    def host(self, worker: int) -> str:
        """The host of a worker."""
        return host_and_port(self._cluster.addresses[worker])[0] if self._cluster else loopback()

    def unresolved(self, workers: Sequence[int], timeout: float) -> tuple[int, str] | None:
        """Waits, at most `timeout` seconds, until the names of these workers resolve.

        Returns:
          The first worker whose name does not, and what is wrong with it; None if all do.
        """
        deadline = time.monotonic() + timeout
        for worker in workers if self._cluster else ():
            while problem := problem_with(host := self.host(worker)):
                if time.monotonic() > deadline:
                    return (
                        worker,
                        f"the name of worker {worker}, {host!r}, did not resolve within {timeout:g} s: {problem}",
                    )
                time.sleep(_PAUSE)
        return None
