"""The 2D Ising model as an MPI program, its lattice split into strips of rows: yours to replace.

    mpiexec -n 4 python ising.py TEMPERATURE SIZE SWEEPS SEED      (apps.py starts it)

Checkerboard Metropolis; starts ordered, drops the first fifth of the sweeps, measures once a sweep.
Rank 0 prints one JSON object: magnetization and energy per site (energy in units of J), their
standard errors from 16 blocks of the series, the device, the number of ranks, and where each ran.
"""

import json
import os
import sys

from mpi4py import (
    MPI,
)  # before torch: else Cray MPICH's GPU library is not linked (known issue)

from polaris.machine import where

try:
    import torch as xp
except ImportError:
    import numpy as xp


def ising(temperature: float, size: int, sweeps: int, seed: int, comm=MPI.COMM_WORLD):
    """temperature: in J / k_B. size: side of the lattice, sites. Returns the dict on rank 0."""
    if size % (2 * comm.size) or size < 4 or sweeps < 20 or temperature <= 0:
        ranks = f"size a multiple of {2 * comm.size} (ranks x 2)"
        needed = f"{ranks}, sweeps 20 or more, temperature above 0"
        raise ValueError(f"{temperature=}, {size=}, {sweeps=}: needed are {needed}")
    on, random, device = arrays(seed, comm)
    up, down = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    strip = Strip(size, comm, up, down, on)
    m, e = xp.zeros(sweeps, **on), xp.zeros(sweeps, **on)
    for sweep in range(sweeps):
        strip.update(temperature, random)
        m[sweep], e[sweep] = strip.sums()
    series = [[float(x) for x in m], [float(x) for x in e]]
    sums = comm.reduce(series, op=_add)
    places = comm.gather("{host} gpu {gpu} cores {cores}".format(**where()))
    if comm.rank > 0:
        return None
    first = sweeps // 5
    magnetization, magnetization_error = mean_of([abs(x) / size**2 for x in sums[0][first:]])
    energy, energy_error = mean_of([x / size**2 for x in sums[1][first:]])
    return {
        "magnetization": magnetization,
        "magnetization_error": magnetization_error,
        "energy": energy,
        "energy_error": energy_error,
        "device": device,
        "ranks": comm.size,
        "placement": "; ".join(places),
    }


def arrays(seed: int, comm):
    """(where the arrays of this rank go, random(shape), what computes)."""
    if xp.__name__ == "numpy":
        generator = xp.random.default_rng([seed, comm.rank])
        return {}, lambda shape: generator.random(shape, dtype=xp.float32), "CPU (numpy)"
    on = {"device": "cpu"}
    device = "CPU (torch)"
    if xp.cuda.is_available():
        on = {"device": "cuda"}
        device = xp.cuda.get_device_name()
    generator = xp.Generator(**on).manual_seed(seed * comm.size + comm.rank)
    return on, lambda shape: xp.rand(shape, generator=generator, **on), device


class Strip:
    """The rows of one rank, and on both sides a row of its neighbours'."""

    def __init__(self, size: int, comm, up: int, down: int, on: dict):
        rows = size // comm.size  # of each rank; even, so that the colours of all strips agree
        self.comm = comm
        self.up = up  # ranks that have the neighbouring strips
        self.down = down
        self.on_gpu = on.get("device") == "cuda"
        self.cuda_aware = self.on_gpu and os.environ.get("MPICH_GPU_SUPPORT_ENABLED") == "1"
        self.spins = xp.ones((rows + 2, size), dtype=xp.float32, **on)
        self.inner = self.spins[1:-1]
        row, column = xp.arange(rows, **on), xp.arange(size, **on)
        self.black = (row[:, None] + column[None, :]) % 2 == 0

    def update(self, temperature: float, random) -> None:
        """One sweep: the sites of a colour have no neighbours of the same colour."""
        for colour in (self.black, ~self.black):
            self.exchange()
            beside = xp.roll(self.inner, 1, 1) + xp.roll(self.inner, -1, 1)
            field = self.inner * (self.spins[:-2] + self.spins[2:] + beside)
            flip = colour & (random(field.shape) < xp.exp(field * (-2 / temperature)))
            self.inner[:] = xp.where(flip, -self.inner, self.inner)
        self.exchange()

    def sums(self):
        """Magnetization and energy of the strip."""
        beside = self.spins[:-2] + xp.roll(self.inner, 1, 1)
        return self.inner.sum(), -(self.inner * beside).sum()

    def exchange(self) -> None:
        """Fill the outer rows with the neighbours': GPU to GPU where MPI can, else by the host."""
        if self.on_gpu:
            xp.cuda.synchronize()
        last = len(self.spins) - 1
        self._pass_on(1, self.up, last, self.down)
        self._pass_on(last - 1, self.down, 0, self.up)

    def _pass_on(self, send, to, receive, source):
        spins = self.spins
        if not self.on_gpu or self.cuda_aware:
            self.comm.Sendrecv(spins[send], to, recvbuf=spins[receive], source=source)
            return
        row = xp.empty(spins.shape[1], dtype=xp.float32)
        self.comm.Sendrecv(spins[send].cpu(), to, recvbuf=row, source=source)
        spins[receive] = row.to("cuda")


{% include "common/mean_of.py" %}


def _add(a, b):
    return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]


if __name__ == "__main__":
    try:
        result = ising(float(sys.argv[1]), *map(int, sys.argv[2:]))
    except ValueError as error:
        sys.exit(f"ValueError: {error}")  # every rank finds it
    if result is not None:
        print(json.dumps(result))
