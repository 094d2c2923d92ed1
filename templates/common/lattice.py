def ising(temperature: float, size: int, sweeps: int, seed: int) -> dict:
    """The 2D Ising model on a square lattice, by checkerboard Metropolis: a task of the sweep.

    Starts ordered, drops the first fifth of the sweeps, measures once a sweep.

    Args:
        temperature: in units of J / k_B; the critical one is 2.269.
        size: side of the lattice, in sites; even. sweeps: updates of the whole lattice.
        seed: an integer.

    Returns a dict:
        magnetization, energy: mean |m| and mean energy, per site (energy in units of J);
        magnetization_error, energy_error: their standard errors, from 16 blocks of the series;
        device: what computed it.

    Exact: |m| = (1 - sinh(2/T)^-4)^(1/8) below T_c, 0 above (Onsager 1944, Yang 1952).
    """
    if size < 4 or size % 2 or sweeps < 20 or temperature <= 0:
        needed = "size even and 4 or more, sweeps 20 or more, temperature above 0"
        raise ValueError(f"{temperature=}, {size=}, {sweeps=}: needed are {needed}")
    xp, on, random, device = arrays(seed)
    side = xp.arange(size, **on)
    black = (side[:, None] + side[None, :]) % 2 == 0
    spins = xp.ones((size, size), dtype=xp.float32, **on)
    m = xp.zeros(sweeps, **on)
    e = xp.zeros(sweeps, **on)
    for sweep in range(sweeps):
        for colour in (black, ~black):  # sites of one colour have no neighbours of the same colour
            across = xp.roll(spins, 1, 1) + xp.roll(spins, -1, 1)
            along = xp.roll(spins, 1, 0) + xp.roll(spins, -1, 0)
            field = spins * (across + along)
            flip = colour & (random(spins.shape) < xp.exp(field * (-2 / temperature)))
            spins = xp.where(flip, -spins, spins)
        m[sweep] = abs(spins.mean())
        e[sweep] = -(spins * (xp.roll(spins, 1, 0) + xp.roll(spins, 1, 1))).mean()
    magnetization, magnetization_error = mean_of(m[sweeps // 5 :])
    energy, energy_error = mean_of(e[sweeps // 5 :])
    return {
        "magnetization": magnetization,
        "magnetization_error": magnetization_error,
        "energy": energy,
        "energy_error": energy_error,
        "device": device,
    }


def arrays(seed: int):
    """torch on a GPU or CPU, else numpy: (module, where its arrays go, random(shape), device)."""
    try:
        import torch
    except ImportError:
        import numpy

        generator = numpy.random.default_rng(seed)
        return numpy, {}, lambda shape: generator.random(shape, dtype=numpy.float32), "CPU (numpy)"
    on = {"device": "cpu"}
    device = "CPU (torch)"
    if torch.cuda.is_available():
        on = {"device": "cuda"}
        device = torch.cuda.get_device_name()
        # Its part of the memory, where tasks share a GPU.
        torch.cuda.set_per_process_memory_fraction(float(os.environ.get("GPU_FRACTION", 1)))
    generator = torch.Generator(**on).manual_seed(seed)
    return torch, on, lambda shape: torch.rand(shape, generator=generator, **on), device


{% include "common/mean_of.py" %}
