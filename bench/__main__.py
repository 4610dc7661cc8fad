"""`make bench`: runs the benchmarks, or those that are named as arguments, and prints a table of each.

`gpu` needs one, and runs only when it is named.
"""

import importlib
import sys

from bench import profiled
from bench.report import table

PROFILED = {"training", "gpu"}  # Their tables come with a profile.
BENCHMARKS = ("training", "recovery", "scale", "agent_cost", "mirror", "first_words", "frozen", "data")

for name in sys.argv[1:] or BENCHMARKS:
    print(f"== {name}")
    table.show(importlib.import_module(f"bench.{name}").measure())
    if name in PROFILED:
        print(profiled.write(), flush=True)
