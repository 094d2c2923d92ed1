"""The pictures of a report: what each worker did when, where the time went, how long tasks took."""

from __future__ import annotations

from pathlib import Path

import numpy
from matplotlib.figure import Figure

from .runs import Run, percent
from .spent import LEAST, PARTS
from .timeline import GOOD, WIDTH, colour_of, draw_timeline

SEEN = 0.0005  # share from which on a part is drawn
SHORTEST = 1e-3  # seconds, that a time is drawn as at least
WIDE = 50  # the longest time over the shortest from which on the axis is logarithmic


def draw(run: Run, folder: Path) -> dict[str, Path]:
    """Draw the pictures of a run into a folder; returns {what is shown: its file}."""
    figures = {
        "timeline": draw_timeline(run),
        "shares": draw_shares(run),
        "seconds": draw_seconds(run),
    }
    paths = {}
    for name, figure in figures.items():
        paths[name] = folder / f"report-{name}.png"
        figure.savefig(paths[name], dpi=130)
    return paths


# --- where the time went --------------------------------------------------------------------------
def draw_shares(run: Run) -> Figure:
    """The time of all workers by what it went into: a bar an executor."""
    executors = list(run.of)
    several = len(executors) > 1
    height = 0.7 + 0.6 * len(executors) if several else 1.3
    figure = Figure((WIDTH, height), layout="constrained")
    axes = figure.subplots()
    seconds = numpy.array(list(run.of.values()))  # shape (executors, PARTS)
    wholes = seconds.sum(axis=1).clip(min=LEAST)
    left = numpy.zeros(len(executors))
    for part, (name, (colour, _)) in enumerate(PARTS.items()):
        share = run.shares[part]
        if share <= SEEN:
            continue
        width = 100 * seconds[:, part] / wholes
        axes.barh(
            executors,
            width,
            left=left,
            color=colour,
            edgecolor="white",
            label=f"{name} {percent(share)}",
        )
        left += width
    axes.set_xlabel("share of the workers' time (%)")
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    if not several:
        axes.set_yticks([])
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(PARTS),
        frameon=False,
        fontsize=8,
    )
    return figure


# --- how long tasks took --------------------------------------------------------------------------
def draw_seconds(run: Run) -> Figure:
    """How long tasks took, by app; and beside it how many GPUs were how busy."""
    figure = Figure((WIDTH, 3), layout="constrained")
    axes, side = figure.subplots(1, 2)
    _draw_times(axes, run)
    shares = [100 * gpu.computed for gpu in run.busy()]
    side.hist(
        shares,
        numpy.linspace(0, 100, 21),
        color=GOOD,
        edgecolor="white",
    )
    on_gpus = all(lane.gpu for lane in run.lanes)
    side.set_xlabel("share of its time that it computed (%)")
    side.set_ylabel("GPUs" if on_gpus else "workers")
    for each in (axes, side):
        whole_numbers = each.yaxis.get_major_locator()
        whole_numbers.set_params(integer=True)
    return figure


def _draw_times(axes, run):
    axes.set_xlabel("time of a task (s)")
    axes.set_ylabel("tasks")
    seconds, names, colours = [], [], []
    for code, app in enumerate(run.apps):
        took = run.seconds(app=code)
        if len(took):
            seconds.append(took.clip(min=SHORTEST))
            names.append(app)
            colours.append(colour_of(code))
    if not seconds:
        return
    known = numpy.concatenate(seconds)
    low = known.min()
    high = known.max()
    wide = high > WIDE * low
    spaced = numpy.geomspace if wide else numpy.linspace
    axes.hist(
        seconds,
        spaced(low, high * 1.001 + 1e-6, 41),
        stacked=True,
        color=colours,
        label=names,
        edgecolor="white",
    )
    axes.set_xscale("log" if wide else "linear")
    axes.legend(frameon=False)
