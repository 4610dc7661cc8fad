"""Times the matrix multiplications of a training step and nothing else: no training loop can be faster.

Usage: matmuls.py EXAMPLES_A_STEP STEPS. Prints the seconds of a step, the best of five measurements.
"""

import sys
import time

import tensorflow as tf

share, steps = int(sys.argv[1]), int(sys.argv[2])
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
images, hidden, output = (tf.random.normal((share, size)) for size in (784, 512, 10))
first, second = tf.Variable(tf.random.normal((784, 512))), tf.Variable(tf.random.normal((512, 10)))


def step(count: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    # Each product's sum of one element is kept, and the operands change, or the graph's optimizer would drop them.
    x = images + total * 0.0
    products = [
        x @ first,
        hidden @ second,
        tf.matmul(hidden + total * 0.0, output, transpose_a=True),
        tf.matmul(output, second, transpose_b=True),
        tf.matmul(x, hidden, transpose_a=True),
    ]
    return count + 1, total + tf.add_n([product[0, 0] for product in products]) * 1e-9


def loop(count: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda i, _: i < count, step, [0, 0.0], parallel_iterations=1)[1]


run = tf.function(loop, autograph=False)
run(tf.constant(2))
best = float("inf")
for _ in range(5):
    started = time.perf_counter()
    run(tf.constant(steps)).numpy()
    best = min(best, (time.perf_counter() - started) / steps)
print(best)
