"""TensorBoard for a run on disk or in a bucket: `python -m trainer.board --logdir ...`."""
