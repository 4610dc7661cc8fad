from pathlib import Path

import pytest

from tests.support.session_folder import session_folder
from tests.training.oracle.results import Oracle


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """What kinds of models end with, trained by Keras and by us."""
    folder = session_folder(tmp_path_factory) / "oracle"
    Path.mkdir(folder, exist_ok=True)
    return Oracle(folder)
