import pathlib
from collections.abc import Iterator

import pytest

from tests.support.object_stores import started
from tests.support.servers import BUCKET


@pytest.fixture(params=["s3", "gs"])
def output(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an output on a server of each kind."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")  # What is read from an output needs no cluster.
    with started(request.param, tmp_path) as server:
        for name, value in server.environ().items():
            monkeypatch.setenv(name, value)
        yield f"{request.param}://{BUCKET}/runs"
