"""`helm template` with Helm 3 and 4: what each value does, what is refused, and whether Kubernetes takes it.

Needs helm, helm3, kubectl and kubeconform on PATH: `make test-chart` builds them from pinned Go modules.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.support.paths import CHART, GOLDEN, ROOT, SCHEMAS, TESTS
from tests.support.rendering import HELMS, arguments, job, objects, pod, template, worker

pytestmark = pytest.mark.chart

EVERY = TESTS / "chart" / "every-value.yaml"
VALUES = (None, *sorted(CHART.glob("values-*.yaml")), EVERY)


@pytest.mark.parametrize("helm", HELMS)
def test_lint(helm: str) -> None:
    for values in VALUES:
        extra = ["--values", str(values)] if values else []
        subprocess.run([helm, "lint", "--strict", str(CHART), *extra], check=True, capture_output=True)


@pytest.mark.parametrize("helm", HELMS)
def test_default_output_is_the_golden_file(helm: str) -> None:
    """To renew it: `make manifests`, and read the difference."""
    rendered = [value for value in yaml.safe_load_all(template(helm=helm).stdout) if value]
    golden = list(yaml.safe_load_all(GOLDEN.read_text()))
    order = lambda value: (value["kind"], value["metadata"]["name"])  # noqa: E731
    assert sorted(rendered, key=order) == sorted(golden, key=order)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "values")
@pytest.mark.parametrize("schema", sorted(SCHEMAS.glob("v1.*.json")), ids=lambda path: path.stem)
def test_kubernetes_takes_it(schema: pathlib.Path, values: pathlib.Path | None) -> None:
    extra = ["--values", str(values)] if values else []
    for output in ("", "gs://bucket/path", "pvc:claim"):
        done = template(*extra, "--set", f"output={output}", "--kube-version", schema.stem)
        assert done.returncode == 0, done.stderr
        command = ["kubeconform", "-strict", "-summary", "-schema-location", str(schema), "-"]
        checked = subprocess.run(command, input=done.stdout, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "Skipped: 0" in checked.stdout


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "values")
def test_both_helms_render_the_same(values: pathlib.Path | None) -> None:
    extra = ["--values", str(values)] if values else []
    new, old = (
        {(value["kind"], value["metadata"]["name"]): value for value in yaml.safe_load_all(done.stdout) if value}
        for done in (template(*extra, helm=helm) for helm in HELMS)
    )
    assert new
    assert new == old


def test_every_value_is_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    given = yaml.safe_load(EVERY.read_text())
    assert set(given) == set(schema["properties"]) - {"global"}
    for section, value in given.items():
        if properties := schema["properties"][section].get("properties"):
            assert set(value) == set(properties), section


def test_older_kubernetes_is_refused() -> None:
    done = template("--kube-version", "v1.32.0")
    assert done.returncode
    assert ">=1.33.0" in done.stderr


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("worker.gpu=1", "gpu"),
        ("wrokers=2", "wrokers"),
        ('workers="four"', "workers"),
        ("workers=0", "workers"),
        ("workers=-1", "workers"),
        ("workers=2.5", "workers"),
        ("train.epochs=0", "epochs"),
        ('train.epochs="5"', "epochs"),
        ("train.epoch=5", "epoch"),
        ('train.loss="gelu"', "loss"),
        ('train.run_dir="/x"', "run_dir"),
        ("agent.min_workers=1", "min_workers"),
        ("train.global_batch_size=3", "train.global_batch_size is 3, but must be at least workers, which is 4"),
        ("worker.minWorkers=5", "worker.minWorkers is 5, but must be at most workers, which is 4"),
        ('output="/mnt/data"', "output"),
        ('output="s3://key:secret@bucket/a"', "output"),
        ('worker.shm="a lot"', "shm"),
        ('image.tag="a b"', "tag"),
        ("image.tag=0.5", "tag"),
        ("image.tag=1.0", "tag"),  # Helm has it as 1.
        ("image.tag=5349", "tag"),  # As Helm has it, 0012345 was that.
        ('worker.extraVolumes=[{"name": "a", "persistentVolumClaim": {}}]', "persistentVolumClaim"),
        ('podSecurityContext={"runAsUsr": 1}', "runAsUsr"),
        ('global={"imageRegistry": 1}', "imageRegistry"),
        ('tensorboard.extraEnv=[{"nam": "a"}]', "nam"),
        ("runId=true", "runId"),
        ("train.global_batch_size=null", "global_batch_size"),
        ('train.momentum="1.5"', "momentum"),
        ('train.learning_rate="0.0"', "learning_rate"),
        ('worker.tolerations=[{"keys": "spot"}]', "keys"),
        ('worker.topologySpreadConstraints=[{"maxskew": 1}]', "maxskew"),
        ('worker.envFrom=[{"secret": {"name": "s"}}]', "secret"),
        ('worker.affinity={"nodeAfinity": {}}', "nodeAfinity"),
        ('tensorboard.tolerations=[{"keys": "spot"}]', "keys"),
    ],
)
def test_refused_with_the_key_named(helm: str, given: str, says: str) -> None:
    done = template("--set-json", given, helm=helm)
    assert done.returncode
    assert says in done.stderr


@pytest.mark.parametrize("helm", HELMS)
def test_a_key_left_blank_is_refused_by_its_name(helm: str, tmp_path: pathlib.Path) -> None:
    """A blank is null, and with null Helm takes the default away. What is null by default may be blank."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    whole = ("podSecurityContext", "securityContext", "test", "global")  # Null is how one takes their keys away.
    inside = {k: v for k, v in defaults.items() if isinstance(v, dict) and k not in whole}

    def blank(values: dict[str, Any]) -> dict[str, Any]:
        return {key: blank(value) if isinstance(value, dict) and value and key != "resources" else None
                for key, value in values.items()}  # fmt: skip

    for number, given in enumerate(({key: None for key in defaults if key != "global"}, blank(inside))):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(given))
        done = template("--values", str(file), helm=helm)
        assert done.returncode
        expected = defaults if number == 0 else {
            key: value for section in inside.values() for key, value in section.items() if not isinstance(value, dict)
        }  # fmt: skip
        missing = [key for key, value in expected.items() if value is not None and f"'{key}'" not in done.stderr]
        assert missing == ([] if number else ["global"])


def test_workers() -> None:
    spec = job("workers=3")["spec"]
    assert (spec["completions"], spec["parallelism"]) == (3, 3)
    assert {"name": "WORKERS", "value": "3"} in spec["template"]["spec"]["containers"][0]["env"]
    assert job("workers=4096", "train.global_batch_size=1000000")["spec"]["completions"] == 4096


def test_gpus() -> None:
    assert worker("worker.gpus=8")["resources"]["limits"] == {"nvidia.com/gpu": 8, "memory": "6Gi"}
    assert "--expect_gpus=8" in arguments("worker.gpus=8")
    assert any(entry["key"] == "nvidia.com/gpu" for entry in pod()["tolerations"])
    assert "nvidia.com/gpu" not in worker("worker.gpus=0")["resources"]["limits"]
    assert not any(argument.startswith("--expect_gpus") for argument in arguments("worker.gpus=0"))
    assert not any(entry["key"] == "nvidia.com/gpu" for entry in pod("worker.gpus=0")["tolerations"])
    limits = worker('worker.resources={"limits": {"memory": "4Gi"}}')["resources"]["limits"]
    assert limits == {"memory": "4Gi", "nvidia.com/gpu": 1}


def test_cudas_compilations_lie_on_the_volume_of_the_run_unless_told_otherwise() -> None:
    def cache(*sets: str) -> dict[str, str]:
        return {entry["name"]: entry["value"] for entry in worker(*sets)["env"] if entry["name"].startswith("CUDA_")}

    assert cache() == {"CUDA_CACHE_MAXSIZE": "2147483648", "CUDA_CACHE_PATH": "/runs/.cuda-cache"}
    assert {"name": "runs", "mountPath": "/runs"} in worker()["volumeMounts"]
    assert cache("worker.gpus=0") == {}
    own = 'worker.extraEnv=[{"name": "CUDA_CACHE_PATH", "value": "/tmp/c"}]'
    assert cache(own) == {"CUDA_CACHE_MAXSIZE": "2147483648", "CUDA_CACHE_PATH": "/tmp/c"}
    names = [entry["name"] for entry in worker(own)["env"]]
    assert len(set(names)) == len(names), "Helm 4 applies no list that has a name twice"


def test_flags_keep_their_text() -> None:
    given = arguments(
        "train.global_batch_size=1000000",
        "train.learning_rate=0.00001",
        "train.jit_compile=true",
        'train.experiment="my.module"',
        "agent.warm_spare=false",
        "agent.hang_timeout=1000000",
    )
    cut = given.index("--")
    assert "--warm_spare=false" in given[:cut]
    assert "--hang_timeout=1000000" in given[:cut]
    assert {"--global_batch_size=1000000", "--jit_compile=true", "--experiment=my.module"} <= set(given[cut:])
    rate = next(argument for argument in given if argument.startswith("--learning_rate="))
    assert float(rate.partition("=")[2]) == 0.00001


def test_the_mode_is_a_flag_of_the_training_program() -> None:
    given = arguments('mode="evaluate"', 'train.model="gs://bucket/run"')
    assert {"--mode=evaluate", "--model=gs://bucket/run"} <= set(given[given.index("--") :])
    assert not [argument for argument in arguments() if argument.startswith("--mode")]
    assert "mode" in template("--set", "mode=test").stderr


def test_set_takes_fractions() -> None:
    done = template("--set", "train.learning_rate=0.01,train.checkpoint_every=2.5")
    assert done.returncode == 0, done.stderr
    assert '"--learning_rate=0.01"' in done.stdout
    assert template("--set", "train.learning_rate=fast").returncode


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(
    ("key", "taken", "refused"),
    [
        ("momentum", ("0", "0.0", ".5", "0.999", "5e-1"), ("1", "1.0", "1.5", "01.5", "5e1", "-0.5", "1e-0")),
        ("learning_rate", ("0.01", "1", ".5", "1e-5", "10.0"), ("0", "0.0", ".0", "0e5", "-1", "-0.1")),
    ],
)
def test_fractions_that_are_set_have_their_bounds(
    key: str, taken: tuple[str, ...], refused: tuple[str, ...], helm: str
) -> None:
    for text in taken:
        assert f"--{key}={text}" in template("--set-string", f"train.{key}={text}", helm=helm).stdout
        assert template("--set", f"train.{key}={text}", helm=helm).returncode == 0
    for text in refused:
        done = template("--set", f"train.{key}={text}", helm=helm)
        assert done.returncode, text
        assert key in done.stderr


def test_survivors_wait_for_the_last_of_the_job_controllers_replacements() -> None:
    back_off, start = 600, 120
    flag = next(argument for argument in arguments() if argument.startswith("--rendezvous_timeout="))
    assert float(flag.partition("=")[2]) > back_off + start


def test_elastic() -> None:
    assert "--min_workers=2" in arguments("worker.minWorkers=2")
    assert not any(argument.startswith("--min_workers") for argument in arguments())


def test_image() -> None:
    given = worker('image={"repository": "registry.example/a/b", "tag": "7", "pullPolicy": "Always"}')
    assert (given["image"], given["imagePullPolicy"]) == ("registry.example/a/b:7", "Always")
    assert pod('image.pullSecrets=[{"name": "key"}]')["imagePullSecrets"] == [{"name": "key"}]


@pytest.mark.parametrize("helm", HELMS)
def test_names_that_look_like_numbers(helm: str, tmp_path: pathlib.Path) -> None:
    numbers = {"runId": 20261130, "worker": {"shm": 1073741824}}
    texts = {"runId": "20261130", "worker": {"shm": "1073741824"}}
    rendered = []
    for name, values in (("numbers", numbers), ("texts", texts)):
        (tmp_path / name).write_text(json.dumps(values))
        rendered.append(template("--values", str(tmp_path / name), helm=helm).stdout)
    assert rendered[0] == rendered[1]
    assert "20261130" in template("--set-string", "image.tag=20261130", helm=helm).stdout
    assert template("--set", "runId=2", helm=helm).stdout == template("--set-string", "runId=2", helm=helm).stdout
    names = ("123", "true", "null")
    for name in names:
        given = objects(f'output="pvc:{name}"', f'credentials.s3Secret="{name}"', release="true", helm=helm)
        assert given["Job"]["metadata"]["labels"]["app.kubernetes.io/instance"] == "true"
        spec = given["Job"]["spec"]["template"]["spec"]
        assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": name}
        assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": name}}]
        assert spec["serviceAccountName"] == "true"
        assert given["Service"]["metadata"]["name"].startswith("true")


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("release", ["my.run", "2nd-run", "123"])
def test_a_release_whose_name_no_service_can_have(release: str, helm: str) -> None:
    done = template(release=release, helm=helm)
    assert done.returncode
    assert f'the release is called "{release}", but its name must be' in done.stderr


@pytest.mark.parametrize(
    ("value", "field", "given"),
    [
        ("nodeSelector", "nodeSelector", {"disk": "ssd", "kubernetes.io/arch": "arm64"}),
        ("affinity", "affinity", {"podAntiAffinity": {}}),
        ("topologySpreadConstraints", "topologySpreadConstraints", [{"maxSkew": 1}]),
        ("priorityClassName", "priorityClassName", "high"),
        ("runtimeClassName", "runtimeClassName", "nvidia"),
        ("gracePeriodSeconds", "terminationGracePeriodSeconds", 25),
    ],
)
def test_pod_fields(value: str, field: str, given: Any) -> None:
    assert pod(f"worker.{value}={json.dumps(given)}")[field] == given
    if value not in ("gracePeriodSeconds", "nodeSelector"):
        assert field not in pod()


def test_lost_nodes_are_given_up() -> None:
    tolerations = pod("worker.evictAfterSeconds=7", 'worker.tolerations=[{"key": "spot", "operator": "Exists"}]')
    seconds = {entry["key"]: entry.get("tolerationSeconds") for entry in tolerations["tolerations"]}
    assert seconds["node.kubernetes.io/not-ready"] == seconds["node.kubernetes.io/unreachable"] == 7
    assert seconds["spot"] is None


def test_environment_and_annotations() -> None:
    given = worker('worker.extraEnv=[{"name": "A", "value": "b"}]', 'worker.envFrom=[{"secretRef": {"name": "s"}}]')
    assert {"name": "A", "value": "b"} in given["env"]
    assert given["envFrom"] == [{"secretRef": {"name": "s"}}]
    assert "envFrom" not in worker()
    metadata = job('worker.podAnnotations={"a/b": "c"}')["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"a/b": "c"}
    account = objects('serviceAccount.annotations={"iam.gke.io/gcp-service-account": "a@b"}')["ServiceAccount"]
    assert account["metadata"]["annotations"] == {"iam.gke.io/gcp-service-account": "a@b"}


@pytest.mark.parametrize("output", ["gs://bucket/path", "pvc:claim"])
def test_the_job_says_where_its_run_is_kept(output: str) -> None:
    assert job(f'output="{output}"')["metadata"]["annotations"] == {"trainer/output": output}
    assert "annotations" not in job()["metadata"]


def test_limits_of_the_job() -> None:
    given = job("job.backoffLimit=0", "job.activeDeadlineSeconds=1000000", "job.ttlSecondsAfterFinished=60")["spec"]
    assert (given["backoffLimit"], given["activeDeadlineSeconds"], given["ttlSecondsAfterFinished"]) == (0, 1000000, 60)
    assert not {"activeDeadlineSeconds", "ttlSecondsAfterFinished", "suspend"} & set(job()["spec"])
    assert job("job.ttlSecondsAfterFinished=0")["spec"]["ttlSecondsAfterFinished"] == 0
    assert job('job.queue="q"')["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"


def test_shm() -> None:
    volumes = {volume["name"]: volume for volume in pod('worker.shm="2Gi"')["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}


def test_without_an_output_the_chief_has_tensorboard() -> None:
    rendered = objects()
    assert "--tensorboard=true" in arguments()
    assert "Deployment" not in rendered
    services = [value for value in yaml.safe_load_all(template().stdout) if value and value["kind"] == "Service"]
    selector = next(each for each in services if each["metadata"]["name"].endswith("-tensorboard"))["spec"]["selector"]
    assert selector["batch.kubernetes.io/job-completion-index"] == "0"
    assert selector["batch.kubernetes.io/job-name"] == rendered["Job"]["metadata"]["name"]


def test_a_claim_as_output() -> None:
    rendered = objects('output="pvc:claim"')
    for kind in ("Job", "Deployment"):
        volumes = {volume["name"]: volume for volume in rendered[kind]["spec"]["template"]["spec"]["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"] == {"claimName": "claim"}
    assert not any(argument.startswith(("--tensorboard", "--output")) for argument in arguments('output="pvc:claim"'))
    assert "/runs" in rendered["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("output", ["gs://bucket/a", "s3://bucket/a"])
def test_a_bucket_as_output(output: str) -> None:
    given = f'output="{output}"'
    assert f"--output={output}" in arguments(given)
    deployment = objects(given)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert any(output in argument for argument in deployment["args"])


def test_credentials_are_named_never_shown() -> None:
    rendered = objects('output="gs://b"', 'credentials={"gcsSecret": "google", "s3Secret": "amazon"}')
    for kind in ("Job", "Deployment"):
        spec = rendered[kind]["spec"]["template"]["spec"]
        container = spec["containers"][0]
        assert {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/var/run/gcs/key.json"} in container["env"]
        assert {"secretRef": {"name": "amazon"}} in container["envFrom"]
        assert {"name": "gcs", "secret": {"secretName": "google"}} in spec["volumes"]
        assert not any("KEY" in entry["name"] for entry in container["env"])
    assert "Secret" not in rendered


def test_tensorboard_has_what_workers_are_given_for_the_output() -> None:
    given = ('worker.extraEnv=[{"name": "A", "value": "b"}]', 'worker.envFrom=[{"secretRef": {"name": "s"}}]')
    (board,) = objects('output="gs://b"', *given)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "A", "value": "b"} in board["env"]
    assert board["envFrom"] == [{"secretRef": {"name": "s"}}]
    (board,) = objects('output="gs://b"')["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert "envFrom" not in board


def test_nodes_of_tensorboard_and_of_the_test() -> None:
    spot = [{"key": "spot", "operator": "Exists"}]
    given = ('tensorboard.nodeSelector={"disk": "ssd"}', f"tensorboard.tolerations={json.dumps(spot)}")
    rendered = objects('output="gs://b"', *given)
    for spec in (rendered["Deployment"]["spec"]["template"]["spec"], rendered["Pod"]["spec"]):
        assert (spec["nodeSelector"], spec["tolerations"]) == ({"disk": "ssd", "kubernetes.io/arch": "amd64"}, spot)
    assert "tolerations" not in objects('output="gs://b"')["Pod"]["spec"]
    assert rendered["Job"]["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}


def test_no_tensorboard() -> None:
    names = [
        value["metadata"]["name"]
        for value in yaml.safe_load_all(template("--set", "tensorboard.enabled=false", "--set", "output=gs://b").stdout)
        if value
    ]
    assert not [name for name in names if "tensorboard" in name]
    assert "--tensorboard=true" not in arguments("tensorboard.enabled=false")


def test_network_policy() -> None:
    spec = objects()["NetworkPolicy"]["spec"]
    own = {"app.kubernetes.io/name": "mnist-train", "app.kubernetes.io/instance": "mnist-train"}
    assert spec["podSelector"] == {"matchLabels": own}
    peers, tensorboard = spec["ingress"]
    assert peers == {"from": [{"podSelector": {"matchLabels": {**own, "trainer/role": "worker"}}}]}
    assert tensorboard == {"from": [{"podSelector": {}}], "ports": [{"port": 6006}]}
    assert len(objects("tensorboard.enabled=false")["NetworkPolicy"]["spec"]["ingress"]) == 1
    assert "NetworkPolicy" not in objects("networkPolicy.enabled=false")


@pytest.mark.parametrize(
    ("change", "ports"),
    [
        ("networkPolicy.enabled=true", "2222 8080"),
        ('networkPolicy.metricsFrom=[{"podSelector": {}}]', "2222"),
        ('networkPolicy.extraIngress=[{"ports": [{"port": 8080}]}]', "2222"),
        ("networkPolicy.enabled=false", ""),
    ],
)
def test_helm_test_tries_what_the_policy_closes_to_its_pod(change: str, ports: str) -> None:
    for helm in HELMS:
        rendered = objects(change, helm=helm)
        (container,) = rendered["Pod"]["spec"]["containers"]
        assert {"name": "CLOSED_PORTS", "value": ports} in container["env"]
        labels = rendered["Pod"]["metadata"]["labels"]
        assert "trainer/role" not in labels  # Else it would be a worker to the policy.


def test_the_jobs_name_is_a_checksum_of_what_it_runs() -> None:
    name = job()["metadata"]["name"]
    assert name == job()["metadata"]["name"]
    for change in (
        "train.epochs=6",
        "workers=5",
        'runId="2"',
        "worker.gpus=2",
        'image.tag="2"',
        "job.backoffLimit=1",
        'job.queue="other"',
        'serviceAccount.annotations={"iam.gke.io/gcp-service-account": "a@b"}',
    ):
        assert job(change)["metadata"]["name"] != name, change
    with_output = job('output="gs://b"')["metadata"]["name"]
    for other in ("networkPolicy.enabled=false", 'tensorboard.resources={"requests": {"memory": "2Gi"}}'):
        assert job('output="gs://b"', other)["metadata"]["name"] == with_output, other


def test_a_long_release_name_fits_the_pods() -> None:
    long = "a" * 53
    for workers in (1, 10, 11, 1000):
        name = job(f"workers={workers}", "train.global_batch_size=1024", release=long)["metadata"]["name"]
        assert len(f"{name}-{workers - 1}") <= 63


def test_notes_say_what_to_do() -> None:
    done = subprocess.run(
        ["helm", "install", "mnist-train", str(CHART), "--dry-run=client"], capture_output=True, text=True
    )
    notes = done.stdout.partition("NOTES:")[2]
    for words in (
        "logs --follow",
        "--field-selector status.phase=Succeeded",  # A chief that was lost has left a message, too.
        "agent.rendezvous_timeout",
        "port-forward service/mnist-train-tensorboard 6006",
        "Pending",
        "no output",
    ):
        assert words in notes, done.stdout[-2000:] + done.stderr


def test_manifests_are_what_the_chart_renders() -> None:
    subprocess.run([sys.executable, "-m", "tools.manifests", "--check"], check=True, cwd=ROOT)


@pytest.mark.parametrize(("overlay", "values"), [("gpu", None), ("cpu", "values-cpu.yaml")])
def test_overlays_are_what_the_chart_renders(overlay: str, values: str | None) -> None:
    from tools import manifests

    built = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s/overlays" / overlay)], check=True, capture_output=True, text=True
    )
    extra = ["--values", str(CHART / values), "--set", "workers=4"] if values else []
    order = lambda value: (value["kind"], value["metadata"]["name"])  # noqa: E731
    rendered = manifests.plain(manifests.render("helm", *extra))
    assert sorted(yaml.safe_load_all(built.stdout), key=order) == sorted(rendered, key=order)
