"""How benchmarks show their figures: a table, and a picture of curves."""
