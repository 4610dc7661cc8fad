import os
from pathlib import Path

import pytest

from tests.training.oracle.results import Oracle


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """What kinds of models end with, trained by Keras and by us."""
    base = tmp_path_factory.getbasetemp()
    # Processes of one session have folders of their own, side by side.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "oracle"
    Path.mkdir(folder, exist_ok=True)
    return Oracle(folder)
