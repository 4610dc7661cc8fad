"""What an agent writes down: its worker's log, and in worker 0's agent a line for each attempt, in attempts.jsonl."""
