"""TensorBoard's page for profiles, of a real one: what it shows, and that it can do nothing beside showing it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import needs_chromium, page
from tests.support.object_stores import Server, s3_first
from tests.support.paths import ROOT
from tests.support.tensorboard_client import ProfilePage, tensorboard, wait_for_page
from tests.support.training_processes import Training
from tests.support.waiting import until
from trainer.board.profile_page import Shelf
from trainer.core.free_ports import free_ports


@pytest.fixture(scope="module")
def logs(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was profiled."""
    folder = tmp_path_factory.mktemp("logs")
    training = Training([f"--data_dir={small_mnist}", "--threads=1", f"--run_dir={folder / 'run'}"])
    training.run("--epochs=1", "--global_batch_size=64", "--profile_steps=3:8")
    training.close()
    return folder


@pytest.fixture(scope="module")
def time_of_profile(logs: Path) -> str:
    (folder,) = logs.glob("run/train/plugins/profile/*")
    return folder.name


@pytest.fixture(scope="module")
def name(time_of_profile: str) -> str:
    """The name of the profile, as the page has it."""
    return f"run/train/{time_of_profile}"


@pytest.fixture(scope="module")
def board(logs: Path) -> Iterator[ProfilePage]:
    (port,) = free_ports(1)
    with tensorboard(logs, port, fast=False):
        wait_for_page(port)
        yield ProfilePage(port)


def test_it_shows_what_was_profiled(board: ProfilePage, name: str, logs: Path) -> None:
    until(30, "the page in TensorBoard's list", board.is_active)
    before = sorted(logs.rglob("*"))
    assert board.json("/runs") == [name]
    assert {"overview_page", "trace_viewer@", "framework_op_stats"} <= set(board.json("/run_tools", run=name))
    (host,) = board.json("/hosts", run=name, tag="overview_page")
    overview = board.json("/data", run=name, tag="overview_page", host=host["hostname"])
    assert any(table["p"].get("device_type") == "CPU" for table in overview if "p" in table)
    trace = board.get("/data", run=name, tag="trace_viewer@", host=host["hostname"])[1]
    assert "ResourceApplyAdam" in trace
    assert board.get("/data_csv", run=name, tag="framework_op_stats", host=host["hostname"])[0] == 200
    assert sorted(logs.rglob("*")) == before  # Its caches lie elsewhere.


def test_what_it_could_do_beside_showing_is_not_there(board: ProfilePage) -> None:
    for method in ("GET", "POST"):
        for path in ("/capture_profile", "/generate_cache", "/local"):
            status, _ = board.get(path, method=method, service_addr="127.0.0.1:1", session_path="/tmp", duration="1")
            assert status == 404
    assert board.json("/config")["hideCaptureProfileButton"] is True


def test_no_request_names_a_path(
    board: ProfilePage, name: str, logs: Path, tmp_path: Path, time_of_profile: str
) -> None:
    """Not even that of a profile, beside the logs or among them."""
    elsewhere = tmp_path / "plugins" / "profile" / "elsewhere"
    shutil.copytree(logs / "run/train/plugins/profile" / time_of_profile, elsewhere)
    for path in ("/runs", "/run_tools", "/hosts", "/data", "/data_csv", "/module_list"):
        for parameter in ("session_path", "run_path"):
            for value in (str(elsewhere), str(logs / "run"), "gs://bucket/x", ""):
                query = {"run": "elsewhere", "tag": "overview_page", parameter: value}
                assert board.get(path, **query)[0] == 400, (path, query)
        if path != "/runs":
            up = os.path.relpath(tmp_path, logs)
            for run in ("", "elsewhere", f"{tmp_path}/elsewhere", f"{up}/elsewhere", f"run/../{name}", f"/{name}"):
                assert board.get(path, run=run, tag="overview_page")[0] == 404, (path, run)
    assert sorted(elsewhere.iterdir()) == [next(elsewhere.glob("*.xplane.pb"))]  # No cache was written beside it.
    for parameter in ("host", "hosts", "module_name", "program_id", "memory_space", "device_type"):
        for value in ("../x", "/etc/passwd", "..\\x", "x\0"):
            status, _ = board.get("/data", run=name, tag="memory_viewer", **{parameter: value})
            assert status == 400, (parameter, value)


def test_a_parameter_that_is_given_twice(board: ProfilePage, name: str) -> None:
    """What is checked is what the plugin is given."""
    path = f"/data/plugin/profile/run_tools?run={name}&run=../x"
    status, text = board.ask(path)
    assert (status, "overview_page" in text) == (200, True)
    assert board.ask(f"{path}&session%5Fpath=/tmp")[0] == 400


@needs_chromium
def test_a_browser_shows_it(board: ProfilePage, name: str) -> None:
    text = "(document.querySelector('iframe') || {contentDocument: document}).contentDocument.body.innerText"
    with page(width=1280, height=800) as ask:
        ask("Page.navigate", url=f"http://127.0.0.1:{board.port}/#profile")

        def shown() -> str:
            return str(ask("Runtime.evaluate", expression=text)["result"].get("value", ""))

        until(60, "the overview", lambda: name in shown() and "Device type: CPU" in shown())
        assert "capture profile" not in shown().lower()


def linked(folder: Path) -> dict[str, Path]:
    """The links of a shelf, and where they lead."""
    return {str(path.relative_to(folder)): path.resolve() for path in folder.rglob("*") if path.is_symlink()}


def test_links_are_of_the_profiles_below_the_logs_alone(tmp_path: Path) -> None:
    logs, secret = tmp_path / "logs", tmp_path / "secret"
    secret.mkdir()
    (secret / "host.xplane.pb").write_bytes(b"of another run")
    for place in ("plugins/profile/one", "a/b/plugins/profile/two", "a/plugins/other/three", "a/profile/four"):
        (logs / place).mkdir(parents=True)
        (logs / place / "host.xplane.pb").write_bytes(b"events")
    one = logs / "plugins/profile/one"
    (one / "link.xplane.pb").symlink_to(secret / "host.xplane.pb")
    os.mkfifo(one / "pipe.xplane.pb")
    (one / ".cached_tools.json").write_text("{}")
    (one / "ALL_HOSTS.op_stats.pb").write_text("a cache that somebody else has made")
    (logs / "plugins/profile/five").symlink_to(secret)
    (logs / "elsewhere").symlink_to(tmp_path / "secret")
    shelf = Shelf(logs)
    assert not shelf.is_empty()
    assert shelf.runs(anew=False) == set()
    assert shelf.runs(anew=True) == {"one", "a/b/two"}
    assert linked(shelf.folder) == {
        "plugins/profile/one/host.xplane.pb": one / "host.xplane.pb",
        "a/b/plugins/profile/two/host.xplane.pb": logs / "a/b/plugins/profile/two/host.xplane.pb",
    }


def test_a_profile_that_is_written_anew_has_no_old_caches(tmp_path: Path) -> None:
    place = tmp_path / "plugins" / "profile" / "one"
    place.mkdir(parents=True)
    shelf = Shelf(tmp_path)
    assert shelf.is_empty()
    (place / "host.xplane.pb").write_bytes(b"events")
    assert shelf.runs(anew=True) == {"one"}
    cache = shelf.folder / "plugins" / "profile" / "one" / "cache_version.txt"
    cache.write_text("2")
    assert shelf.runs(anew=True) == {"one"}
    assert cache.exists()
    (place / "host.xplane.pb").write_bytes(b"other events")
    assert shelf.runs(anew=True) == {"one"}
    assert not cache.exists()
    shutil.rmtree(place)
    assert shelf.runs(anew=True) == set()
    assert linked(shelf.folder) == {}


def test_tensorboard_without_the_plugin(logs: Path) -> None:
    """It is an extra. TensorBoard says what to install, as it does by itself."""
    without = (
        "import sys; sys.modules['xprof'] = None; sys.modules['tensorboard_plugin_profile'] = None\n"
        "import importlib.util, tensorboard.default as default\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'xprof' else find(name, *rest)\n"
        "default.get_plugins = default.get_static_plugins\n"
        "from trainer.board.__main__ import main; main()"
    )
    (port,) = free_ports(1)
    command = [sys.executable, "-c", without, "--logdir", str(logs), "--port", str(port), "--load_fast=false"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_page(port)
            listed = ProfilePage(port).listed()
        finally:
            process.kill()
    assert "profile" not in listed
    assert "profile_redirect" in listed
    assert "scalars" in listed


@s3_first
@pytest.mark.servers
def test_a_profile_in_a_bucket(
    server: Server, run: str, logs: Path, time_of_profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in server.environ().items():
        monkeypatch.setenv(variable, value)
    store = server.store(run)
    for path in [*logs.rglob("*.xplane.pb"), *logs.rglob("*.tfevents.*")]:
        store.create(str(path.relative_to(logs)), path.read_bytes())
    (port,) = free_ports(1)
    with tensorboard(store.url, port, fast=False):
        wait_for_page(port)
        board, name = ProfilePage(port), f"run/train/{time_of_profile}"
        until(60, "the profile", lambda: board.json("/runs") == [name])
        overview = board.json("/data", run=name, tag="overview_page")
        assert any(table["p"].get("device_type") == "CPU" for table in overview if "p" in table)
        until(60, "the page in TensorBoard's list", board.is_active)
        later = run_of_another_day(time_of_profile)
        (path,) = logs.rglob("*.xplane.pb")
        store.create(f"run/train/plugins/profile/{later}/{path.name}", path.read_bytes())
        until(60, "another profile", lambda: f"run/train/{later}" in board.json("/runs"))
        assert board.get("/runs", session_path=store.url)[0] == 400


def run_of_another_day(name: str) -> str:
    return name.replace(name[:4], str(int(name[:4]) + 1), 1)
