"""`make bench`: figures as ratios, each measured in one run. Names of benchmarks as arguments run only these."""

import importlib
import sys

from bench import table

BENCHMARKS = ("training", "recovery", "agent_cost", "mirror", "first_words")

for name in sys.argv[1:] or BENCHMARKS:
    print(f"== {name}")
    table.show(importlib.import_module(f"bench.{name}").measure())
