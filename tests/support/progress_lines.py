"""The progress lines among what a process has printed."""

from collections.abc import Iterable

from trainer.core.log_lines import Progress


def progress_in(lines: Iterable[str]) -> list[Progress]:
    return [progress for line in lines if (progress := Progress.parse(line))]
