import collections
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_stores import Server, started
from tests.support.paths import STRICT
from tests.support.small_mnist import write_small_mnist
from tests.support.training_processes import Training

# Of launchers, agents and whatever else a test starts; pyproject.toml has the same for the tests' own process.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STRICT), os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process is left with it when the others are done.

    These are the files of few tests, which are whole runs, and before them those that train all kinds of models. Tests
    of a cluster stay in their order.
    """
    tests = collections.Counter(item.path for item in items)

    def place(item: pytest.Item) -> int:
        of_cluster, of_all_kinds = "e2e" in item.path.parts, item.path.name.startswith("test_oracle")
        return 0 if of_cluster or of_all_kinds else tests[item.path]

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What the tests import stays: it is not looked through for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first images of MNIST, in MNIST's own format."""
    folder = tmp_path_factory.mktemp("mnist")
    write_small_mnist(folder)
    return folder


@pytest.fixture
def training(small_mnist: Path) -> Iterator[Training]:
    """Starts real training processes on the small data; what is left of them at the end is killed."""
    started = Training([f"--data_dir={small_mnist}", "--threads=1", "--log_every=0.2"])
    yield started
    started.close()


@pytest.fixture(scope="session")
def paced_flags(small_mnist: Path) -> list[str]:
    """A small run of experiments/paced.py, ten steps an epoch, for which PACE in the environment sets the speed."""
    return [
        f"--data_dir={small_mnist}",
        "--experiment=tests.experiments.paced",
        "--global_batch_size=64",
        "--hidden_units=32",
        "--log_every=0.5",
    ]


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An object store of each kind."""
    with started(request.param, tmp_path_factory.mktemp("store")) as server:
        yield server
