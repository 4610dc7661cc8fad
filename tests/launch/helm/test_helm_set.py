r"""The grammar of --set: ours against what helm 3 and 4 make of the same text."""

import json
import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json
from trainer.launch.helm.helm_set import parse
from trainer.launch.helm.release import HelmRelease

TAKEN: dict[str, Any] = {
    "": {},
    "a=1": {"a": 1},
    "a=1,": {"a": 1},
    "a.b=2,c=3": {"a": {"b": 2}, "c": 3},
    "a.b=1,a.c=2": {"a": {"b": 1, "c": 2}},
    "a.b=1,a=2": {"a": 2},
    r"a=x\,y": {"a": "x,y"},
    r"a\.b=1": {"a.b": 1},
    r"nodes.sel\.k8s\.io/x=1": {"nodes": {"sel.k8s.io/x": 1}},
    r"a\=b=1": {"a=b": 1},
    r"a=x\\": {"a": "x\\"},
    r"a=b\c": {"a": "bc"},
    "a=b\\": {"a": "b"},
    "a=b=c": {"a": "b=c"},
    "a= x ": {"a": " x "},
    "a=": {"a": ""},
    "a=,b=2": {"a": "", "b": 2},
    "a=[1]": {"a": "[1]"},
    "a=x{y,z=1}": {"a": "x{y", "z": "1}"},
    "a={1,2},b=3": {"a": [1, 2], "b": 3},
    "a={1}b=3": {"a": [1], "b": 3},
    "a={}": {"a": [""]},
    r"a={x\,y,z\}}": {"a": ["x,y", "z}"]},
    "a={null,true,07}": {"a": [None, True, "07"]},
    "a[0].b=1": {"a": [{"b": 1}]},
    "a[1].b=1,a[1].c=2": {"a": [None, {"b": 1, "c": 2}]},
    "a[0][1]=x": {"a": [[None, "x"]]},
    "a={1,2},a[0]=5": {"a": [5, 2]},
    "a=NULL,b=True,c=false": {"a": None, "b": True, "c": False},
    "a=0,b=007,c=-5,d=+5,e=-0": {"a": 0, "b": "007", "c": -5, "d": 5, "e": 0},
    "a=1.5,b=99999999999999999999,c=1_0": {"a": "1.5", "b": "99999999999999999999", "c": "1_0"},
}
REFUSED = (
    "a",
    "a.b",
    "a,b=1",
    "a.=1",
    "a..b=1",
    "a=1,,b=2",
    "a={1",
    "a[x]=1",
    "a[-1]=1",
    "a[]=1",
    "a[0]x=1",
    "a[99999]=1",
    "a[0],b=1",
    "a=1,a.b=2",
    "a=1,a[0]=2",
)


@pytest.mark.parametrize("text", TAKEN)
def test_what_helm_takes(text: str) -> None:
    assert parse(text) == TAKEN[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_helm_refuses_is_named(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert str(error.value).startswith(f"--set={text} is not of the form key=value: ")


@pytest.mark.chart
@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_helm_takes_and_refuses_the_same(helm: str, tmp_path: pathlib.Path) -> None:
    assert shutil.which(helm), f"{helm} is not on PATH; `make test-chart` builds it"
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: values\nversion: 0.1.0\n")
    (tmp_path / "templates/values.yaml").write_text("values: {{ .Values | toJson | quote }}\n")

    def values(text: str) -> Any:
        command = [helm, "template", "release", str(tmp_path), "--set", text]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None
        found = json.loads(yaml.safe_load(done.stdout)["values"])
        return {key: value for key, value in found.items() if key != "global"}

    assert {text: values(text) for text in TAKEN} == TAKEN
    assert {text: values(text) for text in REFUSED} == dict.fromkeys(REFUSED)


OVER_A_FILE = (
    ("a.b=2",),
    ("a.b=null",),
    ("a=null",),
    ("l[0]=x",),
    ("l[3]=x",),
    ("m[1].k=2,m[1].p=3",),
    ("m[0].k=null", "m[0].q=1"),
    ("new.er={1,2}", "new.er[1]=3"),
    ("a.b=2", "a=null"),
    ("flag=set", "given.twice=1"),
    ("a.chart=2,c.d=5", r"a.x\.y=z\,w"),
)


@pytest.mark.chart
@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.parametrize("sets", OVER_A_FILE, ids=" ".join)
def test_what_travels_on_standard_input_makes_the_same_values(
    helm: str, sets: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    """As helm's own --set makes over the chart's values, a file and the launcher's flags."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: values\nversion: 0.1.0\n")
    (tmp_path / "values.yaml").write_text("a: {chart: 1, b: 0}\nl: [9]\nm: []\nc: {d: 1, e: 2}\n")
    (tmp_path / "templates/values.yaml").write_text("values: {{ .Values | toJson | quote }}\n")
    file = tmp_path / "mine.yaml"
    file.write_text("a: {b: 1}\nl: [1, 2]\nm: [{k: 1}, {o: 2}]\ngiven: {twice: 0, once: 1}\n")
    flags: Json = {"flag": "given", "given": {"twice": 2}}
    release = HelmRelease(
        helm=helm, name="release", namespace="", context="", chart=str(tmp_path), files=(str(file),), flag_values=flags,
        sets=sets,
    )  # fmt: skip
    command = [helm, "template", "release", str(tmp_path), "--values", str(file), "--values", "-"]
    command += [argument for text in sets for argument in ("--set", text)]
    theirs = subprocess.run(command, input=json.dumps(flags), capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(release.render()) == yaml.safe_load(theirs)
