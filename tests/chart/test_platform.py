"""What a platform team sets: where pods may run and as whom, how things are called, and who reaches them."""

import itertools
import json
import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.paths import CHART, SCHEMAS
from tests.support.rendering import HELMS, Json, job, objects, pod, template, worker
from trainer.core import shipped_code
from trainer.core.config import Config
from trainer.core.run_dir import sent_code_key
from trainer.output import sent_code

pytestmark = pytest.mark.chart

OUTPUT = 'output="gs://b"'  # With it TensorBoard is a Deployment.
RESTRICTED_V2 = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def parsed(text: str) -> list[Json]:
    return [value for value in yaml.safe_load_all(text) if value]


def pods(*sets: str, helm: str = "helm") -> dict[str, Json]:
    """The specifications of all pods: of workers, of TensorBoard, of `helm test`."""
    rendered = objects(OUTPUT, *sets, helm=helm)
    made = {kind: rendered[kind]["spec"]["template"]["spec"] for kind in ("Job", "Deployment")}
    return {**made, "Pod": rendered["Pod"]["spec"]}


def violations(spec: Json) -> list[str]:
    """What OpenShift's restricted-v2 refuses of a pod, in a namespace whose users are 1000650000 and up."""
    pod_level = spec.get("securityContext", {})
    found = [f"volume {volume['name']}" for volume in spec.get("volumes", []) if not RESTRICTED_V2 & set(volume)]
    found += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"fsGroup {pod_level['fsGroup']}"] if pod_level.get("fsGroup", 1000650000) < 1000650000 else []
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        own = container["securityContext"]
        both = {**pod_level, **own}
        if both.get("runAsUser", 1000650000) < 1000650000:
            found.append(f"{container['name']}: runAsUser {both['runAsUser']}")
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{container['name']}: privileges")
        if own["capabilities"].get("drop") != ["ALL"] or not set(own["capabilities"].get("add", ())) <= {
            "NET_BIND_SERVICE"
        }:
            found.append(f"{container['name']}: capabilities")
        if both.get("seccompProfile", {"type": "RuntimeDefault"}) != {"type": "RuntimeDefault"}:
            found.append(f"{container['name']}: seccomp")
        found += [f"port {port}" for port in container.get("ports", ()) if "hostPort" in port]
    return found


@pytest.mark.parametrize("helm", HELMS)
def test_openshift_admits_all_pods(helm: str) -> None:
    init = 'worker.initContainers=[{"name": "wait", "command": ["true"]}]'
    arguments = ("--values", str(CHART / "values-openshift.yaml"), "--set", "output=gs://b", "--set-json", init)
    done = template(*arguments, helm=helm)
    assert done.returncode == 0, done.stderr
    made = parsed(done.stdout)
    specs = [value["spec"]["template"]["spec"] for value in made if value["kind"] in ("Job", "Deployment")]
    specs += [value["spec"] for value in made if value["kind"] == "Pod"]
    assert len(specs) == 3
    for spec in specs:
        assert violations(spec) == []
        assert spec["securityContext"]["runAsNonRoot"] is True
    # Without that file it does not: the rules above are not empty.
    assert all("fsGroup 10001" in violations(spec) for spec in pods(helm=helm).values())


@pytest.mark.parametrize("helm", HELMS)
def test_security_is_merged_over_the_default(helm: str) -> None:
    for spec in pods(
        "podSecurityContext.runAsUser=7", "securityContext.readOnlyRootFilesystem=null", helm=helm
    ).values():
        assert spec["securityContext"]["runAsUser"] == 7
        assert spec["securityContext"]["fsGroup"] == 10001
        (container,) = spec["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("helm", HELMS)
def test_workers_have_what_differs_for_them(helm: str) -> None:
    given = (
        'worker.securityContext={"capabilities": {"add": ["IPC_LOCK"]}}',
        'worker.podSecurityContext={"fsGroup": ""}',
    )
    specs = pods(*given, helm=helm)
    assert specs["Job"]["containers"][0]["securityContext"]["capabilities"] == {"add": ["IPC_LOCK"], "drop": ["ALL"]}
    assert specs["Deployment"]["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "fsGroup" not in specs["Job"]["securityContext"]
    assert specs["Deployment"]["securityContext"]["fsGroup"] == 10001


def test_volumes() -> None:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "imagenet", "readOnly": True}}
    mount = {"name": "data", "mountPath": "/data", "readOnly": True}
    spec = pod(f"worker.extraVolumes=[{json.dumps(claim)}]", f"worker.extraVolumeMounts=[{json.dumps(mount)}]")
    assert spec["volumes"][-1] == claim
    assert spec["containers"][0]["volumeMounts"][-1] == mount
    assert {volume["name"] for volume in spec["volumes"]} == {"runs", "tmp", "shm", "data"}


@pytest.mark.parametrize("helm", HELMS)
def test_the_cache_of_data_has_a_volume_with_a_limit(helm: str) -> None:
    def rendered(*sets: str) -> tuple[list[Any], list[Any], Any]:
        spec = pods(*sets, helm=helm)["Job"]
        (container,) = spec["containers"]
        volumes = [volume for volume in spec["volumes"] if volume["name"] == "data-cache"]
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "data-cache"]
        resources = container["resources"]
        told = {kind: resources.get(kind, {}).get("ephemeral-storage") for kind in ("requests", "limits")}
        return volumes, mounts, told

    cached = 'train.data_cache="/cache/"'
    volumes, mounts, told = rendered(cached)
    most = Config().data_cache_gib * 1.1 * 1024  # MiB
    assert volumes == [{"name": "data-cache", "emptyDir": {"sizeLimit": f"{most:.0f}Mi"}}]
    assert mounts == [{"name": "data-cache", "mountPath": "/cache"}]
    assert told == {"requests": f"{1024 + most:.0f}Mi", "limits": None}
    given = ("train.data_cache_gib=0.5", 'worker.resources.requests.ephemeral-storage="1G"',
             'worker.resources.limits.ephemeral-storage="512Mi"')  # fmt: skip
    volumes, _, told = rendered(cached, *given)
    assert volumes[0]["emptyDir"] == {"sizeLimit": "564Mi"}
    assert told == {"requests": "1518Mi", "limits": "1076Mi"}
    assert rendered(cached, "worker.resources.requests.ephemeral-storage=null")[2]["requests"] is None
    theirs = 'worker.extraVolumeMounts=[{"name": "disk", "mountPath": "/disk"}]'
    for path in ("/disk", "/disk/cache", "/runs", "relative", "/tmp/"):
        volumes, mounts, told = rendered(theirs, f"train.data_cache={json.dumps(path)}")
        assert (volumes, mounts, told["requests"]) == ([], [], "1Gi"), path
    assert rendered(theirs, 'train.data_cache="/disks"')[1]
    assert rendered()[:2] == ([], [])


@pytest.mark.parametrize("helm", HELMS)
def test_init_containers_are_as_the_worker_unless_they_say_other(helm: str) -> None:
    def made(init: Json, *sets: str) -> Json:
        given = (f"worker.initContainers=[{json.dumps({'name': 'wait', **init})}]", *sets)
        (container,) = pods(*given, helm=helm)["Job"]["initContainers"]
        return dict(container)

    usual = made({"command": ["true"]})
    assert (usual["image"], usual["command"]) == ("mnist-train:0.1.0", ["true"])
    assert usual["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert usual["resources"] == {
        "requests": {"cpu": "1", "memory": "3Gi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "6Gi"},
    }  # fmt: skip
    security = {"runAsUser": 7, "readOnlyRootFilesystem": None}
    other = made({"image": "busybox:1", "securityContext": security, "resources": {"requests": {"memory": "1Gi"}}})
    assert other["image"] == "busybox:1"
    assert other["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 7,
    }  # fmt: skip
    assert other["resources"] == {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    workers = made({}, 'worker.securityContext={"allowPrivilegeEscalation": ""}')["securityContext"]
    assert workers == {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def test_tensorboard_reaches_the_output_as_workers_do() -> None:
    """By the names that they know, and with the certificate that they are given."""
    volume, mount = {"name": "ca", "configMap": {"name": "ca"}}, {"name": "ca", "mountPath": "/etc/ca"}
    alias = {"ip": "10.0.0.1", "hostnames": ["store"]}
    sets = (f"tensorboard.extraVolumes=[{json.dumps(volume)}]", f"tensorboard.extraVolumeMounts=[{json.dumps(mount)}]",
            f"worker.hostAliases=[{json.dumps(alias)}]", 'worker.dnsConfig={"searches": ["test"]}')  # fmt: skip
    spec = pods(*sets)["Deployment"]
    assert spec["volumes"][-1] == volume
    assert spec["containers"][0]["volumeMounts"][-1] == mount
    assert (spec["hostAliases"], spec["dnsConfig"]) == ([alias], {"searches": ["test"]})
    assert {volume["name"] for volume in pods()["Deployment"]["volumes"]} == {"tmp"}


@pytest.mark.parametrize(
    ("value", "given"),
    [
        ("schedulerName", "volcano"),
        ("hostAliases", [{"ip": "10.0.0.1", "hostnames": ["store"]}]),
        ("dnsConfig", {"searches": ["test"]}),
    ],
)
def test_pod_fields(value: str, given: Any) -> None:
    assert pod(f"worker.{value}={json.dumps(given)}")[value] == given
    assert value not in pod()


def test_labels_and_annotations_are_on_everything() -> None:
    rendered = parsed(
        template(
            *("--set", "output=gs://b,commonLabels.team=a,commonAnnotations.owner=b,podMonitor.enabled=true"),
            *("--set", "tensorboard.ingress.enabled=true,tensorboard.httpRoute.enabled=true"),
            *("--set", "worker.podLabels.cost=c,worker.podAnnotations.mesh=d,worker.podLabels.team=e"),
            *("--set", "tensorboard.podLabels.cost=f,tensorboard.podAnnotations.mesh=g"),
        ).stdout
    )
    assert len({value["kind"] for value in rendered}) == 9
    for value in rendered:
        assert value["metadata"]["labels"]["team"] == "a"
        assert value["metadata"]["annotations"]["owner"] == "b"
    templates = {v["kind"]: v["spec"]["template"]["metadata"] for v in rendered if v["kind"] in ("Job", "Deployment")}
    own = {"app.kubernetes.io/name": "mnist-train", "app.kubernetes.io/instance": "mnist-train"}
    assert templates["Job"]["labels"] == {**own, "trainer/role": "worker", "cost": "c", "team": "e"}
    assert templates["Job"]["annotations"] == {"mesh": "d", "owner": "b"}
    assert templates["Deployment"]["labels"] == {**own, "trainer/role": "tensorboard", "cost": "f", "team": "a"}
    assert templates["Deployment"]["annotations"] == {"mesh": "g", "owner": "b"}


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("key", ["app.kubernetes.io/instance", "trainer/role", "app.kubernetes.io/name"])
def test_labels_by_which_pods_are_found_cannot_be_changed(key: str, helm: str) -> None:
    for value in ("commonLabels", "worker.podLabels", "tensorboard.podLabels"):
        done = template("--set-json", f"{value}={json.dumps({key: 'x'})}", helm=helm)
        assert done.returncode
        assert value.split(".")[-1] in done.stderr


def test_accounts() -> None:
    made = {
        v["metadata"]["name"]: v
        for v in parsed(template("--set", "output=gs://b").stdout)
        if v["kind"] == "ServiceAccount"
    }
    assert set(made) == {"mnist-train", "mnist-train-tensorboard"}
    specs = pods()
    assert specs["Job"]["serviceAccountName"] == "mnist-train"
    assert specs["Deployment"]["serviceAccountName"] == "mnist-train-tensorboard"
    given = ("serviceAccount.create=false", 'serviceAccount.name="theirs"', "tensorboard.serviceAccount.create=false")
    specs = pods(*given)
    assert [specs[kind]["serviceAccountName"] for kind in ("Job", "Deployment", "Pod")] == [
        "theirs",
        "default",
        "theirs",
    ]
    assert "ServiceAccount" not in objects(OUTPUT, *given)
    assert job('serviceAccount.name="a"')["metadata"]["name"] != job()["metadata"]["name"], (
        "who they run as has changed"
    )


def test_tensorboard_has_credentials_of_its_own_where_they_are_given() -> None:
    workers = ('credentials={"gcsSecret": "writes"}', 'worker.envFrom=[{"secretRef": {"name": "all"}}]')
    spec = pods(*workers)["Deployment"]
    assert spec["volumes"][-1]["secret"] == {"secretName": "writes"}
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "all"}}]
    spec = pods(*workers, 'tensorboard.credentials.s3Secret="reads"', "tensorboard.envFrom=[]")["Deployment"]
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "reads"}}]
    assert "writes" not in json.dumps(spec)


@pytest.mark.parametrize(
    ("sets", "beside"),
    [
        ((), True),
        (('credentials.s3Secret="keys"',), False),
        (('worker.envFrom=[{"secretRef": {"name": "keys"}}]',), False),
        (('worker.extraEnv=[{"name": "K", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]',), False),
        (('worker.extraEnv=[{"name": "K", "value": "v"}]',), True),
        (('serviceAccount.annotations={"eks.amazonaws.com/role-arn": "a"}',), False),
        (('credentials.s3Secret="keys"', "tensorboard.besideChief=true"), True),
        (("tensorboard.besideChief=false",), False),
        (("tensorboard.besideChief=true", "tensorboard.enabled=false"), False),
    ],
)
def test_tensorboard_beside_the_chief_has_no_credentials_unless_asked(sets: tuple[str, ...], beside: bool) -> None:
    assert ("--tensorboard=true" in worker(*sets)["args"]) == beside
    services = [
        v
        for v in parsed(template(*itertools.chain(*(("--set-json", s) for s in sets))).stdout)
        if v["kind"] == "Service"
    ]
    assert (len(services) == 2) == beside, "a Service that leads nowhere"


@pytest.mark.parametrize(
    ("sets", "image"),
    [
        (('image.tag="1"',), "mnist-train:1"),
        ((f'image.digest="sha256:{"a" * 64}"',), f"mnist-train@sha256:{'a' * 64}"),
        (('image.tag="1"', f'image.digest="sha256:{"a" * 64}"'), f"mnist-train:1@sha256:{'a' * 64}"),
        (('global.imageRegistry="mirror.test/hub"', 'image.tag="1"'), "mirror.test/hub/mnist-train:1"),
    ],
)
def test_images(sets: tuple[str, ...], image: str) -> None:
    for spec in pods(*sets).values():
        assert spec["containers"][0]["image"] == image


@pytest.mark.parametrize("repository", ["a", "r.test:5000/a/b-c.d_e", "REGISTRY/mnist-train", "localhost/x"])
def test_names_of_images(repository: str) -> None:
    assert worker(f'image.repository="{repository}"')["image"] == f"{repository}:0.1.0"


@pytest.mark.parametrize("repository", ["", "a b", "a:1", "r.test/a@sha256", "a/", "/a"])
def test_what_is_no_name_of_an_image(repository: str) -> None:
    done = template("--set-json", f"image.repository={json.dumps(repository)}")
    assert "/image/repository" in done.stderr


def test_processors() -> None:
    for spec in pods('image.arch="arm64"').values():
        assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    for spec in pods('image.arch=""').values():
        assert "nodeSelector" not in spec


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(
    ("resources", "limits"),
    [
        ({}, {"memory": "6Gi"}),
        ({"requests": {"memory": "1500Mi"}}, {"memory": "3000Mi"}),
        ({"requests": {"memory": "1.25Gi"}}, {"memory": "2.5Gi"}),
        ({"requests": {"memory": "4194304Ki"}}, {"memory": "8388608Ki"}),
        ({"requests": {"memory": "512000Mi"}}, {"memory": "1024000Mi"}),
        ({"requests": {"memory": 1073741824}}, {"memory": "2147483648"}),
        ({"requests": {"memory": "2e9"}}, {"memory": "4000000000"}),
        ({"limits": {"memory": "4Gi"}}, {"memory": "4Gi"}),
        ({"limits": {"memory": "", "cpu": 2}}, {"cpu": 2}),
        ({"limits": {"memory": ""}}, None),
        ({"requests": {"memory": None}}, None),
    ],
)
def test_memory_has_a_limit(resources: Json, limits: Json | None, helm: str) -> None:
    given = worker_of(helm, "worker.gpus=0", f"worker.resources={json.dumps(resources)}")["resources"]
    assert given.get("limits") == limits
    assert given["requests"]["ephemeral-storage"] == "1Gi"


def worker_of(helm: str, *sets: str) -> Json:
    container: Json = objects(*sets, helm=helm)["Job"]["spec"]["template"]["spec"]["containers"][0]
    return container


def test_every_container_has_a_limit_of_memory_and_asks_for_disk() -> None:
    for spec in pods('test.resources={"limits": {"cpu": "1"}}').values():
        resources = spec["containers"][0]["resources"]
        assert "memory" in resources["limits"]
        assert "ephemeral-storage" in resources["requests"]
    assert pods('test.resources={"limits": {"cpu": "1"}}')["Pod"]["containers"][0]["resources"]["limits"]["cpu"] == "1"


@pytest.mark.parametrize("helm", HELMS)
def test_two_aliases_in_one_chart_do_not_collide(helm: str, tmp_path: pathlib.Path) -> None:
    shutil.copytree(CHART, tmp_path / "charts" / "mnist-train")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    dependencies = [{"name": "mnist-train", "version": version, "alias": alias} for alias in ("first", "second")]
    (tmp_path / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "both", "version": "1.0.0", "dependencies": dependencies})
    )
    values = {
        "global": {"imageRegistry": "mirror.test"},
        "first": {"output": "gs://b", "podSecurityContext": {"fsGroup": ""}},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    for release in ("vision", "v" * 53):
        done = subprocess.run([helm, "template", release, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made = parsed(done.stdout)
        names = [(value["kind"], value["metadata"]["name"]) for value in made]
        assert len(set(names)) == len(names), names
        assert all(len(name) <= 63 for _, name in names)
        selectors = [json.dumps(v["spec"]["selector"], sort_keys=True) for v in made if v["kind"] == "Service"]
        assert len(set(selectors)) == 4
        jobs = [value for value in made if value["kind"] == "Job"]
        assert all("mirror.test/mnist-train:" in json.dumps(value) for value in jobs)
        assert sorted("fsGroup" in v["spec"]["template"]["spec"]["securityContext"] for v in jobs) == [False, True]
    made = parsed(subprocess.run([helm, "template", "v", str(tmp_path)], capture_output=True, text=True).stdout)
    assert {"v-first", "v-second"} <= {value["metadata"]["name"] for value in made if value["kind"] == "Service"}


def test_names_can_be_given() -> None:
    rendered = objects('fullnameOverride="vision"', 'nameOverride="seer"')
    assert rendered["Job"]["metadata"]["name"].startswith("vision-")
    assert rendered["Job"]["metadata"]["labels"]["app.kubernetes.io/name"] == "seer"
    assert rendered["Job"]["spec"]["template"]["spec"]["subdomain"] == "vision"
    assert rendered["Pod"]["metadata"]["name"] == "vision-test"
    assert template("--set", "fullnameOverride=Vision").returncode


def test_a_version_may_have_a_plus(tmp_path: pathlib.Path) -> None:
    shutil.copytree(CHART, tmp_path / "helm")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text()) | {"version": "1.0.0+abc", "appVersion": "2.0+def"}
    (tmp_path / "helm" / "Chart.yaml").write_text(yaml.safe_dump(chart))
    done = subprocess.run(["helm", "template", "x", str(tmp_path / "helm")], capture_output=True, text=True)
    labels = parsed(done.stdout)[0]["metadata"]["labels"]
    assert (labels["helm.sh/chart"], labels["app.kubernetes.io/version"]) == ("mnist-train-1.0.0_abc", "2.0_def")


def test_who_may_reach_what() -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    more = {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 6006}]}
    policy = objects(
        f"networkPolicy.metricsFrom=[{json.dumps(monitoring)}]", f"networkPolicy.extraIngress=[{json.dumps(more)}]"
    )["NetworkPolicy"]["spec"]
    assert policy["ingress"][-2:] == [{"from": [monitoring], "ports": [{"port": 8080}]}, more]
    assert (policy["policyTypes"], "egress" in policy) == (["Ingress"], False)


def test_egress_is_open_to_each_other_and_dns() -> None:
    for given, extra in (("[]", []), ('[{"ports": [{"port": 443}]}]', [{"ports": [{"port": 443}]}])):
        policy = objects(f"networkPolicy.egress={given}")["NetworkPolicy"]["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        own, dns, *rest = policy["egress"]
        assert own == {"to": [{"podSelector": policy["podSelector"]}]}
        assert dns == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
        assert rest == extra


def test_prometheus_finds_the_workers() -> None:
    spec = objects("podMonitor.enabled=true", 'podMonitor.labels={"release": "p"}')["PodMonitor"]["spec"]
    labels = job()["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = spec["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in worker()["ports"]}
    assert (ports[endpoint["port"]], endpoint["path"]) == (8080, "/metrics")
    assert "PodMonitor" not in objects()


def test_ways_to_tensorboard() -> None:
    rendered = objects(
        OUTPUT, 'tensorboard.ingress={"enabled": true, "host": "b.test", "className": "nginx"}',
        'tensorboard.httpRoute={"enabled": true, "parentRefs": [{"name": "edge"}], "hostnames": ["b.test"]}',
    )  # fmt: skip
    (rule,) = rendered["Ingress"]["spec"]["rules"]
    assert rule["host"] == "b.test"
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": "mnist-train-tensorboard",
        "port": {"number": 6006},
    }
    (rule,) = rendered["HTTPRoute"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "mnist-train-tensorboard", "port": 6006}]
    assert not {"Ingress", "HTTPRoute"} & set(objects(OUTPUT))
    done = template("--set", "tensorboard.ingress.enabled=true,tensorboard.enabled=false")
    assert "tensorboard.ingress.enabled is true, and there is no TensorBoard" in done.stderr


def test_a_gang_is_scheduled_together_or_not_at_all() -> None:
    newest = ("--kube-version", "v1.37.0")
    done = template("--set", "job.gang=true,workers=3", *newest)
    (made,) = [value for value in parsed(done.stdout) if value["kind"] == "Job"]
    assert made["spec"]["scheduling"] == {"schedulingPolicy": {"gang": {"minCount": 3}}}
    command = ["kubeconform", "-strict", "-schema-location", str(SCHEMAS / "v1.37.json"), "-"]
    checked = subprocess.run(command, input=done.stdout, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    elastic = template("--set", "job.gang=true,worker.minWorkers=2", *newest).stdout
    (made,) = [value for value in parsed(elastic) if value["kind"] == "Job"]
    assert made["spec"]["scheduling"]["schedulingPolicy"]["gang"]["minCount"] == 2
    assert "scheduling" not in job()["spec"]
    older = template("--set", "job.gang=true", "--kube-version", "v1.36.3")
    assert "job.gang is true, and Kubernetes v1.36.3 cannot schedule a Job's pods together" in older.stderr


@pytest.mark.parametrize("policy", ["SingleStack", "PreferDualStack", "RequireDualStack"])
def test_families_of_addresses(policy: str) -> None:
    services = [v for v in parsed(template("--set", f"ipFamilyPolicy={policy}").stdout) if v["kind"] == "Service"]
    assert [service["spec"]["ipFamilyPolicy"] for service in services] == [policy, policy]
    assert template("--set", "ipFamilyPolicy=DualStack").returncode


def test_extra_objects() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: '{{ .Release.Name }}-more'}\n"
    given = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-map"}}, text]
    made = parsed(template("--set-json", f"extraObjects={json.dumps(given)}").stdout)
    assert {"mnist-train-map", "mnist-train-more"} <= {value["metadata"]["name"] for value in made}


def test_code_that_was_sent_is_there_before_the_agent(tmp_path: pathlib.Path) -> None:
    """In one process, which SIGTERM reaches: process 1 of the container is no shell that waits."""
    spec = pod('code="mine-code-0123"')
    (container,) = spec["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes[mounts["/var/run/code"]]["configMap"] == {"name": "mine-code-0123"}
    assert volumes[mounts["/code"]]["emptyDir"] == {}
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$$|$*"\nexit 7\n')
    python.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_NAME": "job", "JOB_UID": "0123456789"}
    command = [*container["command"], "--a b", "--"]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    run, program = "/runs/job-01234567", "-m trainer.agent.shipped_code"
    told, _ = process.communicate()
    assert told == f"{process.pid}|{program} {run} /var/run/code/code.tar.gz /code --a b -- --run_dir={run}\n"
    assert process.returncode == 7
    assert "code" not in {volume["name"] for volume in pod()["volumes"]}
    assert job('code="a"')["metadata"]["name"] != job('code="b"')["metadata"]["name"]


def test_code_in_the_output_is_fetched_from_there() -> None:
    code = f"sha256:{'a1' * 32}"
    spec = pod(f'code="{code}"', 'output="s3://b/runs/"')
    (container,) = spec["containers"]
    assert container["command"][-2:] == [f"s3://b/runs/{sent_code_key('a1' * 32)}", "/code"]
    assert {"sent", "code"} & {volume["name"] for volume in spec["volumes"]} == {"code"}
    assert {"sent", "code"} & {mount["name"] for mount in container["volumeMounts"]} == {"code"}
    for output in ("", "pvc:runs"):
        done = template("--set", f"code={code},output={output}")
        assert f'code is {code}, which pods fetch from the output, and output is "{output}"' in done.stderr
    for bad in ("sha256:a1", "sha256:" + "A1" * 32, "Mine", "sha512:" + "a1" * 32):
        assert template("--set", f"code={bad},output=s3://b").returncode, bad


def test_code_has_time_to_be_installed_before_the_pod_is_taken_for_stuck() -> None:
    probe = worker('code="mine-code-0123"')["startupProbe"]
    least = sent_code.FETCH_SECONDS + shipped_code.INSTALL_SECONDS + 60
    assert probe["periodSeconds"] * probe["failureThreshold"] >= least
    assert worker()["startupProbe"]["failureThreshold"] == 60
