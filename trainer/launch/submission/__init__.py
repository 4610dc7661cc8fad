"""Submitting a run: what is planned, what `--dry_run` shows of it, and the steps up to the Job on the cluster."""
