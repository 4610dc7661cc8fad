"""Makes a release of HEAD and pushes it to a registry: `make release REGISTRY=HOST/PATH KEY=cosign.key`.

Wheel and source distribution, the images, the chart, in this order: who finds the chart finds all that it names. Images
and chart get a list of what is in them (SPDX, by syft) and a signature (cosign), both of which lie beside them in the
registry; then everything is verified as a user does. What is not committed is in none of it.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence

from tools.locked_requirements import ACCELERATORS
from trainer.launch.helm.pulled_chart import THIS_MACHINE

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = ("git", "helm", "cosign", "syft")
# Gigabytes that building, pushing and listing an image takes meanwhile: several times its size.
NEEDED = {"cpu": 8, "gpu": 30}
# No service: neither a certificate of an identity nor an entry in a public log; the key is what is trusted.
_TYPE = "application/vnd.dev.sigstore"
OFFLINE = {
    "signing-config": {"mediaType": f"{_TYPE}.signingconfig.v0.2+json", "rekorTlogConfig": {}, "tsaConfig": {}},
    "trusted-root": {"mediaType": f"{_TYPE}.trustedroot+json;version=0.1"},
}


class ReleaseError(Exception):
    """What ends it, in one line."""


def run(*command: str | pathlib.Path, **environ: str) -> str:
    """Runs a program; returns what it prints, on either stream: helm 3 and 4 choose different ones."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()][-3:]
        raise ReleaseError(f"{' '.join(map(str, command[:3]))} ended with {done.returncode}: {' / '.join(said)}")
    return done.stdout


class Registry:
    """Where to push, and how each program is told that it has no certificate."""

    def __init__(self, address: str) -> None:
        """`address`: HOST[:PORT]/PATH."""
        self.address = address
        here = THIS_MACHINE.fullmatch(address.partition("/")[0]) is not None
        self.helm = ["--plain-http"] * here
        self.cosign = ["--allow-http-registry"] * here
        self.buildah = [f"--tls-verify={str(not here).lower()}"]
        self.syft = {"SYFT_REGISTRY_INSECURE_USE_HTTP": str(here).lower(), "SYFT_CHECK_FOR_APP_UPDATE": "false"}


class Signer:
    """Signs what lies in a registry, and verifies it."""

    def __init__(self, registry: Registry, key: str, folder: pathlib.Path) -> None:
        """`key`: the private one, a file or what cosign takes in its place; `folder`: for what is written meanwhile."""
        self._registry, self._key, self._offline = registry, key, []
        self.public = folder / "cosign.pub"
        run("cosign", "public-key", f"--key={key}", f"--outfile={self.public}")
        for name, value in OFFLINE.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
            self._offline.append(f"--{name}={folder / name}.json")

    def unsigned(self, reference: str) -> bool:
        """Whether nobody has signed it: a release was broken off there."""
        check = (f"--key={self.public}", "--insecure-ignore-tlog", *self._registry.cosign)
        return subprocess.run(["cosign", "verify", *check, reference], capture_output=True).returncode == 10

    def sign(self, reference: str, sbom: pathlib.Path) -> None:
        """Signs what the reference names by its digest, and the list of what is in it."""
        common = ("--yes", f"--key={self._key}", *self._offline, *self._registry.cosign)
        run("cosign", "sign", *common, reference)
        run("cosign", "attest", *common, "--type=spdxjson", f"--predicate={sbom}", reference)
        check = (f"--key={self.public}", "--insecure-ignore-tlog", *self._registry.cosign)
        run("cosign", "verify", *check, reference)
        run("cosign", "verify-attestation", *check, "--type=spdxjson", reference)


def image_tag(version: str, kind: str) -> str:
    """The tag of an image: 1.2.3, 1.2.3-current, 1.2.3-gpu, 1.2.3-gpu-current."""
    return version + f"-{kind}".removeprefix("-cpu")


def images_that_fit(asked: str) -> list[str]:
    """Which images to build.

    Args:
      asked: their names, or "": those for which this machine has the disk; it says which it leaves out.

    Raises:
      ReleaseError: there is no such image, or no disk for one that was asked for.
    """
    chosen = asked.replace(",", " ").split() if asked != "none" else []
    if unknown := sorted(set(chosen) - set(ACCELERATORS)):
        raise ReleaseError(f"IMAGES={asked}: {unknown[0]} is none of {', '.join(ACCELERATORS)}; none builds no image")
    if asked == "none":
        return []
    if os.geteuid() or not shutil.which("buildah"):
        raise ReleaseError("images are built by root with buildah; IMAGES=none makes a release without them")
    folder = str(json.loads(run("buildah", "info"))["store"]["GraphRoot"])
    free = shutil.disk_usage(folder).free / 1e9
    fit = []
    for kind in sorted(chosen or ACCELERATORS):  # The small ones first.
        needed = NEEDED[kind[:3]]
        if needed <= free:
            fit.append(kind)
            free -= needed
            continue
        why = f"the image {kind} needs about {needed} GB of disk in {folder}, which has {free:.0f} GB left"
        if chosen:
            raise ReleaseError(f"{why}; make room, or leave it out of IMAGES={asked}")
        print(f"left out: {why}; IMAGES={kind} asks for it", flush=True)
    return fit


def base_of(source: pathlib.Path, given: str) -> str:
    """The images' base; says so where it is only a tag."""
    base = given or re.findall(r"^ARG BASE=(\S+)$", (source / "Dockerfile").read_text(), re.MULTILINE)[0]
    if not re.search(r"@sha256:[0-9a-f]{64}$", base):
        print(
            f"note: the images' base {base} is only a tag, which its registry may move; "
            "BASE=NAME@sha256:... names one by its digest (docker buildx imagetools inspect NAME)",
            flush=True,
        )
    return base


def version_of(source: pathlib.Path) -> str:
    """The version that package, chart and image agree on."""
    (package,) = re.findall(r'^__version__ = "(.+)"$', (source / "trainer" / "__init__.py").read_text(), re.MULTILINE)
    chart = (source / "helm" / "Chart.yaml").read_text()
    versions = {package, *re.findall(r'^(?:version|appVersion): "?([^"\s]+)"?$', chart, re.MULTILINE)}
    if len(versions) != 1:
        raise ReleaseError(
            f"trainer/__init__.py and helm/Chart.yaml have several versions: {', '.join(sorted(versions))}"
        )
    return str(package)


def committed(folder: pathlib.Path) -> pathlib.Path:
    """Writes HEAD's files."""
    run("git", "archive", "--format=tar", f"--output={folder}/source.tar", "HEAD")
    with tarfile.open(folder / "source.tar") as files:
        files.extractall(folder / "source", filter="data")
    return folder / "source"


def packages(source: pathlib.Path, to: pathlib.Path) -> None:
    """Writes the wheel and the source distribution."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--no-build-isolation", f"--wheel-dir={to}", source)
    setup = "import os, runpy, sys; os.chdir(sys.argv.pop(1)); runpy.run_path('setup.py')"
    run(sys.executable, "-c", setup, source, "--quiet", "sdist", f"--dist-dir={to}")


def build(name: str, kind: str, source: pathlib.Path, base: str, version: str) -> None:
    """Builds an image of these files."""
    accelerator, _, line = kind.partition("-")
    of_commit = {"REVISION": run("git", "rev-parse", "HEAD"), "CREATED": run("git", "show", "-s", "--format=%cI")}
    environ = {"ACCELERATOR": accelerator, "TENSORFLOW": line or "classic", "BASE": base, "VERSION": version}
    run(source / "tools" / "image", name, **environ, **{key: value.strip() for key, value in of_commit.items()})


def push_image(name: str, to: pathlib.Path, signer: Signer, at: Registry) -> str:
    """Pushes an image that buildah has, lists what is in it and signs both; returns its name with its digest."""
    with tempfile.NamedTemporaryFile("r") as file:
        run("buildah", "push", "--quiet", *at.buildah, f"--digestfile={file.name}", name, f"docker://{name}")
        pushed = f"{name}@{file.read().strip()}"
    sbom = to / f"{name.rpartition('/')[2].replace(':', '-')}.spdx.json"
    run("syft", "scan", "--quiet", f"registry:{pushed}", f"--output=spdx-json={sbom}", **at.syft)
    signer.sign(pushed, sbom)
    return pushed


def push_chart(source: pathlib.Path, version: str, to: pathlib.Path, signer: Signer, at: Registry) -> str:
    """Packages the chart, which then takes its image from this registry, pushes and signs it; returns its name."""
    values = source / "helm" / "values.yaml"
    ours = f"  repository: {at.address}/mnist-train"
    text, count = re.subn(r"^  repository: mnist-train$", ours, values.read_text(), flags=re.MULTILINE)
    assert count == 1
    values.write_text(text)
    run("helm", "package", source / "helm", "--destination", to)
    sbom = to / f"mnist-train-chart-{version}.spdx.json"
    which = ("--source-name=mnist-train", f"--source-version={version}", f"--output=spdx-json={sbom}")
    # It has no packages, but files, with their checksums.
    files, every = "--override-default-catalogers=file-digest-cataloger", {"SYFT_FILE_METADATA_SELECTION": "all"}
    run("syft", "scan", "--quiet", f"dir:{source / 'helm'}", *which, files, **at.syft, **every)
    check_files(sbom)
    said = run("helm", "push", to / f"mnist-train-{version}.tgz", f"oci://{at.address}/charts", *at.helm)
    (digest,) = re.findall(r"^Digest: (sha256:\w+)$", said, re.MULTILINE)
    pushed = f"{at.address}/charts/mnist-train:{version}@{digest}"
    signer.sign(pushed, sbom)
    return pushed


def check_files(sbom: pathlib.Path) -> None:
    """Refuses a list without files: syft passes over all that lies below some folders."""
    if not json.loads(sbom.read_text()).get("files"):
        folder = tempfile.gettempdir()
        raise ReleaseError(f"syft lists no files that lie in {folder}; name another, not in /dev or /run: TMPDIR=...")


def refuse_a_second(version: str, at: Registry, signer: Signer) -> None:
    """A version that is out is not replaced; and a registry that does not answer is found before all the work."""
    name = f"{at.address}/charts/mnist-train"
    show = ("helm", "show", "chart", f"oci://{name}", "--version", version, *at.helm)
    found = subprocess.run(show, capture_output=True, text=True)
    if "dial tcp" in found.stderr:
        raise ReleaseError(f"REGISTRY={at.address} does not answer: {found.stderr.strip().splitlines()[-1]}")
    if not found.returncode and not signer.unsigned(f"{name}:{version}"):
        raise ReleaseError(f"{name}:{version} is out already; raise the version")


def release(registry: str, key: str, images: str, base: str, to: pathlib.Path) -> None:
    """All of it."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        raise ReleaseError(f"{', '.join(missing)} not found on PATH; `make release` builds helm, cosign and syft")
    if not re.fullmatch(r"[^/\s]+(/[a-z0-9._-]+)+", registry):
        raise ReleaseError(f"REGISTRY={registry}; expected HOST[:PORT]/PATH, such as registry.example.com/team")
    if not key or ("://" not in key and not os.path.isfile(key)):
        raise ReleaseError(f"KEY={key}; expected cosign's private key, which `cosign generate-key-pair` makes")
    if "://" not in key and "COSIGN_PASSWORD" not in os.environ:
        raise ReleaseError(
            "COSIGN_PASSWORD is not set; expected the password of the key in KEY (`read -rs`, then export)"
        )
    at, kinds = Registry(registry), images_that_fit(images)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        source = committed(folder)
        version = version_of(source)
        signer = Signer(at, key, folder)
        refuse_a_second(version, at, signer)
        to = to / version
        shutil.rmtree(to, ignore_errors=True)  # What an earlier try has left.
        to.mkdir(parents=True)
        base = base_of(source, base) if kinds else ""
        packages(source, to)
        pushed = []
        for kind in kinds:
            name = f"{at.address}/mnist-train:{image_tag(version, kind)}"
            build(name, kind, source, base, version)
            pushed.append(push_image(name, to, signer, at))
        pushed.append(push_chart(source, version, to, signer, at))
        shutil.copy(signer.public, to)
    files = sorted(to.iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (to / "SHA256SUMS").write_text("".join(sums))
    for file in files:
        print(f"written: {file}")
    for name in pushed:
        print(f"pushed and signed: {name}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--registry", default="", help="HOST[:PORT]/PATH")
    parser.add_argument(
        "--key", default="", help="cosign's private key: a file, or a key of a service, such as awskms://..."
    )
    parser.add_argument(
        "--images", default="", help=f"of {', '.join(ACCELERATORS)}; none (default: those that fit here)"
    )
    parser.add_argument("--base", default="", help="the images' base (default: the Dockerfile's)")
    parser.add_argument(
        "--to", type=pathlib.Path, default=ROOT / "dist", help="where to write the folder VERSION, made anew"
    )
    given = parser.parse_args(argv)
    try:
        release(given.registry, given.key, given.images, given.base, given.to)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
