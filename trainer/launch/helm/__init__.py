"""Helm: its program, the chart, the values that are given to it, and a release: what the chart makes of them."""
