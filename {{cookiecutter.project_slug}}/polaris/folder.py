"""The folder of results: its lock, its tables and what is noted of runs.

NAME.csv has a row for each finished task of a table, NAME-failures.csv those that failed in the
last run (of the table `results`: failures.csv), see result_table.py; tasks.csv every try of every
task; runs.jsonl what runs noted.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from . import tables, values
from .errors import Refused
from .lock import Lock
from .result_table import ResultTable
from .tables import Table

# Columns of tasks.csv: every try of every task. Times are seconds since the epoch, `submitted` (to
# Parsl's executor) by the clock of the submit side, `started` and `ended` by the node's.
RECORD = (
    "run",
    "table",
    "line",
    "app",
    "executor",
    "try",
    "submitted",
    "started",
    "ended",
    "block",
    "host",
    "gpu",
    "worker",
    "cores",
    "status",
    "cause",
)


class Folder:
    """The results of one program: its lock, the record of tries and what its runs noted."""

    def __init__(self, path: Path):
        self.path = path
        self.lock = Lock(path)
        self.runs_file = path / "runs.jsonl"
        self.tasks_file = path / "tasks.csv"
        self.run_number = None  # of the runs in this folder, from 1
        self.tries = None  # tasks.csv, while tasks run
        self.open = []  # files that are written
        self.closing = contextlib.ExitStack()
        self.lost = None  # why nothing may be written any more

    def hold(self, mode: str) -> None:
        """Take the folder for this run, and cut off what a killed one left half written."""
        self.lock.hold(mode)
        for path in (*self.path.glob("*.csv"), self.runs_file):
            tables.cut_off_half_a_line(path)

    def let_go(self) -> None:
        self.closing.close()
        self.lock.let_go()

    def check(self) -> None:
        """Refused where another run has taken the folder; nothing more is written there then."""
        try:
            self.lock.check()
        except Refused as wrong:
            self.lost = wrong
            self.closing.close()
            raise

    def write(self, path: Path, mode: str, header: tuple | list) -> Table:
        """A table that is written from now on until the folder is let go."""
        if self.lost is not None:
            raise self.lost
        file = self.closing.enter_context(Table(path, mode, header))
        self.open.append(file)
        return file

    def flush(self) -> None:
        for file in self.open:
            file.flush()

    def last_run(self) -> dict:
        """What the last run that had tasks noted at its start and end, and of its tables; {}: there
        was none.
        """
        last = {}
        for event in self.events():
            if event["event"] in ("start", "map", "end"):
                last |= event
        return last

    def events(self) -> Iterator[dict]:
        """What runs noted, from the first on."""
        with contextlib.suppress(OSError):
            for _, event in tables.events_of(self.runs_file):
                if event:
                    yield event

    def fills(self, name: str) -> bool:
        """Whether runs so far filled a table of that name; True where there was none yet."""
        maps = [event["table"] for event in self.events() if event["event"] == "map"]
        return name in maps or self.last_run() == {}

    def tables(self) -> Iterator[tuple[ResultTable, dict]]:
        """Each table of results that runs noted, and what the last of them noted of it."""
        noted = {event["table"]: event for event in self.events() if event["event"] == "map"}
        kinds = {kind.__name__: kind for kind in values.INPUT_KINDS}
        for name, event in noted.items():
            inputs = {column: kinds.get(kind) for column, kind in event["inputs"].items()}
            rows = ResultTable(self, name, inputs)
            if rows.problem() is None:
                yield rows, event

    def log(self, event: str, **about) -> None:
        """Note an event of this run in runs.jsonl, for the report: one JSON object a line."""
        if self.run_number is None:
            self.run_number = 1 + self.last_run().get("run", 0)
        self.lock.check()
        said = {"run": self.run_number, "time": round(time.time(), 3), "event": event, **about}
        with open(self.runs_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")

    def record_try(self, tried: dict) -> None:
        """Write a line of tasks.csv. tried: {column of RECORD: value}."""
        if self.tries is None:
            self.tries = self.write(self.tasks_file, "a", RECORD)
        tried["run"] = self.run_number
        self.tries.writerow([tried.get(name, "") for name in RECORD])

    def trace(self, name: str, text: str) -> Path:
        """Keep the trace of a failure; returns its file."""
        file = self.path / "traces" / f"{name}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
        return file
