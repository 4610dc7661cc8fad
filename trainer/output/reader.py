"""What the launcher reads from a run's output when the pods are gone, and whether an output can be written at all."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from trainer.core import attempts as attempts_file
from trainer.core import typed_json
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import ATTEMPTS, RESULT, WORKERS, log_parts, logs_in_order
from trainer.output.stores.errors import ConflictError
from trainer.output.stores.store import Readable, Store


def result(store: Readable) -> dict[str, Any] | None:
    """The run's result.json; None while there is none.

    Args:
      store: the objects of the run: `open_store(output, run=run)`.

    Raises:
      StorageError: the store failed.
      DataError: what is stored is damaged, or a newer version of the trainer wrote it.
    """
    found = store.get(RESULT)
    if found is None:
        return None
    try:
        return typed_json.an_object(typed_json.loads(found.data, lenient=True), RESULT)
    except ValueError:
        raise DataError(f"{RESULT} is no JSON object: it is damaged") from None


def attempts(store: Readable) -> list[dict[str, Any]]:
    """The lines of the run's attempts.jsonl; raises as `result`."""
    found = store.get(ATTEMPTS)
    return attempts_file.parse(found.data) if found else []


def logs(store: Readable, worker: int) -> Iterator[tuple[int, bytes]]:
    """A worker's logs of all attempts, oldest first, in pieces of whole lines: (attempt, lines); raises as `result`."""
    for key in logs_in_order(store.keys(f"{WORKERS}/{worker}/")):
        if (part := log_parts(key)) and (found := store.get(key)):
            yield part[1], found.data


def probe(store: Store) -> None:
    """Writes, reads and deletes an object.

    Raises:
      NoBucketError: there is no such bucket.
      RefusedError: these credentials may not.
      UnreachableError: the store does not answer.
    """
    key = f".probe-{uuid.uuid4().hex}"
    with contextlib.suppress(ConflictError):
        store.create(key, b"")
    store.get(key)
    store.delete(key)
