"""How this user reaches a cluster: the kubeconfig, or inside a cluster the pod's own access."""

import contextlib
import dataclasses
import ipaddress
import logging
import os
import pathlib
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.launch.codes import LaunchCode, LaunchError

_INSIDE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """What is needed to ask a cluster."""

    configuration: Any  # A kubernetes.client.Configuration.
    context: str  # "" inside a cluster, where there is no kubeconfig.
    namespace: str  # The one that is meant where none is named.
    acts_as: tuple[tuple[str, str], ...] = ()  # The headers that say as whom else requests are made.

    @classmethod
    def of(cls, context: str) -> "Access":
        """Reads it; asks nothing yet, unless a plugin has to be asked for credentials.

        Args:
          context: the kubeconfig's context; "" for its current one.

        Raises:
          LaunchError: there is no kubeconfig, it lacks the context, or it gives no credentials.
        """
        import kubernetes.client  # It takes a quarter of a second: what can be said without it is said before.
        import kubernetes.config.kube_config as library

        configuration = kubernetes.client.Configuration()
        configuration.retries = False
        files = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            merger = library.KubeConfigMerger(_not_empty(files))
            config = merger.config
            known = [str(entry["name"]) for entry in config.value["contexts"]] if config else []
            chosen = context or str(config.value.get("current-context") or "" if config else "")
            if not chosen:
                return cls._inside(configuration, files, known)
            if chosen not in known:
                flag = f"--context={context}" if context else f"the current context {chosen}"
                has = ", ".join(known) or "none"
                code = LaunchCode.USAGE if context else LaunchCode.FAILED
                raise LaunchError(f"{flag} is not in the kubeconfig, which has: {has}", code)
            loader = library.KubeConfigLoader(
                config, chosen, config_base_path=None, config_persister=merger.save_changes
            )
        except LaunchError:
            raise
        except Exception as error:  # The library checks little: a file that is no kubeconfig raises anything.
            raise LaunchError(
                f"the kubeconfig {files} cannot be read: {error_text(error)}; KUBECONFIG names another"
            ) from None
        try:
            with logged_errors() as errors:
                loader.load_and_set(configuration)
            entries = {name: [entry.value for entry in config.value[name]] for name in ("clusters", "users")}
            cluster, user = _named(entries, loader.current_context["context"])
        except Exception as error:  # A file that is not there, a provider's library: these, too, raise anything.
            text = f"context {chosen} of the kubeconfig {files} cannot be used: {error_text(error)}"
            raise LaunchError(text) from None
        if errors:
            raise LaunchError(f"context {chosen} gives no credentials: {errors[-1]}; log in to the cluster again")
        if "proxy-url" not in cluster and _is_here(str(configuration.host)):
            configuration.proxy = None  # The environment's is for other machines, as kubectl has it.
        namespace = loader.current_context["context"].get("namespace") or "default"
        return cls(
            configuration=configuration, context=chosen, namespace=str(namespace), acts_as=_acts_as(user, chosen)
        )

    @classmethod
    def _inside(cls, configuration: Any, files: str, known: list[str]) -> "Access":
        import kubernetes.config

        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except kubernetes.config.ConfigException:
            why = f"there is no kubeconfig {files}"
            if known:
                why = f"{files} names no current context, --context= can be one of: {', '.join(known)}"
            raise LaunchError(
                f"no cluster to talk to: {why}. Set KUBECONFIG to your cluster's file, or run where "
                "`kubectl get pods` works; --local trains on this machine"
            ) from None
        try:
            namespace = _INSIDE.read_text().strip()
        except OSError:
            namespace = ""
        return cls(configuration=configuration, context="", namespace=namespace or "default")


def _not_empty(files: str) -> str:
    """The files that say something, as KUBECONFIG has them: kubectl passes over those that are empty."""

    def is_empty(path: str) -> bool:
        try:
            return not pathlib.Path(path).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError):  # The library says what is wrong.
            return False

    return os.pathsep.join(path for path in files.split(os.pathsep) if path and not is_empty(path))


def _named(entries: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The cluster and the user that a context names; of several of that name the first counts."""
    found = [
        next((dict(each.get(kind) or {}) for each in entries[f"{kind}s"] if each["name"] == context.get(kind)), {})
        for kind in ("cluster", "user")
    ]
    return found[0], found[1]


def _is_here(server: str) -> bool:
    """Whether a server is on this machine."""
    host = urllib.parse.urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _acts_as(user: Mapping[str, Any], context: str) -> tuple[tuple[str, str], ...]:
    """The headers of a kubeconfig user that acts as another (`as`, `as-uid`, `as-groups`, `as-user-extra`)."""
    extra = user.get("as-user-extra") or {}
    headers = [
        *(("Impersonate-User", name) for name in [user.get("as")] if name),
        *(("Impersonate-Uid", uid) for uid in [user.get("as-uid")] if uid),
        *(("Impersonate-Group", group) for group in user.get("as-groups") or ()),
        *(
            (f"Impersonate-Extra-{urllib.parse.quote(str(name).lower(), safe='')}", value)
            for name, values in extra.items()
            for value in values
        ),
    ]
    if headers and not user.get("as"):
        raise LaunchError(f"the user of context {context} has as-uid, as-groups or as-user-extra without `as`")
    if odd := [name for name, value in headers if not (isinstance(value, str) and value.isprintable())]:
        raise LaunchError(f"the user of context {context} acts as what no header can carry ({odd[0]})")
    return tuple(headers)


@contextlib.contextmanager
def logged_errors() -> Iterator[list[str]]:
    """The errors that the client library logs meanwhile.

    Of a plugin for credentials that fails the library only logs the error, and goes on without credentials.
    """
    errors: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "root":  # The library logs to the root logger.
                errors.append(" ".join(record.getMessage().split()))

    collector = Collector(logging.ERROR)
    logging.getLogger().addHandler(collector)
    try:
        yield errors
    finally:
        logging.getLogger().removeHandler(collector)


def error_text(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
