"""An agent's side of the rendezvous: its port, its way to the coordinator, and what it asks there."""

import dataclasses
import time
import uuid

from trainer.agent.coordination.coordinator import Coordinator
from trainer.agent.coordination.coordinator_http import RemoteCoordinator
from trainer.agent.coordination.messages import Begin, Ended, Finish, Hold, Join
from trainer.agent.events import Events
from trainer.agent.flags import AgentConfig
from trainer.agent.identity import Identity
from trainer.agent.name_look_ups import NameLookUps
from trainer.agent.port.refusals import Refusals
from trainer.agent.port.server import AgentServer
from trainer.agent.records.agent_log import AgentLog
from trainer.agent.records.attempt_history import AttemptHistory
from trainer.agent.status import Status
from trainer.core import tf_config
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode
from trainer.core.process import most_open_files

_OTHER_FILES = 100  # Open files of an agent besides the connections of the others.
_TELLS = (
    Cause.LEFT,
    Cause.FATAL,
    Cause.DONE,
)  # Ends of which worker 0's agent must hear, after which none begins here.


class Rendezvous:
    """Where this agent meets the others. On worker 0 the coordinator is in this very process."""

    def __init__(
        self,
        config: AgentConfig,
        identity: Identity,
        events: Events,
        log: AgentLog,
        status: Status,
        *,
        token: str,
        flags: tuple[str, ...],
        history: AttemptHistory | None,
    ) -> None:
        """Opens the agent's port, on worker 0 with the coordinator behind it.

        Args:
          config: the agent's flags.
          identity: which worker this is.
          events: where answers become events.
          log: takes sentences for a person.
          status: what the port tells of this worker.
          token: the run's, which all requests to the coordinator carry; "": it has none.
          flags: the training flags that must be the same for all workers.
          history: the run's attempts; None where this worker's flags let none begin.

        Raises:
          UsageError: the port is taken.
        """
        self._identity, self._events, self._status, self._flags = identity, events, status, flags
        self._token = uuid.uuid4().hex  # This agent's own: a successor has another.
        self.seconds = 0.0  # What the last rendezvous took.
        self.coordinator: Coordinator | None = None  # On worker 0.
        self._remote: RemoteCoordinator | None = None  # On the others.
        self._timeout = config.rendezvous_timeout
        if identity.index == 0:
            look_ups = NameLookUps(identity.host, self._looked_up, log.say) if identity.workers > 1 else None
            self.coordinator = _coordinator(config, identity, log, history, look_ups)
            if problem := _too_few_files(identity.workers):
                log.say(f"warning: {problem}")
        else:
            address = config.chief_agent or tf_config.address(identity.host(0), config.port)
            self._remote = RemoteCoordinator(address, timeout=self._timeout, token=token, say=log.say)
        self._server = AgentServer(
            config.port,
            status=status,
            coordinator=self.coordinator,
            token=token,
            # The thread that answers probes must not wait until somebody reads what this process prints.
            refusals=Refusals(lambda text: self._server.call(lambda: log.say(text))),
            pulse=events.pulse,
            on_error=events.put,
        )
        self._server.start()

    def meet(self, ended: Ended) -> tuple[Ended, Begin | Finish]:
        """Waits until the next attempt begins or there is none for this worker; SIGTERM ends the waiting.

        Args:
          ended: how the last attempt ended here.

        Returns:
          How the last attempt ended here, which is `LEFT` after a SIGTERM, and the answer.
        """
        began = time.monotonic()
        join = Join(
            index=self._identity.index,
            workers=self._identity.workers,
            token=self._token,
            ended=ended,
            flags=self._flags,
        )
        if remote := self._remote:
            self._events.call(lambda: self._ask_to_join(remote, join), name="rendezvous")
        elif self.coordinator:
            self.coordinator.meet(join, self._events.put)
        while self._events.terminated_at is None or ended.cause is Cause.LEFT:
            answer = self._events.next()
            if isinstance(answer, Begin | Finish):
                self.seconds = time.monotonic() - began
                return ended, answer
        left = dataclasses.replace(ended, cause=Cause.LEFT)
        return left, self._leave(dataclasses.replace(join, ended=left))

    def hold(self, attempt: int) -> None:
        """Holds on to an attempt; `Over` becomes an event when it is over."""
        hold = Hold(index=self._identity.index, token=self._token, attempt=attempt)
        if remote := self._remote:
            self._events.call(lambda: remote.hold(hold), name="rendezvous")
        elif self.coordinator:
            self.coordinator.hold(hold, self._events.put)

    def _ask_to_join(self, remote: RemoteCoordinator, join: Join) -> Begin | Finish:
        """Asks worker 0's agent, which looks at all names, once those that training needs here resolve."""
        if join.ended.cause not in _TELLS and (unresolved := self._identity.unresolved((0, join.index), self._timeout)):
            worker, reason = unresolved
            return Finish(code=ExitCode.PEER_LOST, reason=reason, accused=(worker,))
        return remote.meet(join)

    def _leave(self, join: Join) -> Begin | Finish:
        """Tells the coordinator that this worker was told to go, which is answered at once."""
        if self._remote:
            return self._remote.meet(join)
        answers: list[Begin | Finish] = []
        if self.coordinator:
            self.coordinator.meet(join, answers.append)
        return answers[0]

    def _looked_up(self, worker: int, problem: str) -> None:
        if coordinator := self.coordinator:
            self._server.call(lambda: coordinator.looked_up(worker, problem))


def _coordinator(
    config: AgentConfig,
    identity: Identity,
    log: AgentLog,
    history: AttemptHistory | None,
    look_ups: NameLookUps | None,
) -> Coordinator:
    return Coordinator(
        workers=identity.workers,
        min_workers=config.min_workers,
        elastic_wait=config.elastic_wait,
        timeout=config.rendezvous_timeout,
        max_restarts=config.max_restarts,
        last_attempt=history.last_attempt if history else lambda: 0,
        saved_step=history.saved_step if history else lambda: 0,
        on_news=log.say,
        on_closed=history.record if history else lambda *_: None,
        look_up=look_ups.start if look_ups else None,
    )


def _too_few_files(workers: int) -> str:
    """What is wrong with the limit of open files of worker 0's agent, in a sentence for a person; "": nothing."""
    # A worker holds one connection, and has another for a moment when it asks for the next attempt.
    needed, most = 2 * workers + _OTHER_FILES, most_open_files()
    if needed <= most:
        return ""
    return (
        f"this machine lets worker 0's agent open {most} files, and {workers} workers need {needed}: some may not be "
        "able to come; raise the hard limit (ulimit -Hn) of its node"
    )
