"""Ports on this machine that nobody uses."""

import itertools
import os
import pathlib
import socket

from trainer.core.exit_codes import UsageError

_turns = itertools.count()


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on.

    They lie below those that the kernel hands out for outgoing connections, which would otherwise take one while its
    worker is between two attempts.
    """
    lowest_outgoing = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(max(1024, lowest_outgoing - 20000), lowest_outgoing) or range(1024, 65536)
    ports: list[int] = []
    for turn in itertools.islice(_turns, len(candidates)):
        # Every process begins elsewhere: a port is taken only some time after it was chosen.
        port = candidates[(os.getpid() * 7919 + turn) % len(candidates)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise UsageError(f"this machine has fewer than {count} free ports on 127.0.0.1")
