"""A picture of TensorBoard's page as a browser shows it: `python -m tests.e2e.screenshot URL FILE` (needs Chromium)."""

import base64
import pathlib
import sys
import time

from tests.support.browser import DEADLINE, page

SIZE = {"width": 1280, "height": 560}
PAGE = "/?darkMode=false&smoothing=0&tagFilter=epoch_(accuracy%7Closs)#timeseries"
# A visitor's own choice, which TensorBoard keeps in the browser: the pane beside the charts is closed.
CHOICE = "localStorage.setItem('_tb_global_settings', JSON.stringify({timeSeriesSettingsPaneOpened: false}))"
DRAWN = "document.querySelectorAll('scalar-card line-chart canvas, scalar-card line-chart svg path.line').length"


def screenshot(url: str, path: pathlib.Path) -> None:
    """Writes the scalars of all runs as a PNG, once their curves are drawn."""
    with page(**SIZE) as ask:
        ask("Page.addScriptToEvaluateOnNewDocument", source=CHOICE)
        ask("Page.navigate", url=url + PAGE)
        deadline = time.monotonic() + DEADLINE
        while not ask("Runtime.evaluate", expression=DRAWN)["result"]["value"]:
            assert time.monotonic() < deadline, f"{url} shows no curves"
            time.sleep(0.5)
        time.sleep(2)  # They move into place.
        path.write_bytes(base64.b64decode(ask("Page.captureScreenshot")["data"]))


if __name__ == "__main__":
    screenshot(sys.argv[1], pathlib.Path(sys.argv[2]))
