"""The page of a report, as one self-contained HTML text."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from .advice import advice
from .causes import causes, traces_in
from .facts import in_words
from .history import DONE, FAILED
from .result_table import USUAL
from .runs import Run, percent
from .spent import COMPUTING, IN_STAGES, LEAST, PARTS

MANY = 64  # GPUs from which on those that did least are named
WORST = 10  # so many of them
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .4em; }
img { max-width: 100%; } img.results { max-width: 45em; }
.cards { display: flex; flex-wrap: wrap; gap: .8em; margin: 1.2em 0; }
.cards div { background: #f2f5f8; border-radius: 6px; padding: .6em 1em; min-width: 8em; }
.cards b { display: block; font-size: 1.5em; } .advice { background: #fff6dd; padding: .6em 1em; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .9em; }
td, th { text-align: left; padding: .2em .9em .2em 0; border-bottom: 1px solid #ddd; }
td, th { vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,"><style>{style}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def page(run: Run, runs: dict[int, Run], folder: Path, pictures: dict[str, Path]) -> str:
    """The report of a run as HTML. runs: of the folder; pictures: as pictures.draw returns them."""
    sections = [
        *_head(run),
        *_advice(run),
        _headline("Timeline"),
        _image(pictures["timeline"], "tasks of each worker over time"),
        _headline("Where the time went"),
        _image(pictures["shares"], "parts of the workers' time"),
        _parts(run),
        *_tasks(run),
        *_least_busy(run),
        _headline("Time of a task, and how busy workers were"),
        _image(pictures["seconds"], "histograms of task times and of busy shares"),
        *_failures(run, runs, folder),
        *_results(run),
        *_blocks(run),
        _headline("All runs of this folder"),
        _all(runs),
        _headline("Settings and versions"),
        _settings(run),
    ]
    names = [Path.cwd().name]
    if folder.name != USUAL:
        names.append(f"session {folder.name}")
    title = f"{', '.join(names)}: run {run.number}"
    body = "\n".join(sections)
    return PAGE.format(title=html.escape(title), style=STYLE, body=body)


# --- in HTML --------------------------------------------------------------------------------------
def _element(name, text):
    return f"<{name}>{html.escape(text)}</{name}>"


def _headline(text):
    return _element("h2", text)


def _table(head: Iterable, rows: Iterable[Iterable]) -> str:
    names = [_element("th", name) for name in head]
    lines = [names] if names else []
    for row in rows:
        cells = [_element("td", str(cell)) for cell in row]
        lines.append(cells)
    text = "".join(f"<tr>{''.join(cells)}</tr>" for cells in lines)
    return f"<div class=table><table>{text}</table></div>"


def _image(path, text, kind=""):
    picture = Path(path).read_bytes()
    data = base64.b64encode(picture).decode()
    alt = html.escape(text)
    return f'<img class="{kind}" alt="{alt}" src="data:image/png;base64,{data}">'


def _figure(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _whole(number):
    return "?" if number is None else f"{number:,}"


def _clock(seconds):
    local = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", local)


# --- sections -------------------------------------------------------------------------------------
def _head(run: Run) -> Iterator[str]:
    mode = run.about.get("mode", "?")
    host = run.about.get("host", "?")
    span = f"{_clock(run.began)} to {_clock(run.end)}"
    yield _element("p", f"Run {run.number}, mode {mode}, on {host}: {span}; {run.ended_how()}.")
    cards = []
    for value, text in _cards(run):
        cards.append(f"<div>{_element('b', value)}{html.escape(text)}</div>")
    yield f'<div class="cards">{"".join(cards)}</div>'
    for note in run.unread:
        yield _element("p", note)
    uncached = run.ending.get("uncached", {})
    calls = ", ".join(f"{app} {number:,}" for app, number in uncached.items())
    if calls:
        again = "Finished calls that the next run makes again, for want of cache=True"
        yield _element("p", f"{again}: {calls}.")


def _cards(run):
    """(figure, what it is) of a run's most important ones."""
    yield _whole(run.count(DONE)), f"tasks done in this run{_in_all(run)}"
    if run.ending:
        yield _whole(run.ending["failed"]), "tasks failed"
    else:
        yield _whole(run.count(FAILED)), "tries failed so far"
    yield percent(run.shares[COMPUTING]), "of the workers' time computed"
    yield _figure(run.node_hours) if run.node_hours else "none", "node hours"
    yield in_words(run.end - run.began), "from start to end"


def _in_all(run):
    """How many rows of the tables are done, in words; "" where that is not known."""
    done = total = 0
    for table in run.mapped():
        if table.done is None or table.total is None:
            return ""
        done += table.done
        total += table.total
    rows = " rows" if run.in_stages else ""
    return f"; {done:,} of {total:,}{rows} in all" if total else ""


def _advice(run):
    items = [_element("li", text) for text in advice(run)]
    if items:
        yield f'<div class="advice"><b>Next time</b><ul>{"".join(items)}</ul></div>'


def _parts(run):
    """What the time of the workers was spent on; of each executor, where there are several."""
    executors = list(run.of) if len(run.of) > 1 else []
    rows = []
    for code, (name, (_, meaning)) in enumerate(PARTS.items()):
        seconds = run.totals[code]
        if not seconds:
            continue
        shares = [percent(run.shares[code])]
        for executor in executors:
            whole = run.of[executor].sum()
            share = run.of[executor][code] / max(whole, LEAST)
            shares.append(percent(share))
        if run.in_stages:
            meaning = IN_STAGES.get(name, meaning)
        rows.append((name, *shares, in_words(seconds), meaning))
    return _table(("", "share", *executors, "workers x time", ""), rows)


def _tasks(run):
    yield _headline("Tasks by app")
    head = ("app", "tries done", "failed", "lost", "median time", "time in all", "calls at the end")
    rows = []
    for stage in run.stages():
        numbers = map(_whole, (stage.done, stage.failed, stage.lost))
        median = "?" if stage.median is None else f"{_figure(stage.median)} s"
        calls = _calls(stage.calls) if stage.calls else ""
        rows.append((stage.app, *numbers, median, in_words(stage.total), calls))
    yield _table(head, rows)
    for code, app in enumerate(run.apps):
        loads = run.loads.of(code)
        if loads:
            where = "in the first task of a worker, beyond its usual time"
            yield _element("p", f"{app}: {loads}, {where}; the median leaves them out.")
    rows = []
    for table in run.mapped():
        numbers = map(_whole, (table.total, table.before, table.done))
        rows.append((table.table, table.source, table.app, *numbers))
    if rows:
        yield _headline("Rows by table")
        head = ("table", "of", "app", "rows", "done before", "done in all")
        yield _table(head, rows)


def _calls(noted):
    """Of plain calls of an app, in words."""
    done, failed, known = (_whole(noted[name]) for name in ("done", "failed", "known"))
    return f"{done} of {known} done, {failed} failed"


def _least_busy(run):
    gpus = list(run.busy())
    if len(gpus) <= MANY:
        return
    gpus.sort(key=lambda gpu: gpu.computed)
    rows = []
    for gpu in gpus[:WORST]:
        shares = (percent(gpu.computed), percent(gpu.failed))
        rows.append((gpu.executor, gpu.host, gpu.name, *shares))
    yield _headline(f"The {WORST} least busy of {len(gpus)} GPUs")
    yield _table(("executor", "host", "", "computed", "failed work"), rows)


def _failures(run, runs, folder):
    later = [other for other in runs.values() if other.lanes and other.number > run.number]
    traces = {} if later else traces_in(folder)  # those of the last run alone are known
    rows = list(causes(run, traces))
    if rows:
        yield _headline("Failures by cause")
        yield _table(("tries", "status", "cause", "line, e.g.", "trace"), rows)


def _results(run):
    if run.picture and Path(run.picture).exists():
        yield _headline("Results")
        yield _image(run.picture, "picture of the results", "results")


def _blocks(run):
    yield _headline("Blocks")
    head = ["executor", "block", "job or process", "nodes", "workers", "waited", "started", "ended"]
    rows = []
    for (executor, name), span in run.spans.items():
        block = run.blocks[executor, name]
        nodes = run.sizes[executor].nodes
        waited = max(0, span.opened - block.asked)
        row = (
            executor,
            name,
            block.job or "-",
            nodes or "-",
            block.workers or "-",
            in_words(waited),
            _clock(span.opened),
            _clock(span.closed),
        )
        rows.append(row)
    yield _table(head, rows)
    driver = run.about.get("job")
    if driver:
        yield _element("p", f"Driver: PBS job {driver}.")


def _all(runs):
    head = ["run", "mode", "start", "took", "tasks done", "tries failed", "computed"]
    rows = []
    done = failed = hours = 0
    for run in runs.values():
        row = (
            run.number,
            run.about.get("mode", "?"),
            _clock(run.began),
            in_words(run.end - run.began),
            run.count(DONE),
            run.count(FAILED),
            percent(run.shares[COMPUTING]),
            _figure(run.node_hours),
            run.ended_how(),
        )
        rows.append(row)
        done += run.count(DONE)
        failed += run.count(FAILED)
        hours += run.node_hours
    rows.append(("all", "", "", "", done, failed, "", _figure(hours), ""))
    return _table((*head, "node hours", "ended"), rows)


def _settings(run):
    rows = [("script", run.about.get("script", "?"))]
    rows += run.about.get("settings", {}).items()
    rows += run.about.get("versions", {}).items()
    return _table((), rows)
