"""Yours to edit: a Parsl program. `python run.py` runs it, with --help it lists its options."""

import sys

from polaris import cli  # isort: skip  (first: it tells in one line what is wrong with the others)
import analysis
import apps
from polaris.sources import table

# The first evaluations; another file: python run.py FILE. Kinds of columns: int, float, bool, str.
inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)

IN_FLIGHT = 8  # evaluations at a time; the same everywhere, or another machine would go another way
MOST = 60  # evaluations
PRECISION = 0.01  # of T_c, at which it ends


def main(run):
    """Evaluate where the results so far say that T_c may be, until it is known well enough."""
    first = list(inputs)
    asked = list(first)
    futures = [
        run.submit(apps.evaluate, **row) for row in asked
    ]  # results/evaluate.csv; none is run again
    while len(asked) < MOST:
        # The next one is decided by the results of all but the latest, in the order in which they
        # were asked for: whichever ends first, a later run asks for the same, and finds it done.
        known = max(len(first), len(asked) - IN_FLIGHT + 1)
        measured = analysis.measured(asked, futures[:known])  # waits for these
        if analysis.crossing(measured).error < PRECISION:
            break
        temperature = analysis.next_temperature(measured, asked[known:])
        row = {**first[-1], "temperature": temperature, "seed": first[-1]["seed"] + len(asked)}
        asked.append(row)
        futures.append(run.submit(apps.evaluate, **row))
    measured = analysis.measured(asked, futures)
    found = analysis.crossing(measured)
    print(analysis.in_words(found, len(asked)))
    return analysis.picture(found, measured, "results/crossing.png")  # shown in the report


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
