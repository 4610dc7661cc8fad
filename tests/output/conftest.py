from collections.abc import Iterator

import pytest

from tests.support.object_stores import Server
from tests.support.servers import gcs_server, s3_server


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An object store of each kind."""
    if request.param == "s3":
        with s3_server(tmp_path_factory.mktemp("s3")) as address:
            yield Server("s3", address)
    else:
        with gcs_server() as address:
            yield Server("gs", address)


@pytest.fixture
def scheme(server: Server) -> str:
    return server.scheme


@pytest.fixture
def address(server: Server) -> str:
    return server.address


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    """The name of a run that no other test has."""
    return f"runs/{request.node.name}"
