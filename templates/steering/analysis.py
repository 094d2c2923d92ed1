"""Yours to edit: the surrogate, which says where T_c may be, and where to look next.

It is a Gaussian process: it takes the gap of `apps.evaluate` for a smooth function of temperature,
of which it knows a normal distribution at each temperature, narrow where evaluations are.
"""

from concurrent.futures import Future
from typing import NamedTuple

import numpy

EXACT = 2.269185  # 2 / log(1 + sqrt(2)), Onsager 1944
HEIGHT = 0.6  # of the gap, about
WIDTH = 0.2  # temperatures this far apart tell little of each other
LEAST_ERROR = 0.01  # of a gap
IN_95 = 2.5  # standard errors for 95 % of all cases; 2, were the function quite of this kind
FINITE = (
    0.003  # that T_c of an infinite lattice may be off from where lattices of 10 and 20 sites agree
)
STEP = 0.01  # between temperatures that may be evaluated: round ones, the same on every machine


class Crossing(NamedTuple):
    """Where the gap is 0: a temperature and its error (95 %), infinite where it is not known."""

    temperature: float
    error: float


class Surrogate:
    """The gap as a function of temperature, after evaluations at temperatures, with errors."""

    def __init__(self, temperatures, errors):
        self.temperatures = numpy.array(temperatures, float)
        self.errors = numpy.maximum(errors, LEAST_ERROR)
        covariance = _kernel(self.temperatures, self.temperatures)
        self.inverse = numpy.linalg.inv(covariance + numpy.diag(self.errors**2))

    def mean(self, at, gaps):
        """What it expects at an array of temperatures, the evaluations having had these gaps."""
        return _kernel(at, self.temperatures) @ self.inverse @ gaps

    def deviation(self, at):
        """How far off it may be there (one standard deviation); whatever the gaps are."""
        across = _kernel(at, self.temperatures)
        variance = HEIGHT**2 - ((across @ self.inverse) * across).sum(1)
        return numpy.sqrt(numpy.maximum(variance, 1e-12))


def _kernel(a, b):
    distance = (a[:, None] - b[None, :]) / WIDTH
    return HEIGHT**2 * numpy.exp(-(distance**2) / 2)


def measured(rows: list[dict], futures: list[Future]) -> list[dict]:
    """The rows that were asked for with what came of them; waits for their futures."""
    return [{**row, **future.result()} for row, future in zip(rows, futures, strict=False)]


def _columns(rows):
    return [numpy.array([row[name] for row in rows]) for name in ("temperature", "gap", "error")]


def crossing(rows: list[dict]) -> Crossing:
    """Where the gap falls through 0, by what was measured."""
    temperatures, gaps, errors = _columns(rows)
    surrogate = Surrogate(temperatures, errors)
    fine = numpy.linspace(temperatures.min(), temperatures.max(), 2001)
    mean = surrogate.mean(fine, gaps)
    falls = numpy.flatnonzero((mean[:-1] > 0) & (mean[1:] <= 0))
    if len(falls) != 1:
        return Crossing(numpy.nan, numpy.inf)
    place = falls[0]
    slope = (mean[place + 1] - mean[place]) / (fine[1] - fine[0])
    deviation = surrogate.deviation(fine[place : place + 1])[0] / abs(slope)
    error = numpy.hypot(IN_95 * deviation, FINITE)
    return Crossing(float(fine[place] - mean[place] / slope), float(error))


def next_temperature(rows: list[dict], pending: list[dict]) -> float:
    """Where an evaluation tells most: where the gap may well be 0, and is not known well.

    rows: what was measured. pending: what was asked for and is not, but will be.
    """
    temperatures, gaps, errors = _columns(rows)
    lowest, highest = temperatures.min(), temperatures.max()
    steps = round((highest - lowest) / STEP)
    candidates = numpy.round(lowest + STEP * numpy.arange(steps + 1), 6)
    now = Surrogate(temperatures, errors)
    likely = numpy.exp(-((now.mean(candidates, gaps) / now.deviation(candidates)) ** 2) / 2)
    coming = [row["temperature"] for row in pending]
    usual = [numpy.median(errors)] * len(coming)
    then = Surrogate([*temperatures, *coming], [*errors, *usual])
    score = then.deviation(candidates) ** 2 * likely
    return float(candidates[numpy.argmax(numpy.round(score, 9))])


def in_words(found: Crossing, evaluations: int) -> str:
    """What was found, as one line."""
    if not numpy.isfinite(found.error):
        mend = "give more sweeps, or other temperatures"
        return f"T_c is not known after {evaluations} evaluations: {mend}"
    known = f"T_c = {found.temperature:.4f} +- {found.error:.4f} (95 %; exact: {EXACT:.4f})"
    return f"{known} after {evaluations} evaluations"


def picture(found: Crossing, rows: list[dict], path: str) -> str:
    """Draw the evaluations, the surrogate and T_c; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    temperatures, gaps, errors = _columns(rows)
    fine = numpy.linspace(temperatures.min(), temperatures.max(), 500)
    surrogate = Surrogate(temperatures, errors)
    mean, width = surrogate.mean(fine, gaps), 2 * surrogate.deviation(fine)
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axes.fill_between(fine, mean - width, mean + width, color="#dddddd", label="surrogate, 95 %")
    axes.plot(fine, mean, color="#555555")
    style = {"fmt": "o", "color": "#0072b2", "capsize": 3, "label": "evaluations"}
    axes.errorbar(temperatures, gaps, yerr=errors, **style)
    axes.axhline(0, color="#999999", linewidth=1)
    label = f"T_c = {found.temperature:.4f} +- {found.error:.4f}"
    axes.axvline(found.temperature, color="#d55e00", label=label)
    axes.set(xlabel="temperature (J / k_B)", ylabel="gap of two sizes")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
