"""Attacks on a fleet that trains: forged and malformed requests, connections that say nothing, hostile log lines.

The fleet prints the lines itself (experiments/hostile_lines.py); whoever has a store attacks it, too.
"""

import collections
import contextlib
import pathlib
import random
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from tests.support.agents import TOKEN, TRAINER, Agent, Run, running
from tests.support.forging import FORGED_REQUESTS, MALFORMED_REQUESTS, connected, message, status

WORKERS = 4
_MOST_IDLE = 300
_MOST_GROWTH = 10_000  # kB, of an agent that has 30 to 60 MB.
_JUNK: tuple[bytes, ...] = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),  # The beginning of TLS.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /healthz HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nno header\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    b"GET  /healthz  HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
    b"DELETE /rendezvous HTTP/1.1\r\n\r\n",
    b"\r\n" * 5000,
    b"\x00" * 5000,
    message(b"{}", Transfer_Encoding="chunked"),
    message(b"{}", Content_Length="9" * 400),
    message(b"{}", Content_Length="-1"),
    message(b"x" * 10, Content_Length="100"),
    message(b"[" * 100_000),
    message(b"{}" + message({"ask": "stop"}), Content_Length="2"),  # One request in another's body.
    message(b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n', Content_Length="5", Transfer_Encoding="chunked"),
    message(b"{}", Content_Length="2\r\nContent-Length: 9"),
    message(b"{}", Content_Length="2, 2"),
    message(b"", Expect="100-continue", Content_Length="99"),
    message(b"{}", token=None, Authorization="Bearer x\r\nAuthorization: Bearer y"),
    message({"ask": "stop"}) * 100,
    b"GET /healthz\r\n\r\n",  # HTTP/0.9.
    b"GET http://another.host/metrics HTTP/1.1\r\nHost: another.host\r\n\r\n",
    b"GET /metrics HTTP/1.1\nHost: x\n\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n",
    b"CONNECT another.host:443 HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"GET /healthz?" + b"%0d%0a" * 5000 + b" HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nX: \x00\x7f\x80\xff\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n" + b"x" * 2_000_000,  # More than is passed over.
)


class Attacker:
    """Attacks the agents of a run, one thing after the other, at random."""

    def __init__(
        self, run: Run, chance: random.Random, attack_more: Callable[[random.Random], None] | None = None
    ) -> None:
        self._run, self._chance, self._attack_more = run, chance, attack_more
        self._idle: collections.deque[socket.socket] = collections.deque()
        self.count: collections.Counter[str] = collections.Counter()
        self.kinds: list[Callable[[], None]] = [
            self.forge, self.malform, self.send_junk, self.send_noise, self.idle, self.trickle,
        ]  # fmt: skip
        if attack_more:
            self.kinds.append(self.attack_more)

    def attack(self) -> None:
        """Does one thing."""
        kind = self._chance.choice(self.kinds)
        try:
            kind()
        except ConnectionError:
            # An agent that ends takes its connections along: those that it has not accepted, or whose request it has
            # not read, are reset, and what comes afterwards is refused. Else nobody may be cut off without an answer.
            assert any(self._has_ended(agent) for agent in self._run.agents.values()), kind.__name__
            return
        self.count[kind.__name__] += 1

    def _has_ended(self, agent: Agent) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.process.wait(10)
        return agent.process.poll() is not None

    def close(self) -> None:
        """Ends the connections that say nothing."""
        for connection in self._idle:
            connection.close()

    def forge(self) -> None:
        """What would end the run if it were believed, from somebody who does not know the token."""
        token = self._chance.choice([None, "", "another", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper()])
        answered = status(
            self._port(), message(FORGED_REQUESTS[self._chance.choice(list(FORGED_REQUESTS))], token=token)
        )
        assert answered in (401, -1), answered

    def malform(self) -> None:
        """What no agent sends, with the token."""
        what = self._chance.choice(list(MALFORMED_REQUESTS))
        answered = status(self._run.ports[0], message(MALFORMED_REQUESTS[what]))
        assert answered in (400, -1), (what, answered)

    def send_junk(self) -> None:
        """What is no request."""
        self._send(self._chance.choice(_JUNK))

    def send_noise(self) -> None:
        """Bytes at random, or a request with some of them changed."""
        data = bytearray(message(FORGED_REQUESTS[self._chance.choice(list(FORGED_REQUESTS))], token="x"))
        for _ in range(self._chance.randrange(1, 20)):
            data[self._chance.randrange(len(data))] = self._chance.randrange(256)
        noise = self._chance.randbytes(self._chance.randrange(1, 5000))
        self._send(bytes(data) if self._chance.random() < 0.5 else noise)

    def idle(self) -> None:
        """More connections that say nothing, or half of something."""
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", self._port()), timeout=30)
            self._idle.append(connection)
            with contextlib.suppress(OSError):
                connection.send(self._chance.choice([b"", b"G", b"POST /rendezvous HTTP/1.1\r\nContent-Length: 9\r\n"]))
        while len(self._idle) > _MOST_IDLE:
            self._idle.popleft().close()

    def trickle(self) -> None:
        """One more byte on each of those, so that no agent may wait for silence."""
        for connection in self._idle:
            with contextlib.suppress(OSError):  # The agent has closed it.
                connection.send(b"a")

    def attack_more(self) -> None:
        """What else there is."""
        if self._attack_more:
            self._attack_more(self._chance)

    def _send(self, data: bytes) -> None:
        with connected(self._port()) as connection, contextlib.suppress(OSError):
            connection.settimeout(0.5)
            connection.sendall(data)
            connection.recv(1 << 16)

    def _port(self) -> int:
        return self._chance.choice(self._run.ports)


class Memory:
    """What the agents of a run have, once a second from when they train."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._samples: dict[int, list[int]] = collections.defaultdict(list)
        self._looked_at = 0.0
        self._trains = False

    def look(self) -> None:
        if time.monotonic() - self._looked_at < 1.0:
            return
        self._looked_at, self._trains = time.monotonic(), self._trains or bool(self._run.agents[0].step)
        if self._trains:
            for index, agent in self._run.agents.items():
                with contextlib.suppress(OSError, IndexError):  # It has just ended.
                    lines = pathlib.Path(f"/proc/{agent.process.pid}/status").read_text()
                    self._samples[index].append(int(lines.partition("VmRSS:")[2].split()[0]))

    def thirds(self) -> dict[int, tuple[int, int]]:
        """What each agent had in the first third of the time and in the last, in kB."""
        thirds = {index: (samples, max(1, len(samples) // 3)) for index, samples in self._samples.items()}
        return {
            index: (round(statistics.median(samples[:third])), round(statistics.median(samples[-third:])))
            for index, (samples, third) in thirds.items()
        }


def withstand(
    folder: pathlib.Path,
    flags: Sequence[str],
    *,
    seconds: float,
    seed: int,
    output: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    attack_more: Callable[[random.Random], None] | None = None,
) -> dict[str, int]:
    """Lets a fleet of four train for about so many seconds under attack; asserts that nothing comes of it.

    Args:
      folder: an empty one.
      flags: of the training program.
      seconds: how long.
      seed: of the attacks.
      output: flags of an output.
      environ: what the output needs.
      attack_more: one more kind of attack.

    Returns:
      How often each kind of attack was made.
    """
    pace = 0.1 if seconds < 100 else 0.5
    flags = [*flags, f"--epochs={max(1, round(seconds / pace / 10))}", "--experiment=tests.experiments.hostile_lines"]
    with running(folder / "undisturbed", WORKERS, program=TRAINER, trainer_flags=flags) as run:
        run.start_all()
        assert run.codes(seconds=600 + seconds) == [0] * WORKERS
        weights = run.result["weights_sha256"]
    paced = {**(environ or {}), "PACE": str(pace)}
    with running(folder, WORKERS, program=TRAINER, trainer_flags=flags, agent_flags=output, environ=paced) as run:
        chief = run.start_all()[0]
        for agent in run.agents.values():
            agent.wait_for_line("state=meeting")  # It listens.
        began, attacker, memory = time.monotonic(), Attacker(run, random.Random(seed), attack_more), Memory(run)
        while chief.process.poll() is None:
            attacker.attack()
            memory.look()
        attacker.close()
        assert run.codes() == [0] * WORKERS
        assert [line["ended"] for line in run.attempts] == ["done"], run.attempts
        ended = (run.result["restarts"], run.result["weights_sha256"])
        assert ended == (0, weights), (ended, weights)
        assert not [index for index, agent in run.agents.items() if "Traceback" in agent.text]
        thirds = memory.thirds()
        print(
            f"attacks in {time.monotonic() - began:.0f} s: {attacker.count.total()} {dict(attacker.count)}; kB in the "
            f"first third and in the last, by worker: {thirds}"
        )
        assert len(thirds) == WORKERS
        assert all(last - first < _MOST_GROWTH for first, last in thirds.values()), thirds
    return dict(attacker.count)
