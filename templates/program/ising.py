"""The 2D Ising model as a program of its own, which runs in a folder of its own: yours to replace.

    python ising.py in.ising      (apps.py starts it)

Reads temperature, size, sweeps and seed from its input file, a name and a value a line. Prints its
log: a value a line, and last how long it took.
"""

import os
import sys
import time


{% include "common/lattice.py" %}


def settings(path: str) -> dict:
    """The settings in an input file; # begins a comment."""
    kinds = {"temperature": float, "size": int, "sweeps": int, "seed": int}
    given = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.partition("#")[0].split()
            if words:
                name, value = words
                given[name] = kinds[name](value)
    return given


if __name__ == "__main__":
    start = time.perf_counter()
    for name, value in ising(**settings(sys.argv[1])).items():
        print(name, "=", value)
    print(f"Total wall time: {time.perf_counter() - start:.2f} s")
