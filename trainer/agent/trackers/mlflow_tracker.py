"""MLflow as a tracker, by its REST API alone: its client would bring more packages than the agent has.

MLFLOW_TRACKING_URI in the environment names the server; MLFLOW_EXPERIMENT_NAME, MLFLOW_TRACKING_USERNAME and _PASSWORD
or MLFLOW_TRACKING_TOKEN, and MLFLOW_TRACKING_INSECURE_TLS are what they are for its client.
"""

import base64
import json
import math
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.agent.trackers.tracking import Point, RefusedError, Run
from trainer.core import result_figures

URI = "MLFLOW_TRACKING_URI"
_TIMEOUT = 10.0  # Seconds for an answer.
_MOST_BYTES = 4 * 2**20  # Of an answer.
_MOST_METRICS = 1000  # In a request.
_MOST_PARAMS, _MOST_VALUE = 100, 500  # Characters that every version takes.
_TAG = "trainer.run"
_BEGIN_TAG = "trainer.begin"  # Tells the run that this agent asked for from others of its name.


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials go to the server that was named, and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class MlflowTracker:
    """One run on an MLflow server."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Reads the environment; nothing is asked of the server yet.

        Raises:
          RefusedError: the address is none of a server.
        """
        parts = urllib.parse.urlsplit(environ[URI])
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RefusedError(f"{URI} is no http:// or https:// address; give that of a tracking server")
        host = parts.netloc.rpartition("@")[2]
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/api/2.0/mlflow/"
        self.name = f"MLflow at {parts.scheme}://{host}"
        self._experiment = environ.get("MLFLOW_EXPERIMENT_NAME") or "trainer"
        self._headers = {"Content-Type": "application/json"}
        user = environ.get("MLFLOW_TRACKING_USERNAME") or urllib.parse.unquote(parts.username or "")
        password = environ.get("MLFLOW_TRACKING_PASSWORD") or urllib.parse.unquote(parts.password or "")
        if user:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
            self._headers["Authorization"] = f"Bearer {token}"
        context = ssl.create_default_context(cafile=environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None)
        if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true":
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._open = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=context)).open
        self._run, self._begin = "", ""

    def begin(self, run: Run) -> tuple[int, bool]:
        """Finds the run that an earlier agent began, or begins it; a further try goes on with what an earlier made."""
        experiment = self._experiment_id()
        if not self._begin and run.goes_on and (found := self._find(experiment, _TAG, run.name)):
            self._run = found["info"]["run_id"]
            self._ask("runs/update", {"run_id": self._run, "status": "RUNNING"})
            known = found["data"].get("metrics", ())
            return max(((int(one["step"]), one["key"].startswith("val_")) for one in known), default=(0, False))
        if not self._begin:
            self._begin = uuid.uuid4().hex
            self._run = self._create(experiment, run.name)
        elif not self._run:  # The server may have made it, and the answer was lost.
            found = self._find(experiment, _BEGIN_TAG, self._begin)
            self._run = found["info"]["run_id"] if found else self._create(experiment, run.name)
        params = [{"key": _word(name), "value": value[:_MOST_VALUE]} for name, value in run.flags.items() if value]
        for part in _parts(params, _MOST_PARAMS):
            self._ask("runs/log-batch", {"run_id": self._run, "params": part})
        return 0, False

    def log(self, points: Sequence[Point]) -> None:
        """Sends every metric of the lines with its step and time."""
        sent = [
            _metric(name, value, int(point.seconds * 1000), point.progress.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        for part in _parts(sent, _MOST_METRICS):
            self._ask("runs/log-batch", {"run_id": self._run, "metrics": part})

    def end(self, result: Mapping[str, Any] | None, code: int) -> None:
        """Sends the figures of the result, and how the run ended."""
        if result:
            step = int(result.get("steps") or 0)
            values = {
                **result_figures.metrics(result),
                "seconds": result.get("seconds"),
                "restarts": result.get("restarts"),
            }
            last = [
                _metric(f"final/{name}", value, _now(), step)
                for name, value in values.items()
                if isinstance(value, int | float)
            ]
            tags = [{"key": "trainer.weights_sha256", "value": str(result.get("weights_sha256", ""))}]
            self._ask("runs/log-batch", {"run_id": self._run, "metrics": last[:_MOST_METRICS], "tags": tags})
        status = "FINISHED" if code == 0 else "KILLED" if code == 143 else "FAILED"
        self._ask("runs/update", {"run_id": self._run, "status": status, "end_time": _now()})

    def _experiment_id(self) -> str:
        query = urllib.parse.urlencode({"experiment_name": self._experiment})
        found = self._ask(f"experiments/get-by-name?{query}", missing=True)
        if found is None:
            made = self._ask("experiments/create", {"name": self._experiment}, missing=True)
            found = {"experiment": made} if made else self._ask(f"experiments/get-by-name?{query}")
        return str(found["experiment"]["experiment_id"])

    def _create(self, experiment: str, name: str) -> str:
        values = {_TAG: name, _BEGIN_TAG: self._begin, "mlflow.source.name": "trainer"}
        tags = [{"key": key, "value": value} for key, value in values.items()]
        begun = {"experiment_id": experiment, "run_name": name, "start_time": _now(), "tags": tags}
        return str(self._ask("runs/create", begun)["run"]["info"]["run_id"])

    def _find(self, experiment: str, tag: str, value: str) -> Any:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        asked = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{tag}` = '{quoted}'",
            "order_by": ["attributes.start_time DESC"],
            "max_results": 1,
        }
        return next(iter(self._ask("runs/search", asked).get("runs", ())), None)

    def _ask(self, path: str, body: Mapping[str, Any] | None = None, *, missing: bool = False) -> Any:
        """Sends a request; its answer, or None if `missing` says that what is asked for may not, or already, be there.

        Raises:
          RefusedError: the server says that the request is wrong, or forbidden.
          OSError: the server is away.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data, headers=self._headers)  # noqa: S310  See __init__.
        try:
            with self._open(request, timeout=_TIMEOUT) as answer:
                return json.loads(answer.read(_MOST_BYTES) or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2000).decode(errors="replace")
            if missing and (error.code == 404 or "RESOURCE_ALREADY_EXISTS" in said):
                return None
            text = f"{path.partition('?')[0]}: HTTP {error.code} {said}"
            if error.code in (408, 425, 429) or error.code >= 500:
                raise ConnectionError(text) from None
            raise RefusedError(f"{text}; look at {URI} and its credentials") from None
        except urllib.error.URLError as error:
            raise ConnectionError(str(error.reason)) from None


def _parts(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (values[begin : begin + size] for begin in range(0, len(values), size))


def _metric(name: str, value: float, milliseconds: int, step: int) -> dict[str, Any]:
    return {"key": _word(name), "value": _number(value), "timestamp": milliseconds, "step": step}


def _word(name: str) -> str:
    """A name as every version takes it."""
    return re.sub(r"[^\w. /-]", "_", name, flags=re.ASCII)[:250]


def _number(value: float) -> float | str:
    """JSON knows no NaN; the server reads it as a text."""
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _now() -> int:
    return int(time.time() * 1000)
