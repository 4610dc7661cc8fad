from pathlib import Path

import pytest

from tests.support.session_folder import session_folder
from tests.support.training_processes import Training
from tests.training.oracle.results import Oracle


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """What kinds of models end with, trained by Keras and by us."""
    folder = session_folder(tmp_path_factory) / "oracle"
    Path.mkdir(folder, exist_ok=True)
    return Oracle(folder)


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest, small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with the module's FLAGS that nothing happens to."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    training = Training([f"--data_dir={small_mnist}", "--threads=1"])
    training.run(f"--run_dir={run_dir}", *request.module.FLAGS)
    training.close()
    return run_dir
