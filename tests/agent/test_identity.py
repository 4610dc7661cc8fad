import json

from trainer.agent.identity import Place

JOB = {"JOB_COMPLETION_INDEX": "2", "JOB_NAME": "mnist", "SERVICE_NAME": "workers", "WORKERS": "3"}


def test_a_tf_config_that_is_given_is_passed_on_untouched() -> None:
    given = '{"cluster":  {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": "1"}}'
    place = Place({**JOB, "TF_CONFIG": given})
    assert (place.index, place.workers, place.chief_host()) == (2, 3, "a")
    assert place.tf_config([0, 1, 2]) == given
    assert json.loads(place.tf_config([0, 2])) == {
        "cluster": {"chief": ["a:1"], "worker": ["c:1"]},
        "task": {"type": "worker", "index": 0},
    }


def test_the_pod_of_an_indexed_job_becomes_a_worker() -> None:
    place = Place(JOB)
    hosts = [f"mnist-{index}.workers:2222" for index in range(3)]
    assert (place.index, place.workers, place.chief_host()) == (2, 3, "mnist-0.workers")
    assert json.loads(place.tf_config([0, 1, 2])) == {
        "cluster": {"worker": hosts},
        "task": {"type": "worker", "index": 2},
    }


def test_outside_of_a_cluster_there_is_one_worker() -> None:
    place = Place({})
    assert (place.index, place.workers, place.tf_config([0])) == (0, 1, "{}")
    assert place.unresolved([0], 0.0) == ""


def test_a_name_that_does_not_resolve_is_told() -> None:
    cluster = {"cluster": {"worker": ["localhost:1", "nowhere.invalid:1"]}, "task": {"type": "worker", "index": 0}}
    place = Place({"TF_CONFIG": json.dumps(cluster)})
    assert place.unresolved([0], 0.0) == ""
    assert "the name of worker 1, 'nowhere.invalid', did not resolve within 0 s" in place.unresolved([0, 1], 0.0)
