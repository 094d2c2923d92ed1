"""Yours to edit: what one task does. Imported on the first node of a block, so keep the top of it light."""

from parsl import bash_app, python_app

TIMEOUT = 1800  # seconds, less than the walltime, after which ranks that hang are killed and the task fails


@python_app
def ising(temperature, size, sweeps, seed, timeout=TIMEOUT, parsl_resource_specification=None):
    """The 2D Ising model, its lattice split over the ranks of the task: the program is ising.py.

    Args:
        temperature: in units of J / k_B; the critical one is 2.269.
        size: side of the lattice, in sites; a multiple of twice the ranks. sweeps: updates of the whole
        lattice. seed: an integer.
        timeout: seconds. parsl_resource_specification: {"num_nodes": N} for other than the usual nodes.

    Returns a dict:
        magnetization, energy: mean |m| and mean energy, per site (energy in units of J);
        magnetization_error, energy_error: their standard errors, from 16 blocks of the series;
        device: what computed it; ranks: how many; placement: host, GPU and hardware threads of each.

    Exact, for comparison: |m| = (1 - sinh(2/T)^-4)^(1/8) below T_c, 0 above (Onsager 1944, Yang 1952).
    """
    import json
    import sys

    from polaris import mpi

    command = [sys.executable, "ising.py", temperature, size, sweeps, seed]
    return json.loads(mpi.run(command, timeout).splitlines()[-1])


@python_app
def average(temperature, values, errors):
    """Fan-in: the seeds of one temperature made one row.

    values, errors: |m| per site of each seed and its standard error, two lists of the same length.
    Returns a dict: temperature, magnetization (the mean), magnetization_error (the larger of the seeds'
    own error and of their scatter, of the mean), seeds (how many).
    """
    n = len(values)
    mean = sum(values) / n
    own = sum(error**2 for error in errors) ** 0.5 / n
    scatter = (sum((value - mean) ** 2 for value in values) / max(1, n - 1) / n) ** 0.5
    return {
        "temperature": temperature,
        "magnetization": mean,
        "magnetization_error": max(own, scatter),
        "seeds": n,
    }


@bash_app
def which_ranks(temperature, stdout=None, stderr=None, timeout=TIMEOUT, parsl_resource_specification=None):
    """Any executable on the nodes of the task: the text returned is run by bash on the first of the block.

    Put your own program after $PARSL_MPI_PREFIX, and call this in run.py's `task`; a status other than 0
    makes the task fail. What it prints goes into the two files.
    """
    program = f"bash -c 'echo T {temperature}: rank $PMI_RANK on $(hostname) GPU $CUDA_VISIBLE_DEVICES'"
    said = f"[ $code != 124 ] || echo 'its ranks were killed after {timeout} s; do they hang?' >&2"
    return f"timeout {timeout} $PARSL_MPI_PREFIX {program} || (code=$?; {said}; exit $code)"
