"""This machine's own address, and ports on it that nobody uses."""

import itertools
import os
import pathlib
import socket

from trainer.core.exit_codes import UsageError

_turns = itertools.count()


def loopback() -> str:
    """The address under which this machine reaches itself: 127.0.0.1, or ::1 where there is no IPv4."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            return "::1"
    return "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports on the loopback address that nobody listens on.

    They lie below those that the kernel hands out for outgoing connections, which would otherwise take one while its
    worker is between two attempts.
    """
    lowest_outgoing = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(max(1024, lowest_outgoing - 20000), lowest_outgoing) or range(1024, 65536)
    host = loopback()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports: list[int] = []
    for turn in itertools.islice(_turns, len(candidates)):
        # Every process begins elsewhere: a port is taken only some time after it was chosen.
        port = candidates[(os.getpid() * 7919 + turn) % len(candidates)]
        with socket.socket(family) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise UsageError(f"this machine has fewer than {count} free ports on {host}")
