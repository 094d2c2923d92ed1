"""What a run recorded, read again: its tries, its blocks, and what the time of its workers went into.

Of results/tasks.csv (every try of every task) and results/runs.jsonl (what the runs noted about themselves
and their blocks), whether the runs ended, were cut off or still go on. Times are seconds.
"""

import re
from array import array

import numpy

from . import tables
from .engine import RECORD
from .lock import lives

# What the time of a worker is made of: its colour, and what it means. The colours are those of Okabe and Ito,
# which colour-blind people tell apart.
PARTS = {
    "computing": ("#0072b2", "tasks that came to a result"),
    "failed work": ("#d55e00", "tries that failed, or were lost with their worker"),
    "start-up": ("#cc79a7", "from the start of a block to a worker's first task"),
    "between tasks": ("#f0e442", "a worker was free although tasks were waiting"),
    "tail": ("#bbbbbb", "no task was left to start, the last ones ran elsewhere"),
    "node lost": ("#000000", "from the last task that a lost node finished to the end of its block"),
    "unfinished": ("#e69f00", "after a worker's last task that ended, where the run was cut off or goes on"),
    "never a task": ("#e8e8e8", "workers that were paid for and never had one"),
}
COMPUTING, FAILED, STARTUP, BETWEEN, TAIL, LOST, UNFINISHED, NEVER = range(len(PARTS))
CODES = ("first", "tried", "lane", "status", "app", "cause")  # columns of whole numbers
DONE = 0  # the code of that status in Run.status; "failed" is 1, "lost" is 2


class Run:
    """One run: what it noted, and its tries as arrays of one length, in the order in which they ended.

    A try on several nodes has an entry for each; `first` is 1 in one of them.

    started, ended: seconds since the epoch, nan where unknown; tried: how often before; lane: index into
    lanes, -1 where unknown; status, app, cause: codes, their names are in `apps` and `causes`. lanes:
    (block, host, worker, gpu).
    """

    def __init__(self, number):
        self.number, self.about, self.blocks, self.ended_by, self.picture = number, {}, {}, None, None
        self.seen = 0.0  # the last sign of life
        self.goes_on = False
        self.unrecorded = False  # whether apps ran whose tries are not recorded: of stages, join apps
        self.unread = []  # what of the record of all runs could not be read, a line each
        self.lanes, self.apps, self.causes, self.losses = {}, {}, {}, {}
        self.columns = {name: array("d") for name in ("started", "ended")}
        self.columns |= {name: array("i") for name in CODES}
        self.example = {}  # cause -> line of the input

    def note(self, event):
        """Take one event of runs.jsonl."""
        self.seen = max(self.seen, event.get("time", 0))
        kind = event.get("event")
        if kind == "start":
            self.about = event
        elif kind == "block":
            block = self.blocks.setdefault(event["block"], {"asked": event["time"]})
            block |= {name: event[name] for name in ("job", "start", "end") if event[name] is not None}
            if event["state"] == "RUNNING":
                block.setdefault("running", event["time"])
            elif "running" in block and event["state"] != "PENDING":
                block.setdefault("over", event["time"])
            block["workers"] = max(event["workers"], block.get("workers", 0))
        elif kind == "end":
            self.ended_by = event
        elif kind == "picture":
            self.picture = event["path"]
        elif kind == "unrecorded":
            self.unrecorded = True

    def add(self, row):
        """Take one row of tasks.csv, a dict of text."""
        for i, host in enumerate(row["host"].split(";")):
            self._add(row, host, first=i == 0)

    def _add(self, row, host, first):
        """One of the nodes of a try; most have one, MPI programs may have more."""
        lane = (row["block"], host, row["worker"], row["gpu"])
        # What was lost, or refused before it started, is of no lane.
        code = self.lanes.setdefault(lane, len(self.lanes)) if row["started"] else -1
        ended = float(row["ended"] or "nan")
        values = {
            "started": float(row["started"] or "nan"),
            "ended": ended,
            "first": first,
            "tried": int(row["try"]),
            "lane": code,
            "status": ("done", "failed", "lost").index(row["status"]),
            "app": self.apps.setdefault(row["app"], len(self.apps)),
            "cause": self.causes.setdefault(like(row["cause"]), len(self.causes)),
        }
        for name, value in values.items():
            self.columns[name].append(value)
        if row["cause"]:
            self.example.setdefault(values["cause"], (row["line"], row["cause"]))
        if row["status"] == "lost":
            # All tasks of a node are lost at once: one loss, noticed within moments.
            self.losses.setdefault((host, row["worker"], ended // 5), (host, row["worker"], ended))
        self.seen = max(self.seen, ended)

    def close(self):
        """After the last row: make arrays of the columns, and work out where the time went."""
        for name, column in self.columns.items():
            setattr(self, name, numpy.array(column))
        self.lanes, self.lost = list(self.lanes), list(self.losses.values())
        ended = self.ended_by or {}
        self.began = _known(self.about.get("began"), min([*self.started[:1], self.seen]))
        self.end = ended.get("time", self.seen)
        self.cut_off = not ended or (ended["at_once"] and ended["left"] > 0)
        mode = self.about.get("mode", "local")
        for name in {block for block, *_ in self.lanes} - set(self.blocks):
            self.blocks[name] = {"asked": self.began}
        for name, block in self.blocks.items():
            # The first block of a job is there as long as the job; a later one took its place.
            start = {"local": self.began, "job": self.about.get("job_start")}.get(mode)
            block["from"] = _known(start if name == "0" else None, block.get("start"), block.get("running"))
            mine = self._lanes_of(name)
            if block["from"] is None and mine:
                block["from"] = self.started[numpy.isin(self.lane, mine)].min()
            block["to"] = _known(block.get("end"), block.get("over"), self.end)
        # A block that never ran costs nothing.
        self.blocks = {name: block for name, block in self.blocks.items() if block["from"] is not None}
        self._share_out()

    def _lanes_of(self, block):
        return [i for i, lane in enumerate(self.lanes) if lane[0] == block]

    def _share_out(self):
        """Fill `parts`, seconds of each lane by what it did, shape (lanes, PARTS), and `window`, its sums."""
        n = len(self.lanes)
        there = numpy.flatnonzero((self.lane >= 0) & ~numpy.isnan(self.started))
        order = there[numpy.lexsort((self.started[there], self.lane[there]))]
        lane, start, end = self.lane[order], self.started[order], self.ended[order]
        took = numpy.clip(end - start, 0, None)
        done = self.status[order] == DONE
        parts = numpy.zeros((n, len(PARTS)))
        parts[:, COMPUTING] = numpy.bincount(lane, took * done, n)
        parts[:, FAILED] = numpy.bincount(lane, took * ~done, n)
        first = numpy.searchsorted(lane, numpy.arange(n))
        last = numpy.searchsorted(lane, numpy.arange(n), side="right") - 1
        gaps = numpy.clip(start[1:] - end[:-1], 0, None) * (lane[1:] == lane[:-1])
        for host, worker, when in self.lost:
            # A worker that died: what it did since its last task is lost, until its successor's first.
            for i in numpy.flatnonzero((end[:-1] <= when) & (start[1:] >= when) & (gaps > 0)):
                if worker and self.lanes[lane[i]][1:3] == (host, worker):
                    parts[lane[i], FAILED] += gaps[i]
                    gaps[i] = 0
        opened = numpy.array([self.blocks[block]["from"] for block, *_ in self.lanes])
        closed = numpy.array([self.blocks[block]["to"] for block, *_ in self.lanes])
        if n:
            # From then on nothing waits for a worker but what has to be tried again.
            self.last_start = self.started[there][self.tried[there] == 0].max(initial=self.began)
            late = numpy.clip(numpy.minimum(gaps, start[1:] - self.last_start), 0, None)
            parts[:, BETWEEN] = numpy.bincount(lane[:-1], gaps - late, n)
            parts[:, TAIL] = numpy.bincount(lane[:-1], late, n)
            parts[:, STARTUP] = numpy.clip(start[first] - opened, 0, None)
            after = numpy.clip(closed - end[last], 0, None)
            waiting = numpy.clip(numpy.minimum(self.last_start - end[last], after), 0, None)
            dead = self._dead_lanes(end[last])
            cut = numpy.full(n, self.cut_off) & ~dead
            parts[:, LOST] = after * dead
            parts[:, UNFINISHED] = after * cut
            parts[:, BETWEEN] += waiting * ~(dead | cut)
            parts[:, TAIL] += (after - waiting) * ~(dead | cut)
        self.parts, self.window = parts, numpy.maximum(parts.sum(axis=1), 1e-9)
        self.totals = parts.sum(axis=0)
        per_block = self.about.get("nodes_per_block", 0) * self.about.get("workers_per_node", 0)
        for name, block in self.blocks.items():
            idle = max(0, per_block - len(self._lanes_of(name)))
            self.totals[NEVER] += idle * max(0, block["to"] - block["from"])
        self.allocated = self.totals.sum()

    def _dead_lanes(self, last_end):
        """Which lanes are of a node that was lost: it had a task then, and none afterwards."""
        dead = numpy.zeros(len(self.lanes), bool)
        for host, worker, when in self.lost:
            if not worker:
                mine = [i for i, lane in enumerate(self.lanes) if lane[1] == host and last_end[i] <= when]
                latest = max((last_end[i], self.lanes[i][0]) for i in mine)[1] if mine else None
                dead[[i for i in mine if self.lanes[i][0] == latest]] = True
        return dead

    @property
    def shares(self):
        """Share of the allocation of each of PARTS; shape (PARTS,)."""
        return self.totals / self.allocated if self.allocated else self.totals

    @property
    def node_hours(self):
        """What was charged: the blocks, or the job, and the job of a driver that submits blocks."""
        about, mode = self.about, self.about.get("mode", "local")
        hours = 0.0
        for block in self.blocks.values() if mode == "blocks" else ():
            hours += about["nodes_per_block"] * (block["to"] - block["from"]) / 3600
        if about.get("job_start"):
            hours += len(about["job_nodes"]) * (self.end - about["job_start"]) / 3600
        return hours

    @property
    def seconds(self):
        """How long each try that ended ran."""
        return self.ended - self.started

    def count(self, status):
        return int(((self.status == status) & (self.first == 1)).sum())

    def per_gpu(self):
        """[(host, GPU or worker, share of its time that it computed, that it did failed work)]"""
        gpus = {}
        for i, (_, host, worker, gpu) in enumerate(self.lanes):
            name = lane_name(worker, gpu)
            gpus.setdefault((host, name), []).append(i)
        for (host, name), mine in sorted(gpus.items(), key=lambda item: natural(" ".join(item[0]))):
            done, failed = self.parts[mine][:, [COMPUTING, FAILED]].sum(axis=0) / self.window[mine].sum()
            yield host, name, done, failed

    def ended_how(self):
        ended = self.ended_by
        if ended is None:
            return "goes on" if self.goes_on else "was cut off"
        return f"stopped by {ended['stopped']}" if ended["stopped"] else "finished"


def _known(*values):
    return next((value for value in values if value is not None), None)


def lane_name(worker, gpu):
    """What of a host a lane is: a GPU, a worker, or all of it where MPI programs have whole nodes."""
    return f"GPU {gpu}" if gpu else f"worker {worker}" if worker else ""


def like(cause):
    """A cause without the numbers that differ from task to task."""
    return re.sub(r"\b0x[0-9a-f]+|\b[0-9a-f]{12}\b|x\d+c\d+s\d+b\d+n\d+|\d+(\.\d+)?", "#", cause)


def natural(text):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


class Runs(dict):
    """{number: Run}, each made when it is first asked for."""

    def __missing__(self, number):
        self[number] = Run(number)
        return self[number]


def read(folder):
    """The runs in a folder of results: {number: Run}."""
    runs, unread = Runs(), {}
    for number, event in tables.events_of(folder / "runs.jsonl"):
        try:
            runs[event["run"]].note(event)
        except (AttributeError, KeyError, TypeError):
            unread.setdefault("runs.jsonl", []).append(number)
    if tables.header_of(folder / "tasks.csv") != list(RECORD):
        unread["tasks.csv"] = [1]
    for number, fields in tables.rows_of(folder / "tasks.csv"):
        try:
            row = dict(zip(RECORD, fields, strict=True))
            runs[int(row["run"])].add(row)
        except (TypeError, ValueError):
            unread.setdefault("tasks.csv", []).append(number)
    lock = folder / "running.json"
    if runs and lives(lock):
        runs[max(runs)].goes_on = True
    for run in runs.values():
        run.unread = [
            f"{len(lines)} of the lines of {folder / name} cannot be read and are left out here, the first "
            f"is line {lines[0]}"
            for name, lines in unread.items()
        ]
        run.close()
    return dict(sorted(runs.items()))
