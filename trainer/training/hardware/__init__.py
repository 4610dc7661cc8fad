"""What training runs on: devices, XLA, strategies, the values that workers exchange."""
