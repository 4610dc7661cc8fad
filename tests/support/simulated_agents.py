"""A run of thousands of workers on one machine: worker 0's agent is real, the agents of all others are simulated here.

What is simulated is what an agent says and when, over real connections, in one thread for all of them. Worker 0's
training process waits for files that tell it to end.
"""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.agents import Agent, running
from tests.support.forging import message
from trainer.core.tf_config import Cluster

_SECONDS = 300.0  # For all of it; it takes far less.
_TELLS_ITS_COST = """
import atexit, pathlib, time
def tell():
    peak = int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    print("cost", peak / 1000, time.process_time(), flush=True)
atexit.register(tell)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a run of many workers took."""

    begin: float  # Seconds from the first request until every worker was told that the attempt begins.
    failure: float  # Seconds from the loss of one worker until every other was told.
    again: float  # Seconds from there until the next attempt began for all.
    end: float  # Seconds from worker 0's result until every worker was told that the run is done.
    memory: float  # The most that worker 0's agent ever had, in MB.
    cpu: float  # Seconds of it.

    @property
    def total(self) -> float:
        """Seconds of all of it."""
        return self.begin + self.failure + self.again + self.end


@contextlib.contextmanager
def chief_of(folder: pathlib.Path, workers: int) -> Iterator[tuple[Agent, int]]:
    """A real agent of worker 0 in a run of so many, and its port; its training ends with the file `done`."""
    addresses = tuple(f"127.0.{1 + index // 250}.{1 + index % 250}:2222" for index in range(workers))
    waits = (
        f"until [ -e {folder}/done ]; do sleep 0.02; done; mkdir -p {folder}/run; echo {{}} > {folder}/run/result.json"
    )
    environ = {"TF_CONFIG": Cluster(addresses=addresses, index=0).tf_config()}
    with running(folder, 1, program=("sh", "-c", waits), environ=environ, prelude=_TELLS_ITS_COST) as run:
        agent = run.start(0)
        agent.wait_for_line("state=meeting")
        yield agent, run.ports[0]


class Simulated:
    """An agent of another worker than 0."""

    def __init__(self, port: int, index: int, workers: int) -> None:
        self.index = index
        self._port, self._workers = port, workers
        self.token = f"agent {index}"
        self._connection: asyncio.StreamWriter | None = None
        self.has_asked = False  # Whether its last question is on its way.

    def stranger(self) -> "Simulated":
        """Somebody else, in no attempt, who is answered at once."""
        return Simulated(self._port, 0, self._workers)

    async def meet(self, cause: str = "new", attempt: int = 0) -> dict[str, Any]:
        """Asks to join the next attempt; the answer."""
        ended = {"cause": cause, "attempt": attempt, "code": 0, "step": 0, "errors": []}
        join = {"index": self.index, "workers": self._workers, "token": self.token, "ended": ended, "flags": []}
        return await self._ask({"ask": "meet", "join": join})

    async def hold(self, attempt: int) -> dict[str, Any]:
        """Holds on to an attempt; the answer."""
        return await self._ask({"ask": "hold", "index": self.index, "token": self.token, "attempt": attempt})

    def die(self) -> None:
        """Lets go of what it asked last; its successor has another token."""
        if self._connection:
            self._connection.transport.abort()
        self.token += " successor"

    async def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self.has_asked = False
        reader, self._connection = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        try:
            self._connection.write(message(question))
            self.has_asked = True
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            self._connection.transport.abort()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head)
        return dict(json.loads(body))


def measure(folder: pathlib.Path, workers: int) -> Figures:
    """Runs one rendezvous, the loss of one worker, another rendezvous, and the end."""
    with chief_of(folder, workers) as (chief, port):
        agents = [Simulated(port, index, workers) for index in range(1, workers)]
        begin, failure, again, end = asyncio.run(asyncio.wait_for(_play(agents, chief, folder), _SECONDS))
        assert chief.end() == 0
        line = next(line for line in chief.lines if line.startswith("cost "))
        memory, cpu = (float(word) for word in line.split()[1:])
    return Figures(begin=begin, failure=failure, again=again, end=end, memory=memory, cpu=cpu)


async def _play(agents: Sequence[Simulated], chief: Agent, folder: pathlib.Path) -> tuple[float, float, float, float]:
    everybody = [0, *(agent.index for agent in agents)]
    began = time.monotonic()
    for answer in await asyncio.gather(*(agent.meet() for agent in agents)):
        assert answer["begin"] == {"attempt": 1, "present": everybody}
    begin = time.monotonic() - began

    holds = [asyncio.ensure_future(agent.hold(1)) for agent in agents]
    await _until_all_have_asked(agents)
    lost = agents[len(agents) // 2]
    began = time.monotonic()
    lost.die()
    answers = await asyncio.gather(*holds, return_exceptions=True)
    failure = time.monotonic() - began
    told = [answer["over"]["reason"] for answer in answers if not isinstance(answer, BaseException)]
    assert told == [f"the agent of worker {lost.index} is gone"] * (len(agents) - 1)

    began = time.monotonic()
    asked = (agent.meet() if agent is lost else agent.meet("stopped", 1) for agent in agents)
    for answer in await asyncio.gather(*asked):
        assert answer["begin"] == {"attempt": 2, "present": everybody}
    again = time.monotonic() - began

    chief.wait_for_line("attempt 2 begins")
    holds = [asyncio.ensure_future(agent.hold(2)) for agent in agents]
    await _until_all_have_asked(agents)
    began = time.monotonic()
    (folder / "done").touch()
    for answer in await asyncio.gather(*holds):
        assert answer["over"]["cause"] == "done"
    for answer in await asyncio.gather(*(agent.meet("done", 2) for agent in agents)):
        assert answer["finish"]["code"] == 0
    return begin, failure, again, time.monotonic() - began


async def _until_all_have_asked(agents: Sequence[Simulated]) -> None:
    """Waits until worker 0's agent has read and passed on what all have sent: after it a question is answered."""
    while not all(agent.has_asked for agent in agents):
        await asyncio.sleep(0.01)
    for _ in range(2):
        await agents[0].stranger().hold(1)
