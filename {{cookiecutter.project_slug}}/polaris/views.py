"""What a run shows: progress on a terminal or in a log, the table and the picture at the end."""

import csv
import math
import sys
import time

from .ensemble import Clock


def seconds_in_words(seconds):
    """3725 -> "1 h 2 min"; 45 -> "45 s"."""
    seconds = int(seconds)
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Lines:
    """Progress as plain lines, one a minute: for the log of a job."""

    def __init__(self, every=60):
        self.due, self.start = Clock(every), time.monotonic()

    def update(self, run, last=False):
        if last or self.due():
            print(f"{time.strftime('%H:%M:%S')} {self.text(run)}", flush=True)

    def text(self, run):
        ended = run.done + run.failed - len(run.done_before)
        elapsed = max(time.monotonic() - self.start, 1e-6)
        text = f"done {run.done}, failed {run.failed}, left {run.left} of {run.total}"
        if ended and run.left:
            text += f"; {ended / elapsed:.2g} tasks/s, {seconds_in_words(run.left * elapsed / ended)} to go"
        return text

    def close(self):
        pass


class Bar(Lines):
    """The same on a terminal, as one line that moves."""

    def __init__(self):
        from rich.progress import BarColumn, Progress, TextColumn

        super().__init__()
        self.progress = Progress(BarColumn(), TextColumn("{task.description}"))
        self.task = self.progress.add_task("starting workers", total=1)
        self.progress.start()

    def update(self, run, last=False):
        ended = run.done + run.failed
        text = self.text(run) if ended > len(run.done_before) or last else "waiting for the first result"
        self.progress.update(self.task, total=run.total, completed=ended, description=text)

    def close(self):
        self.progress.stop()


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
