"""`run.map`: rows become tasks, handed out in a bounded window; what they return becomes rows of
results.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

from . import on_worker, sources
from .errors import (
    Refused,
    Stop,
    Stopped,
    is_unfinished,
    one_line,
    printable,
    root_of,
    stage_of,
)
from .groups import Sizes, as_one_task
from .jobs import Flight, Item, Job, refuse_timeout
from .kernel import Owner, bytes_of
from .keys import key_of
from .plan import Plan
from .result_table import USUAL, ResultTable
from .results import Results
from .work import Work

TICK = 0.5  # seconds between looks while nothing ends
LONG = 0.1  # seconds after which a function of a row has waited for something


class Map(Job):
    """A task for each row of a source: handed out by a thread of its own, in a bounded window."""

    def __init__(
        self, session, work: Work, rows, table: str, timeout: float | None, outputs: tuple | None
    ):
        self.source = sources.source_of(rows)
        wrong = self.source.problems()
        if wrong:
            raise Refused("\n".join(wrong))
        refuse_outputs(outputs)
        refuse_timeout(timeout)
        if self.source.columns is not None:
            work.refuse_columns(self.source.for_app(self.source.columns))
        self.outputs_given = outputs
        results = ResultTable(session.folder, table, self.source.columns or {}, outputs)
        super().__init__(session, work, results, timeout)
        self.plan = Plan(self.source, results)
        self.seen = set()  # keys of rows that were read so far, where they can be read but once
        self.sizes = None
        self.sent = self.back_again = 0  # rows handed out, rows that landed
        self.written = 0  # rows that landed, and whose results whoever reads the file finds there
        # What is to be tried again on its own, and items that a group did not begin.
        self.again, self.back = deque(), deque()
        self.new, self.more = None, True
        self.waited = 0  # rows whose function waited for results
        self.over = False
        self.all_outputs = outputs is None
        self.source_words = self.source.words
        self.by_cost = self.source.by_cost
        self.feeder = threading.Thread(target=self._feed, name=f"rows of {table}", daemon=True)
        self.results = Results(self)

    def place(self, item: Item) -> str:
        place, name = self.source.place(item.number), self.table.name
        if name == USUAL:
            return place
        return f"{place} ({name})" if self.path else f"{place} of {name}"

    # --- before the first task --------------------------------------------------------------------
    def begin(self) -> None:
        """Read the rows and their results so far, say it, and hand out what is missing."""
        self.source.keep_a_copy(self.session.folder.path)
        if self.source.rereadable:
            self._read()
        else:
            self._read_a_stream()
        self.register()
        for line in self.plan.first_lines(self.work.name, self.work.code):
            self.session.screen.say(line)
        if self.count.known is not None and self.count.left == 0:
            self.session.screen.say(f"nothing to do: {self.plan.why_nothing()}")
            self.over = True
            return
        if self.source.rereadable:
            self._start()
        self.feeder.start()

    def _start(self):
        self.table.begin_failures()
        self.session.start()
        self.note()
        self._begin_sizes()

    def _begin_sizes(self):
        self.sizes = sizes_for(self.session, self.work)

    def _read(self):
        """The rows and what there is of their results."""
        self.plan.choose(self.session.choice)
        self.plan.read().refuse()
        self.count.known = self.plan.total
        self.count.done = self.count.before = len(self.plan.done)
        self.new = self.source.ordered(self.plan.is_missing)

    def _read_a_stream(self):
        """Of rows that can be read but once nothing is known but their results so far."""
        rows = self.source.rows()
        first = next(rows, None)
        if first is None:
            self.count.known = 0
            return
        self.work.refuse_columns(self.source.columns)
        name = self.table.name
        self.use(ResultTable(self.session.folder, name, self.source.columns, self.outputs_given))
        self.plan.table = self.table
        self.plan.choose(self.session.choice)
        self.plan.read_results()
        self.plan.refuse()
        self.results.begin_stream()
        self.new = self._read_ahead(self.plan.picked(_with(first, rows)))

    def _read_ahead(self, rows):
        """Rows that are read but once, as they are taken by `_read_item`."""
        return rows

    # --- out --------------------------------------------------------------------------------------
    def _feed(self):
        """The thread that hands out rows."""
        try:
            if self.sizes is None:
                self._start_with_the_first()
            while not self._all_ended() and self.session.stopping is None:
                if not self._hand_out():
                    self._wait()
            if self.count.left and self.session.stopping is None:
                changed = f"{self.source.words} were changed while they were handed out"
                raise Refused(f"{changed}: {self.count.left} have no task: give a copy of them")
        except Exception as error:
            if self.session.stopping is None:
                of_program = isinstance(error, Refused)
                self.session.fail(error, Stop.MAIN_RAISED if of_program else Stop.PROBLEM)
        self.over = True
        self.session.notify()

    def _start_with_the_first(self):
        """Of rows that are read as they come: nothing starts before one of them has no result."""
        item = self._next_item()
        if item is not None:
            self._start()
            self.back.append(item)

    def _all_ended(self):
        # In this order: what landed last may have left something to be tried again.
        landed = self.sent == self.written
        return landed and not (self.more or self.again or self.back)

    @property
    def out(self) -> int:
        """Rows that are with Parsl."""
        return self.sent - self.back_again

    def _wait(self):
        with self.session.changed:
            self.session.changed.wait(TICK)

    def _hand_out(self):
        """Hand out one more task, where there is room and a row; whether that was so."""
        waiting = None if self.count.known is None else self.count.left - self.out
        size = self.sizes.size(waiting)
        if self.out >= self.sizes.room(size):
            return False
        if self.again:
            self._alone(self.again.popleft())
            return True
        items = list(islice(iter(self._next_item, None), size))
        if len(items) > 1:
            self._group(items)
        elif items:
            self._alone(items[0])
        return bool(items)

    def _next_item(self):
        """The next row that has no result yet; None where there is none."""
        item = None
        while item is None and (self.back or self.more):
            item = self._read_item()
        return item

    def _read_item(self):
        """Read one row; None where it has a result, or there is none."""
        if self.back:
            return self.back.popleft()
        number, row = next(self.new, (None, None))
        if number is None:
            self.more = False
            self.count.all_known()
            return None
        key = key_of(row)
        if self.source.rereadable:
            return Item(number, row, key)
        return Item(number, row, key) if self._is_new(number, key) else None

    def _is_new(self, number, key):
        """Of rows that are read but once: whether this one has no result and is not on its way."""
        if key in self.seen:
            raise Refused(f"row {number} repeats an earlier one: leave it out")
        self.seen.add(key)
        self.count.read += 1
        done = key in self.plan.done
        self.results.asked(key, done)
        if done:
            self.count.done += 1
            self.count.before += 1
            self.session.notify()
        return not done

    def _goes_out(self, items):
        self.sent += len(items)

    def _group(self, items):
        """Submit several rows as one Parsl task."""
        owner = Owner(self.table.name, [item.number for item in items], [], counted=False)
        self._goes_out(items)
        rows = [self.source.for_app(item.row) for item in items]
        future = as_one_task(self.session, self.work.given, rows, self.timeout, owner)
        self.fly(items, [future], grouped=True)

    def _alone(self, item):
        """Call the app, or the function, for a row: as tasks of their own."""
        counted = not self.work.is_app
        owner = Owner(self.table.name, [item.number], [], counted, item.tries)
        self._goes_out([item])
        began = time.monotonic()
        error = None
        try:
            with self.session.calls.made_for(owner, self.timeout):
                item.future = self.work.call(self.source.for_app(item.row))
        except (Exception, SystemExit) as raised:
            error = raised
        item.calls = tuple(owner.calls)
        if item.calls and time.monotonic() - began > LONG and item.calls[0].done():
            self.waited += 1
        if error is not None or not isinstance(item.future, Future):
            self.session.ended.put(Early(self, item, error))
            return
        if item.cost:
            item.future.task_record["fail_cost"] += item.cost
        self.fly([item], list(dict.fromkeys([*item.calls, item.future])))

    # --- back -------------------------------------------------------------------------------------
    def flushed(self) -> None:
        self.written = self.back_again

    def landed(self, flight: Flight) -> None:
        self.back_again += len(flight.items)
        if flight.grouped:
            self._group_ended(flight)
        else:
            self._row_ended(flight.items[0])

    def _row_ended(self, item):
        error, tried = self.end_of(item)
        if error is None:
            if self.succeeded(item, item.future.result(), tried) and "seconds" in tried:
                self.sizes.learn(tried["seconds"], bytes_of(item.future))
        elif not self.session.cut_off(error):  # else it stays missing
            self.failed(item, error, item.future)

    def function_ended(self, item: Item, error: BaseException | None) -> None:
        """The function of a row raised, or returned no future."""
        self.back_again += 1
        if isinstance(error, Stopped) or self.session.over or (error and is_unfinished(error)):
            return
        if error is not None and stage_of(root_of(error)):
            self.failed(item, error)
        else:
            self.no_result(item, _no_future(self.work.name, item, error), error)

    def _group_ended(self, flight):
        items = flight.items
        (future,) = flight.futures
        error = future.exception()
        if error is not None:
            if not self.session.cut_off(error):
                # It was lost again and again: one of its rows may be the cause.
                self.again.extend(items)
            return
        opened = list(open_group(future, self.work.name))
        self.sizes.group_ended(len(items), len(opened))
        for item, (result, error, tried, size) in zip(items, opened, strict=False):
            if error is None:
                if self.succeeded(item, result, tried):
                    self.sizes.learn(tried["seconds"], size)
                continue
            self._failed_in_group(item, error, tried)
        self.back.extend(items[len(opened) :])  # not begun: the group had taken its time

    def _failed_in_group(self, item, error, tried):
        self.record_try(item, tried)
        item.tries = item.cost = 1
        if not self.session.config.retries or not on_worker.worth_another_try(error):
            self.failed(item, error)
        else:
            self.again.append(item)

    def close(self) -> None:
        if self.waited > 1:
            waited = f"{self.work.name} waited for results, so that rows ran one after the other"
            self.session.screen.say(f"{waited}: give the future to the next app instead")


def sizes_for(session, work: Work) -> Sizes:
    """How many rows of a map share a task, by the workers that take them."""
    running = session.running
    grouped = work.may_be_grouped and running.takes_groups(work.given)
    return Sizes(running.workers_for(work.given), session.config.rows_per_task, grouped)


class Early:
    """A row whose function raised, or returned no future, on its way to who writes it down."""

    def __init__(self, job, item, error):
        self.job, self.item, self.error = job, item, error
        self.left = sum(not future.done() for future in item.calls)

    def landed(self) -> None:
        self.job.function_ended(self.item, self.error)


def _no_future(name, item, error):
    """Why the function of a row gave no future, in words."""
    if error is not None:
        return f"{name} of {_place_of(error)} raised {one_line(error)}"
    made = printable(repr(item.future))[:60]
    return f"{name} must return what an app returns, not {made}"


HERE = str(Path(__file__).resolve().parent)


def _place_of(error):
    """The file and line of the program's function where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if not frame.filename.startswith(HERE)]
    at = mine[0] if mine else frames[-1]
    return f"{Path(at.filename).name} line {at.lineno}"


def open_group(future: Future, name: str):
    """Of a group that ended, for each row begun: (result, error, what the record of tries says of
    it, bytes that came back). What it was sent and brought back is let go of once all is open.
    """
    record = future.task_record
    sent = record["exec_fu"]
    common = {
        **sent.ran,
        "app": name,
        "executor": record["executor"],
        "try": 0,
        "submitted": sent.submitted,
    }
    _, rows, _ = record["args"]
    brought = future.result()
    for told, began, took in brought:
        tried = dict(common)
        tried["started"] = round(began, 3)
        tried["ended"] = round(began + took, 3)
        tried["seconds"] = round(took, 3 if took > 0.1 else 6)
        tried["status"] = "done"
        result, error = on_worker.opened(told)
        if error is not None:
            tried["status"] = "failed"
            tried["cause"] = one_line(error)
        yield result, error, tried, on_worker.size_of(told)
    rows.clear()  # Parsl's record of the group stays for a while
    brought.clear()


def refuse_outputs(outputs) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, tuple | list) or not all(isinstance(name, str) for name in outputs):
        wrong = "is no tuple of names in quotes; one name needs a comma behind it"
        raise Refused(f'run.map(outputs={outputs!r}): {wrong} (for example ("energy",))')
    twice = sorted({name for name in outputs if list(outputs).count(name) > 1})
    if twice:
        raise Refused(f"run.map(outputs=...) names {twice[0]!r} twice")


def _with(first, others):
    yield first
    yield from others
