"""Yours to edit: a Parsl program. `python run.py` runs it, with --help it lists its options."""

import sys

from polaris import cli  # isort: skip  (first: it tells in one line what is wrong with the others)
import analysis
import apps
from polaris.sources import table

# A row a folder; another file: python run.py FILE. Kinds of columns: int, float, bool, str.
inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)


def main(run):
    """The program for each row of the input, then the seeds of each temperature averaged."""
    results = run.map(apps.simulate, inputs)  # results/results.csv, folders in results/runs/
    averages = analysis.averages(results)  # waits for all; dicts: inputs and what was in the logs
    return analysis.summary(averages)  # a picture for the report, or nothing


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
