"""Tasks on their way, and how what became of them is written into a table of results."""

from __future__ import annotations

import contextlib
import traceback
from concurrent.futures import Future

from .errors import FailedOnWorker, Refused, kind_of, one_line, printable, root_of, stage_of
from .parsl_parts import about_try
from .result_table import ResultTable
from .tally import Count
from .work import Work, where_to_put_it

FIRST_ROWS = (
    20  # that have no result for a reason of the program's own: the others would have none either
)


class Item:
    """A row on its way. number: of the row in its source. tries, cost: those that it has had, what
    they cost.
    """

    __slots__ = ("number", "row", "key", "tries", "cost", "future", "calls")

    def __init__(self, number, row, key):
        self.number = number
        self.row = row
        self.key = key
        self.tries = 0
        self.cost = 0
        self.future = None  # whose result is the row's
        self.calls = ()  # the futures of all apps that were called for it


class Flight:
    """Items that are with Parsl, and the futures that are waited for. job: whose they are."""

    __slots__ = ("job", "items", "futures", "left", "grouped")

    def __init__(self, job, items, futures, grouped):
        self.job = job
        self.items = items
        self.futures = futures
        self.left = len(futures)
        self.grouped = grouped

    def landed(self) -> None:
        """One of the futures has ended."""
        self.left -= 1
        if self.left == 0:
            self.job.landed(self)
            self.items = self.futures = ()  # it is part of a cycle, which may stay for a while


class Job:
    """What fills one table of results: how a task's end is written down. See Map and Submits."""

    def __init__(self, session, work: Work, table: ResultTable, timeout: float | None):
        self.session = session
        self.work = work
        self.table = table
        self.timeout = timeout
        self.count = Count(known=None)
        # Failures for a reason of the program's own, before any row succeeded.
        self.without_result = 0
        self.source_words = "calls of run.submit"
        self.over = True  # whether every row has ended
        self.all_outputs = True  # whether all that a task returns is to be kept
        self.plan = None  # Plan, of a map
        self.by_cost = False  # whether the longest rows go first
        self.noted = False  # whether the run's log knows of the table

    def register(self) -> None:
        """From now on it is a part of the run: what it does is counted."""
        name = self.table.name
        self.session.jobs[name] = self
        self.session.tally.tables[name] = self.count

    @property
    def path(self) -> str | None:
        """The file, or pattern, that its rows are of; None: the program gives them."""
        path = getattr(self.plan.source, "path", None) if self.plan else None
        return None if path is None else str(path)

    @property
    def is_a_part(self) -> bool:
        """Whether `--only` chose some of its rows, and left others out."""
        part = self.plan and self.plan.wanted
        return part is not None and part.is_a_part

    def ends(self, over: bool) -> None:
        """Note whether every row has ended."""
        self.over = over

    def use(self, table: ResultTable) -> None:
        """Write into this table: its columns are known now."""
        self.table = table

    def fly(self, items: list, futures: list, grouped: bool = False) -> None:
        """Wait for the futures of items."""
        flight = Flight(self, items, futures, grouped)
        for future in futures:
            future.add_done_callback(lambda _: self.session.ended.put(flight))

    def succeeded(self, item: Item, result: object, tried: dict) -> bool:
        """Write down what a task returned; False where it cannot be kept."""
        cells, kinds, wrong = self.table.cells_of(result, item.key)
        unknown = [] if wrong else self.table.unknown_names(result)
        if unknown and self.all_outputs:
            anew = f"python run.py --again {self.work.name} begins the table anew"
            if self.session.choice is not None:
                anew = f"python run.py --again {self.work.name}, without --only, begins it anew"
            elif self.plan is not None and self.plan.others:  # which --again leaves there
                anew = "move the file away, which has results of other rows, too"
            mend = f"leave it out, name what is kept by outputs=(...), or {anew}"
            has = f"its result has {', '.join(unknown)}"
            wrong = f"{has}, which {self.table.shown} has no column for: {mend}"
        if wrong:
            if self.work.is_app:
                self.record_try(item, {**tried, "status": "failed", "cause": wrong})
            self.no_result(item, wrong)
            return False
        tried = {**tried, "try": tried["try"] + item.tries}
        self.table.add(item.row, item.key, cells, kinds, tried, self.work.code)
        self.count.done += 1
        if "started" in tried and self.work.is_app:  # else each of its calls is recorded
            self.record_try(item, tried)
        return True

    def record_try(self, item: Item, tried: dict) -> None:
        self.session.folder.record_try({**tried, "table": self.table.name, "line": item.number})

    def failed(self, item: Item, error: BaseException, future: Future | None = None) -> str:
        """Write down that an app of a row failed; returns the reason."""
        root = root_of(error)
        reason = one_line(root) + where_to_put_it(root)
        stage = stage_of(root)
        if stage and (root is not error or stage != self.work.name):
            reason = f"{stage}: {reason}"
        stderr = _stderr_of(next((f for f in item.calls if _raised(f, root)), future))
        reason += f"; see {stderr}" if stderr else ""
        self.write_failure(item, reason, root)
        return reason

    def no_result(self, item: Item, reason: str, error: BaseException | None = None) -> None:
        """A row that has no result although no app failed; where no row ever had one, the run
        stops.
        """
        self.write_failure(item, reason, error)
        self.without_result += 1
        known = self.count.known
        few = FIRST_ROWS if known is None else min(FIRST_ROWS, known)
        if self.count.done == 0 and self.without_result >= few:
            one = "the only row has no result"
            first = one if few == 1 else f"none of the first {few} rows has a result"
            raise Refused(f"{first}; {self.place(item)}: {reason}; mend it, then run again")

    def place(self, item: Item) -> str:
        """Where a row comes from, in words."""
        return f"row {item.number}"

    def write_failure(self, item: Item, reason: str, error: BaseException | None) -> None:
        """Write down that a row has no result, and why."""
        text = trace_of(error) if error is not None else f"{reason}\n"
        number = item.number
        file, line = ("", number) if self.plan is None else self.plan.source.where(number)
        self.table.add_failure(item.row, item.key, (file, line, number), reason, text)
        said = f"{self.place(item)}: {printable(reason)}"
        self.session.tally.last_failure = self.count.last_failure = said
        self.count.failed += 1

    def end_of(self, item: Item):
        """(error of a row whose calls have all ended or None, what the record says of its last
        try).
        """
        error = item.future.exception()
        for call in item.calls:
            if error is None:  # an app that nothing waits for has to succeed too
                error = call.exception()
        record = getattr(item.future, "task_record", None)
        tried = about_try(record) if record and error is None else {"try": 0, "status": "done"}
        if record and record["from_memo"]:
            tried.pop("started", None)
        return error, tried

    def landed(self, flight: Flight) -> None:
        raise NotImplementedError

    def note(self) -> None:
        """Tell the run's log of the table, once."""
        if self.noted:
            return
        self.noted = True
        self.session.folder.log(
            "map",
            table=self.table.name,
            app=self.work.name,
            source=self.source_words,
            path=self.path,
            total=self.count.known,
            done=self.count.before,
            grouped=self.work.may_be_grouped,
            by_cost=self.by_cost,
            inputs={name: kind and kind.__name__ for name, kind in self.table.inputs.items()},
        )

    def flushed(self) -> None:
        """What has landed so far is in its file, for everybody who reads it."""

    def close(self) -> None:
        """The session ends."""


def shares_of(tried: dict, rows: int) -> list[dict]:
    """What the record of tries says of each of several rows that one try was for.

    They share its time, one after the other: the times of all of them add up to it.
    """
    if rows == 1 or not tried.get("started"):
        return [dict(tried) for _ in range(rows)]
    started = tried["started"]
    took = (tried["ended"] - started) / rows
    shares = []
    for i in range(rows):
        share = {
            "started": round(started + i * took, 3),
            "ended": round(started + (i + 1) * took, 3),
        }
        if "seconds" in tried:
            seconds = tried["seconds"] / rows
            share["seconds"] = round(seconds, 3 if seconds > 0.1 else 6)
        shares.append({**tried, **share})
    return shares


def _raised(future, error):
    return future.done() and future.exception() is error


def _stderr_of(future):
    stderr = getattr(future, "stderr", None)
    stderr = stderr[0] if isinstance(stderr, tuple) else stderr  # Parsl's (path, mode)
    return stderr if isinstance(stderr, str) else None


def trace_of(error):
    """The traceback of a failure as text, and what its task printed."""
    printed = getattr(error, "printed", "")
    said = f"\n--- what it printed ---\n{printed}" if printed else ""
    return _traceback(error) + said


def _traceback(error):
    if isinstance(error, FailedOnWorker):
        return error.trace or f"{kind_of(error)}: {error}\n"
    with contextlib.suppress(Exception):
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return f"{kind_of(error)}: {error}\n"


def refuse_timeout(timeout) -> None:
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout > 0):
        raise Refused(f"timeout={timeout!r}: is no number of seconds above 0")
