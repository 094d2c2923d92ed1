"""Yours to edit: what the ensemble is. `python run.py` runs it, `python run.py --help` lists the options."""

import sys
from array import array

from polaris import cli, views  # isort: skip  (first: it tells in one line what is wrong with the others)
import apps

INPUTS_FILE = "inputs/sweep.csv"  # one row a task; another file: python run.py FILE
INPUTS = {"temperature": float, "size": int, "sweeps": int, "seed": int}  # its columns: int, float, bool, str
# What of a task's result becomes columns of results/results.csv, between its inputs and where it ran.
OUTPUTS = (
    "magnetization", "magnetization_error", "energy", "energy_error", "device", "ranks", "placement",
)  # fmt: skip


def task(row):
    """Submit one row of the input: call an app, or several that feed each other, and return the last one."""
    return apps.ising(**row)
    # For other nodes than config.py's nodes_per_task, by a column `nodes` of the input and of INPUTS:
    # nodes = row.pop("nodes")
    # return apps.ising(**row, parsl_resource_specification={"num_nodes": nodes})
    # For an executable these lines instead, OUTPUTS = (), and in summarize `return None`: what it prints goes
    # into files of its own.
    # name = f"{cli.PROJECT}/results/output/{row['temperature']}-{row['seed']}"
    # return apps.which_ranks(row["temperature"], stdout=(f"{name}.out", "w"), stderr=(f"{name}.err", "w"))


def summarize(rows, call, folder):
    """After the sweep: the seeds of each temperature averaged (fan-in), as a table and a picture.

    rows: all finished rows, inputs and outputs; to be read once. call(app, list of arguments): the results
    of a Parsl app. folder: of the results. Returns the picture's path. With columns of your own, write
    your own, or let it do nothing: `return None`.
    """
    seeds = {}
    for row in rows:
        values, errors = seeds.setdefault(row["temperature"], (array("d"), array("d")))
        values.append(row["magnetization"])
        errors.append(row["magnetization_error"])
    averages = call(apps.average, [(t, list(seeds[t][0]), list(seeds[t][1])) for t in sorted(seeds)])
    averages = [{**row, "exact": views.exact_magnetization(row["temperature"])} for row in averages]
    views.table(averages)
    views.write_csv(folder / "magnetization.csv", averages)
    views.plot_magnetization(folder / "magnetization.png", averages)
    return folder / "magnetization.png"


if __name__ == "__main__":
    sys.exit(cli.main(INPUTS_FILE, INPUTS, OUTPUTS, task, summarize))
