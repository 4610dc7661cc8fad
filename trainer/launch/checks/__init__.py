"""The checks before a run is submitted."""
