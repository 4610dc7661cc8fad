"""What all agents of a run must have been told alike."""

from trainer.agent.coordination.messages import Join
from trainer.core.safe_text import one_line, redacted


class SharedSettings:
    """The number of workers, which worker 0 says, and the training flags, which the first agent to ask says."""

    def __init__(self, workers: int) -> None:
        """Takes the number of workers, as worker 0 counts them."""
        self._workers = workers
        self._flags: tuple[str, ...] | None = None

    def conflict_with(self, join: Join) -> str:
        """What an agent was told differently, in a sentence for a person; empty if nothing."""
        if not 0 <= join.index < self._workers or join.workers != self._workers:
            return (
                f"worker {join.index} counts {join.workers} workers and worker 0 counts {self._workers}; "
                "all must be told the same number"
            )
        if self._flags is None:
            self._flags = join.flags
        if join.flags == self._flags:
            return ""
        extra, lacking = _shown(set(join.flags) - set(self._flags)), _shown(set(self._flags) - set(join.flags))
        return (
            f"the training flags of worker {join.index} differ from the others': it alone has {extra}, "
            f"they have {lacking}; give all workers the same"
        )


def _shown(flags: set[str]) -> str:
    return one_line(redacted(" ".join(sorted(flags))), 400) or "none"
