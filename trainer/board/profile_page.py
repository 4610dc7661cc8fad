"""TensorBoard's page for profiles: its plugin (the package xprof), which reads what is handed to it and nothing else.

As the plugin comes, whoever reaches TensorBoard's port makes it connect to any address ("capture") and read, or write
its caches into, any folder that a request names. Here it never sees the folder of the logs: it has one of its own, of
links to the profiles that were found there. Of its routes those are served that are named below, with the parameters
that are named below; a run has to be one of those that were found, and no other parameter leads out of its folder.

The plugin is imported by the first request to it: TensorBoard starts as fast as without, and needs as little memory.
"""

import atexit
import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
import threading
import types
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboard.plugins import base_plugin
from werkzeug.wrappers import Request, Response

from trainer.core.run_dir import is_profile

NAME = "profile"
# What TensorBoard must not load beside it: the plugin itself, and the page that says that there is none, which imports
# all of it, with TensorFlow, to find that out.
REPLACED = ("xprof", "tensorboard_plugin_profile", "tensorboard.plugins.profile_redirect")
_FILES = (
    "index.html", "index.js", "bundle.js", "styles.css", "materialicons.woff2", "material_symbols_outlined.woff2",
    "trace_viewer_index.html", "trace_viewer_index.js", "trace_viewer_v2.js", "trace_viewer_v2.wasm", "zone.js",
    "runtime.js",
)  # fmt: skip
_OF_A_RUN = ("/run_tools", "/hosts", "/data", "/data_csv", "/module_list")
_LIST = "/runs"
ROUTES = (*(f"/{name}" for name in _FILES), "/version", "/config", _LIST, *_OF_A_RUN)
_PATHS = ("session_path", "run_path")
_NAMES = ("device_type", "host", "hosts", "memory_space", "module_name", "program_id")  # Parts of names of files.
_PARAMETERS = (
    "run", "tag", *_NAMES, "duration_ms", "end_time_ms", "event_name", "format", "full_dma", "graph_width", "group_by",
    "merge_fusion", "names_only", "node_name", "perfetto", "refresh_suggestion", "resolution", "search_metadata",
    "search_prefix", "show_metadata", "start_time_ms", "tqx", "type", "unique_id", "use_saved_result",
    "view_memory_allocation_timeline",
)  # fmt: skip

_App = Callable[[dict[str, Any], Any], Iterable[bytes]]  # Of WSGI.
_Files = dict[Path, tuple[int, int]]  # Size and time of the last change of each file of a profile.


def is_installed() -> bool:
    """Whether the plugin is there; it is an extra. It is not imported for the answer."""
    return importlib.util.find_spec("xprof") is not None


class Shelf:
    """Links to the profiles below a folder of logs, laid out as there; the plugin's caches come to lie beside them."""

    def __init__(self, logs: Path) -> None:
        """Nothing is looked for yet."""
        self._logs = logs
        self._lock = threading.Lock()
        self._runs: dict[str, _Files] = {}  # Linked, by the names that the plugin has for them.
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of the links; it is removed at this process's end."""
        if not self._folder:
            self._folder = Path(tempfile.mkdtemp(prefix="tensorboard-profiles-"))
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def is_empty(self) -> bool:
        """Whether there is no profile among the logs."""
        return next(_profiles(self._logs), None) is None

    def runs(self, *, anew: bool) -> set[str]:
        """The names of the profiles that are linked: those that are among the logs now, if they are looked for anew."""
        with self._lock:
            if anew:
                self._look()
            return set(self._runs)

    def _look(self) -> None:
        found = dict(_profiles(self._logs))
        for run in [run for run, files in self._runs.items() if found.get(run) != files]:
            shutil.rmtree(self._place(run), ignore_errors=True)  # With what the plugin has made of other files.
            del self._runs[run]
        for run in found.keys() - self._runs.keys():
            place = self._place(run)
            place.mkdir(parents=True, exist_ok=True)
            for path in found[run]:
                (place / path.name).symlink_to(path.absolute())
            self._runs[run] = found[run]

    def _place(self, run: str) -> Path:
        return self.folder / Path(run).parent / "plugins" / NAME / Path(run).name


def _profiles(logs: Path) -> Iterator[tuple[str, _Files]]:
    """Each profile's name and files. No link is followed: one could lead out of the folder."""
    for top, folders, _ in os.walk(logs):
        below = Path(top).relative_to(logs)
        if below.parts[-2:] == ("plugins", NAME):
            for name in folders:
                path = Path(top, name)
                if name.isprintable() and not path.is_symlink() and (files := _files(path)):
                    yield str(below.parent.parent / name), files
            folders.clear()


def _files(folder: Path) -> _Files:
    found: _Files = {}
    with contextlib.suppress(OSError):  # It was removed meanwhile.
        for path in folder.iterdir():
            if is_profile(path.parts[:-1], path.name) and path.is_file() and not path.is_symlink():
                status = path.stat()
                found[path] = status.st_size, status.st_mtime_ns
    return found


class Page(base_plugin.TBPlugin):  # type: ignore[misc]  # It has no types.
    """The plugin as TensorBoard knows it."""

    plugin_name = NAME

    def __init__(self, logs: Path) -> None:
        """Looks for profiles, and returns meanwhile."""
        self._shelf = Shelf(logs)
        self._apps: Mapping[str, _App] = {}
        self._importing, self._looking = threading.Lock(), threading.Lock()
        self._is_active = False
        self.is_active()

    def get_plugin_apps(self) -> dict[str, _App]:
        """Each route that is served, and what answers it."""
        return {route: self._app(route) for route in ROUTES}

    def is_active(self) -> bool:
        """Whether a profile was seen. TensorBoard's page waits for the answer, and many runs take long to look at."""
        if not self._is_active:
            threading.Thread(target=self._look, daemon=True).start()
        return self._is_active

    def frontend_metadata(self) -> Any:
        """What TensorBoard's page has to load."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Profile")

    def _look(self) -> None:
        if self._looking.acquire(blocking=False):
            try:
                self._is_active = not self._shelf.is_empty()
            finally:
                self._looking.release()

    def _app(self, route: str) -> _App:
        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            given = Request(environ).args.to_dict()  # Of a parameter that is given twice the first one counts.
            if refused := self._refused(route, given):
                return refused(environ, start_response)
            kept = {name: value for name, value in given.items() if name in _PARAMETERS}
            environ = {**environ, "QUERY_STRING": urllib.parse.urlencode(kept)}
            environ.pop("werkzeug.request", None)
            return self._imported()[route](environ, start_response)

        return app

    def _refused(self, route: str, given: Mapping[str, str]) -> Response | None:
        for name in _PATHS:
            if name in given:
                return _answer(400, f"{name}: no path can be given; profiles are those below the folder of the logs")
        for name in _NAMES:
            if any(part in given.get(name, "") for part in ("/", "\\", "\0")):
                return _answer(400, f"{name}: it is no name")
        if route == _LIST:
            self._shelf.runs(anew=True)
        if route in _OF_A_RUN or "run" in given:
            run = given.get("run", "")
            if run not in self._shelf.runs(anew=False) and run not in self._shelf.runs(anew=True):
                return _answer(404, "run: there is no profile of that name below the folder of the logs")
        return None

    def _imported(self) -> Mapping[str, _App]:
        with self._importing:
            if not self._apps:
                with _without_tensorflow():
                    from xprof import profile_plugin
                logging.getLogger("tensorboard.plugins.profile").setLevel(logging.WARNING)
                context = types.SimpleNamespace(
                    logdir=str(self._shelf.folder),
                    data_provider=None,
                    flags=types.SimpleNamespace(master_tpu_unsecure_channel=""),
                    hide_capture_profile_button=True,
                )
                self._apps = profile_plugin.ProfilePlugin(context).get_plugin_apps()
            return self._apps


def _answer(status: int, text: str) -> Response:
    return Response(text, status, {"X-Content-Type-Options": "nosniff"}, content_type="text/plain")


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Lets no TensorFlow be imported that is not yet: the plugin captures with it, and it takes hundreds of MB."""
    if "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


class Loader(base_plugin.TBLoader):  # type: ignore[misc]  # It has no types.
    """Makes the page for the folder that TensorBoard was told."""

    def __init__(self, brought: Callable[[str], str]) -> None:
        """Args: brought: says in which folder of this disk the profiles of an address come to lie."""
        self._brought = brought

    def load(self, context: Any) -> Page | None:
        """The page; None where several folders are read (--logdir_spec), or what is neither a disk nor a bucket."""
        logdir: str = context.flags.logdir or ""
        if logdir.startswith(("gs://", "s3://")):
            logdir = self._brought(logdir)
        return Page(Path(logdir)) if logdir and "://" not in logdir else None
