"""What workers spent on loading: the first task of each that took much longer than the others.

A model that an app keeps in its worker (functools.cache), or a large import, is part of the first
task there. It says nothing of how long the others take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy

from .history import DONE

LONGER = 2  # a first task that loads takes so many times as long as others
LEAST = 0.5  # seconds that it takes more, at least
BEYOND = 95  # percentile of the others that it is beyond
ENOUGH = 3  # others that tell
ALIKE = 0.0021  # seconds by which shares of one batch differ, by rounding
NEXT = 0.0011  # seconds between them, likewise


class Load(NamedTuple):
    """A load of a worker. app: its code; lane: that of the worker. start: s since the epoch."""

    app: int
    lane: int
    start: float
    seconds: float


class Loads:
    """The loads of a run. extra: seconds of each try that went into one, array of their length."""

    def __init__(self, tries, ordered: set[int] = frozenset()):
        """ordered: codes of tables whose longest rows go first: a first task is no load."""
        self.tries = tries
        self.extra = numpy.zeros(len(tries.started))
        self.all = []
        counted = tries.placed & ~numpy.isin(tries.table, list(ordered))
        there = numpy.flatnonzero(counted)
        keys = (tries.started[there], tries.app[there], tries.lane[there])
        self.order = there[numpy.lexsort(keys)]
        if len(self.order):
            self._find()

    @property
    def tries_with(self) -> numpy.ndarray:
        """Which tries are of a call that loaded; bool."""
        return self.extra > 0

    def _find(self):
        order, tries = self.order, self.tries
        app, lane = tries.app[order], tries.lane[order]
        new = (numpy.diff(app) != 0) | (numpy.diff(lane) != 0)
        first = numpy.flatnonzero(numpy.concatenate(([True], new)))
        last = self._ends_of_calls(new, first)
        is_first = numpy.zeros(len(order), bool)
        for start, end in zip(first, last, strict=True):
            is_first[start : end + 1] = True
        for code in numpy.unique(app):
            others = order[(app == code) & ~is_first & (tries.status[order] == DONE)]
            mine = app[first] == code
            if len(others) >= ENOUGH:
                self._take(first[mine], last[mine], tries.seconds[others])

    def _ends_of_calls(self, new, first):
        """Places of the last row of each call that begins there: rows of a batch share its time."""
        order, tries = self.order, self.tries
        seconds = tries.seconds[order]
        gap = tries.started[order][1:] - tries.ended[order][:-1]
        together = ~new & (numpy.abs(numpy.diff(seconds)) < ALIKE) & (gap < NEXT)
        ends = numpy.append(numpy.flatnonzero(~together), len(order) - 1)
        return ends[numpy.searchsorted(ends, first)]

    def _take(self, first, last, others):
        """Take the first calls of an app for loads, where most of them were."""
        seconds = self.tries.seconds  # of all of them: once, not for each lane
        usual = numpy.median(others)
        beyond = max(LONGER * usual, numpy.percentile(others, BEYOND))
        found = []
        for start, end in zip(first, last, strict=True):
            mine = self.order[start : end + 1]
            extra = seconds[mine] - usual
            longer = seconds[mine].mean() > beyond and extra.sum() > LEAST
            if longer and (self.tries.status[mine] == DONE).all():
                found.append((mine, extra))
        if 2 * len(found) <= len(first):
            return
        for mine, extra in found:
            self.extra[mine] = extra
            app, lane = int(self.tries.app[mine[0]]), int(self.tries.lane[mine[0]])
            load = Load(app, lane, float(self.tries.started[mine[0]]), float(extra.sum()))
            self.all.append(load)

    def of(self, app: int) -> str:
        """Of an app, in words; "" where there are none."""
        seconds = [load.seconds for load in self.all if load.app == app]
        if not seconds:
            return ""
        return f"{len(seconds)} load{'s' * (len(seconds) != 1)} of about {_about(seconds)} s"


def _about(seconds):
    middle = float(numpy.median(seconds))
    return f"{middle:.0f}" if middle >= 3 else f"{middle:.1f}"
