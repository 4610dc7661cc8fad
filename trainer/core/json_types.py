"""The type of what JSON and YAML hold."""

from typing import Any

Json = dict[str, Any]
"""An object: what the Kubernetes API answers with, and what a chart's values and manifests are made of."""
