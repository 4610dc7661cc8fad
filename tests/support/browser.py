"""A headless Chromium: pages as a person sees them, and what they ask of the network."""

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket

DEADLINE = 60

Ask = Callable[..., Any]

needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium on the PATH")


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


@contextlib.contextmanager
def page(**size: object) -> Iterator[Ask]:
    """One page of a browser, of that size; yields what sends it a command."""
    with browser() as ask:
        target = ask("Target.createTarget", url="about:blank")["targetId"]
        session = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def of_page(method: str, **parameters: object) -> Any:
            return ask(method, session, **parameters)

        of_page("Emulation.setDeviceMetricsOverride", **{"deviceScaleFactor": 1, "mobile": False, **size})
        of_page("Page.enable")
        yield of_page
