"""`make bench`: runs the benchmarks, or those that are named as arguments, and prints a table of each.

`gpu` needs one, and runs only when it is named.
"""

import importlib
import sys

from bench import profiled
from bench.report import table

<<<<<<< b0b1d8f1d26650a12b878c9019086d916f043ef6
BENCHMARKS = ("training", "recovery", "scale", "agent_cost", "mirror", "first_words", "frozen", "data")
=======
PROFILED = {"training", "gpu"}  # Their tables come with a profile.
BENCHMARKS = ("training", "recovery", "scale", "agent_cost", "mirror", "first_words", "data")
>>>>>>> 56794c8fda3df9d8e165b80d6c16eeff796ed53e

for name in sys.argv[1:] or BENCHMARKS:
    print(f"== {name}")
    table.show(importlib.import_module(f"bench.{name}").measure())
    if name in PROFILED:
        print(profiled.write(), flush=True)
