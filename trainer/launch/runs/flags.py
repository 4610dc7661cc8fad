"""The flags of `list` and `show`."""

import dataclasses

from trainer.core.exit_codes import UsageError
from trainer.core.settings import setting
from trainer.launch.flags import ClusterFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListFlags(ClusterFlags):
    """The flags of `list`: the runs of a namespace, or with `--output` those that are kept in a place."""

    output: str = setting(
        "", "list what is kept here, by gs:// or s3:// address or a folder of this machine; no cluster is asked"
    )
    metric: str = setting("", "the metric to compare runs by (default: the validation's accuracy, or else its loss)")
    sort: str = setting("", "column, metric or flag to sort by, best or newest first; with - before it the other way")

    def check(self) -> None:
        """Refuses what is of kept runs alone.

        Raises:
          UsageError: names the flag, and what to do.
        """
        for name, value in (("metric", self.metric), ("sort", self.sort)):
            if value and not self.output:
                raise UsageError(f"--{name}={value} needs --output=…: a cluster does not know it of its runs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowFlags:
    """The flags of `show`, which is about one run."""

    run: str = setting("", "its address or folder, or its name in --output; `show RUN` is the same")
    output: str = setting("", "where it is kept: gs:// or s3:// address or a folder of this machine")
    metric: str = setting("", "the metric to draw besides the loss")
    json: bool = setting(False, "one JSON object, for programs")
