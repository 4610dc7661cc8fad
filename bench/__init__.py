"""Benchmarks: programs that print a table of what was measured beside what it has to be."""
