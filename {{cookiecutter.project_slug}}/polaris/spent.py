"""What the time of a run's workers was spent on. Times are seconds.

A worker that was free between its tasks may have waited although there was work, or because none
was ready: a record of tries cannot tell. That all rows were ready is known of a sweep alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy

from .history import DONE, Lane, Loss

# What the time of a worker is made of: its colour, and what it means. The colours are those of
# Okabe and Ito, which colour-blind people tell apart.
PARTS = {
    "computing": ("#0072b2", "tasks that came to a result"),
    "loading": (
        "#56b4e9",
        "the first task of a worker, beyond what others take: a model, large imports",
    ),
    "failed work": ("#d55e00", "tries that failed, or were lost with their worker"),
    "start-up": ("#cc79a7", "from the start of a block to a worker's first task"),
    "between tasks": ("#f0e442", "a worker was free although tasks were waiting"),
    "tail": ("#bbbbbb", "no further task was to start, the last ones ran elsewhere"),
    "node lost": (
        "#000000",
        "from the last task that a lost node finished to the end of its block",
    ),
    "unfinished": (
        "#e69f00",
        "after a worker's last task that ended, where the run was cut off or goes on",
    ),
    "never a task": ("#e8e8e8", "workers that were paid for and never had one"),
}
(
    COMPUTING,
    LOADING,
    FAILED_WORK,
    STARTUP,
    BETWEEN,
    TAIL,
    NODE_LOST,
    UNFINISHED,
    NEVER,
) = range(len(PARTS))
IN_STAGES = {  # what it means where tasks may have had to wait for others
    "start-up": "from the start of a block to a worker's first task, which had to be ready, too",
    "between tasks": "a worker was free while tasks were still to start, ready or not",
}
LEAST = 1e-9  # seconds, where a time is divided by


class Tries(NamedTuple):
    """The tries of a run: arrays of one length, the columns of history.Collected."""

    started: numpy.ndarray
    ended: numpy.ndarray
    first: numpy.ndarray
    tried: numpy.ndarray
    lane: numpy.ndarray
    status: numpy.ndarray
    app: numpy.ndarray
    table: numpy.ndarray
    line: numpy.ndarray
    cause: numpy.ndarray

    @property
    def placed(self) -> numpy.ndarray:
        """Which of them ran on a lane; shape of a column, bool."""
        known = ~numpy.isnan(self.started)
        return known & (self.lane >= 0)

    @property
    def seconds(self) -> numpy.ndarray:
        """How long each ran; nan where unknown."""
        return self.ended - self.started

    def last_first_start(self, began: float) -> float:
        """When the last new task was started; the start of the run where none was."""
        new = self.placed & (self.tried == 0)
        return self.started[new].max(initial=began)


class Span(NamedTuple):
    """From when to when a block was held."""

    opened: float
    closed: float

    @property
    def seconds(self) -> float:
        return max(0, self.closed - self.opened)


class Lanes:
    """The tries of each lane in the order of their starts, and the time between them.

    lane, start, end, done, loading, free: of each try, arrays of one length; `loading` seconds of
    it that went into a load, `free` the time from its end to the next start on its lane, 0 for the
    last. first, last: of each lane, the places of its
    first and last try there.
    """

    def __init__(self, tries: Tries, lanes: list[Lane], losses: list[Loss], loading: numpy.ndarray):
        there = numpy.flatnonzero(tries.placed)
        keys = (tries.started[there], tries.lane[there])
        mine = there[numpy.lexsort(keys)]
        numbers = numpy.arange(len(lanes))
        self.lanes = lanes
        self.losses = losses
        self.lane = tries.lane[mine]
        self.start = tries.started[mine]
        self.end = tries.ended[mine]
        self.done = tries.status[mine] == DONE
        self.loading = loading[mine]
        self.first = numpy.searchsorted(self.lane, numbers)
        self.last = numpy.searchsorted(self.lane, numbers, side="right") - 1
        self.free = self._gaps()

    def _gaps(self):
        gaps = numpy.zeros_like(self.end)
        gaps[:-1] = self.start[1:] - self.end[:-1]
        gaps[self.last] = 0
        return _positive(gaps)

    def sums(self, seconds: numpy.ndarray) -> numpy.ndarray:
        """Sums over the tries of each lane; shape (lanes,)."""
        return numpy.bincount(self.lane, seconds, len(self.lanes))

    def take_lost_work(self) -> numpy.ndarray:
        """Seconds that workers which died had worked in vain, taken from `free`; shape (lanes,)."""
        lost = numpy.zeros(len(self.lanes))
        for loss in self.losses:
            codes = self._lanes_of(loss) if loss.worker else ()
            for code in codes:
                place = self._gap_around(code, loss.when)
                if place is not None:
                    lost[code] += self.free[place]
                    self.free[place] = 0
        return lost

    def _lanes_of(self, loss):
        """Codes of the lanes that a loss may have been on."""
        codes = []
        for code, lane in enumerate(self.lanes):
            there = lane.executor == loss.executor and lane.host == loss.host
            if there and loss.worker in ("", lane.worker):
                codes.append(code)
        return codes

    def _gap_around(self, code, when):
        """The place of the try after which a lane was free at that moment, or None."""
        first = self.first[code]
        last = self.last[code]
        starts = self.start[first : last + 1]
        begun = numpy.searchsorted(starts, when)
        place = first + begun - 1
        if begun == 0 or self.end[place] > when:
            return None
        return place if self.free[place] > 0 else None

    def dead(self) -> numpy.ndarray:
        """Which lanes are of a node that was lost: it had a task, and none afterwards; bool."""
        dead = numpy.zeros(len(self.lanes), bool)
        last_end = self.end[self.last]
        for loss in self.losses:
            if loss.worker:
                continue
            codes = [code for code in self._lanes_of(loss) if last_end[code] <= loss.when]
            if not codes:
                continue
            latest = max(codes, key=lambda code: last_end[code])
            block = self.lanes[latest].block
            for code in codes:
                dead[code] |= self.lanes[code].block == block
        return dead


def share_out(lanes: Lanes, spans: list[Span], last_start: float, cut_off: bool) -> numpy.ndarray:
    """Seconds of each lane by what it did, shape (lanes, PARTS).

    spans: of each lane's block. last_start: when the last task was first started: nothing waits for
    a worker afterwards but what is tried again. cut_off: whether what ran at the end was lost.
    """
    parts = numpy.zeros((len(PARTS), len(spans)))
    if spans:
        opened, closed = numpy.transpose(spans)
        wait = lanes.start[lanes.first] - opened
        parts[STARTUP] = _positive(wait)
        _share_tries(parts, lanes)
        _share_gaps(parts, lanes, last_start)
        _share_ends(parts, lanes, closed, last_start, cut_off)
    return parts.T


def _share_tries(parts, lanes):
    """The time of tasks, and what died with a worker before its next one."""
    took = _positive(lanes.end - lanes.start)
    parts[LOADING] = lanes.sums(lanes.loading)
    parts[COMPUTING] = lanes.sums(took * lanes.done) - parts[LOADING]
    parts[FAILED_WORK] = lanes.sums(took * ~lanes.done)
    parts[FAILED_WORK] += lanes.take_lost_work()


def _share_gaps(parts, lanes, last_start):
    """The time of workers between two tasks."""
    next_start = lanes.end + lanes.free
    late = numpy.minimum(lanes.free, next_start - last_start)
    late = _positive(late)
    parts[TAIL] = lanes.sums(late)
    parts[BETWEEN] = lanes.sums(lanes.free - late)


def _share_ends(parts, lanes, closed, last_start, cut_off):
    """The time of workers after their last task. closed: of their blocks, shape (lanes,)."""
    last_end = lanes.end[lanes.last]
    after = _positive(closed - last_end)
    early = numpy.minimum(last_start - last_end, after)
    early = _positive(early)
    late = after - early
    dead = lanes.dead()
    cut = ~dead & cut_off
    in_order = ~(dead | cut)
    parts[NODE_LOST] = after * dead
    parts[UNFINISHED] = after * cut
    parts[BETWEEN] += early * in_order
    parts[TAIL] += late * in_order


def _positive(seconds):
    return numpy.clip(seconds, 0, None)
