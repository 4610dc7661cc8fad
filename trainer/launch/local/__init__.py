"""A run on this machine: its agents as processes."""
