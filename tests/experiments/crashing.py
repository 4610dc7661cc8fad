"""An experiment whose model cannot be built: a bug in a user's code."""

from typing import Any

from trainer import mnist

load_data, Flags = mnist.load_data, mnist.Flags


def build_model(config: Any) -> Any:
    raise RuntimeError(f"no model of {config.hidden_units} units")
