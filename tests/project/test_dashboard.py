"""docs/grafana.json: every metric that it shows is one that an agent has, by the labels that it has."""

import json
import re
from typing import Any

import pytest

from tests.support.paths import ROOT
from trainer.agent.port.refusals import Refusals
from trainer.agent.status import Status
from trainer.core.log_lines import Progress

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SCRAPED = {"namespace", "job"}  # The labels that Prometheus itself adds, by a PodMonitor.
LINE = "progress worker=0/2 attempt=1 epoch=1/5 step=120/2340 loss=0.4 accuracy=0.8 examples/s=2 data_wait=0.10"


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """The labels of each metric, by the name that Prometheus knows it by."""
    status = Status(worker=0, workers=2)
    progress = Progress.parse(LINE)
    assert progress
    status.progressed(progress)
    status.restarted("crash")
    refusals = Refusals(lambda _: None)
    refusals.add(401, "10.0.0.1")
    samples = [sample for source in (status, refusals) for metric in source.collect() for sample in metric.samples]
    assert {sample.name for sample in samples} >= {"trainer_step", "trainer_restarts_total", "trainer_data_wait_share"}
    return {sample.name: set(sample.labels) for sample in samples}


def test_every_metric_and_label_is_one_that_the_agent_has(labels: dict[str, set[str]]) -> None:
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert len(queries) >= len(PANELS)
    for query in queries:
        names = re.findall(r"\btrainer_\w+", query)
        assert names
        assert set(names) <= set(labels), query
        (grouped,) = re.findall(r"\bby \(([\w, ]+)\)", query)
        assert set(grouped.split(", ")) <= SCRAPED.union(*(labels[name] for name in names)), query
        assert query.count("(") == query.count(")")
    for variable in DASHBOARD["templating"]["list"]:
        query = variable["query"] if isinstance(variable["query"], str) else variable["query"]["query"]
        assert set(re.findall(r"\btrainer_\w+", query)) <= set(labels)


def test_what_a_panel_shows_is_named_by_its_own_labels() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            (grouped,) = re.findall(r"\bby \(([\w, ]+)\)", target["expr"])
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(grouped.split(", "))
        assert panel["datasource"]["uid"] == "${source}"  # Whichever Prometheus it is imported for.


def test_panels_do_not_overlap() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(set(places)) == len({panel["id"] for panel in PANELS}) == len(PANELS)
