"""The picture of a report that shows what each worker did when."""

from __future__ import annotations

import re

import numpy
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .history import DONE, Loss
from .runs import Run, lane_name
from .spent import COMPUTING, FAILED_WORK, LOADING, NODE_LOST, PARTS, UNFINISHED

WIDTH = 11  # inches
APPS = ("#0072b2", "#009e73", "#56b4e9", "#cc79a7", "#e69f00", "#999999")  # of the same as PARTS
GOOD = PARTS["computing"][0]
BAD = PARTS["failed work"][0]
LOAD = {"facecolor": "white", "alpha": 0.55, "hatch": "...."}  # of a task, that it loaded
GONE = {"facecolor": "#dddddd", "edgecolor": "#999999", "hatch": "////"}  # what was lost
BARS, ROWS = 5000, 128  # tries and rows of a timeline up to which each try is a bar of its own
OUTLINED = 600  # bars, up to which each has an edge
LABELS = 64  # rows up to which each has its name
BINS, BANDS = 900, 400  # times, and rows at most, of a timeline without bars


def colour_of(app: int) -> str:
    """That of an app, by its code."""
    return APPS[app % len(APPS)]


class Timeline:
    """Where everything is in a timeline: a row a worker, time since the start of the run in `unit`.

    rows: (executor, host, worker, gpu) from the top, executors as config.py has them. of: the row
    of each lane. row, start, end, app, good: of each try that ran, arrays of one length.
    """

    def __init__(self, run: Run):
        tries = run.tries
        placed = tries.placed
        self.run = run
        self.rows = _rows(run)
        self.of = self._rows_of_lanes()
        self.unit, self.seconds = _unit(run.end - run.began)
        self.length = self.at(run.end)
        self.row = self.of[tries.lane[placed]]
        self.start = self.at(tries.started[placed])
        self.end = self.at(tries.ended[placed])
        self.app = tries.app[placed]
        self.good = tries.status[placed] == DONE
        self.in_bars = len(self.rows) <= ROWS and len(self.row) <= BARS
        self.labelled = len(self.rows) <= LABELS
        self.several = len({lane.executor for lane in run.lanes}) > 1

    def at(self, time: float) -> float:
        """Where a moment is, in units."""
        since = time - self.run.began
        return since / self.seconds

    def _rows_of_lanes(self):
        places = {row: place for place, row in enumerate(self.rows)}
        rows = []
        for executor, _, host, worker, gpu in self.run.lanes:
            rows.append(places[executor, host, worker, gpu])
        return numpy.array(rows, int)

    def rows_of(self, loss: Loss) -> list[int]:
        """The rows that a loss is marked in."""
        rows = []
        for place, (executor, host, worker, _) in enumerate(self.rows):
            there = executor == loss.executor and host == loss.host
            if there and loss.worker in ("", worker):
                rows.append(place)
        return rows

    def corners(self) -> numpy.ndarray:
        """Of a bar for each try; shape (tries, 4, 2)."""
        low = self.row - 0.42
        high = self.row + 0.42
        corners = numpy.array(
            [
                (self.start, low),
                (self.start, high),
                (self.end, high),
                (self.end, low),
            ]
        )
        return corners.transpose(2, 0, 1)

    def sums(self, of_lanes: numpy.ndarray) -> numpy.ndarray:
        """Sums over the lanes of each row; shape (rows,)."""
        return numpy.bincount(self.of, of_lanes, len(self.rows))


def _rows(run):
    rows = []
    for label in run.sizes:
        mine = set()
        for executor, _, host, worker, gpu in run.lanes:
            if executor == label:
                mine.add((label, host, worker, gpu))
        rows += sorted(mine, key=_natural)
    return rows


def _natural(row):
    """A key that sorts node 9 before node 10."""
    key = []
    for part in re.split(r"(\d+)", " ".join(row)):
        number = part.isdigit()
        key.append(int(part) if number else part)
    return key


def _unit(seconds):
    """(name, length in seconds) of the unit for an axis that long."""
    if seconds > 3 * 3600:
        return "h", 3600
    return ("min", 60) if seconds > 180 else ("s", 1)


def draw_timeline(run: Run) -> Figure:
    """Each try a bar in the row of its worker, or how busy rows were where bars would not fit."""
    line = Timeline(run)
    height = 1.4 + 0.22 * max(4, len(line.rows))
    figure = Figure((WIDTH, min(11, height)), layout="constrained")
    axes, side = figure.subplots(1, 2, width_ratios=(6, 1), sharey=True)
    legend = []
    if line.in_bars:
        _draw_blocks(axes, line)
        _draw_bars(axes, line)
        _draw_loads(axes, line)
        legend += _legend_of_bars(line)
    else:
        _draw_busy(figure, axes, line)
    legend += _draw_losses(axes, line)
    if legend:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
        axes.legend(handles=legend, ncols=6, frameon=False, **place)
    _label(axes, line)
    if line.several:
        _part_executors(axes, line)
    _draw_busy_shares(side, line)
    return figure


def _draw_blocks(axes, line):
    """White: what was paid for. What a lost node cost is drawn over it."""
    run = line.run
    lost = run.parts[:, NODE_LOST] + run.parts[:, UNFINISHED]
    for code, lane in enumerate(run.lanes):
        span = run.spans[lane.of]
        row = line.of[code]
        opened = line.at(span.opened)
        closed = line.at(span.closed)
        gone = lost[code] / line.seconds
        axes.barh(
            row,
            closed - opened,
            height=1,
            left=opened,
            color="white",
            zorder=0,
        )
        axes.barh(
            row,
            gone,
            height=0.84,
            left=closed - gone,
            zorder=0.5,
            **GONE,
        )


def _draw_bars(axes, line):
    if not len(line.row):
        return
    colours = numpy.array([to_rgba(colour_of(app)) for app in line.app])
    colours[~line.good] = to_rgba(BAD)
    edges = colours.copy()  # a failure may be short: its edge makes it seen
    outline = "white" if len(line.row) < OUTLINED else "none"
    edges[line.good] = to_rgba(outline)
    bars = PolyCollection(
        line.corners(),
        facecolors=colours,
        edgecolors=edges,
        linewidths=numpy.where(line.good, 0.4, 2),
    )
    axes.add_collection(bars)


def _draw_loads(axes, line):
    """Pale, the part of a task that was a load."""
    for load in line.run.loads.all:
        wide = load.seconds / line.seconds
        row = line.of[load.lane]
        axes.barh(row, wide, height=0.84, left=line.at(load.start), align="center", **LOAD)


def _legend_of_bars(line):
    legend = []
    for code in numpy.unique(line.app):
        app = line.run.apps[code]
        legend.append(Patch(color=colour_of(code), label=app))
    if line.run.loads.all:
        legend.append(Patch(label="load", edgecolor="black", **LOAD))
    lost = line.run.parts.sum(axis=0)
    if lost[NODE_LOST]:
        legend.append(Patch(label="node lost", **GONE))
    if lost[UNFINISHED]:
        legend.append(Patch(label="unfinished", **GONE))
    if not line.good.all():
        legend.append(Patch(color=BAD, label="failed"))
    return legend


def _draw_busy(figure, axes, line):
    """More than fits: the share of time that bands of rows were busy, in bins of time."""
    rows = len(line.rows)
    tall = -(-rows // BANDS)
    bands = -(-rows // tall)
    time = busy(line.row // tall, line.start, line.end, bands, BINS, line.length)
    image = axes.imshow(
        time / tall,
        aspect="auto",
        cmap="cividis",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0, line.length, rows - 0.5, -0.5),
    )
    figure.colorbar(
        image,
        ax=axes,
        location="top",
        label="share of the time that tasks ran",
        aspect=60,
    )


def busy(
    row: numpy.ndarray,
    start: numpy.ndarray,
    end: numpy.ndarray,
    rows: int,
    bins: int,
    length: float,
) -> numpy.ndarray:
    """Time that lies in each bin, in units of a bin, summed over intervals; shape (rows, bins).

    row, start, end: of each interval, arrays of one length; times in the unit of `length`.
    """
    # The sum of the ramps that begin at the starts, less those that begin at the ends; a ramp is
    # two steps and a rest.
    steps = numpy.zeros((rows, bins + 2))
    slopes = numpy.zeros((rows, bins + 2))
    for time, sign in ((start, 1), (end, -1)):
        place = numpy.clip(time * (bins / length), 0, bins)
        bin_ = place.astype(int)
        rest = place - bin_
        numpy.add.at(steps, (row, bin_), sign * (1 - rest))
        numpy.add.at(slopes, (row, bin_ + 1), sign)
    total = steps + numpy.cumsum(slopes, axis=1)
    return total[:, :bins]


def _draw_losses(axes, line):
    """A cross where a loss was noticed; returns what explains it."""
    mark = {"color": "black", "marker": "x", "linestyle": ""}
    losses = line.run.losses
    for loss in losses:
        rows = line.rows_of(loss)
        times = [line.at(loss.when)] * len(rows)
        axes.plot(times, rows, markersize=5, clip_on=False, **mark)
    return [Line2D([], [], label="loss noticed", **mark)] if losses else []


def _label(axes, line):
    number = len(line.rows)
    axes.set_facecolor("#f4f4f4")
    axes.set_xlabel(f"time since the start of the run ({line.unit})")
    axes.set_xlim(0, line.length)
    axes.set_ylim(number - 0.5, -0.5)
    if not line.labelled:
        hosts = {host for _, host, *_ in line.rows}
        nodes = f"{number} workers on {len(hosts)} nodes"
        axes.set_ylabel(f"{nodes}, in the order of their names")
        return
    labels = []
    for executor, host, worker, gpu in line.rows:
        name = f"{host}  {lane_name(worker, gpu)}"
        labels.append(f"{executor}  {name}" if line.several else name)
    axes.set_yticks(range(number), labels, fontsize=8)


def _part_executors(axes, line):
    """A line between the rows of one executor and the next; their names, where rows have none."""
    rows = [executor for executor, *_ in line.rows]
    names = list(dict.fromkeys(rows))
    middles = []
    for name in names:
        top = rows.index(name) - 0.5
        middles.append(top + rows.count(name) / 2)
        axes.axhline(top, color="black", linewidth=0.8)
    if not line.labelled:
        axes.set_yticks(middles, names)


def _draw_busy_shares(side, line):
    """How much of its time the worker of each row was busy, %."""
    parts = line.run.parts
    percent_of = 100 / line.sums(line.run.window)
    did = percent_of * line.sums(parts[:, COMPUTING] + parts[:, LOADING])
    failed = percent_of * line.sums(parts[:, FAILED_WORK])
    number = len(line.rows)
    thick = 0.84 if number <= ROWS else 1
    side.barh(range(number), did, thick, color=GOOD)
    side.barh(range(number), failed, thick, left=did, color=BAD)
    side.set_xlabel("busy (%)")
    side.set_xlim(0, 100)
    if not line.labelled:
        return
    white = {"color": "white", "va": "center", "fontsize": 8}
    for row, share in enumerate(did + failed):
        side.text(3, row, f"{share:.0f}", **white)
