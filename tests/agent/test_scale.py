"""A thousand workers: one real agent, with the coordinator in it, and the agents of the others simulated."""

import pathlib

from tests.support.simulated_agents import measure


def test_a_thousand_workers_meet_hear_of_a_failure_and_end(tmp_path: pathlib.Path) -> None:
    figures = measure(tmp_path, 1000)
    assert figures.total < 30, figures  # 5 s on two cores that others use, too.
    assert figures.failure < 5, figures
    assert figures.memory < 55, figures  # MB; 37.
