"""Benchmarks: modules whose `measure` yields figures beside what they have to be; `make bench` prints them as a table.

The programs that they start are in `programs`, the table and the picture in `report`.
"""
