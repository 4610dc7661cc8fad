"""The agent: process 1 of a worker, which starts training, watches it and starts it again."""
