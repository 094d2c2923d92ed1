"""Yours to edit: how the critical temperature is found, and what is shown of it.

A lattice has a correlation length of (S - 1)^(1/2) / (2 pi) of its size, S being its uniform
fluctuations over those of its longest wave. At T_c, and there alone, this is the same for lattices
of all sizes: around it, log(S - 1) is one function of (T - T_c) size^(1/nu). All is fitted, T_c, nu
and the function; nothing about them is assumed.
"""

import numpy

EXACT = 2.269185  # 2 / log(1 + sqrt(2)), Onsager 1944
IN_95 = (
    2.13  # standard errors to either side for 95 % of all cases, as one of 16 lattices is left out
)


def critical_temperature(curves: list[dict]) -> dict:
    """T_c of the infinite lattice, from what `apps.analyse` returned for sizes and temperatures.

    Returns a dict: critical_temperature and its error (95 %: the lattices' scatter, by leaving out
    each in turn, more where the fit is bad; and what leaving out the smallest size changes, as
    lattices are finite), exponent (1 / nu) and its error, misfit (chi^2 per degree of freedom).
    """
    sizes = numpy.array([curve["size"] for curve in curves], float)
    temperatures = numpy.array([curve["temperature"] for curve in curves])
    if len(set(sizes)) < 3 or len(set(temperatures)) < 3:
        raise ValueError("T_c takes lattices of three sizes and three temperatures at least")
    heights, left_out = stretches(curves)
    lattices = left_out.shape[1]
    errors = numpy.sqrt(lattices - 1) * left_out.std(1)
    best, misfit = fitted(temperatures, sizes, heights, errors)
    again = [fitted(temperatures, sizes, column, errors)[0] for column in left_out.T]
    scatter = numpy.sqrt(lattices - 1) * numpy.std(again, axis=0)
    scatter = IN_95 * scatter * max(1, misfit) ** 0.5
    large = sizes > sizes.min()
    part = [each[large] for each in (temperatures, sizes, heights, errors)]
    shift = fitted(*part)[0][0] - best[0]
    return {
        "critical_temperature": float(best[0]),
        "error": float(numpy.hypot(scatter[0], shift)),
        "exponent": float(best[1]),
        "exponent_error": float(scatter[1]),
        "misfit": float(misfit),
    }


def stretches(curves: list[dict]):
    """log(S - 1) of each curve, (curves), and without each of its lattices, (curves, lattices)."""
    uniform = numpy.array([curve["uniform"] for curve in curves])
    wave = numpy.array([curve["wave"] for curve in curves])
    whole = uniform.sum(1) / wave.sum(1)
    without = (uniform.sum(1, keepdims=True) - uniform) / (wave.sum(1, keepdims=True) - wave)
    if min(whole.min(), without.min()) <= 1:
        raise ValueError(
            "a lattice has no correlation length: give more sweeps, or temperatures nearer to T_c"
        )
    return numpy.log(whole - 1), numpy.log(without - 1)


def fitted(temperatures, sizes, heights, errors):
    """Least squares by Gauss and Newton: (array of T_c and 1 / nu, chi^2 per degree of freedom).

    heights = a + b x + c x^2 with x = (temperature - T_c) size^(1/nu), each with its error.
    """
    critical = temperatures.mean()
    exponent = 1.0
    shape = numpy.zeros(3)
    for _ in range(20):
        x = (temperatures - critical) * sizes**exponent
        powers = numpy.stack([numpy.ones_like(x), x, x**2], 1)
        slope = shape[1] + 2 * shape[2] * x
        by_critical = -slope * sizes**exponent
        by_exponent = slope * x * numpy.log(sizes)
        columns = numpy.column_stack([powers, by_critical, by_exponent])
        missing = (heights - powers @ shape) / errors
        step = numpy.linalg.lstsq(columns / errors[:, None], missing, rcond=None)[0]
        shape = shape + step[:3]
        critical += step[3]
        exponent += step[4]
    lowest, highest = temperatures.min(), temperatures.max()
    if not (lowest < critical < highest and 0 < exponent < 3):
        wrong = f"the sizes do not agree anywhere from {lowest} to {highest}"
        raise ValueError(f"{wrong}: give other temperatures, more sweeps or larger lattices")
    return numpy.array([critical, exponent]), (missing**2).sum() / max(1, len(heights) - 5)


def in_words(found: dict) -> str:
    """What `critical_temperature` returned, as one line."""
    critical = f"T_c = {found['critical_temperature']:.4f} +- {found['error']:.4f}"
    exponent = f"1/nu = {found['exponent']:.2f} +- {found['exponent_error']:.2f} (exact: 1)"
    misfit = f"chi^2 of the fit {found['misfit']:.2f}"
    return f"{critical} (95 %; exact: {EXACT:.4f}); {exponent}; {misfit}"


def picture(found: dict, curves: list[dict], path: str) -> str:
    """Draw the correlation lengths of all sizes and T_c where they meet; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights, left_out = stretches(curves)
    lengths = numpy.exp(heights / 2) / (2 * numpy.pi)
    relative = numpy.sqrt(left_out.shape[1] - 1) * left_out.std(1) / 2
    sizes = numpy.array([curve["size"] for curve in curves])
    temperatures = numpy.array([curve["temperature"] for curve in curves])
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    critical, error = found["critical_temperature"], found["error"]
    axes.axvspan(critical - error, critical + error, color="#dddddd", label="T_c, 95 %")
    axes.axvline(EXACT, color="#555555", linewidth=1, label="exact T_c")
    for size in sorted(set(sizes)):
        mine = sizes == size
        bars = (lengths * relative)[mine]
        axes.errorbar(
            temperatures[mine],
            lengths[mine],
            yerr=bars,
            fmt="o-",
            capsize=3,
            label=f"{size} x {size}",
        )
    axes.set(xlabel="temperature (J / k_B)", ylabel="correlation length / size")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
