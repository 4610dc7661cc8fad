"""What the chief starts with, as the others are told it: in pieces, since no message of gRPC has 2 GiB."""

import contextlib
from typing import Any

import numpy as np
import pytest

from trainer.core.exit_codes import DataError
from trainer.core.tf_config import Cluster
from trainer.training.hardware import strategy
from trainer.training.state import variables
from trainer.training.state.checkpoint import Checkpoint
from trainer.training.state.variables import Start

ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2")
CHECKPOINT = Checkpoint(
    step=7, sums=[np.ones(1)], history=[], seconds=1.0, step_seconds=1.0, step_examples=128, identity={},
    arrays={"model/0": np.arange(1001, dtype=np.float32)},
)  # fmt: skip


class Wire:
    """Broadcasts of two workers that do the same one after another: what the chief gives, the other gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Any] = []
        self._heard = 0
        monkeypatch.setattr(strategy, "broadcast", self._broadcast)
        monkeypatch.setattr(variables, "_WORDS", 256)
        self.is_chief = True

    def _broadcast(self, _: Any, values: Any) -> Any:
        if self.is_chief:
            self.sent.append(values.copy())
            return values
        assert len(values) == len(self.sent[self._heard])
        self._heard += 1
        return self.sent[self._heard - 1]


def both(wire: Wire, find: Any) -> list[Any]:
    """What the chief ends with, and then the other worker."""
    ends: list[Any] = []
    for index in (0, 1):
        wire.is_chief = index == 0
        try:
            ends.append(variables.agree(None, Cluster(addresses=ADDRESSES, index=index), find))
        except DataError as error:
            ends.append(error)
    return ends


@pytest.mark.parametrize("start", [Start(), Start(finished=True), Start(checkpoint=CHECKPOINT)])
def test_the_others_start_with_what_the_chief_has_found(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    wire = Wire(monkeypatch)
    for told in both(wire, lambda: start):
        assert told.finished == start.finished
        if start.checkpoint is None:
            assert told.checkpoint is None
        else:
            assert told.checkpoint.encode() == start.checkpoint.encode()
            assert len(wire.sent) > 5
            assert max(map(len, wire.sent)) == 256


def test_the_others_refuse_what_the_chief_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch)
    monkeypatch.setattr(strategy, "refusing_together", contextlib.nullcontext)  # There is nobody to wait for.

    def find() -> Start:
        raise DataError("none is whole")

    assert [str(end) for end in both(wire, find)] == ["on the chief: none is whole"] * 2
