"""What a run shows: progress on a terminal or in a log, the table and the picture at the end."""

import csv
import math
import sys
import time

from .ensemble import Clock


class Lines:
    """Progress as plain lines, one a minute: for the log of a job."""

    stopping = False

    def __init__(self, every=60):
        self.due = Clock(every)

    def update(self, run, last=False):
        news = run.stopping is not None and not self.stopping
        self.stopping = run.stopping is not None
        if last or news or self.due():
            around = [] if last else run.around + failure(run)
            print(f"{time.strftime('%H:%M:%S')} {'; '.join([run.text(), *around])}", flush=True)

    def close(self):
        pass


class Bar:
    """The same on a terminal: a bar that moves, and below it workers, blocks and the last failure."""

    def __init__(self):
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn

        bar = BarColumn(bar_width=20, complete_style="green")
        self.bar = Progress(bar, TextColumn("{task.description}", markup=False))
        self.task = self.bar.add_task("starting workers", total=1)
        self.live = Live(self.bar, refresh_per_second=2)
        self.live.start()
        self.due = Clock(0.5)  # drawing at every task that ends would slow short ones

    def update(self, run, last=False):
        from rich.console import Group
        from rich.text import Text

        if not (last or self.due()):
            return
        self.bar.update(self.task, total=run.total, completed=run.done + run.failed, description=run.text())
        below = [] if last else [Text(line, "cyan") for line in run.around]
        below += [] if last else [Text(line, "red") for line in failure(run)]
        self.live.update(Group(self.bar, *below))

    def close(self):
        self.live.stop()


def failure(run):
    """The last failure of a run, as a list of one line or none."""
    return [f"last failure: {run.last_failure}"] if run.last_failure else []


def progress():
    """The view that fits where the output goes."""
    return Bar() if sys.stdout.isatty() else Lines()


def exact_magnetization(temperature):
    """|m| of the infinite 2D Ising model (Onsager 1944, Yang 1952); temperature in J / k_B."""
    below = temperature < 2 / math.log(1 + math.sqrt(2))
    return (1 - math.sinh(2 / temperature) ** -4) ** 0.125 if below else 0.0


def table(rows):
    """Print a list of dicts with the same keys as columns; numbers with four decimals."""
    cells = [list(rows[0])] + [
        [f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def write_csv(path, rows):
    """Write a list of dicts with the same keys as a CSV file."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plot_magnetization(path, rows):
    """Draw |m| against temperature over the exact curve. rows: dicts as `average` returns them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    temperatures = [row["temperature"] for row in rows]
    low, high = min(temperatures + [2.0]) - 0.1, max(temperatures + [2.5]) + 0.1
    fine = [low + (high - low) * i / 1000 for i in range(1001)]
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(fine, [exact_magnetization(t) for t in fine], color="#555555", label="exact, infinite lattice")
    axes.errorbar(
        temperatures,
        [row["magnetization"] for row in rows],
        yerr=[row["magnetization_error"] for row in rows],
        fmt="o",
        color="#0072b2",
        capsize=3,
        label="Monte Carlo, mean of the seeds",
    )
    axes.set(xlabel="temperature (J / k_B)", ylabel="|magnetization| per site", ylim=(-0.03, 1.03))
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
