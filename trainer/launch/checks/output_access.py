"""Whether the place where a run is to be kept can be used: a claim, or a bucket."""

from collections.abc import Iterator, Sequence

from trainer.core.json_types import Json
from trainer.core.safe_text import redacted
from trainer.launch.checks.check_result import CheckResult, Mark, unless_forbidden
from trainer.launch.cluster.objects import output_of
from trainer.launch.cluster.watches import Kube
from trainer.launch.helm import rendered
from trainer.output import reader
from trainer.output.stores.errors import NoBucketError, StorageError
from trainer.output.stores.opening import open_store


def check_claim(kube: Kube, output: str) -> Iterator[CheckResult]:
    """Whether the claim of an output `pvc:NAME` is there, and will have a volume; nothing for another output."""
    if not output.startswith("pvc:"):
        return
    name = output.removeprefix("pvc:")
    claim = kube.find(f"/api/v1/namespaces/{{namespace}}/persistentvolumeclaims/{name}")
    if claim is None:
        text = f"there is no claim {name} in {kube.namespace}"
        yield CheckResult(Mark.FAIL, "output", text, "create it, or --output=another")
        return
    phase, modes = claim["status"].get("phase"), claim["spec"].get("accessModes", [])
    if phase == "Lost":
        yield CheckResult(Mark.FAIL, "output", f"the volume of claim {name} is lost", "make another claim")
    elif "ReadWriteMany" not in modes:
        text = f"claim {name} is {', '.join(modes)}: only workers on one node can share it"
        fix = "a ReadWriteMany claim, where workers run on several nodes"
        yield CheckResult(Mark.NOTE, "output", text, fix)
    else:
        yield CheckResult(Mark.OK, "output", f"claim {name} ({phase})")
    if phase == "Pending":
        unknown = "this user may not see it; whether the claim gets a volume"
        yield from unless_forbidden(lambda: _check_storage_class(kube, name, claim["spec"]), "storage class", unknown)


def check_volumes(kube: Kube, job: Json) -> Iterator[CheckResult]:
    """Whether the claims that workers mount beside the output's are there; nothing where they mount none."""
    output = output_of(job)
    for volume in rendered.pod_spec(job).get("volumes", ()):
        name = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        if not name or output == f"pvc:{name}":
            continue
        claim = kube.find(f"/api/v1/namespaces/{{namespace}}/persistentvolumeclaims/{name}")
        if claim is None:
            text = f"there is no claim {name} in {kube.namespace}, which worker.extraVolumes names as {volume['name']}"
            yield CheckResult(Mark.FAIL, "volumes", text, "create it, or name another; `kubectl get pvc` lists them")
        elif claim["status"].get("phase") == "Lost":
            yield CheckResult(Mark.FAIL, "volumes", f"the volume of claim {name} is lost", "make another claim")
        else:
            yield CheckResult(Mark.OK, "volumes", f"claim {name} ({claim['status'].get('phase')})")


def _check_storage_class(kube: Kube, claim: str, spec: Json) -> Iterator[CheckResult]:
    """Whether a claim that has no volume yet will get one."""
    name = spec.get("storageClassName")
    storage_class = kube.find(f"/apis/storage.k8s.io/v1/storageclasses/{name}") if name else None
    if storage_class is None and not spec.get("volumeName"):
        why = f"its storage class {name} does not exist" if name else "it names no storage class"
        fix = "a claim with one of those that `kubectl get storageclasses` lists"
        yield CheckResult(Mark.FAIL, "storage class", f"claim {claim} has no volume, and {why}", fix)
    elif storage_class and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
        text = f"{name} makes the volume when the first worker has its node"
        yield CheckResult(Mark.OK, "storage class", text)
    else:
        text = f"claim {claim} has no volume yet; workers wait until it has"
        yield CheckResult(Mark.NOTE, "storage class", text)


def check_tensorboard(objects: Sequence[Json]) -> Iterator[CheckResult]:
    """Says where workers have an identity of a cloud's for the bucket, and TensorBoard, another account, has none."""
    accounts = {value["metadata"]["name"]: value["metadata"] for value in objects if value["kind"] == "ServiceAccount"}
    workers = rendered.pod_spec(rendered.job_in(objects)).get("serviceAccountName")
    for value in objects:
        if value["kind"] != "Deployment" or "://" not in output_of(rendered.job_in(objects)):
            continue
        own = value["spec"]["template"]["spec"]["serviceAccountName"]
        if own in accounts and accounts.get(workers, {}).get("annotations") and not accounts[own].get("annotations"):
            text = f"its account {own} lacks the annotations of {workers}, and may not be able to read the output"
            fix = "tensorboard.serviceAccount.annotations, for an identity that reads the bucket"
            yield CheckResult(Mark.NOTE, "TensorBoard", text, fix)


def check_bucket(output: str, *, code: bool = False) -> Iterator[CheckResult]:
    """Whether the bucket of an output can be written with this user's credentials; nothing for another output.

    The pods have credentials of their own, so that a refusal is only a note, unless `code` is to be written from here.
    """
    if "://" not in output:
        return
    try:
        reader.probe(open_store(output))
    except NoBucketError as error:
        yield CheckResult(Mark.FAIL, "output", str(error), "create the bucket, or --output=another")
    except StorageError as error:
        if code:
            text = f"the code is to be written there, and cannot be with this user's credentials: {error}"
            fix = "give them here (AWS_*, GOOGLE_APPLICATION_CREDENTIALS), or send no more than 1 MiB"
            yield CheckResult(Mark.FAIL, "output", text, fix)
            return
        text = f"not tried with this user's credentials, the pods have their own: {error}"
        yield CheckResult(Mark.NOTE, "output", text)
    else:
        yield CheckResult(Mark.OK, "output", f"{redacted(output)} can be written")
