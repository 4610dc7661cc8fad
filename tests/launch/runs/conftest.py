import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from tests.support.servers import BUCKET, gcs_server, s3_environ, s3_server


@pytest.fixture(params=["s3", "gs"])
def output(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an output on a server of each kind."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")  # What is read from an output needs no cluster.
    with contextlib.ExitStack() as stack:
        if request.param == "s3":
            environ = s3_environ(stack.enter_context(s3_server(tmp_path)))
        else:
            environ = {"STORAGE_EMULATOR_HOST": stack.enter_context(gcs_server())}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield f"{request.param}://{BUCKET}/runs"
