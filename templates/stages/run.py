"""Yours to edit: a Parsl program. `python run.py` runs it, with --help it lists its options."""

import sys

from polaris import cli  # isort: skip  (first: it tells in one line what is wrong with the others)
import analysis
import apps
from polaris.sources import table

# A lattice a row; another file: python run.py FILE. Kinds of columns: int, float, bool, str.
inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)


def main(run):
    """Simulate each lattice, analyse each run, fit the critical temperature from all."""
    curves = []
    for row in inputs:
        series = apps.simulate(**row)  # a future; what gets it starts when it has ended
        curve = apps.analyse(series, row["temperature"], row["size"])
        curves.append(curve)
    found = apps.fit(inputs=curves).result()
    print(analysis.in_words(found))
    measured = [curve.result() for curve in curves]
    return analysis.picture(found, measured, "results/crossing.png")  # shown in the report


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
