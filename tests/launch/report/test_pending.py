"""Why workers do not run."""

from tests.support.run_objects import failed, job, pod, running, seen, warned
from trainer.launch.cluster.objects import Job, Pod, Seen, Warned
from trainer.launch.report.pending import never_began, none_ran, reasons, unstarted


def test_workers_are_grouped_by_what_keeps_them() -> None:
    said = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    found = reasons(seen(*(pod(i, node="", unschedulable=said) for i in (0, 1, 3)), running(2), workers=4))
    (reason,) = found
    assert (reason.word, reason.text, reason.workers) == ("unschedulable", f"no node can take it: {said}", (0, 1, 3))


def test_an_image_that_cannot_be_pulled_has_the_registrys_words_during_the_back_off_too() -> None:
    one = pod(0, waiting=("ImagePullBackOff", 'Back-off pulling image "x:1"'))
    events = (warned(one.uid, "Failed", 'Failed to pull image "x:1": not found'), warned(one.uid, "Failed", "Error: E"))
    (reason,) = reasons(seen(one, warnings=events, workers=1))
    assert (reason.word, reason.text) == ("image", 'ImagePullBackOff: Failed to pull image "x:1": not found')


def test_volumes_and_containers() -> None:
    mounting = pod(0, waiting=("ContainerCreating", ""))
    events = (warned(mounting.uid, "FailedMount", 'secret "gcs" not found'),)
    found = reasons(seen(mounting, pod(1, waiting=("CreateContainerConfigError", "no secret s3")), warnings=events))
    assert {reason.text for reason in found} == {
        'FailedMount: secret "gcs" not found',
        "CreateContainerConfigError: no secret s3",
    }


def test_pods_that_are_not_made() -> None:
    def because(message: str) -> str:
        return reasons(seen(warnings=(warned("job", "FailedCreate", f"Error creating: {message}"),)))[0].word

    assert because('pods "x" is forbidden: exceeded quota: q') == "quota"
    texts = set()
    for name in "xy":  # Each try has a pod of its own, and is told of once all the same.
        refusal = warned("job", "FailedCreate", f'Error creating: pods "{name}" is forbidden: exceeded quota: q')
        texts.add(reasons(seen(warnings=(refusal,)))[0].text)
    assert texts == {"the namespace's quota does not allow the pods: exceeded quota: q"}
    assert because('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot') == "forbidden"
    assert because("serviceaccount not found") == "not made"
    queued = Seen(job=job(suspended=True, queue="team"))
    assert reasons(queued)[0].text == "Kueue has not admitted the job to queue team: not yet"
    taken_back = Seen(job=job(suspended=True, queue="team"), pods=(running(0, gone=True), running(1, gone=True)))
    assert reasons(taken_back)[0].workers == (0, 1)
    short = (  # Kueue 0.16.1's.
        "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed, "
        "insufficient unused quota for memory in flavor default, 3000Mi more needed"
    )
    warnings = (Warned(about="Workload job-run-1a2b3c4d-16503", uid="w", reason="Pending", message=short, time=1.0),)
    (reason,) = reasons(Seen(job=job(suspended=True, queue="team"), warnings=warnings))
    assert (reason.word, reason.text) == ("queued", f"Kueue has not admitted the job to queue team: {short}")
    assert reasons(Seen(job=job(suspended=True)))[0].word == "suspended"


def test_nothing_is_said_of_workers_that_run_and_of_runs_that_ended() -> None:
    assert reasons(seen(running(0), running(1))) == []
    assert reasons(seen(pod(0), ended="failed")) == []
    assert none_ran(seen(pod(0)))
    assert not none_ran(seen(running(0)))


def test_what_the_scheduler_does_not_place_has_its_reason() -> None:
    def why_held(reason: str, message: str) -> tuple[str, str]:
        condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        metadata = {"name": "x", "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
        one = Pod.from_json({"metadata": metadata, "spec": {}, "status": {"conditions": [condition]}})
        (found,) = reasons(seen(one, workers=1))
        return found.word, found.text

    gates = "Scheduling is blocked due to non-empty scheduling gates"
    assert why_held("SchedulingGated", gates) == (
        "gated",
        f"the scheduler does not place it (SchedulingGated): {gates}",
    )
    assert (
        why_held("SchedulerError", "no plugin x")[1] == "the scheduler does not place it (SchedulerError): no plugin x"
    )
    assert why_held("Unschedulable", "0/2 nodes")[0] == "unschedulable"


def test_a_gang_waits_for_its_last_node() -> None:
    group = "pod group is unschedulable, minCount (2) cannot be satisfied: 1 scheduled, 0 remaining"  # 1.37.2's.
    said = "0/2 nodes are available: 2 Insufficient cpu."
    fits, does_not = reasons(seen(pod(0, node="", unschedulable=group), pod(1, node="", unschedulable=said), gang=2))
    text = "it gets a node when the others do (job.gang): minCount (2) cannot be satisfied: 1 scheduled, 0 remaining"
    assert (fits.word, fits.text, fits.workers) == ("gang", text, (0,))
    assert (does_not.word, does_not.workers) == ("unschedulable", (1,))
    (alone,) = reasons(seen(pod(0, node=""), running(1, phase="Succeeded", exit_code=0), gang=2))
    assert "when 2 of the workers have a pod that has not ended (job.gang)" in alone.text
    scheduling = {"schedulingPolicy": {"gang": {"minCount": 2}}}
    metadata = {"name": "x", "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    assert Job.from_json({"metadata": metadata, "spec": {"scheduling": scheduling}}).gang == 2
    assert Job.from_json({"metadata": metadata, "spec": {}}).gang == 0


def test_a_replacement_that_is_refused_has_its_reason() -> None:
    def refused(time: float) -> Warned:
        message = 'Error creating: pods "x" is forbidden: exceeded quota: q'
        return Warned(about="", uid="job", reason="FailedCreate", message=message, time=time)

    lost = failed(1, 139, 50.0)
    (reason,) = reasons(seen(running(0), lost, warnings=(refused(60.0),)))
    assert (reason.word, reason.workers) == ("quota", (1,))
    assert reasons(seen(running(0), lost, warnings=(refused(40.0),))) == []  # Of the one that was made then.
    assert reasons(seen(running(0, phase="Succeeded", exit_code=0), running(1), warnings=(refused(60.0),))) == []
    (reason,) = reasons(seen(running(0), running(1, gone=True, taken=50.0), warnings=(refused(60.0),)))
    assert reason.workers == (1,)


def test_training_has_never_begun_as_long_as_a_worker_has_never_run() -> None:
    late = pod(3, number=1, unschedulable="0/2 nodes")  # Hundreds of pods are not made in a second.
    waits = seen(running(0), running(1), running(2), late, workers=4)
    assert unstarted(waits) == [3]
    assert never_began(waits, waits=True)
    assert not never_began(waits, waits=False)  # With fewer workers than all, or the chief has not been heard yet.
    assert never_began(seen(running(0)), waits=True)  # Of worker 1 there is no pod.
    assert never_began(seen(pod(0), running(1)), waits=False)
    assert never_began(seen(pod(0), pod(1)), waits=False)
    assert not never_began(seen(running(0), running(1)), waits=True)


def test_a_replacement_that_waits_is_no_beginning() -> None:
    assert not never_began(seen(running(0), failed(1, 139, 50.0), pod(1, number=1)), waits=True)
    assert not never_began(seen(pod(0, number=1), running(1)), waits=False)  # The chief before it is no longer known.
    assert not never_began(seen(running(0, number=1), pod(1), running(2), workers=3), waits=True)
    assert not never_began(seen(running(1)), waits=False)
    assert none_ran(seen(failures=0))
    assert not none_ran(seen(failures=3))  # Nor are any others.
