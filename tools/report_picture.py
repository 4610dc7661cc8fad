"""Writes the documentation's picture of a run's page: `python -m tools.report_picture RUN/report.html docs/report.png`.

It needs Chromium. The run of docs/report.png was one of two workers, of which one was lost on the way:

    python -m trainer.launch --local --workers 2 -- --run_dir=logs/fit/mnist --epochs=5    # and `kill -9` of a trainer
"""

import base64
import sys
import time
from pathlib import Path

from tests.support.browser import DEADLINE, page

WIDTH, HEIGHT = 1000, 1380  # Down to where the examples begin.


def draw(source: Path, target: Path) -> None:
    """Draws the top of a page."""
    with page(width=WIDTH, height=HEIGHT) as ask:
        ask("Page.navigate", url=source.resolve().as_uri())
        deadline = time.monotonic() + DEADLINE
        ready = "document.readyState === 'complete' && document.querySelectorAll('svg').length > 0"
        while not ask("Runtime.evaluate", expression=ready)["result"]["value"]:
            assert time.monotonic() < deadline, f"{source} shows nothing"
            time.sleep(0.1)
        target.write_bytes(base64.b64decode(ask("Page.captureScreenshot")["data"]))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
