"""Yours to edit: what a task does. Imported on the first node of a block: keep its top light."""

from parsl import bash_app, python_app

# Seconds, less than the walltime, after which ranks that hang are killed and their task has failed.
TIMEOUT = 1800


@python_app
def ising(
    temperature: float,
    size: int,
    sweeps: int,
    seed: int,
    limit: float = TIMEOUT,
    parsl_resource_specification: dict | None = None,
) -> dict:
    """The 2D Ising model, its lattice split over the ranks of the task: the program is ising.py.

    Args:
        temperature: in units of J / k_B; the critical one is 2.269.
        size: side of the lattice, in sites; a multiple of twice the ranks.
        sweeps: updates of the whole lattice. seed: an integer. limit: seconds.
        parsl_resource_specification: {"num_nodes": N} for other than the usual nodes.

    Returns a dict:
        magnetization, energy: mean |m| and mean energy, per site (energy in units of J);
        magnetization_error, energy_error: their standard errors, from 16 blocks of the series;
        device: what computed it; ranks: how many; placement: host, GPU and threads of each.

    Exact: |m| = (1 - sinh(2/T)^-4)^(1/8) below T_c, 0 above (Onsager 1944, Yang 1952).
    """
    import json
    import sys

    from polaris import mpi

    command = [sys.executable, "ising.py", temperature, size, sweeps, seed]
    printed = mpi.run(command, limit)
    return json.loads(printed.splitlines()[-1])


@bash_app
def which_ranks(
    temperature: float,
    stdout=None,
    stderr=None,
    limit: float = TIMEOUT,
    parsl_resource_specification: dict | None = None,
):
    """An executable on the nodes of the task: the text returned is run by bash on the first one.

    Put your own program after $PARSL_MPI_PREFIX, and call it as run.py says; a status other than
    0: the task failed. What it prints goes into two files.
    """
    said = f"T {temperature}: rank $PMI_RANK on $(hostname) GPU $CUDA_VISIBLE_DEVICES"
    program = f"bash -c 'echo {said}'"
    late = f"its ranks were killed after {limit} s; do they hang?"
    failed = f"code=$?; [ $code != 124 ] || echo '{late}' >&2; exit $code"
    return f"timeout {limit} $PARSL_MPI_PREFIX {program} || ({failed})"
