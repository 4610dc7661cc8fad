"""The cluster: its API server, the objects in it that make a run, and what changes there."""
