"""Training and validation data on their way into a step: arrays, sources, their order, reading ahead."""
