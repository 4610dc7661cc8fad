from collections.abc import Iterator

import pytest

from tests.support.object_stores import Server, started


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An object store of each kind."""
    with started(request.param, tmp_path_factory.mktemp("store")) as server:
        yield server


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
