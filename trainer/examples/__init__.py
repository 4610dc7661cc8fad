"""Experiments to copy: each is one file, trained with --experiment=trainer.examples.NAME. See docs/experiments.md."""
