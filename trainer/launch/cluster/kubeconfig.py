"""How this user reaches a cluster: the kubeconfig, or inside a cluster the pod's own access."""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from trainer.launch.codes import LaunchCode, LaunchError

_INSIDE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """What is needed to ask a cluster."""

    configuration: Any  # A kubernetes.client.Configuration.
    context: str  # "" inside a cluster, where there is no kubeconfig.
    namespace: str  # The one that is meant where none is named.

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
            merger = library.KubeConfigMerger(files)
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
        except Exception as error:  # A file that is not there, a provider's library: these, too, raise anything.
            text = f"context {chosen} of the kubeconfig {files} cannot be used: {error_text(error)}"
            raise LaunchError(text) from None
        if errors:
            raise LaunchError(f"context {chosen} gives no credentials: {errors[-1]}; log in to the cluster again")
        namespace = loader.current_context["context"].get("namespace") or "default"
        return cls(configuration=configuration, context=chosen, namespace=str(namespace))

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
