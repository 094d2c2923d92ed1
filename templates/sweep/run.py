"""Yours to edit: a Parsl program. `python run.py` runs it, with --help it lists its options."""

import sys

from polaris import cli  # isort: skip  (first: it tells in one line what is wrong with the others)
import analysis
import apps
from polaris.sources import table

# A row a task; another file: python run.py FILE. Kinds of columns: int, float, bool, str.
inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)


def main(run):
    """A task for each row of the input, then the seeds of each temperature averaged."""
    results = run.map(apps.ising, inputs)  # results/results.csv; what is in there is not run again
    averages = analysis.averages(results)  # waits for all; dicts: inputs and what the app returned
    return analysis.summary(averages)  # a picture for the report, or nothing


# What is done for a row may also be a function of the row that calls an app, or several, and
# returns the last one's future: run.map(task, inputs).
# An executable for each row, what it prints in files of its own:
# def task(row):
#     name = f"results/output/{row['temperature']}-{row['seed']}"
#     return apps.which_gpu(stdout=(f"{name}.out", "w"), stderr=(f"{name}.err", "w"))


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
