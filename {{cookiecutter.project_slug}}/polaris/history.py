"""What runs noted of themselves and their tasks, read again: runs.jsonl and tasks.csv of results/.

Whether the runs ended, were cut off or still go on. What it comes to is worked out in runs.py and
spent.py; this needs the standard library alone. Times are seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from array import array
from pathlib import Path
from typing import NamedTuple

from . import machine, tables
from .folder import RECORD
from .lock import lives

STATUSES = ("done", "failed", "lost")  # of a try; its code is the place here
DONE, FAILED, LOST = range(len(STATUSES))
MEASURED = ("started", "ended")  # columns of a try that are times, nan where unknown
CODED = (
    "first",
    "tried",
    "lane",
    "status",
    "app",
    "table",
    "line",
    "cause",
)  # those of whole numbers
MOMENT = 5  # seconds within which all tasks of a lost node are noticed to be lost


class Lane(NamedTuple):
    """One worker of a block, or a whole node of it that runs MPI programs. gpu: "" where none."""

    executor: str
    block: str
    host: str
    worker: str
    gpu: str

    @property
    def of(self) -> tuple[str, str]:
        """The block that it belongs to: (executor, name)."""
        return self.executor, self.block


class Loss(NamedTuple):
    """A node that was lost, or a worker of it. worker: "" where it was the node. when: noticed."""

    executor: str
    host: str
    worker: str
    when: float


class Block:
    """A block of an executor, as the events of a run tell of it. None: not noted.

    asked: when it was asked for, or first heard of. start, end: as PBS says. running, over: when it
    was first seen to run, and then to run no more. workers: the most that it had.
    """

    def __init__(self, asked: float):
        self.asked = asked
        self.job = None
        self.start = None
        self.end = None
        self.running = None
        self.over = None
        self.workers = 0

    def note(self, event: dict) -> None:
        """Take an event about it; KeyError where that is incomplete."""
        state, time = event["state"], event["time"]
        for name in ("job", "start", "end"):
            if event[name] is not None:
                setattr(self, name, event[name])
        self.workers = max(self.workers, event["workers"])
        if state == "RUNNING":
            self.running = first_known(self.running, time)
        elif self.running is not None and state != "PENDING":
            self.over = first_known(self.over, time)


class Collected:
    """One run: the events that it noted, and its tries as columns of one length, as they ended.

    A try on several nodes has an entry for each; `first` is 1 in one of them. tried: how often
    before. lane: the code of its Lane, -1 where it had none. status: a code of STATUSES. app,
    table, cause: codes of the names in `apps`, `tables` and `causes`. line: of the input, or -1.
    """

    def __init__(self, number: int):
        self.number = number
        self.about = {}  # what it noted at its start
        self.ended_by = None  # and at its end
        self.maps = {}  # table -> what was noted when its rows were asked for
        self.picture = None  # the path of its picture of the results
        self.blocks = {}  # (executor, name) -> Block
        self.seen = 0.0  # the last sign of life
        self.lanes = {}  # Lane -> its code; likewise the next three
        self.apps = {}
        self.tables = {}
        self.causes = {}
        self.examples = []  # by the code of a cause: one as it was written
        self.losses = {}  # what tells a loss from another -> Loss
        self.columns = {name: array("d") for name in MEASURED}
        self.columns |= {name: array("i") for name in CODED}

    # --- events -----------------------------------------------------------------------------------
    def note(self, event: dict) -> None:
        """Take an event of runs.jsonl; KeyError or TypeError where it is none that a run writes."""
        self.seen = max(self.seen, event["time"])
        kind = event["event"]
        if kind == "start":
            self.about = event
        elif kind == "map":
            self.maps[event["table"]] = event
        elif kind == "block":
            name = (event["executor"], event["block"])
            self.blocks.setdefault(name, Block(event["time"])).note(event)
        elif kind == "end":
            self.ended_by = event
        elif kind == "picture":
            self.picture = event["path"]

    # --- tries ------------------------------------------------------------------------------------
    def add(self, row: dict) -> None:
        """Take a row of tasks.csv, {column of RECORD: text}; ValueError where it is none."""
        ended = _number(row["ended"])
        status = STATUSES.index(row["status"])
        values = {
            "started": _number(row["started"]),
            "ended": ended,
            "tried": int(row["try"]),
            "status": status,
            "app": _code(self.apps, row["app"]),
            "table": _code(self.tables, row["table"]),
            "line": int(row["line"] or -1),
            "cause": self._cause(row["cause"]),
        }
        for i, host in enumerate(row["host"].split(";")):
            values["first"] = i == 0
            values["lane"] = self._lane(row, host)
            for name, value in values.items():
                self.columns[name].append(value)
            if status == LOST:
                self._lose(row["executor"], host, row["worker"], ended)
        self.seen = max(self.seen, ended)

    def _lane(self, row, host):
        if not row["started"]:
            return -1  # it was lost, or refused before it started
        lane = (row["executor"], row["block"], host, row["worker"], row["gpu"])
        code = self.lanes.get(lane)
        return _code(self.lanes, Lane(*lane)) if code is None else code

    def _cause(self, text):
        alike = like(text) if text else ""
        code = _code(self.causes, alike)
        if code == len(self.examples):
            self.examples.append(text)
        return code

    def _lose(self, executor, host, worker, when):
        # All tasks of a node are lost at once, and that is noticed within moments: one loss.
        which = (executor, host, worker, when // MOMENT)
        self.losses.setdefault(which, Loss(executor, host, worker, when))


def first_known(*values: object) -> object:
    """The first that is not None; None where all are."""
    return next((value for value in values if value is not None), None)


def _number(cell):
    return float(cell) if cell else math.nan


def _code(codes, name):
    """The whole number that stands for a name, from 0."""
    return codes.setdefault(name, len(codes))


def like(cause: str) -> str:
    """A cause without the numbers that differ from task to task."""
    return re.sub(r"\b0x[0-9a-f]+|\b[0-9a-f]{12,}\b|x\d+c\d+s\d+b\d+n\d+|\d+(\.\d+)?", "#", cause)


# --- the files ------------------------------------------------------------------------------------
class Runs(dict):
    """{number: Collected}, each made when it is first asked for."""

    def __missing__(self, number):
        self[number] = Collected(number)
        return self[number]


class History(NamedTuple):
    """The runs of a folder of results, by their numbers.

    goes_on: the number of the one that still goes on, or None. unread: what of the files could not
    be read, a line each.
    """

    runs: dict[int, Collected]
    goes_on: int | None
    unread: list[str]


def read(folder: Path) -> History:
    """Read what the runs in a folder of results wrote; FileNotFoundError where there were none."""
    events, tries = folder / "runs.jsonl", folder / "tasks.csv"
    runs = Runs()
    unread = [
        *_unread(events, _read_events(events, runs)),
        *_unread(tries, _read_tries(tries, runs)),
    ]
    going = runs and lives(folder / "running.json")
    goes_on = max(runs) if going else None
    in_order = dict(sorted(runs.items()))
    return History(in_order, goes_on, unread)


def _read_events(path, runs):
    """Give each event to its run; returns the numbers of the lines that are none."""
    bad = []
    for number, event in tables.events_of(path):
        if event is None:
            bad.append(number)
            continue
        try:
            runs[event["run"]].note(event)
        except (KeyError, TypeError):
            bad.append(number)
    return bad


def _read_tries(path, runs):
    """Give each try to its run; returns the numbers of the lines that are none."""
    header = tables.header_of(path)
    bad = [] if header == list(RECORD) else [1]
    for number, fields in tables.rows_of(path):
        try:
            row = dict(zip(RECORD, fields, strict=True))
            runs[int(row["run"])].add(row)
        except (TypeError, ValueError):
            bad.append(number)
    return bad


def _unread(path, lines):
    if not lines:
        return []
    wrong = f"{len(lines)} of the lines of {path} cannot be read and are left out here"
    return [f"{wrong}, the first is line {lines[0]}"]


def note_ends(runs_file: Path) -> None:
    """Note in runs.jsonl when blocks of runs that ended were over, where only PBS knows it yet."""
    runs = Runs()
    with contextlib.suppress(OSError):
        _read_events(runs_file, runs)
    unknown = _without_end(runs)
    if not unknown:
        return
    for job, end in machine.ends_of_jobs(list(unknown)).items():
        event = {
            **unknown[job],
            "time": end,
            "event": "block",
            "job": job,
            "state": "COMPLETED",
            "workers": 0,
            "start": None,
            "end": end,
        }
        with contextlib.suppress(OSError), open(runs_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def _without_end(runs):
    """{PBS job: whose block it was} of runs that have ended, where its end is not noted."""
    found = {}
    for run in runs.values():
        if run.ended_by is None or run.about.get("mode") != "blocks":
            continue
        for (executor, name), block in run.blocks.items():
            if block.job is not None and block.end is None:
                found[block.job] = {"run": run.number, "executor": executor, "block": name}
    return found
