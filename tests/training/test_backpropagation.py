"""The program's update against the chain rule worked by hand; docs/backpropagation.md derives it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.small_mnist import TRAIN_IMAGES
from tests.support.training_processes import Training
from trainer.training.data import idx_files
from trainer.training.state.checkpoint import Checkpoint

Matrix = npt.NDArray[np.float64]


def sigmoid(z: Matrix) -> Matrix:
    return 1 / (1 + np.exp(-z))


def parameters(run_dir: Path, step: int) -> list[Matrix]:
    arrays = Checkpoint.decode((run_dir / "checkpoints" / f"step-{step:010d}.npz").read_bytes()).arrays
    return [array.astype(np.float64) for name, array in arrays.items() if name.startswith("model/")]


@pytest.mark.thorough
def test_an_update_is_the_chain_rule(training: Training, small_mnist: Path, tmp_path: Path) -> None:
    eta, mu = 0.5, 0.9

    def after(steps: int) -> list[Matrix]:
        """The parameters; of a run of its own, whose last step is always saved."""
        training.run(
            f"--run_dir={tmp_path / str(steps)}", "--activation=sigmoid", "--loss=quadratic", "--optimizer=sgd",
            f"--momentum={mu}", f"--learning_rate={eta}", "--dropout=0", "--hidden_units=30",
            f"--global_batch_size={TRAIN_IMAGES}", f"--epochs={steps}",
        )  # fmt: skip
        return parameters(tmp_path / str(steps), steps)

    (images, labels), _ = idx_files.load(str(small_mnist))
    # Every step takes the whole data set: its order does not matter.
    x = images.reshape(TRAIN_IMAGES, -1) / 255  # [B, 784]
    y = np.eye(10)[labels]  # [B, 10]
    first, second, third = after(1), after(2), after(3)
    w1, b1, w2, b2 = second

    z1 = x @ w1 + b1
    a1 = sigmoid(z1)
    z2 = a1 @ w2 + b2
    a2 = sigmoid(z2)
    delta2 = (a2 - y) * a2 * (1 - a2) / TRAIN_IMAGES  # Output layer, averaged over the batch.
    delta1 = (delta2 @ w2.T) * a1 * (1 - a1)  # Hidden layer.
    gradients = [x.T @ delta1, delta1.sum(axis=0), a1.T @ delta2, delta2.sum(axis=0)]

    for before, now, then, gradient in zip(first, second, third, gradients, strict=True):
        velocity = mu * (now - before) - eta * gradient  # The momentum term keeps a share of the last update.
        np.testing.assert_allclose(then, now + velocity, rtol=0, atol=1e-6)
        assert np.abs(then - now).max() > 1e-5, "the test must see a change far above its tolerance"
