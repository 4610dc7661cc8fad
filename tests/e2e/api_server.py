"""The cluster's API server, asked through one `kubectl proxy`.

A kubectl for each question of a test that waits would take half a core from the workers that it waits for.
"""

import atexit
import functools
import re
import subprocess

import urllib3


def answer(path: str, **query: str) -> str:
    """What it answers to GET of a path.

    Raises:
      AssertionError: it refuses, or cannot be reached; with what it says.
    """
    try:
        reply = _proxy().request("GET", path, fields=query, timeout=30, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise AssertionError(f"{path} {query}: {error}") from None
    text: str = reply.data.decode(errors="replace")
    assert reply.status == 200, f"{path} {query}: {reply.status} {text[:300]}"
    return text


@functools.cache
def _proxy() -> urllib3.HTTPConnectionPool:
    """This process's own."""
    proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    atexit.register(proxy.kill)
    assert proxy.stdout
    said = proxy.stdout.readline()
    found = re.search(r"127\.0\.0\.1:\d+", said)
    assert found, f"kubectl proxy says {said!r}"
    return urllib3.connection_from_url(f"http://{found[0]}")
