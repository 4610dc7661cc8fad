"""A picture of TensorBoard's page as a browser shows it: `python -m tests.e2e.screenshot URL FILE` (needs Chromium)."""

import base64
import contextlib
import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import websocket

SIZE = {"width": 1280, "height": 560, "deviceScaleFactor": 1, "mobile": False}
PAGE = "/?darkMode=false&smoothing=0&tagFilter=epoch_(accuracy%7Closs)#timeseries"
# A visitor's own choice, which TensorBoard keeps in the browser: the pane beside the charts is closed.
CHOICE = "localStorage.setItem('_tb_global_settings', JSON.stringify({timeSeriesSettingsPaneOpened: false}))"
DRAWN = "document.querySelectorAll('scalar-card line-chart canvas, scalar-card line-chart svg path.line').length"
DEADLINE = 60

Ask = Callable[..., Any]


@contextlib.contextmanager
def browser() -> Iterator[Ask]:
    """A page of a headless Chromium; yields what sends it a command of the DevTools protocol."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank")  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr
                said = next(found for line in process.stderr if (found := re.search(r"ws://\S+", line)))
                socket = websocket.create_connection(said[0], timeout=DEADLINE, suppress_origin=True)
                numbers = itertools.count(1)

                def ask(method: str, session: str = "", **parameters: object) -> Any:
                    number = next(numbers)
                    asked = {"id": number, "method": method, "params": parameters}
                    socket.send(json.dumps(asked | ({"sessionId": session} if session else {})))
                    while (answer := json.loads(socket.recv())).get("id") != number:
                        pass
                    return answer["result"]

                yield ask
                socket.close()
            finally:
                process.kill()


def screenshot(url: str, path: pathlib.Path) -> None:
    """Writes the scalars of all runs as a PNG, once their curves are drawn."""
    with browser() as ask:
        target = ask("Target.createTarget", url="about:blank")["targetId"]
        page = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        ask("Emulation.setDeviceMetricsOverride", page, **SIZE)
        ask("Page.enable", page)
        ask("Page.addScriptToEvaluateOnNewDocument", page, source=CHOICE)
        ask("Page.navigate", page, url=url + PAGE)
        deadline = time.monotonic() + DEADLINE
        while not ask("Runtime.evaluate", page, expression=DRAWN)["result"]["value"]:
            assert time.monotonic() < deadline, f"{url} shows no curves"
            time.sleep(0.5)
        time.sleep(2)  # They move into place.
        path.write_bytes(base64.b64decode(ask("Page.captureScreenshot", page)["data"]))


if __name__ == "__main__":
    screenshot(sys.argv[1], pathlib.Path(sys.argv[2]))
