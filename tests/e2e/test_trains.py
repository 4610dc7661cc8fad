"""The chart trains on real MNIST, shows its scalars, and an upgrade that changes nothing starts nothing."""

import pytest

from tests.e2e.release import ACCURACY, NAME, VALUES, Release

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def installed(shared_release: Release) -> Release:
    shared_release.install(*VALUES)
    return shared_release


@pytest.mark.smoke
def test_two_workers_train(installed: Release) -> None:
    release = installed
    release.at_step(1)
    uid = release.job()["metadata"]["uid"]
    release.install(*VALUES)
    assert release.job()["metadata"]["uid"] == uid
    # What it says of the policy depends on whether the run is over by then; test_enforcement.py has a longer one.
    tested = release.helm("test", NAME, "--timeout", "4m")
    said = tested.stdout + tested.stderr  # Helm writes a hook's log to the latter.
    assert "2 of 2 workers' names resolve" in said
    assert "TensorBoard shows the scalars of" in said

    assert release.ended(300)[0] == "Complete", release.story()
    result = release.message()
    assert result["val_accuracy"] >= ACCURACY
    assert (result["workers"], result["restarts"], result["epochs"]) == (2, 0, 5), release.story()
    policy = release.get("networkpolicy", NAME)["spec"]
    own = {"app.kubernetes.io/name": "mnist-train", "app.kubernetes.io/instance": NAME}
    assert policy["ingress"][0] == {"from": [{"podSelector": {"matchLabels": {**own, "trainer/role": "worker"}}}]}
    assert policy["ingress"][1]["ports"] == [{"port": 6006, "protocol": "TCP"}]


def test_the_weights_are_those_of_a_local_run(installed: Release, local_weights: str) -> None:
    assert installed.ended(300)[0] == "Complete", installed.story()
    assert installed.message()["weights_sha256"] == local_weights
