"""The report of a run: where the node hours went, in one self-contained HTML file and its pictures.

    python -m polaris.report        the last run of this folder that had tasks; a number chooses another

Written from what polaris/record.py reads.
"""

import argparse
import base64
import html
import os
import sys
import time
from collections import Counter
from pathlib import Path

try:
    import matplotlib
    import numpy
except ModuleNotFoundError as error:
    sys.exit(f"{sys.executable} has no {error.name}: source activate.sh")

from . import tables
from .ensemble import REASON, in_words, note_ends
from .record import (
    COMPUTING,
    DONE,
    FAILED,
    LOST,
    PARTS,
    UNFINISHED,
    lane_name,
    like,
    natural,
    read,
)

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.collections import PolyCollection  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

APPS = ("#0072b2", "#009e73", "#56b4e9", "#cc79a7", "#e69f00", "#999999")  # colours, of the same eight
LARGE = 0.1  # share of the allocation from which on a part is worth advice
BARS, LANES = 5000, 128  # tasks and lanes of a timeline up to which each task is drawn as a bar of its own
LABELS = 64  # lanes up to which each has its name


# --- advice --------------------------------------------------------------------------------------
ADVICE = {  # what to do about a large part of PARTS
    "failed work": "went into tries that failed: see the causes",
    "start-up": "went into starting workers: give a job more tasks, and the start is less of it",
    "between tasks": "workers waited although tasks were left: let each do more, one takes {typical:.3g} s",
    "tail": "workers had nothing left to start while the last tasks ran: fewer nodes, or more tasks a run",
    "node lost": "was of nodes that were lost: shorter tasks lose less",
    "unfinished": "was spent on tasks that were cut off: shorter ones, or a larger margin, lose less",
    "never a task": "was of workers that never had a task: fewer nodes, more tasks, or see what failed",
}
LONGEST_FIRST = "; or longest_first in config.py: one took {longest}, a typical one {typical:.3g} s"


def advice(run):
    """What would waste less next time, a sentence each; [] where little was wasted."""
    if run.unrecorded:
        return []  # what the record does not know would show as waste
    done = run.seconds[(run.status == DONE) & ~numpy.isnan(run.seconds)]
    typical, longest = (float(of(done)) if len(done) else 0.0 for of in (numpy.median, numpy.max))
    said = []
    for part, share in zip(PARTS, run.shares, strict=True):
        if share < LARGE or part not in ADVICE or run.goes_on:
            continue
        if part == "unfinished" and "Ctrl-C" in run.ended_how():
            continue
        text = ADVICE[part] + (LONGEST_FIRST if part == "tail" and longest > 3 * typical else "")
        text = text.format(typical=typical, longest=in_words(longest))
        said.append(f"{_percent(share)} of the time {text}.")
    return said


def _percent(share):
    return f"{100 * share:.1f} %"


# --- pictures ------------------------------------------------------------------------------------
def _unit(seconds):
    """(name, length in seconds) of the unit for an axis that long."""
    return ("h", 3600) if seconds > 3 * 3600 else ("min", 60) if seconds > 180 else ("s", 1)


def _save(figure, path):
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def draw_timeline(run, path):
    """One lane a worker, by node and GPU: each task a bar, or how busy it was where bars would not fit."""
    rows = {(host, worker, gpu) for _, host, worker, gpu in run.lanes}
    rows = sorted(rows, key=lambda row: natural(" ".join(row)))
    place = {row: i for i, row in enumerate(rows)}
    row_of = numpy.array([place[lane[1:]] for lane in run.lanes])
    name, unit = _unit(run.end - run.began)
    there = (run.lane >= 0) & ~numpy.isnan(run.started)
    y = row_of[run.lane[there]]
    start, end = (run.started[there] - run.began) / unit, (run.ended[there] - run.began) / unit
    status, app = run.status[there], run.app[there]
    bars = len(rows) <= LANES and len(y) <= BARS
    height = min(11, 1.4 + 0.22 * max(4, len(rows)))
    figure, (axes, side) = pyplot.subplots(
        1, 2, figsize=(11, height), width_ratios=(6, 1), layout="constrained", sharey=True
    )
    axes.set_facecolor("#f4f4f4")
    if bars:
        for i, (block, *_) in enumerate(run.lanes):
            # White: what was paid for. What a lost node cost is drawn over it.
            opened, closed = ((run.blocks[block][side] - run.began) / unit for side in ("from", "to"))
            axes.barh(row_of[i], closed - opened, 1, left=opened, color="white", zorder=0)
            gone = run.parts[i, [LOST, UNFINISHED]].sum() / unit
            dark = {"color": "#dddddd", "edgecolor": "#999999", "hatch": "////", "zorder": 0.5}
            axes.barh(row_of[i], gone, 0.84, left=closed - gone, **dark)
        colours = numpy.array([matplotlib.colors.to_rgba(APPS[code % len(APPS)]) for code in app])
        colours[status != DONE] = matplotlib.colors.to_rgba(PARTS["failed work"][0])
        edges = colours.copy()  # a failure may be short: its edge makes it seen
        edges[status == DONE] = matplotlib.colors.to_rgba("white" if len(y) < 600 else "none")
        corners = numpy.stack([start, y - 0.42, start, y + 0.42, end, y + 0.42, end, y - 0.42], axis=1)
        tasks = PolyCollection(corners.reshape(-1, 4, 2), facecolors=colours, edgecolors=edges)
        tasks.set_linewidth(numpy.where(status == DONE, 0.4, 2))
        axes.add_collection(tasks)
        legend = [Patch(color=APPS[code % len(APPS)], label=app) for app, code in run.apps.items()]
        for part, label in ((LOST, "node lost"), (UNFINISHED, "unfinished")):
            if run.parts[:, part].any():
                legend.append(Patch(facecolor="#dddddd", edgecolor="#999999", hatch="////", label=label))
        if (status != DONE).any():
            legend.append(Patch(color=PARTS["failed work"][0], label="failed"))
        tall = 1
    else:
        # More than fits: the share of time that groups of lanes were busy, in time bins.
        tall = -(-len(rows) // 400)
        image = busy(y // tall, start, end, -(-len(rows) // tall), 900, (run.end - run.began) / unit) / tall
        shown = axes.imshow(
            image, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest",
            extent=(0, (run.end - run.began) / unit, len(rows) - 0.5, -0.5),
        )  # fmt: skip
        figure.colorbar(shown, ax=axes, location="top", label="share of the time that tasks ran", aspect=60)
        legend = []
    for host, worker, when in run.lost:
        mine = [i for i, row in enumerate(rows) if row[0] == host and worker in ("", row[1])]
        marks = numpy.full(len(mine), (when - run.began) / unit)
        axes.plot(marks, mine, "x", color="black", markersize=5, clip_on=False)
    if run.lost:
        mark = Line2D([], [], color="black", marker="x", linestyle="", label="loss noticed")
        legend.append(mark)
    if legend:
        axes.legend(handles=legend, loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False)
    axes.set(xlabel=f"time since the start of the run ({name})", xlim=(0, (run.end - run.began) / unit))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if len(rows) <= LABELS:
        labels = [f"{host}  {lane_name(worker, gpu)}" for host, worker, gpu in rows]
        axes.set_yticks(range(len(rows)), labels, fontsize=8)
    else:
        hosts = len({host for host, *_ in rows})
        axes.set(ylabel=f"{len(rows)} workers on {hosts} nodes, in the order of their names")
    share = numpy.zeros((len(rows), 2))
    for column, part in enumerate((COMPUTING, FAILED)):
        share[:, column] = numpy.bincount(row_of, run.parts[:, part], len(rows))
    share = 100 * share / numpy.bincount(row_of, run.window, len(rows))[:, None]
    at = numpy.arange(len(rows))
    thick = 0.84 if len(rows) <= LANES else 1
    side.barh(at, share[:, 0], thick, color=PARTS["computing"][0])
    side.barh(at, share[:, 1], thick, left=share[:, 0], color=PARTS["failed work"][0])
    side.set(xlabel="busy (%)", xlim=(0, 100))
    for i in at if len(rows) <= LABELS else ():
        side.text(3, i, f"{share[i].sum():.0f}", color="white", va="center", fontsize=8)
    _save(figure, path)


def busy(row, start, end, rows, bins, length):
    """Time that lies in each bin, in units of a bin, summed over intervals; shape (rows, bins).

    row, start, end: of each interval, arrays of one length; start and end in the unit of `length`.
    """
    scale = bins / length
    a, b = numpy.clip(start * scale, 0, bins), numpy.clip(end * scale, 0, bins)
    # The sum of the ramps that begin at a, less those that begin at b; a ramp is two steps and a rest.
    total = numpy.zeros((rows, bins + 2))
    slope = numpy.zeros((rows, bins + 2))
    for at, sign in ((a, 1), (b, -1)):
        bin_, rest = at.astype(int), at - at.astype(int)
        numpy.add.at(total, (row, bin_), sign * (1 - rest))
        numpy.add.at(slope, (row, bin_ + 1), sign)
    return (total + numpy.cumsum(slope, axis=1))[:, :bins]


def draw_shares(run, path):
    """The whole allocation as one bar, by what its time went into."""
    figure, axes = pyplot.subplots(figsize=(11, 1.3), layout="constrained")
    left = 0
    for (name, (colour, _)), share in zip(PARTS.items(), run.shares, strict=True):
        if share > 0.0005:
            label = f"{name} {_percent(share)}"
            axes.barh(0, 100 * share, left=100 * left, color=colour, edgecolor="white", label=label)
            left += share
    axes.set(xlabel="share of the workers' time (%)", xlim=(0, 100), yticks=[])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(PARTS), frameon=False, fontsize=8)
    _save(figure, path)


def draw_seconds(run, path):
    """Histogram of how long tasks took, by app; and beside it how many GPUs were how busy."""
    figure, (axes, side) = pyplot.subplots(1, 2, figsize=(11, 3), layout="constrained")
    good = (run.status == DONE) & (run.first == 1) & ~numpy.isnan(run.seconds)
    seconds = numpy.maximum(run.seconds, 1e-3)
    if good.any():
        low, high = seconds[good].min(), seconds[good].max()
        wide = high > 50 * low
        edges = (numpy.geomspace if wide else numpy.linspace)(low, high * 1.001 + 1e-6, 41)
        mine = [seconds[good & (run.app == code)] for code in run.apps.values()]
        colours = [APPS[code % len(APPS)] for code in run.apps.values()]
        axes.hist(mine, edges, stacked=True, color=colours, label=list(run.apps), edgecolor="white")
        axes.set(xscale="log" if wide else "linear")
        axes.legend(frameon=False)
    axes.set(xlabel="time of a task (s)", ylabel="tasks")
    shares = [100 * done for _, _, done, _ in run.per_gpu()]
    side.hist(shares, numpy.linspace(0, 100, 21), color=PARTS["computing"][0], edgecolor="white")
    for each in (axes, side):
        each.yaxis.get_major_locator().set_params(integer=True)
    side.set(xlabel="share of its time that it computed (%)", ylabel="GPUs" if run.lanes[0][3] else "workers")
    _save(figure, path)


# --- the page ------------------------------------------------------------------------------------
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .4em; }
img { max-width: 100%; } img.results { max-width: 45em; }
.cards { display: flex; flex-wrap: wrap; gap: .8em; margin: 1.2em 0; }
.cards div { background: #f2f5f8; border-radius: 6px; padding: .6em 1em; min-width: 8em; }
.cards b { display: block; font-size: 1.5em; } .advice { background: #fff6dd; padding: .6em 1em; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .9em; }
td, th { text-align: left; padding: .2em .9em .2em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
"""


def _table(head, rows):
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"] if head else []
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>")
    return f"<div class=table><table>{''.join(lines)}</table></div>"


def _image(path, text, kind=""):
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return f'<img class="{kind}" alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _clock(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds))


def page(run, runs, folder, pictures):
    """The whole report as HTML text. pictures: {"timeline", "shares", "seconds": path}."""
    about = run.about
    ended = run.ended_by or {}
    in_all = f"; {about['done'] + run.count(DONE):,} of {about['total']:,} in all" if "total" in about else ""
    cards = [
        (f"{run.count(DONE):,}", "tasks done in this run" + in_all),
        (f"{ended['failed']:,}", "tasks failed") if ended else (f"{run.count(1):,}", "tries failed so far"),
        (_percent(run.shares[COMPUTING]), "of the workers' time computed"),
        (_number(run.node_hours) if run.node_hours else "none", "node hours"),
        (in_words(run.end - run.began), "from start to end"),
    ]
    parts = [f"<p>Run {run.number}, mode {about.get('mode', '?')}, on {html.escape(about.get('host', '?'))}: "
             f"{_clock(run.began)} to {_clock(run.end)}; {html.escape(run.ended_how())}.</p>"]  # fmt: skip
    parts.append('<div class="cards">' + "".join(
        f"<div><b>{html.escape(value)}</b>{html.escape(text)}</div>" for value, text in cards) + "</div>"
    )  # fmt: skip
    notes = list(run.unread)
    if run.unrecorded:
        notes.append(
            "Apps whose results go into other apps, and those that a join app calls, are not recorded: what "
            "they did shows as start-up or between tasks here."
        )
    parts += [f"<p>{html.escape(note)}</p>" for note in notes]
    said = advice(run)
    if said:
        items = "".join(f"<li>{html.escape(text)}</li>" for text in said)
        parts.append(f'<div class="advice"><b>Next time</b><ul>{items}</ul></div>')
    parts += ["<h2>Timeline</h2>", _image(pictures["timeline"], "tasks of each worker over time")]
    parts += ["<h2>Where the time went</h2>", _image(pictures["shares"], "parts of the workers' time")]
    spent = [
        (name, _percent(share), in_words(total), meaning)
        for (name, (_, meaning)), share, total in zip(PARTS.items(), run.shares, run.totals, strict=True)
        if total
    ]
    parts.append(_table(("", "share", "workers x time", ""), spent))
    gpus = list(run.per_gpu())
    if len(gpus) > LABELS:
        worst = sorted(gpus, key=lambda gpu: gpu[2])[:10]
        rows = [(host, name, _percent(done), _percent(failed)) for host, name, done, failed in worst]
        parts += [f"<h2>The ten least busy of {len(gpus)} GPUs</h2>"]
        parts += [_table(("host", "", "computed", "failed work"), rows)]
    parts.append("<h2>Time of a task, and how busy workers were</h2>")
    parts.append(_image(pictures["seconds"], "histograms of task times and of busy shares"))
    failures = list(_failures(run, folder))
    if failures:
        head = ("tries", "status", "cause", "line, e.g.", "trace")
        parts += ["<h2>Failures by cause</h2>", _table(head, failures)]
    if run.picture and Path(run.picture).exists():
        parts += ["<h2>Results</h2>", _image(run.picture, "picture of the results", "results")]
    blocks = [(name, block.get("job", "-"), about.get("nodes_per_block", "-"), block.get("workers", "-"),
               in_words(max(0, block["from"] - block["asked"])), _clock(block["from"]), _clock(block["to"]))
              for name, block in run.blocks.items()]  # fmt: skip
    head = ("block", "job or process", "nodes", "workers", "waited", "started", "ended")
    parts += ["<h2>Blocks</h2>", _table(head, blocks)]
    if about.get("job"):
        parts.append(f"<p>Driver: PBS job {html.escape(about['job'])}.</p>")
    rows = [
        (r.number, r.about.get("mode", "?"), _clock(r.began), in_words(r.end - r.began), r.count(DONE),
         r.count(1), _percent(r.shares[COMPUTING]), _number(r.node_hours), r.ended_how())
        for r in runs.values()
    ]  # fmt: skip
    total = sum(r.node_hours for r in runs.values())
    done, failed = (sum(r.count(code) for r in runs.values()) for code in (DONE, 1))
    rows.append(("all", "", "", "", done, failed, "", _number(total), ""))
    head = ("run", "mode", "start", "took", "tasks done", "tries failed", "computed", "node hours", "ended")
    parts += ["<h2>All runs of this folder</h2>", _table(head, rows)]
    settings = [*about.get("settings", {}).items(), *about.get("versions", {}).items()]
    parts += ["<h2>Settings and versions</h2>", _table((), [*settings, ("input", about.get("input", "?"))])]
    title = html.escape(f"{Path.cwd().name}: run {run.number}")
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<link rel="icon" href="data:,"><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n'
            + "\n".join(parts) + "\n</body></html>\n")  # fmt: skip


def _failures(run, folder):
    """[(tries, status, cause, line, trace)], the most frequent cause first."""
    traces = {}
    if (folder / "failures.csv").exists():
        for _, fields in tables.rows_of(folder / "failures.csv"):
            if fields and len(fields) >= len(REASON):
                line, reason, trace = fields[-len(REASON) :]
                traces.setdefault(like(reason.split("; see ")[0]), (line, trace))
    bad = (run.status != DONE) & (run.first == 1)
    counted = Counter(zip(run.cause[bad].tolist(), run.status[bad].tolist(), strict=True))
    names = {code: name for name, code in run.causes.items()}
    for (cause, status), count in counted.most_common():
        line, text = run.example[cause]
        line, trace = traces.get(names[cause], (line, "none: a later try succeeded" if status == 1 else ""))
        yield count, ("done", "failed", "lost")[status], text, line, trace


def write(folder, number=None):
    """Write the report of a run, the last one if no number is given; returns the path of the HTML file."""
    runs = read(folder)
    with_tasks = [known for known, run in runs.items() if run.lanes]
    if (number or 0) not in (0, *with_tasks) or not with_tasks:
        known = "no task of it has ended yet" if number in runs else "there is no such run"
        raise KeyError(f"run {number}: {known}" if with_tasks else "no task has ended here yet")
    run = runs[number or max(with_tasks)]
    pictures = {}
    for name, draw in (("timeline", draw_timeline), ("shares", draw_shares), ("seconds", draw_seconds)):
        pictures[name] = folder / f"report-{name}.png"
        draw(run, pictures[name])
    (folder / "report.html").write_text(page(run, runs, folder, pictures), encoding="utf-8")
    return folder / "report.html"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m polaris.report", description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=int, help="number of the run (default: the last)")
    args = parser.parse_args(argv)
    os.chdir(Path(__file__).resolve().parent.parent)
    note_ends(Path("results") / "runs.jsonl")
    try:
        path = write(Path("results"), args.run)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: there is none: nothing was run here yet")
    except KeyError as error:
        sys.exit(f"nothing to report: {error.args[0]}")
    print(f"{path}: opens in any browser, by itself; pictures: results/report-*.png")


if __name__ == "__main__":
    main()
