"""The coordinator of a run, in worker 0's agent, and what the agents say to each other."""
