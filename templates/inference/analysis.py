"""Yours to edit: the critical temperature from what the model said, and a picture of it.

The larger the lattices, the more suddenly the model changes its mind as temperature grows. Curves
of two sizes cross at T_c, whatever the model takes for the border between the phases.
"""

import numpy

EXACT = 2.269185  # 2 / log(1 + sqrt(2)), Onsager 1944
FEWEST = 4  # temperatures that tell where a parabola crosses
FINITE = 0.02  # that lattices of 8 sites a side may shift the crossing


def curves(results) -> dict:
    """{size: [(temperature, mean of `ordered`, its standard error), ...]} of finished rows."""
    found = {}
    for row in results:
        here = found.setdefault(row["size"], {}).setdefault(row["temperature"], [])
        here.append(row["ordered"])
    made = {}
    for size, by_temperature in sorted(found.items()):
        made[size] = []
        for temperature, said in sorted(by_temperature.items()):
            error = numpy.std(said) / len(said) ** 0.5
            made[size].append((temperature, float(numpy.mean(said)), max(float(error), 0.005)))
    return made


def critical_temperature(found: dict) -> tuple[float, float] | None:
    """(T_c, its error, 95 %): where the curves of the smallest and the largest size cross.

    Their difference is fitted by a parabola; ValueError where it has no zero. None: too few
    temperatures that both sizes have, as where only some rows have run.
    """
    sizes = (min(found), max(found))
    common = set.intersection(*({point[0] for point in found[size]} for size in sizes))
    if sizes[0] == sizes[1] or len(common) < FEWEST:
        return None
    small, large = (numpy.array([p for p in found[size] if p[0] in common]) for size in sizes)
    temperature, gap = small[:, 0], large[:, 1] - small[:, 1]
    error = numpy.hypot(large[:, 2], small[:, 2])
    middle = temperature.mean()
    fit, covariance = numpy.polyfit(temperature - middle, gap, 2, w=1 / error, cov="unscaled")
    inside = numpy.linspace(temperature[0], temperature[-1], 2001)
    height = numpy.polyval(fit, inside - middle)
    falls = numpy.flatnonzero((height[:-1] > 0) & (height[1:] <= 0))
    if len(falls) == 0:
        raise ValueError("the curves cross nowhere: give other temperatures, or more inputs")
    critical = float(inside[falls[-1]])
    at = critical - middle
    slope = numpy.polyval(numpy.polyder(fit), at)
    powers = numpy.array([at**2, at, 1])
    scatter = 2 * numpy.sqrt(powers @ covariance @ powers) / abs(slope)
    return critical, float(numpy.hypot(scatter, FINITE))


def in_words(found: tuple[float, float] | None) -> str:
    if found is None:
        return f"no T_c yet: it takes two sizes, both at {FEWEST} temperatures or more"
    return f"T_c = {found[0]:.3f} +- {found[1]:.3f} (95 %; exact: {EXACT:.3f})"


def picture(found: tuple[float, float], curves: dict, path: str) -> str:
    """Draw what the model said of each size, and where the curves cross; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for size, points in curves.items():
        temperature, mean, error = zip(*points, strict=True)
        axes.errorbar(temperature, mean, error, fmt="o-", capsize=3, label=f"{size} x {size}")
    axes.axvline(found[0], color="#d55e00", label=f"T_c = {found[0]:.3f}")
    axes.axvline(EXACT, color="#555555", linewidth=1, label="exact T_c")
    axes.set(xlabel="temperature (J / k_B)", ylabel="share of the ordered phase, by the model")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
