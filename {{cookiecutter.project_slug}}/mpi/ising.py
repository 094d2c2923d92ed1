"""The 2D Ising model as an MPI program, its lattice split into strips of rows: yours to replace.

    mpiexec -n 4 python ising.py TEMPERATURE SIZE SWEEPS SEED      (apps.py starts it)

Checkerboard Metropolis; starts ordered, drops the first fifth of the sweeps, measures once a sweep. Rank 0
prints one JSON object: magnetization and energy per site (energy in units of J), their standard errors from
16 blocks of the series, the device, the number of ranks, and where each rank ran.
"""

import json
import os
import sys

from mpi4py import MPI  # before torch: else Cray MPICH's GPU library is not linked (ALCF, known issues)

from polaris.machine import where

try:
    import torch as xp
except ImportError:
    import numpy as xp


def ising(temperature, size, sweeps, seed, comm=MPI.COMM_WORLD):
    """temperature: in units of J / k_B. size: side of the lattice, sites. Returns the dict on rank 0."""
    if size % (2 * comm.size) or size < 4 or sweeps < 20 or temperature <= 0:
        needed = f"size a multiple of {2 * comm.size} (ranks x 2), sweeps 20 or more, temperature above 0"
        raise ValueError(f"{temperature=}, {size=}, {sweeps=}: needed are {needed}")
    if xp.__name__ == "torch":
        on = {"device": "cuda" if xp.cuda.is_available() else "cpu"}
        generator = xp.Generator(**on).manual_seed(seed * comm.size + comm.rank)
        device = xp.cuda.get_device_name() if on["device"] == "cuda" else "CPU (torch)"

        def random():
            return xp.rand((rows, size), generator=generator, **on)
    else:
        on = {}
        generator = xp.random.default_rng([seed, comm.rank])
        device = "CPU (numpy)"

        def random():
            return generator.random((rows, size), dtype=xp.float32)

    on_gpu = on.get("device") == "cuda"
    cuda_aware = on_gpu and os.environ.get("MPICH_GPU_SUPPORT_ENABLED") == "1"
    rows = size // comm.size  # of each rank; even, so that the colours of all strips agree
    up, down = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    spins = xp.ones((rows + 2, size), dtype=xp.float32, **on)  # the first and last row are the neighbours'
    inner = spins[1:-1]
    black = (xp.arange(rows, **on)[:, None] + xp.arange(size, **on)[None, :]) % 2 == 0

    def exchange():
        """Fill the outer rows with the neighbours' edge rows: GPU to GPU where MPI can, else by the host."""
        if on_gpu:
            xp.cuda.synchronize()
        for send, to, receive, source in ((1, up, rows + 1, down), (rows, down, 0, up)):
            if not on_gpu or cuda_aware:
                comm.Sendrecv(spins[send], to, recvbuf=spins[receive], source=source)
            else:
                row = xp.empty(size, dtype=xp.float32)
                comm.Sendrecv(spins[send].cpu(), to, recvbuf=row, source=source)
                spins[receive] = row.to("cuda")

    m, e = xp.zeros(sweeps, **on), xp.zeros(sweeps, **on)
    for sweep in range(sweeps):
        for colour in (black, ~black):  # sites of one colour have no neighbours of the same colour
            exchange()
            beside = xp.roll(inner, 1, 1) + xp.roll(inner, -1, 1)
            field = inner * (spins[:-2] + spins[2:] + beside)
            flip = colour & (random() < xp.exp(field * (-2 / temperature)))
            inner[:] = xp.where(flip, -inner, inner)
        exchange()
        m[sweep] = inner.sum()
        e[sweep] = -(inner * (spins[:-2] + xp.roll(inner, 1, 1))).sum()

    sums = comm.reduce([[float(x) for x in series] for series in (m, e)], op=_add)
    places = comm.gather("{host} gpu {gpu} cores {cores}".format(**where()))
    if comm.rank > 0:
        return None
    sites = size * size
    result = {}
    for name, series in (
        ("magnetization", [abs(x) / sites for x in sums[0]]),
        ("energy", [x / sites for x in sums[1]]),
    ):
        series = series[sweeps // 5 :]
        length = max(1, len(series) // 16)
        starts = range(0, length * (len(series) // length), length)
        blocks = [sum(series[i : i + length]) / length for i in starts]
        mean = sum(blocks) / len(blocks)
        variance = sum((b - mean) ** 2 for b in blocks) / (len(blocks) - 1)
        result[name] = sum(series) / len(series)
        result[f"{name}_error"] = (variance / len(blocks)) ** 0.5
    return {**result, "device": device, "ranks": comm.size, "placement": "; ".join(places)}


def _add(a, b):
    return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]


if __name__ == "__main__":
    try:
        result = ising(float(sys.argv[1]), *map(int, sys.argv[2:]))
    except ValueError as error:
        sys.exit(f"ValueError: {error}")  # every rank finds it
    if result is not None:
        print(json.dumps(result))
