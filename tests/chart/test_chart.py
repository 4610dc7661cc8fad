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
from tests.support.paths import CHART, GOLDEN, ROOT
from tools import manifests
from trainer.agent.flags import AgentConfig
from trainer.core import settings, tf_config
from trainer.core.config import Config
from trainer.core.exit_codes import TABLE, PodEnd
from trainer.core.experiment_flags import parse
from trainer.launch.cluster import port_forward

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def rendered() -> list[Any]:
    return list(yaml.safe_load_all(GOLDEN.read_text()))


@pytest.fixture(scope="module")
def job(rendered: list[Any]) -> Any:
    return next(value for value in rendered if value["kind"] == "Job")


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
    for rule, action, pod_end in ((fail, "FailJob", PodEnd.FAILS), (ignore, "Ignore", PodEnd.IGNORED)):
        assert rule["action"] == action
        assert rule["onExitCodes"]["values"] == sorted(row.code for row in TABLE if row.pod_end is pod_end and row.code)
        assert rule["onExitCodes"]["containerName"] == "worker"
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def test_what_the_table_says_of_the_job_is_what_it_does() -> None:
    words = {
        PodEnd.COMPLETES: "complete",
        PodEnd.FAILS: "fails, no retry",
        PodEnd.IGNORED: "ignores it and replaces the pod",
        PodEnd.COUNTED: "counts against backoffLimit",
    }
    assert [row.job for row in TABLE if not row.job.endswith(words[row.pod_end])] == []
    assert all(f"exits {row.code}" in row.agent for row in TABLE if row.pod_end is PodEnd.FAILS)


def test_the_ports_of_services_policy_and_image_are_those_of_the_programs(rendered: list[Any]) -> None:
    agent = AgentConfig()
    assert (agent.port, agent.tensorboard_port) == (tf_config.AGENT_PORT, port_forward.PORT)
    services = {value["metadata"]["name"]: value["spec"]["ports"] for value in rendered if value["kind"] == "Service"}
    assert {name: [port["port"] for port in ports] for name, ports in services.items()} == {
        "mnist-train": [tf_config.TRAINING_PORT, tf_config.AGENT_PORT],
        "mnist-train-tensorboard": [port_forward.PORT],
    }
    (policy,) = [value["spec"]["ingress"] for value in rendered if value["kind"] == "NetworkPolicy"]
    assert [port["port"] for rule in policy for port in rule.get("ports", ())] == [port_forward.PORT]
    check = (CHART / "files" / "check.py").read_text()
    assert set(map(int, re.findall(r"\b\d{4}\b", check))) == {tf_config.AGENT_PORT, port_forward.PORT}
    (exposed,) = re.findall(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {int(port) for port in exposed.split()} == {tf_config.TRAINING_PORT, tf_config.AGENT_PORT, port_forward.PORT}


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
