"""Trackers of experiments that are told of a run: MLflow, Weights & Biases."""
