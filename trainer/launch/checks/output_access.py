"""Whether the place where a run is to be kept can be used: a claim, or a bucket."""

from collections.abc import Iterator
from typing import Any

from trainer.launch.checks.check_result import Line, asking
from trainer.launch.cluster.watches import Kube
from trainer.output import reader
from trainer.output.stores.errors import NoBucketError, StorageError, redacted
from trainer.output.stores.opening import open_store

Json = dict[str, Any]


def claim(kube: Kube, job: Json) -> Iterator[Line]:
    """Whether the claim of `--output=pvc:NAME` is there, and will have a volume."""
    volumes = job["spec"]["template"]["spec"].get("volumes", ())
    name = next((v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v), None)
    if name is None:
        return
    found = kube.find(f"/api/v1/namespaces/{{namespace}}/persistentvolumeclaims/{name}")
    if found is None:
        yield Line("FAIL", "output", f"there is no claim {name} in {kube.namespace}", "create it, or --output=another")
        return
    phase, modes = found["status"].get("phase"), found["spec"].get("accessModes", [])
    if phase == "Lost":
        yield Line("FAIL", "output", f"the volume of claim {name} is lost", "make another claim")
    elif "ReadWriteMany" not in modes:
        text = f"claim {name} is {', '.join(modes)}: only workers on one node can share it"
        yield Line("note", "output", text, "a ReadWriteMany claim, where workers run on several nodes")
    else:
        yield Line("ok", "output", f"claim {name} ({phase})")
    if phase == "Pending":
        yield from asking(
            lambda: _storage_class(kube, name, found["spec"]),
            "storage class",
            "this user may not see it; whether the claim gets a volume",
        )


def _storage_class(kube: Kube, claim: str, spec: Json) -> Iterator[Line]:
    """Whether a claim that has no volume yet will get one."""
    name = spec.get("storageClassName")
    storage = kube.find(f"/apis/storage.k8s.io/v1/storageclasses/{name}") if name else None
    if storage is None and not spec.get("volumeName"):
        what = f"its storage class {name} does not exist" if name else "it names no storage class"
        fix = "a claim with one of those that `kubectl get storageclasses` lists"
        yield Line("FAIL", "storage class", f"claim {claim} has no volume, and {what}", fix)
    elif storage and storage.get("volumeBindingMode") == "WaitForFirstConsumer":
        yield Line("ok", "storage class", f"{name} makes the volume when the first worker has its node")
    else:
        yield Line("note", "storage class", f"claim {claim} has no volume yet; workers wait until it has")


def bucket(output: str) -> Iterator[Line]:
    """Whether the bucket can be written, as far as this user's own credentials can tell: the pods have theirs."""
    if "://" not in output:
        return
    try:
        reader.probe(open_store(output))
    except NoBucketError as error:
        yield Line("FAIL", "output", str(error), "create the bucket, or --output=another")
    except StorageError as error:
        yield Line("note", "output", f"not tried with this user's credentials, the pods have their own: {error}")
    else:
        yield Line("ok", "output", f"{redacted(output)} can be written")
