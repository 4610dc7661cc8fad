"""Twenty seconds of what `make soak` does for an hour: a fleet that trains while strangers attack it."""

import pathlib

import pytest

from tests.support.attacks import withstand


@pytest.mark.thorough
def test_a_fleet_under_attack_ends_as_if_nobody_had_attacked(tmp_path: pathlib.Path, paced_flags: list[str]) -> None:
    count = withstand(tmp_path, paced_flags, seconds=20, seed=1)
    assert set(count) == {"forge", "malform", "send_junk", "send_noise", "idle", "trickle"}
    assert sum(count.values()) > 100
