import json

from trainer.agent.identity import Identity

JOB = {"JOB_COMPLETION_INDEX": "2", "JOB_NAME": "mnist", "SERVICE_NAME": "workers", "WORKERS": "3"}


def test_a_tf_config_that_is_given_is_passed_on_untouched() -> None:
    tf_config = '{"cluster":  {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": "1"}}'
    identity = Identity({**JOB, "TF_CONFIG": tf_config})
    assert (identity.index, identity.workers, identity.host(0)) == (2, 3, "a")
    assert identity.tf_config([0, 1, 2]) == tf_config
    assert json.loads(identity.tf_config([0, 2])) == {
        "cluster": {"chief": ["a:1"], "worker": ["c:1"]},
        "task": {"type": "worker", "index": 0},
    }


def test_the_pod_of_an_indexed_job_becomes_a_worker() -> None:
    identity = Identity(JOB)
    hosts = [f"mnist-{index}.workers:2222" for index in range(3)]
    assert (identity.index, identity.workers, identity.host(0)) == (2, 3, "mnist-0.workers")
    assert json.loads(identity.tf_config([0, 1, 2])) == {
        "cluster": {"worker": hosts},
        "task": {"type": "worker", "index": 2},
    }


def test_outside_of_a_cluster_there_is_one_worker() -> None:
    identity = Identity({})
    assert (identity.index, identity.workers, identity.tf_config([0])) == (0, 1, "{}")
    assert identity.unresolved([0], 0.0) is None


def test_a_name_that_does_not_resolve_is_told() -> None:
    cluster = {"cluster": {"worker": ["localhost:1", "nowhere.invalid:1"]}, "task": {"type": "worker", "index": 0}}
    identity = Identity({"TF_CONFIG": json.dumps(cluster)})
    assert identity.unresolved([0], 0.0) is None
    unresolved = identity.unresolved([0, 1], 0.0)
    assert unresolved
    assert unresolved[0] == 1
    assert unresolved[1].startswith("the name of worker 1, 'nowhere.invalid', did not resolve within 0 s")
