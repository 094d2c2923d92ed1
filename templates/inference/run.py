"""Yours to edit: a Parsl program. `python run.py` runs it, with --help it lists its options."""

import sys

from polaris import cli  # isort: skip  (first: it tells in one line what is wrong with the others)
import analysis
import apps
from polaris.sources import json_lines

# A dict a line; another file: python run.py FILE. There are lines(...) and files(...), too.
inputs = json_lines("inputs/configurations.jsonl")


def main(run):
    """Ask the model about every configuration, and find where the phase changes."""
    results = run.map(apps.phase, inputs, batch=32)  # results/results.csv; none is asked for twice
    curves = analysis.curves(results)
    found = analysis.critical_temperature(curves)
    print(analysis.in_words(found))
    if found is None:
        return None
    return analysis.picture(found, curves, "results/crossing.png")  # shown in the report


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
