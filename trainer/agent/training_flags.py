"""What an agent needs to know of the training program's flags."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Self

from trainer.core import experiment_flags, settings
from trainer.core.config import Config
from trainer.core.run_dir import folder_of_run

_MAY_DIFFER = ("data_dir", "run_dir", "threads", "log_every", "verbosity")  # Between workers.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingFlags:
    """The training program's flags, checked."""

    run_dir: pathlib.Path
    arguments: tuple[str, ...]  # All that are not as without them, and the run directory.
    shared: tuple[str, ...]  # Those of them that must be the same for all workers.

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Checks the flags as the training program would, but for those of an experiment that cannot be read here.

        Raises:
          UsageError: a flag cannot be used.
        """
        config, unchecked = experiment_flags.parse(argv)
        run_dir = folder_of_run(config.run_dir)
        defaults = {name: getattr(Config(), name) for name in _MAY_DIFFER}
        also = experiment_flags.over_model(config, argv)
        here, everywhere = dataclasses.replace(config, run_dir=str(run_dir)), dataclasses.replace(config, **defaults)
        return cls(
            run_dir=run_dir,
            arguments=(*settings.arguments(here, also=also), *unchecked),
            shared=(*settings.arguments(everywhere, also=also - defaults.keys()), *unchecked),
        )
