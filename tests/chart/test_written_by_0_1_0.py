"""Values that were written for the chart of 0.1.0, which mnist-train-0.1.0.tgz is, given to today's."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.rendering import template

pytestmark = pytest.mark.chart

CHART = Path(__file__).parent / "written_by_0_1_0" / "mnist-train-0.1.0.tgz"
MOVED = {"hidden_units", "activation", "dropout"}  # To `experiment`.


def file(name: str) -> str:
    with tarfile.open(CHART) as archive:
        found = archive.extractfile(f"mnist-train/{name}")
        assert found
        return found.read().decode()


def flags(section: str) -> dict[str, Any]:
    """The defaults of its flags, by name."""
    schema = json.loads(file("values.schema.json"))["properties"][section]["properties"]
    return {name: of["default"] for name, of in schema.items()}


@pytest.mark.parametrize("name", ["values.yaml", "values-cpu.yaml", "values-gke.yaml", "values-kueue.yaml"])
def test_its_own_values_work(name: str, tmp_path: Path) -> None:
    """Every key of the chart's is in values.yaml."""
    (tmp_path / "old.yaml").write_text(file(name))
    done = template("--values", str(tmp_path / "old.yaml"))
    assert done.returncode == 0, done.stderr
    assert "Job" in {value["kind"] for value in yaml.safe_load_all(done.stdout) if value}


@pytest.mark.parametrize("section", ["train", "agent"])
def test_its_flags_work_but_for_those_that_have_moved(section: str) -> None:
    given = {name: value for name, value in flags(section).items() if name not in MOVED}
    assert len(given) >= 8
    done = template("--set-json", f"{section}={json.dumps(given)}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(MOVED))
def test_what_has_moved_is_refused_by_name_and_works_where_it_is_now(name: str) -> None:
    value = json.dumps(flags("train")[name])
    done = template("--set-json", f"train.{name}={value}")
    assert done.returncode
    assert f"at '/train': additional properties '{name}' not allowed" in done.stderr
    assert template("--set-json", f"experiment.{name}={value}").returncode == 0
