"""The 2D Ising model, many lattices side by side, by torch (GPU, CPU) or numpy: yours to replace.

The sites of a lattice are coloured like a chessboard, and those of each colour are an array of
their own, (size, size / 2, replicas): none has a neighbour of its colour, so they change together.
"""

import math
import os


def fluctuations(temperature: float, size: int, sweeps: int, seed: int, replicas: int = 16):
    """Simulate lattices by checkerboard Metropolis, from the ordered state on.

    temperature: in units of J / k_B. size: side of a lattice, in sites; even. sweeps: updates of
    each whole lattice. seed: an integer. replicas: how many lattices, independent of each other.

    Returns a numpy array (measurements, 2, replicas), measured every size / 4 sweeps, the first
    ones too: squares of the magnetization per site, of its mean and of its longest wave.
    """
    if size < 4 or size % 2 or sweeps < 20 or temperature <= 0:
        needed = "size even and 4 or more, sweeps 20 or more, temperature above 0"
        raise ValueError(f"{temperature=}, {size=}, {sweeps=}: needed are {needed}")
    xp, on, random = arrays(seed)
    black = xp.ones((size, size // 2, replicas), dtype=xp.float32, **on)
    white = xp.ones((size, size // 2, replicas), dtype=xp.float32, **on)
    side = xp.arange(size, dtype=xp.float32, **on)
    odd = (side % 2 == 1)[:, None, None]
    phase = side * (2 * math.pi / size)
    waves = xp.stack((xp.cos(phase), xp.sin(phase)))
    measured = []
    for sweep in range(sweeps):
        black = updated(xp, random, black, white, odd, temperature)
        white = updated(xp, random, white, black, ~odd, temperature)
        if sweep % (size // 4) == 0:
            measured.append(measurement(xp, black, white, waves))
    series = xp.stack(measured)
    return series.cpu().numpy() if hasattr(series, "cpu") else series


def updated(xp, random, mine, others, shifted, temperature: float):
    """The sites of one colour after a step. shifted: rows whose other neighbour is on the right."""
    across = others + xp.where(shifted, xp.roll(others, -1, 1), xp.roll(others, 1, 1))
    along = xp.roll(others, 1, 0) + xp.roll(others, -1, 0)
    field = mine * (across + along)
    flip = random(mine.shape) < xp.exp(field * (-2 / temperature))
    return xp.where(flip, -mine, mine)


def measurement(xp, black, white, waves):
    """(2, replicas): |mean spin|^2 and |its longest wave|^2, the mean of those along both sides."""
    rows = (black + white).sum(1)
    even = black[0::2].sum(0) + white[1::2].sum(0)
    odd = white[0::2].sum(0) + black[1::2].sum(0)
    columns = xp.stack((even, odd), 1).reshape(rows.shape)
    total = rows.sum(0) ** 2
    along = ((waves @ rows) ** 2).sum(0)
    across = ((waves @ columns) ** 2).sum(0)
    sites = rows.shape[0] ** 2
    return xp.stack((total, (along + across) / 2)) / sites**2


def arrays(seed: int):
    """torch on a GPU or CPU, else numpy: (the module, where its arrays go, random(shape))."""
    try:
        import torch
    except ImportError:
        import numpy

        generator = numpy.random.default_rng(seed)
        return numpy, {}, lambda shape: generator.random(shape, dtype=numpy.float32)
    on = {"device": "cpu"}
    if torch.cuda.is_available():
        on = {"device": "cuda"}
        # Its part of the memory, where tasks share a GPU.
        torch.cuda.set_per_process_memory_fraction(float(os.environ.get("GPU_FRACTION", 1)))
    generator = torch.Generator(**on).manual_seed(seed)
    return torch, on, lambda shape: torch.rand(shape, generator=generator, **on)
