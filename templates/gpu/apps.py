"""Yours to edit: what one task does. Imported on every worker, so keep the top of it light."""

from parsl import bash_app, python_app


@python_app
def ising(temperature, size, sweeps, seed):
    """The 2D Ising model on a square lattice, by checkerboard Metropolis: one task of the sweep.

    Starts ordered, drops the first fifth of the sweeps, measures once a sweep.

    Args:
        temperature: in units of J / k_B; the critical one is 2.269.
        size: side of the lattice, in sites; even. sweeps: updates of the whole lattice. seed: an integer.

    Returns a dict:
        magnetization, energy: mean |m| and mean energy, per site (energy in units of J);
        magnetization_error, energy_error: their standard errors, from 16 blocks of the series;
        device: what computed it; host, gpu, cores: where; seconds: how long.

    Exact, for comparison: |m| = (1 - sinh(2/T)^-4)^(1/8) below T_c, 0 above (Onsager 1944, Yang 1952).
    """
    import os
    import time

    from polaris.machine import where

    start = time.perf_counter()
    if size < 4 or size % 2 or sweeps < 20 or temperature <= 0:
        needed = "size even and 4 or more, sweeps 20 or more, temperature above 0"
        raise ValueError(f"{temperature=}, {size=}, {sweeps=}: needed are {needed}")
    try:
        import torch as xp
    except ImportError:
        import numpy as xp
    if xp.__name__ == "torch":
        on = {"device": "cuda" if xp.cuda.is_available() else "cpu"}
        if on["device"] == "cuda":  # its part of the memory, where tasks share a GPU
            xp.cuda.set_per_process_memory_fraction(float(os.environ.get("GPU_FRACTION", 1)))
        generator = xp.Generator(**on).manual_seed(seed)
        device = xp.cuda.get_device_name() if on["device"] == "cuda" else "CPU (torch)"

        def random():
            return xp.rand((size, size), generator=generator, **on)
    else:
        on = {}
        generator = xp.random.default_rng(seed)
        device = "CPU (numpy)"

        def random():
            return generator.random((size, size), dtype=xp.float32)

    side = xp.arange(size, **on)
    black = (side[:, None] + side[None, :]) % 2 == 0
    spins = xp.ones((size, size), dtype=xp.float32, **on)
    m, e = xp.zeros(sweeps, **on), xp.zeros(sweeps, **on)
    for sweep in range(sweeps):
        for colour in (black, ~black):  # sites of one colour have no neighbours of the same colour
            field = spins * (
                xp.roll(spins, 1, 0) + xp.roll(spins, -1, 0) + xp.roll(spins, 1, 1) + xp.roll(spins, -1, 1)
            )
            flip = colour & (random() < xp.exp(field * (-2 / temperature)))
            spins = xp.where(flip, -spins, spins)
        m[sweep] = abs(spins.mean())
        e[sweep] = -(spins * (xp.roll(spins, 1, 0) + xp.roll(spins, 1, 1))).mean()

    result = {}
    for name, series in (("magnetization", m), ("energy", e)):
        series = [float(x) for x in series[sweeps // 5 :]]
        length = max(1, len(series) // 16)
        starts = range(0, length * (len(series) // length), length)
        blocks = [sum(series[i : i + length]) / length for i in starts]
        mean = sum(blocks) / len(blocks)
        variance = sum((b - mean) ** 2 for b in blocks) / (len(blocks) - 1)
        result[name] = sum(series) / len(series)
        result[f"{name}_error"] = (variance / len(blocks)) ** 0.5
    return {**result, "device": device, **where(), "seconds": round(time.perf_counter() - start, 3)}


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
def which_gpu(stdout=None, stderr=None):
    """An executable per GPU: the text returned is run by bash; what it prints goes into the two files.

    Put your own program here, and call it in run.py's `task`; a status other than 0 makes the task fail.
    """
    return 'hostname; nvidia-smi -L | grep -e "^GPU $CUDA_VISIBLE_DEVICES:" -e "UUID: $CUDA_VISIBLE_DEVICES"'
