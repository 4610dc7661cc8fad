"""The training program, the only part with TensorFlow."""
