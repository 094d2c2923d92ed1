"""Yours to edit: what is made of the finished rows: the magnetization, beside the exact one."""

import csv
import math


def exact_magnetization(temperature: float) -> float:
    """|m| of the infinite 2D Ising model (Onsager 1944, Yang 1952); temperature in J / k_B."""
    critical = 2 / math.log(1 + math.sqrt(2))
    if temperature >= critical:
        return 0.0
    return (1 - math.sinh(2 / temperature) ** -4) ** 0.125


def averages(rows) -> list[dict]:
    """The seeds of each temperature made one row, by temperature.

    rows: dicts with temperature, magnetization and magnetization_error. Returns dicts with these,
    `exact` and `seeds` (how many); the error is the larger of the seeds' own and of their scatter.
    """
    measured = {}
    for row in rows:
        pair = (row["magnetization"], row["magnetization_error"])
        measured.setdefault(row["temperature"], []).append(pair)
    return [average(temperature, measured[temperature]) for temperature in sorted(measured)]


def average(temperature: float, measured: list[tuple[float, float]]) -> dict:
    """One row of `averages`. measured: (|m| per site, its standard error) of each seed."""
    n = len(measured)
    mean = sum(value for value, _ in measured) / n
    own = math.sqrt(sum(error**2 for _, error in measured)) / n
    squares = sum((value - mean) ** 2 for value, _ in measured)
    scatter = math.sqrt(squares / max(1, n - 1) / n)
    return {
        "temperature": temperature,
        "magnetization": mean,
        "magnetization_error": max(own, scatter),
        "seeds": n,
        "exact": exact_magnetization(temperature),
    }


def summary(rows: list[dict], name: str = "results/magnetization") -> str | None:
    """Print rows as a table, and write them to NAME.csv and NAME.png; returns the latter's path."""
    if not rows:
        return None
    print_table(rows)
    with open(f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, f"{name}.png")
    return f"{name}.png"


def print_table(rows: list[dict]) -> None:
    """Print dicts with the same keys as columns; numbers with four decimals."""
    lines = [list(rows[0])]
    for row in rows:
        cells = [
            f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()
        ]
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def draw(rows: list[dict], path: str) -> None:
    """|m| against temperature, over the exact curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    temperatures = [row["temperature"] for row in rows]
    measured = [row["magnetization"] for row in rows]
    errors = [row["magnetization_error"] for row in rows]
    low = min(*temperatures, 2.0) - 0.1
    high = max(*temperatures, 2.5) + 0.1
    fine = [low + (high - low) * i / 1000 for i in range(1001)]
    exact = [exact_magnetization(temperature) for temperature in fine]
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(fine, exact, color="#555555", label="exact, infinite lattice")
    style = {
        "fmt": "o",
        "color": "#0072b2",
        "capsize": 3,
        "label": "Monte Carlo, mean of the seeds",
    }
    axes.errorbar(temperatures, measured, yerr=errors, **style)
    axes.set(xlabel="temperature (J / k_B)", ylabel="|magnetization| per site", ylim=(-0.03, 1.03))
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
