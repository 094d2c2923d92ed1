"""The runs of a folder of results with their figures: of their tasks, their workers, their time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy

from . import history
from .errors import Stop
from .history import DONE, FAILED, LOST, Block, Collected, first_known
from .loads import Loads
from .spent import COMPUTING, FAILED_WORK, LEAST, NEVER, PARTS, Lanes, Span, Tries, share_out


class Stage(NamedTuple):
    """The tasks of one app in a run.

    done, failed, lost: tries. median, total: seconds of those done; median None where not known,
    without loads.
    calls: of its plain calls, what the run noted at its end, {"done", "failed", "known"}, or {}.
    """

    app: str
    done: int
    failed: int
    lost: int
    median: float | None
    total: float
    calls: dict


class Mapped(NamedTuple):
    """A table that a run asked for.

    total, before, done: its rows, those with a result before the run, and now; None: not known.
    """

    table: str
    app: str
    source: str
    total: int | None
    before: int
    done: int | None


class Busy(NamedTuple):
    """How busy a GPU was, or a worker where there is none: shares of its time."""

    executor: str
    host: str
    name: str
    computed: float
    failed: float


class Size(NamedTuple):
    """Of a block of an executor, as the run noted it."""

    nodes: int = 0
    workers_per_node: int = 0

    @property
    def workers(self) -> int:
        return self.nodes * self.workers_per_node


class Run:
    """One run, and what its time was spent on.

    about, ending: what it noted at its start and end; {} where it did not. lanes, apps, tables,
    examples: by their codes, as in history.Collected. sizes: {executor: Size}. blocks: {(executor,
    name): Block}; spans: {likewise: Span} of those that ran. parts: seconds of each lane by what it
    did, shape (lanes, PARTS); window: their sums. of: {executor: seconds of all its workers, shape
    (PARTS,)}, of those that had any; totals: the sum of these; allocated: the sum of that.
    """

    def __init__(self, noted: Collected, goes_on: bool = False, unread: Sequence[str] = ()):
        self.number = noted.number
        self.about = noted.about
        self.maps = list(noted.maps.values())
        self.ending = noted.ended_by or {}
        self.picture = noted.picture
        self.goes_on = goes_on
        self.unread = unread
        self.mode = self.about.get("mode", "local")
        self.tries = _arrays(noted.columns)
        self.lanes = list(noted.lanes)
        self.apps = list(noted.apps)
        self.tables = list(noted.tables)
        self.examples = noted.examples
        self.losses = list(noted.losses.values())
        self.loads = Loads(self.tries, self._tables_by_cost())
        self.began = self._begin(noted.seen)
        self.end = self.ending.get("time", noted.seen)
        self.blocks = self._all_blocks(noted.blocks)
        self.spans = self._held()
        self.sizes = self._all_sizes()
        self.parts = self._share_out()
        self.window = self.parts.sum(axis=1).clip(min=LEAST)
        self.of = self._sums()
        self.totals = sum(self.of.values(), numpy.zeros(len(PARTS)))
        self.allocated = float(self.totals.sum())

    def _begin(self, seen):
        began = self.about.get("began")
        if began is not None:
            return began
        known = [*self.tries.started[:1], seen]
        return float(numpy.nanmin(known))

    def _all_blocks(self, noted):
        """Those that the run noted, and those that its tries tell of."""
        blocks = dict(noted)
        for lane in self.lanes:
            if lane.of not in blocks:
                blocks[lane.of] = Block(self.began)
        return blocks

    def _held(self):
        """When each block was held; one that never ran costs nothing."""
        spans = {}
        for key, block in self.blocks.items():
            opened = self._opened(key, block)
            closed = first_known(block.end, block.over, self.end)
            if opened is not None:
                spans[key] = Span(opened, closed)
        return spans

    def _opened(self, key, block):
        start = None
        if key[1] == "0":  # it is there as long as the job; a later one took its place
            starts = {"local": self.began, "job": self.about.get("job_start")}
            start = starts.get(self.mode)
        opened = first_known(start, block.start, block.running)
        return self._first_start(key) if opened is None else opened

    def _first_start(self, key):
        mine = self.lanes_of(*key)
        if not mine:
            return None
        in_block = numpy.isin(self.tries.lane, mine)
        return self.tries.started[in_block].min()

    def lanes_of(self, executor: str, block: str | None = None) -> list[int]:
        """Codes of the lanes of an executor, or of one of its blocks."""
        codes = []
        for code, lane in enumerate(self.lanes):
            mine = lane.executor == executor
            if mine and block in (None, lane.block):
                codes.append(code)
        return codes

    def _all_sizes(self):
        """Of the executors of config.py, and of others that tasks ran on."""
        sizes = {}
        for executor, noted in self.about.get("executors", {}).items():
            nodes = noted.get("nodes_per_block", 0)
            workers = noted.get("workers_per_node", 0)
            sizes[executor] = Size(nodes, workers)
        for executor, _ in self.spans:
            sizes.setdefault(executor, Size())
        return sizes

    def _share_out(self):
        spans = [self.spans[lane.of] for lane in self.lanes]
        lanes = Lanes(self.tries, self.lanes, self.losses, self.loads.extra)
        last_start = self.tries.last_first_start(self.began)
        return share_out(lanes, spans, last_start, self.cut_off)

    def _sums(self):
        sums = {}
        for executor in self.sizes:
            seconds = self._sum_of(executor)
            if seconds.any():
                sums[executor] = seconds
        return sums

    def _sum_of(self, executor):
        """Seconds of all workers of an executor, those included that never had a task."""
        mine = self.lanes_of(executor)
        totals = self.parts[mine].sum(axis=0)
        workers = self.sizes[executor].workers
        for (label, block), span in self.spans.items():
            if label != executor:
                continue
            used = self.lanes_of(executor, block)
            idle = max(0, workers - len(used))
            totals[NEVER] += idle * span.seconds
        return totals

    # --- how it ended -----------------------------------------------------------------------------
    @property
    def cut_off(self) -> bool:
        """Whether tasks that ran at its end were lost."""
        if not self.ending:
            return True
        return self.ending["at_once"] and self.ending["left"] != 0

    @property
    def stopped(self) -> Stop | None:
        """Why it stopped before its end, where it noted that."""
        words = self.ending.get("stopped")
        return next((stop for stop in Stop if stop.words == words), None)

    def ended_how(self) -> str:
        """In words."""
        if not self.ending:
            return "goes on" if self.goes_on else "was cut off"
        words = self.ending["stopped"]
        how = f"stopped by {words}" if words else "finished"
        only = self.ending.get("only")
        return f"{how}, a part of the rows alone ({only})" if only else how

    # --- its tasks --------------------------------------------------------------------------------
    @property
    def in_stages(self) -> bool:
        """Whether tasks may have waited for others, or for the program to ask for them.

        Not where all are rows of one table and one app, and it was known from the start how many.
        """
        if len(self.apps) > 1 or len(self.maps) != 1:
            return True
        (event,) = self.maps
        if event["total"] is None or any(name != event["table"] for name in self.tables):
            return True
        return self.count(DONE) > event["total"] - event["done"]

    def _which(self, status, codes):
        """Tries that ended so, whose columns have these codes; an array of bool."""
        which = self.tries.status == status
        which &= self.tries.first == 1
        for column, wanted in codes.items():
            found = getattr(self.tries, column)
            which &= numpy.isin(found, wanted)
        return which

    def count(self, status: int, **codes: int | list[int]) -> int:
        """How many tries ended so, of those whose columns have such codes: count(DONE, app=0)."""
        which = self._which(status, codes)
        return int(numpy.count_nonzero(which))

    def _tables_by_cost(self):
        """Codes of the tables whose longest rows went first."""
        names = [event["table"] for event in self.maps if event.get("by_cost")]
        return {code for code, name in enumerate(self.tables) if name in names}

    def seconds(self, **codes: int | list[int]) -> numpy.ndarray:
        """How long each task took that came to a result, where that is known; codes: as above.

        Those that loaded a model first are left out.
        """
        which = self._which(DONE, codes) & ~self.loads.tries_with
        took = self.tries.seconds[which]
        return took[~numpy.isnan(took)]

    def stages(self) -> list[Stage]:
        """What became of the tasks of each app, in the order in which they were first heard of."""
        calls = self.ending.get("apps", {})
        stages = []
        for code, app in enumerate(self.apps):
            took = self.seconds(app=code)
            median = float(numpy.median(took)) if len(took) else None
            all_took = self.tries.seconds[self._which(DONE, {"app": code})]
            stage = Stage(
                app,
                done=self.count(DONE, app=code),
                failed=self.count(FAILED, app=code),
                lost=self.count(LOST, app=code),
                median=median,
                total=float(numpy.nansum(all_took)),
                calls=calls.get(app, {}),
            )
            stages.append(stage)
        return stages

    def mapped(self) -> list[Mapped]:
        """The tables that it asked for."""
        found = []
        for event in self.maps:
            done = self._rows_done(event)
            total = event["total"]
            if total is not None and done is not None and done > total:
                total = None  # more were asked for one by one
            table = Mapped(
                event["table"],
                event["app"],
                event["source"],
                total,
                before=event["done"],
                done=done,
            )
            found.append(table)
        return found

    def _rows_done(self, event):
        """How many rows of a table have a result; None where the record cannot tell."""
        table = event["table"]
        app = event["app"]
        noted = self.ending.get("tables", {})
        if table in noted:
            return noted[table]["done"]
        if table not in self.tables:
            return event["done"]
        if app not in self.apps:
            return None  # a function that calls apps: some of a row's may be missing
        here = self.count(DONE, table=self.tables.index(table), app=self.apps.index(app))
        return event["done"] + here

    # --- its workers ------------------------------------------------------------------------------
    @property
    def shares(self) -> numpy.ndarray:
        """Share of the allocation of each of PARTS; shape (PARTS,)."""
        return self.totals / max(self.allocated, LEAST)

    @property
    def node_hours(self) -> float:
        """What was charged: the blocks, or the job, and the job of a driver that submits blocks."""
        seconds = 0.0
        for (executor, _), span in self.spans.items():
            if self.mode == "blocks":
                nodes = self.sizes[executor].nodes
                seconds += nodes * span.seconds
        start = self.about.get("job_start")
        if start:
            nodes = len(self.about["job_nodes"])
            seconds += nodes * (self.end - start)
        return seconds / 3600

    def busy(self) -> Iterator[Busy]:
        """How busy each GPU was, or worker."""
        gpus = {}
        for code, lane in enumerate(self.lanes):
            name = lane_name(lane.worker, lane.gpu)
            key = (lane.executor, lane.host, name)
            gpus.setdefault(key, []).append(code)
        for key, mine in gpus.items():
            sums = self.parts[mine].sum(axis=0)
            whole = self.window[mine].sum()
            did = sums / whole
            yield Busy(*key, did[COMPUTING], did[FAILED_WORK])


def _arrays(columns):
    """The columns that were collected as arrays, which share their memory."""
    arrays = {}
    for name, column in columns.items():
        arrays[name] = numpy.frombuffer(column, column.typecode)
    return Tries(**arrays)


def lane_name(worker: str, gpu: str) -> str:
    """What of a host a lane is: a GPU, a worker, or all of it where programs have whole nodes."""
    if gpu:
        return f"GPU {gpu}"
    return f"worker {worker}" if worker else ""


def percent(share: float) -> str:
    """0.1234 -> "12.3 %"."""
    return f"{100 * share:.1f} %"


def read(folder: Path) -> dict[int, Run]:
    """The runs in a folder of results by their numbers; FileNotFoundError where there were none."""
    past = history.read(folder)
    runs = {}
    for number, noted in past.runs.items():
        goes_on = number == past.goes_on
        runs[number] = Run(noted, goes_on, past.unread)
    return runs
