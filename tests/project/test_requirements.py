"""The requirements of the images, without asking the package index: `make requirements` does."""

import importlib.metadata
import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT
from tools.locked_requirements import IMAGES, PROCESSORS, constraints, direct, written
from tools.release import base_of
from trainer.core import installing

LINE = re.compile(r"([\w.-]+)==([\w.+!]+) --hash=sha256:[0-9a-f]{64}")
DOCKERFILE = (ROOT / "Dockerfile").read_text()

each_image = pytest.mark.parametrize(("accelerator", "processor"), IMAGES)


def pins(accelerator: str, processor: str = "amd64") -> dict[str, str]:
    """The version of each package, by its canonical name."""
    found: dict[str, str] = {}
    for line in written(accelerator, processor).read_text().splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            found[canonicalize_name(match[1])] = match[2]
    return found


@each_image
def test_what_pyproject_asks_for_is_there(accelerator: str, processor: str) -> None:
    pinned = pins(accelerator, processor)
    for text in direct(accelerator):
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"platform_machine": PROCESSORS[processor]}):
            continue
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


@each_image
def test_versions_are_those_that_the_tests_run(accelerator: str, processor: str) -> None:
    lines = constraints(accelerator).read_text().split()
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    pinned = pins(accelerator, processor)
    assert {name: version for name, version in pinned.items() if name in tested} == {
        name: version for name, version in tested.items() if name in pinned
    }
    untested = {name for name in pinned if name not in tested}
    assert all(name.startswith("nvidia-") for name in untested - {"wheel"}), untested


def test_all_that_these_need_is_there_and_nothing_else() -> None:
    """As the packages of this environment, which has the same versions, say of themselves."""
    needed: set[str] = set()
    wanted = [each for text in direct("cpu") if (each := Requirement(text)).marker is None or each.marker.evaluate()]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in needed and not requirement.extras:
            continue
        needed.add(name)
        for text in importlib.metadata.requires(name) or ():
            inner = Requirement(text)
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}
            ):
                wanted.append(inner)
    assert set(pins("cpu")) == needed


@pytest.mark.parametrize("accelerator", ["cpu", "cpu-current"])
def test_both_processors_have_the_same_packages_in_the_same_versions(accelerator: str) -> None:
    """But that TensorFlow for CPUs is called tensorflow on arm64."""
    amd64, arm64 = pins(accelerator), pins(accelerator, "arm64")
    amd64["tensorflow"] = amd64.pop("tensorflow-cpu")
    assert amd64 == arm64


def test_the_image_installs_these_alone() -> None:
    installs = re.findall(r"pip install (.*?)(?: \\)?\n", DOCKERFILE)
    assert len(installs) == 2
    locked, own = installs
    assert "--require-hashes" in locked
    assert "--only-binary=:all:" in locked
    assert "--no-deps" in locked
    assert " && pip check " in DOCKERFILE
    assert "--no-deps --no-build-isolation" in own  # Which asks no index.
    assert "COPY requirements/${ACCELERATOR}${LINE}-${TARGETARCH}.txt " in DOCKERFILE


def test_a_release_says_whether_its_base_is_only_a_tag(capsys: pytest.CaptureFixture[str]) -> None:
    (own,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    digest = "sha256:" + "0" * 64
    for given, base in (
        ("", own),
        ("mine:1", "mine:1"),
        (f"mine:1@{digest}", f"mine:1@{digest}"),
        ("mine:1@sha256:0", "mine:1@sha256:0"),
    ):
        assert base_of(ROOT, given) == base
        said = capsys.readouterr().out
        if re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", base):
            assert said == ""
        else:
            assert said.startswith(f"note: the images' base {base} is only a tag, which its registry may move; BASE=")
            assert len(said.splitlines()) == 1


@pytest.mark.parametrize("extra", ["train", "cpu", "gpu"])
def test_the_classic_line_is_of_both_versions_that_tensorflow_io_fits(extra: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = [each for each in map(Requirement, extras[extra]) if each.name in ("tensorflow", "tensorflow-cpu")]
    assert found
    for requirement in found:
        fits = [
            version for version in ("2.16.1", "2.16.2", "2.17.1", "2.18.1") if requirement.specifier.contains(version)
        ]
        assert fits == ["2.16.2", "2.17.1"]


def test_nobody_is_told_to_install_this_package_by_its_name() -> None:
    """The package index has somebody else's under it."""
    texts = [path.read_text() for path in (ROOT / "trainer").rglob("*.py") if path.name != "installing.py"]
    texts += [path.read_text() for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md")]
    for text in texts:
        assert not re.search(r"pip install (-U )?['\"]?trainer\b(?!-)", text), text[:80]


def test_packages_of_extras_that_messages_and_documents_name() -> None:
    """`pip install 'pyarrow<26'` has the bound that pyproject.toml has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ranges = {each.name: each.specifier for extra in extras.values() for each in map(Requirement, extra)}
    named = [
        found
        for path in (ROOT / "docs").glob("*.md")
        for found in re.findall(r"'([a-z-]+)(<[\d.]+)'", path.read_text())
    ]
    assert {name for name, _ in named} == {"array-record", "pillow", "pyarrow", "wandb"}
    for name, bound in named:
        assert bound in {str(each) for each in ranges[name]}
        command = installing.package(name)
        assert command.startswith(f"pip install '{name}")
        assert bound in command


def test_updates_keep_to_what_holds_versions_back() -> None:
    """What pyproject.toml bounds from above, .github/renovate.json does not raise."""
    settings = json.loads((ROOT / ".github" / "renovate.json").read_text())
    assert (ROOT / "constraints.txt").exists()
    held: set[str] = set()
    for rule in settings["packageRules"]:
        if rule.get("enabled") is False or "allowedVersions" in rule:
            held.update(rule["matchPackageNames"])
    for name in ("tensorflow-io", "tensorflow", "tensorflow-cpu", "numpy", "setuptools", "protobuf", "pyarrow"):
        assert name in held
    assert "docker:pinDigests" in settings["extends"]  # The Dockerfile's base, where the registry can be asked.
    assert "requirements/**" in settings["ignorePaths"]  # `make requirements` writes them.


def test_updates_know_the_programs_that_are_built_apart() -> None:
    settings = json.loads((ROOT / ".github" / "renovate.json").read_text())
    (manager,) = settings["customManagers"]
    (pattern,) = manager["matchStrings"]
    build = (ROOT / "tests" / "tools" / "build").read_text()
    assert re.fullmatch(manager["managerFilePatterns"][0].strip("/"), "tests/tools/build")
    found = dict(re.findall(pattern.replace("?<", "?P<"), build))
    assert found["github.com/sigstore/cosign/v3"].startswith("v3.")
    assert len(found) == len(re.findall(r"^  \[.*@v", build, re.MULTILINE))
