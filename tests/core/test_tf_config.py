import json
from typing import Any

import pytest

from tests.support.paths import ROOT
from trainer.core.exit_codes import UsageError
from trainer.core.tf_config import MOST_WORKERS, Cluster, address, host_and_port

ADDRESSES = ["a:2222", "b:2222", "c:2222"]


def tf_config(cluster: Any, kind: str = "worker", index: Any = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_an_empty_tf_config_is_no_cluster(text: str) -> None:
    assert Cluster.from_tf_config(text) is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("a-0.b:2222", "a-0.b", 2222),
        ("a_1:1", "a_1", 1),
        ("10.0.0.1:65535", "10.0.0.1", 65535),
        ("[::1]:2222", "::1", 2222),
        ("[fe80::1%eth0]:2222", "fe80::1%eth0", 2222),
        ("[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80),
    ],
)
def test_hosts_of_both_families(text: str, host: str, port: int) -> None:
    assert host_and_port(text) == (host, port)
    assert address(host, port) == text
    cluster = Cluster.from_tf_config(tf_config({"worker": [text, "b:1"]}))
    assert cluster
    assert cluster.addresses == (text, "b:1")
    assert Cluster.from_tf_config(cluster.tf_config()) == cluster


def test_what_it_writes_it_reads() -> None:
    cluster = Cluster.from_tf_config(tf_config({"worker": ADDRESSES}, index=2))
    assert cluster == Cluster(addresses=tuple(ADDRESSES), index=2)
    assert not cluster.is_chief
    assert Cluster.from_tf_config(cluster.tf_config()) == cluster


@pytest.mark.parametrize(("kind", "index", "rank"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_a_chief_comes_before_the_workers(kind: str, index: int, rank: int) -> None:
    text = tf_config({"chief": ADDRESSES[:1], "worker": ADDRESSES[1:]}, kind, index)
    cluster = Cluster.from_tf_config(text)
    assert cluster == Cluster(addresses=tuple(ADDRESSES), index=rank, has_chief=True)
    assert json.loads(cluster.tf_config()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not JSON", "'{'"]),
        ("[]", ["'cluster'"]),
        (json.dumps({"cluster": {"worker": ADDRESSES}}), ["'task'"]),
        (json.dumps({"task": {"type": "worker", "index": 0}}), ["'cluster'"]),
        (tf_config({"worker": ADDRESSES}, index=3), ["index 3", "0 to 2"]),
        (tf_config({"worker": ADDRESSES}, index=-1), ["index -1", "0 to 2"]),
        (tf_config({"worker": ADDRESSES}, index=None), ["index None"]),
        (tf_config({"worker": ADDRESSES}, index=True), ["index True"]),
        (tf_config({"worker": ADDRESSES, "evaluator": ["d:1"]}), ["'evaluator'"]),
        (tf_config({"worker": ADDRESSES, "ps": ["d:1"]}), ["'ps'"]),
        (tf_config({"worker": ADDRESSES}, "ps"), ["'ps'", "3 worker"]),
        (tf_config({"worker": ADDRESSES}, "chief"), ["'chief'", "3 worker"]),
        (tf_config({"worker": []}), ["0 worker"]),
        (tf_config({"worker": "a:1"}), ["host:port"]),
        (tf_config({"worker": ["a"]}), ["host:port"]),
        (tf_config({"worker": ["grpc://a:1"]}), ["host:port", "grpc://a:1"]),
        (tf_config({"worker": ["::1:2222"]}), ["[host]:port"]),
        (tf_config({"worker": ["[::1]"]}), ["[host]:port"]),
        (tf_config({"worker": ["[host]:1"]}), ["[host]:port"]),
        (tf_config({"worker": ["a b:1"]}), ["host:port"]),
        (tf_config({"worker": ["user@a:1"]}), ["host:port"]),
        (tf_config({"worker": [":1"]}), ["host:port"]),
        (tf_config({"worker": ["a:²"]}), ["host:port"]),
        (tf_config({"worker": ["a:65536"]}), ["host:port"]),
        (tf_config({"worker": ["a:1", "a:1"]}), ["twice", "a:1"]),
        (tf_config({"chief": ["a:1", "b:1"]}, "chief"), ["2 chiefs"]),
    ],
)
def test_a_wrong_tf_config_is_refused_and_the_error_says_why(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        Cluster.from_tf_config(text)
    for word in words:
        assert word in str(refused.value)


def test_the_environment_of_an_indexed_job_is_a_cluster() -> None:
    environ = {"JOB_COMPLETION_INDEX": "1", "JOB_NAME": "mnist-1a", "SERVICE_NAME": "mnist", "WORKERS": "2"}
    assert Cluster.from_job(environ) == Cluster(addresses=("mnist-1a-0.mnist:2222", "mnist-1a-1.mnist:2222"), index=1)
    assert Cluster.from_job({}) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"WORKERS": "four"}, "WORKERS='four'"),
        ({"WORKERS": ""}, "WORKERS is not"),
        ({"WORKERS": "1"}, "JOB_COMPLETION_INDEX=1"),
        ({"SERVICE_NAME": ""}, "SERVICE_NAME is not"),
    ],
)
def test_an_incomplete_environment_of_a_job_is_refused(changed: dict[str, str], words: str) -> None:
    environ = {"JOB_COMPLETION_INDEX": "1", "JOB_NAME": "mnist-1a", "SERVICE_NAME": "mnist", "WORKERS": "2"}
    with pytest.raises(UsageError, match=words):
        Cluster.from_job(environ | changed)


def test_more_workers_than_can_meet_are_refused() -> None:
    environ = {"JOB_COMPLETION_INDEX": "0", "JOB_NAME": "j", "SERVICE_NAME": "s", "WORKERS": "4096"}
    assert Cluster.from_job(environ)
    with pytest.raises(UsageError, match="this run has 4097 workers; at most 4096 can meet"):
        Cluster.from_job({**environ, "WORKERS": "4097"})


def test_the_chart_has_the_same_bound() -> None:
    schema = json.loads((ROOT / "helm" / "values.schema.json").read_text())
    assert schema["properties"]["workers"]["maximum"] == MOST_WORKERS
