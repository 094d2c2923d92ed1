"""Yours to edit: what one evaluation is. Imported on every worker, so keep the top of it light."""

from parsl import python_app

LATTICES = 32  # of each size, side by side


@python_app
def evaluate(temperature: float, size: int, sweeps: int, seed: int) -> dict:
    """How much better the spins of a lattice hold together than those of one of half its size.

    S, of a lattice of the 2D Ising model, is its uniform fluctuations over those of its longest
    wave, and S - 1 goes with (correlation length / size)^2: below T_c it is larger in the larger
    lattice, above T_c in the smaller one.

    Args:
        temperature: in units of J / k_B. size: side of the smaller lattices, in sites; even.
        sweeps: updates of each of these; the larger ones get twice as many. seed: an integer.

    Returns a dict: gap, the difference of the two S - 1 over their sum, which is 0 at T_c; error,
    its standard error, from 32 independent lattices of each size, each left out in turn.
    """
    import ising

    small = stretch(ising.fluctuations(temperature, size, sweeps, 2 * seed, LATTICES))
    large = stretch(ising.fluctuations(temperature, 2 * size, 2 * sweeps, 2 * seed + 1, LATTICES))
    gaps = (large - small) / (large + small)
    return {"gap": float(gaps[0]), "error": float(gaps[1:].std() * (LATTICES - 1) ** 0.5)}


def stretch(series):
    """S - 1 of all lattices of a series, then without each of them: an array (1 + lattices)."""
    import numpy

    settled = series[len(series) // 4 :]
    uniform, wave = settled.mean(0)
    parts = []
    for means in (uniform, wave):
        total = means.sum()
        parts.append(numpy.append(total, total - means))
    return numpy.maximum(parts[0] / parts[1] - 1, 1e-3)
