"""The agent's flags. Those that say how failures are dealt with are flags of the local launcher, too."""

import dataclasses

from trainer.core.settings import setting
from trainer.core.tf_config import AGENT_PORT
from trainer.output.interface import OutputSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survival(OutputSettings):
    """How the agents of a run deal with what happens to its workers."""

    max_restarts: int = setting(3, "crashes without a newer checkpoint that are answered by a restart", minimum=0)
    rendezvous_timeout: float = setting(600.0, "seconds to wait for all workers before an attempt", above=0.0)
    hang_timeout: float = setting(
        300.0, "seconds without a step, or a batch evaluated, before a training process is killed", above=0.0
    )
    warm_spare: bool = setting(False, "keep a second process that has imported TensorFlow, for quick restarts")
    min_workers: int = setting(
        0, "workers with which an attempt may begin when others are missing; 0: all of them", minimum=0
    )
    elastic_wait: float = setting(15.0, "seconds to wait for missing workers with --min_workers", minimum=0.0)
    grace: float = setting(25.0, "seconds from SIGTERM until a training process that has not left is killed", above=0.0)
    tensorboard: bool = setting(False, "run TensorBoard beside the training of worker 0")
    tensorboard_port: int = setting(6006, "port of that TensorBoard", minimum=1, below=65536)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig(Survival):
    """The agent's flags."""

    port: int = setting(AGENT_PORT, "port for the rendezvous, health and metrics", minimum=1, below=65536)
    chief_agent: str = setting("", "host:port of worker 0's agent (default: worker 0's host in TF_CONFIG, and --port)")
