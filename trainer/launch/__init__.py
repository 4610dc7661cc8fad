"""The launcher: checks, submits, watches, and says how a run ended and why."""
