"""An agent's side of the rendezvous: its port, its way to the coordinator, and what it asks there."""

import dataclasses
import time
import uuid

from trainer.agent.attempt_history import AttemptHistory
from trainer.agent.coordinator import Coordinator
from trainer.agent.coordinator_http import AnyCoordinator, RemoteCoordinator
from trainer.agent.events import Events
from trainer.agent.flags import AgentConfig
from trainer.agent.identity import Identity
from trainer.agent.log import AgentLog
from trainer.agent.messages import Begin, Ended, Finish, Join
from trainer.agent.refusals import Refusals
from trainer.agent.server import AgentServer
from trainer.agent.status import Status
from trainer.core import tf_config
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode

_RESOLVE_SECONDS = 60.0


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
        self._asked: AnyCoordinator
        if identity.index == 0:
            self._asked = self.coordinator = _coordinator(config, identity, log, history)
        else:
            address = config.chief_agent or tf_config.address(identity.chief_host(), config.port)
            self._asked = RemoteCoordinator(address, timeout=config.rendezvous_timeout, token=token, say=log.say)
        refusals = Refusals(log.say)
        AgentServer(config.port, status=status, coordinator=self.coordinator, token=token, refusals=refusals).start()

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
        self._events.call(lambda: self._resolved(self._asked.meet(join)), name="rendezvous")
        while self._events.terminated_at is None or ended.cause is Cause.LEFT:
            answer = self._events.next()
            if isinstance(answer, Begin | Finish):
                self.seconds = time.monotonic() - began
                return ended, answer
        left = dataclasses.replace(ended, cause=Cause.LEFT)
        return left, self._asked.meet(dataclasses.replace(join, ended=left))  # It is answered at once.

    def hold(self, attempt: int) -> None:
        """Holds on to an attempt; `Over` becomes an event when it is over."""
        self._events.call(lambda: self._asked.hold(self._identity.index, self._token, attempt), name="rendezvous")

    def _resolved(self, answer: Begin | Finish) -> Begin | Finish:
        """The answer once the names of all workers in the attempt resolve."""
        if isinstance(answer, Begin):
            unresolved = self._identity.unresolved(answer.present, _RESOLVE_SECONDS)
            if unresolved:
                index, reason = unresolved
                return Finish(code=ExitCode.PEER_LOST, reason=reason, accused=(index,))
        return answer


def _coordinator(config: AgentConfig, identity: Identity, log: AgentLog, history: AttemptHistory | None) -> Coordinator:
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
    )
