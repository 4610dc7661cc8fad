"""The mirror: copies a run directory to an object store while the run goes on, and brings it back to a new disk."""
