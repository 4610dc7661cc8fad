"""The chart against the programs it runs, as far as that can be seen without Helm: from what it rendered last.

`tests/golden/chart.yaml` is the whole default output; test_chart_render.py, with Helm, holds it to be current.
"""

import base64
import json
import re
import xml.etree.ElementTree
from typing import Any

import pytest
import yaml

import trainer
from tests.support.paths import CHART, GOLDEN
from tools import manifests
from trainer.agent.flags import AgentConfig
from trainer.core import settings, tf_config
from trainer.core.config import Config
from trainer.core.exit_codes import TABLE, ExitCode
from trainer.core.experiment_flags import parse

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def job() -> Any:
    golden = yaml.safe_load_all(GOLDEN.read_text())
    return next(value for value in golden if value["kind"] == "Job")


def test_the_schema_knows_the_flags_as_they_are() -> None:
    text = (CHART / "values.schema.json").read_text()
    assert manifests.schema(text) == text, "run `make manifests`"


@pytest.mark.parametrize(("key", "config"), [("train", Config), ("agent", AgentConfig)])
def test_values_name_flags_and_repeat_no_other_default(key: str, config: type) -> None:
    flags = settings.schema(config)["properties"]
    assert set(VALUES[key]) <= set(flags)
    if key == "train":
        assert VALUES[key] == {name: flags[name]["default"] for name in VALUES[key]}


def test_every_value_has_its_sentence() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    inside = None  # Indentation of a map that is one value, such as `train`.
    for before, line in zip(["", *lines], lines, strict=False):
        if not (match := re.match(r"( *)([a-zA-Z]\w*):(.*)", line)):
            continue
        depth = len(match[1])
        if inside is not None and depth > inside:
            continue
        inside = depth if before.strip().startswith("# -- ") else None
        assert inside is not None or not match[3], f"{line.strip()} has no `# --` sentence above it"


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    def keys(value: Any, schema: Any) -> None:
        if schema.get("additionalProperties") is False and isinstance(value, dict) and "properties" in schema:
            assert set(value) <= set(schema["properties"])
            for key, part in value.items():
                keys(part, schema["properties"][key])

    assert set(VALUES) == set(SCHEMA["properties"])
    for section, value in VALUES.items():
        rule = SCHEMA["properties"][section]
        if isinstance(value, dict) and section not in ("train", "agent", "experiment") and "properties" in rule:
            assert set(value) == set(rule["properties"])
    keys(VALUES, SCHEMA)


def test_the_chart_says_what_it_is() -> None:
    """What Artifact Hub shows; an address, and no person."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == trainer.__version__
    for address in (chart["home"], *chart["sources"], *(one["url"] for one in chart["maintainers"])):
        assert address.startswith("https://")
    assert not any("email" in one for one in chart["maintainers"])
    kind, _, picture = chart["icon"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert xml.etree.ElementTree.fromstring(base64.b64decode(picture)).tag.endswith("svg")  # noqa: S314  # Our own.
    assert {"tensorflow", "distributed-training"} <= set(chart["keywords"])
    assert chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    assert all(link["url"] for link in yaml.safe_load(chart["annotations"]["artifacthub.io/links"]))


def test_the_failure_policy_is_the_table(job: Any) -> None:
    fail, ignore, disruption = job["spec"]["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"]["values"] == sorted(row.code for row in TABLE if row.job_fails and row.code)
    assert all((row.job == "fails, no retry") == row.job_fails for row in TABLE)
    assert (ignore["action"], ignore["onExitCodes"]["values"]) == ("Ignore", [ExitCode.TERMINATED])
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert {rule["onExitCodes"]["containerName"] for rule in (fail, ignore)} == {"worker"}


def test_the_programs_take_what_the_chart_gives_them(job: Any) -> None:
    container = job["spec"]["template"]["spec"]["containers"][0]
    cut = container["args"].index("--")
    agent = settings.parse(AgentConfig, container["args"][:cut], program="agent")
    config = parse(container["args"][cut + 1 :])[0]
    assert agent.warm_spare
    assert agent.tensorboard
    assert (config.epochs, config.global_batch_size, config.expect_gpus) == (5, 128, 1)
    assert {port["containerPort"] for port in container["ports"]} == {
        tf_config.TRAINING_PORT,
        agent.port,
        agent.tensorboard_port,
    }
    environ = {entry["name"]: entry.get("value", "from the pod") for entry in container["env"]}
    workers = tf_config.Cluster.from_job({**environ, "JOB_COMPLETION_INDEX": "3", "JOB_NAME": "job"})
    assert workers is not None
    assert workers.addresses[3] == f"job-3.mnist-train:{tf_config.TRAINING_PORT}"
