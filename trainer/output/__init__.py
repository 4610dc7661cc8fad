"""The output: a run's directory, brought to an object store while it is written."""
