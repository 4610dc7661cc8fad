import pytest

from tests.support.object_stores import Server


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
