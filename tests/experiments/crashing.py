"""An experiment whose data cannot be loaded: a bug in a user's code, or a network that is away."""

from typing import Any

from trainer import mnist

build_model, preprocess, Flags = mnist.build_model, mnist.preprocess, mnist.Flags


def load_data(config: Any) -> Any:
    raise RuntimeError(f"no data for {config.hidden_units} units")
