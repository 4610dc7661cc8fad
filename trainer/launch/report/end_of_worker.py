"""How a worker ended, in words that follow "worker 1 on node2"."""

import dataclasses
from typing import Self

from trainer.core.causes import Cause
from trainer.core.exit_codes import meaning
from trainer.core.process import signal_name
from trainer.launch.cluster.objects import Pod
from trainer.launch.report.agent_message import AgentMessage

KILLED = 137  # The exit code after SIGKILL.

_NOT_STARTED = {"StartError", "ContainerCannotRun"}
_DISRUPTIONS = {
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "EvictionByEvictionAPI": "was evicted (a drain, or another request to evict it)",
    "DeletionByTaintManager": "was taken from its node, which was lost or tainted",
    "DeletionByPodGC": "was removed because its node is gone",
    "TerminationByKubelet": "was ended by its node",
}
_KILLED_BY_AGENT = {
    Cause.FROZEN: "was frozen, and its agent killed it",
    Cause.HUNG: "made no step for too long, and its agent killed it",
    Cause.STARVED: "waited for data for too long, and its agent killed it",
}


@dataclasses.dataclass(frozen=True)
class EndOfWorker:
    """The parts of a sentence such as "ended with exit code 137 at step 7 (SIGKILL)"."""

    verb: str
    detail: str = ""
    why: str = ""  # What Kubernetes says beside it.
    advice: str = ""  # What a person can do.

    @property
    def text(self) -> str:
        """The sentence as it stands in a list."""
        return self._sentence("", self.why)

    def headline(self, step: int | None) -> str:
        """The sentence with the last step that the worker made (None: not known) and with advice."""
        at = "" if step is None else f" at step {step}" if step else " before its first step"
        return self._sentence(at, self.why or self.advice)

    @classmethod
    def of_pod(cls, pod: Pod) -> Self:
        """How a lost pod ended."""
        if pod.reason == "Evicted":
            return cls("was evicted by its node", why=pod.detail)
        if pod.disruption:
            word, sentence = pod.disruption
            return cls(_DISRUPTIONS.get(word, f"was disrupted ({word})"), why=sentence)
        code = f"exit code {pod.exit_code}"
        if pod.reason == "OOMKilled":
            return cls("ran out of memory", f"OOMKilled, {code}", advice="raise worker.resources.limits.memory")
        if pod.reason in _NOT_STARTED:
            return cls("could not start its container", f"{pod.reason}, {code}")
        if pod.exit_code == KILLED and pod.taken is not None:
            return cls("was deleted, and killed when its time to leave was over", code)
        if pod.exit_code is not None:
            message = AgentMessage.of(pod)
            unexplained = message.signal == "SIGKILL" and not message.killed_by_agent
            explained = bool(message.errors or message.addition)
            return cls.of_process(pod.exit_code, message.cause, unexplained_kill=unexplained, explained=explained)
        if pod.phase == "Failed" and pod.reason:
            return cls("failed", why=f"{pod.reason} {pod.detail}".rstrip())
        return cls("was deleted" if pod.gone or pod.deleting else "failed")

    @classmethod
    def of_process(
        cls, code: int, cause: Cause | None, *, unexplained_kill: bool = False, explained: bool = False
    ) -> Self:
        """How a training process or an agent ended.

        Args:
          code: its exit code.
          cause: how the training process ended, as its agent saw it.
          unexplained_kill: somebody sent SIGKILL, and it was not the agent.
          explained: error lines or a reason tell what the code, which may mean several things, means here.
        """
        if cause in _KILLED_BY_AGENT and code == KILLED:
            return cls(_KILLED_BY_AGENT[cause], f"exit code {code}")
        detail = signal_name(code) or ("" if explained else meaning(code))
        if code == KILLED and unexplained_kill:
            detail += ", by the kernel for want of memory if nobody else sent it"
        return cls(f"ended with exit code {code}", detail)

    def _sentence(self, at: str, why: str) -> str:
        return f"{self.verb}{at}" + (f" ({self.detail})" if self.detail else "") + (f": {why}" if why else "")
