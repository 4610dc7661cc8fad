"""Distributed training of TensorFlow models on Kubernetes that survives what happens to its workers."""

__version__ = "0.1.0"
