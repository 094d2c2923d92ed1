"""Why tries of a run failed or were lost, cause by cause, and where the trace of one is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy

from . import tables
from .history import DONE, STATUSES
from .result_table import REASON, USUAL
from .runs import Run

MADE_GOOD = "none: a later try succeeded"


class Cause(NamedTuple):
    """Tries that failed alike. line: of the input, of one of them. trace: its file, or why none."""

    tries: int
    status: str
    text: str
    line: str
    trace: str


def traces_in(folder: Path) -> dict[tuple[str, str], str]:
    """{(table, line): file} of the rows that the last run ended with as failed."""
    traces = {}
    for path in folder.glob("*failures.csv"):
        table = path.name.removesuffix("failures.csv")
        table = table.removesuffix("-") or USUAL
        for _, fields in tables.rows_of(path):
            if fields and len(fields) >= len(REASON):
                _, _, row, _, trace = fields[-len(REASON) :]
                traces[table, row] = trace
    return traces


def causes(run: Run, traces: dict[tuple[str, str], str]) -> Iterator[Cause]:
    """The causes of a run, the most frequent one first. traces: of its rows that failed."""
    tries = run.tries
    bad = (tries.status != DONE) & (tries.first == 1)
    codes = tries.cause[bad].tolist()
    statuses = tries.status[bad].tolist()
    counted = Counter(zip(codes, statuses, strict=True))
    for (code, status), count in counted.most_common():
        alike = bad & (tries.cause == code)
        alike &= tries.status == status
        table, line, trace = _example(run, alike, traces)
        named = line if table == USUAL else f"{table} {line}"
        yield Cause(count, STATUSES[status], run.examples[code], named, trace)


def _example(run, which, traces):
    """(table, line, trace) of one of some tries, of one with a trace if there is any."""
    places = numpy.flatnonzero(which)
    for place in places:
        row = _row_of(run, place)
        if row in traces:
            return *row, traces[row]
    first = places[0]
    made_good = MADE_GOOD if _was_made_good(run, first) else ""
    return *_row_of(run, first), made_good


def _row_of(run, place):
    """(table, line) of a try, as text; of a plain call both are empty."""
    table = run.tables[run.tries.table[place]]
    line = run.tries.line[place]
    return table, str(line) if line >= 0 else ""


def _was_made_good(run, place):
    """Whether the app of a try came to a result for the same row."""
    tries = run.tries
    line = tries.line[place]
    if line < 0:
        return False
    done = run.count(
        DONE,
        table=tries.table[place],
        line=line,
        app=tries.app[place],
    )
    return done > 0
