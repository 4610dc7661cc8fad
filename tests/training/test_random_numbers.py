"""What layers draw: layer, step, replica and draw each make another number, and a resume makes the same ones again."""

import itertools
from typing import Any

import keras
import tensorflow as tf

from tests.support.put_together import network_of, put_together
from trainer.training.data import random_state

STEPS = 5


class Draws(keras.layers.Layer):
    """Draws twice a step, and keeps what it has drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(7)

    def build(self, _: Any) -> None:
        self.step = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="step")
        self.drawn = self.add_weight(shape=(STEPS, 2), initializer="zeros", trainable=False, name="drawn")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            two = [keras.random.uniform((), seed=self.seeds) for _ in range(2)]
            rows = tf.one_hot(self.step.value, STEPS)[:, tf.newaxis] * tf.stack(two)[tf.newaxis]
            self.drawn.assign(self.drawn + rows)
            self.step.assign(self.step + 1)
        return x


def test_no_layer_step_or_draw_gets_a_number_twice_and_a_step_made_again_gets_the_same() -> None:
    parts = put_together(model=lambda _: network_of(Draws(), Draws()), seed=3)
    trainer = parts.trainer
    trainer.start_epoch(0)
    trainer.run(0, STEPS, trainer.scores.start())
    layers = parts.model.layers[:2]
    drawn = [layer.drawn.numpy().copy() for layer in layers]
    numbers = [float(number) for of_layer in drawn for number in of_layer.ravel()]
    assert len(set(numbers)) == 2 * STEPS * 2
    for layer in layers:
        layer.drawn.assign(layer.drawn * 0)
        layer.step.assign(2)
    trainer.run(2, STEPS, trainer.scores.start())  # As after a kill.
    for layer, before in zip(layers, drawn, strict=True):
        assert (layer.drawn.numpy()[2:] == before[2:]).all()


def test_replicas_and_validation_have_numbers_of_their_own() -> None:
    bases = random_state.layer_bases(3, 4)
    seeds = [
        (int(first), int(second) + draw)
        for step, replica in itertools.product(range(20), range(3))
        for first, second in random_state.layer_seeds(bases, tf.constant(step), replica)
        for draw in range(6)
    ] + [
        (int(first), int(second) + draw)
        for epoch, batch in itertools.product(range(4), range(5))
        for first, second in random_state.validation_seeds(bases, tf.constant(epoch), tf.constant(batch, tf.int64))
        for draw in range(6)
    ]
    assert len(set(seeds)) == len(seeds) == (20 * 3 + 4 * 5) * 4 * 6


def test_an_example_has_another_seed_in_each_epoch_wherever_it_is_trained_on() -> None:
    seeds = {
        tuple(seed)
        for epoch, training in itertools.product(range(5), (True, False))
        for seed in random_state.row_seeds(
            tf.constant(random_state.epoch_seed(3, epoch, training=training), tf.int64), tf.range(50, dtype=tf.int64)
        )
        .numpy()
        .tolist()
    }
    assert len(seeds) == 5 * 2 * 50
