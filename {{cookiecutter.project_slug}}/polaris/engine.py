"""The loop of a run: rows are handed to Parsl, and how they end is written down."""

from __future__ import annotations

import queue
import re
import sys
import time
import traceback
import types
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from . import values
from .errors import (
    FailedOnWorker,
    Refused,
    Stopped,
    kind_of,
    one_line,
    printable,
    root_of,
    stage_of,
)
from .lock import BEAT
from .sources import key_of

PLACE = ("host", "gpu", "cores", "seconds")  # columns of results.csv that say where a task ran, and how long
# Columns of tasks.csv: every try of every task. Times are seconds since the epoch, `submitted` (to Parsl's
# executor) by the clock of the submit side, `started` and `ended` by the node's.
RECORD = (
    "run", "line", "app", "try", "submitted", "started", "ended", "block", "host", "gpu", "worker", "cores",
    "status", "cause",
)  # fmt: skip
FIRST_ROWS = 20  # that have no result for a reason of run.py's own: the others would have none either
TICK = 0.5  # seconds between looks at signals and views while nothing ends


class Item:
    """A row on its way.

    line: of the input. made: what task() returned for it. calls: the apps that task() called. held: the only
    one of them, where it may go into a group. tries, cost: those that it has had, what they cost.
    """

    __slots__ = ("line", "row", "made", "calls", "held", "tries", "cost")

    def __init__(self, line, row):
        self.line, self.row, self.made, self.calls, self.held = line, row, None, (), None
        self.tries, self.cost = 0, 0


class Flight:
    """Items that are with Parsl: one, with the futures of all its apps, or those of a group, with one future.

    future: whose result is the row's. left: how many of the futures have not ended.
    """

    __slots__ = ("items", "future", "futures", "left", "grouped")

    def __init__(self, items, future, futures, grouped):
        self.items, self.future, self.futures, self.grouped = items, future, futures, grouped
        self.left = len(futures)


class Engine:
    """Hands out the rows of an ensemble until all have ended or it stops; see Ensemble.run for the others.

    tables: of results, failures and tries, open.
    """

    def __init__(self, run, view, window, blocks, groups, calls, tables):
        self.ensemble, self.view, self.window, self.blocks = run, view, window, blocks
        self.groups, self.calls = groups, calls
        self.results, self.failures, self.tries = tables
        self.ended = queue.SimpleQueue()  # of flights, once for each future that ended
        self.flights = {}  # future -> Flight
        self.flying = self.out = 0  # flights, and rows in them
        self.again = deque()  # items that get a task of their own
        self.back = deque()  # items that task() was called for, and that no task has
        self.new = run.missing()
        self.more = True
        self.problem = None  # what was found while task() waited
        self.early = []  # tries that failed while task() ran, of apps that are in no flight yet
        self.told_unrecorded = False
        self.looked = time.monotonic()

    def run(self):
        quiet = 0
        while self.more or self.again or self.back or self.flying:
            self._hand_out()
            if self.ensemble.stopping is not None:
                # A second look, a tick later: a result may have been on its way from the interchange.
                idle = not self.ensemble.at_once and self.blocks.drained() and self.ended.empty()
                quiet = quiet + 1 if idle else 0
                if self.ensemble.at_once or quiet == 2:
                    break
            self._look()
        while not self.ended.empty():
            self._record()

    def stops_while_waiting(self):
        """See to the run while task() waits for a result; returns whether the run stops."""
        try:
            self._look(wait=False)
        except Exception as problem:  # task() must not catch it
            self.problem = problem
        return self.problem is not None or self.ensemble.stopping is not None

    def _look(self, wait=True):
        self._record(wait)
        if self.calls and self.calls.unrecorded and not self.told_unrecorded:
            self.told_unrecorded = True
            self.ensemble.log("unrecorded")
        self.blocks.watch(self.ensemble)
        self.ensemble.show(self.view)

    # --- out -------------------------------------------------------------------------------------
    def _hand_out(self):
        size = self.groups.size(self.ensemble.left - self.out) if self.groups else 1
        room = self.groups.room(self.window, size) if self.groups else self.window
        while self.ensemble.stopping is None and self.out < room:
            if self.again:
                self._alone(self.again.popleft())
            elif self.back or self.more:
                self._next_task(size)
            else:
                return

    def _next_task(self, size):
        """Submit the next row, or up to `size` of them as one task."""
        items = []
        while len(items) < size:
            item = self._next_item()
            if item is None:
                break
            if item.held is None or (items and items[0].held.func is not item.held.func):
                # It has a task of its own, or is of another app; few would mix them row by row.
                self.back.appendleft(item)
                break
            items.append(item)
        if self.ensemble.stopping is not None:
            return
        if not items:
            if self.back:
                self._alone(self.back.popleft())
            return
        # One that task() asked for since, for another row, is with Parsl already.
        grouped = [item for item in items if item.held.app is None]
        self.again.extend(item for item in items if item.held.app is not None)
        if len(grouped) > 1:
            future = self.groups.group([item.held for item in grouped])
            self._fly(Flight(grouped, future, [future], grouped=True))
        elif grouped:
            self._alone(grouped[0])

    def _next_item(self):
        """The next row that task() has made apps of; None where there is none."""
        if self.back:
            return self.back.popleft()
        while self.ensemble.stopping is None:
            line, row = next(self.new, (None, None))
            if line is None:
                self.more = False
                return None
            item = Item(line, row)
            if self._call_task(item):
                return item
        return None

    def _call_task(self, item):
        """Call task(row) for an item; returns whether it has to be waited for now."""
        error = None
        self.ensemble.in_task = True
        try:
            if self.calls is None:
                item.made = self.ensemble.task(dict(item.row))
            else:
                item.made, error, item.calls = self.calls.of(self.ensemble.task, dict(item.row))
        except Stopped:
            if self.problem is not None:
                raise self.problem from None
            return False
        finally:
            self.ensemble.in_task = False
        early, self.early = self.early, []
        if error is not None and _stage(item, root_of(error)):
            waited_for = [call.app for call in item.calls if call.app is not None]
            self._record_failed_tries(early, dict.fromkeys(waited_for, Flight([item], None, [], False)))
            self._failure(item, error, named=True)
        elif error is not None:
            frames = traceback.extract_tb(error.__traceback__)
            at = frames[1] if len(frames) > 1 else frames[-1]
            place = f"{Path(at.filename).name} line {at.lineno}"
            self._no_result(item, f"task() of {place} raised {one_line(error)}", error)
        elif not isinstance(item.made, Future):
            made = printable(repr(item.made))[:60]
            self._no_result(item, f"run.py: task() must return what the app returns, not {made}")
        else:
            if len(item.calls) == 1 and item.made is item.calls[0] and item.made.app is None:
                item.held = item.made
            return True
        return False

    def _alone(self, item):
        """Wait for a row by all the apps that were called for it, as tasks of their own."""
        apps = [call.send() for call in item.calls]
        future = next((call.app for call in item.calls if call is item.made), item.made)
        if item.held is None and self.groups:
            self.groups.alone = True
        if item.cost:
            future.task_record["fail_cost"] += item.cost
        self._fly(Flight([item], future, list(dict.fromkeys([*apps, future])), grouped=False))

    def _fly(self, flight):
        self.flying += 1
        self.out += len(flight.items)
        for future in flight.futures:
            self.flights[future] = flight
            future.add_done_callback(lambda _: self.ended.put(flight))

    # --- back ------------------------------------------------------------------------------------
    def _record(self, wait=True):
        """Write down what has ended; wait: a tick for the first."""
        try:
            flight = self.ended.get(wait, TICK)
        except queue.Empty:
            flight = None
        if time.monotonic() - self.looked > BEAT:  # it was suspended, or task() took long
            self.ensemble.lock.check()
        self.looked = time.monotonic()
        while flight is not None:
            self._record_failed_tries()
            flight.left -= 1
            if flight.left == 0:
                self._landed(flight)
            flight = None if self.ended.empty() else self.ended.get()
        self._record_failed_tries()
        for table in (self.results, self.failures, self.tries):
            table.flush()

    def _landed(self, flight):
        self.flying -= 1
        self.out -= len(flight.items)
        for future in flight.futures:
            self.flights.pop(future, None)
        if flight.grouped:
            self._group_ended(flight)
        else:
            self._row_ended(flight)

    def _row_ended(self, flight):
        (item,) = flight.items
        error = flight.future.exception()
        for call in item.calls:
            if error is None and not call.seen:  # an app that nothing waits for has to succeed too
                error = call.app.exception()
        if error is None:
            record = getattr(flight.future, "task_record", None)
            tried = self.blocks.about_try(record) if record else {"try": 0, "status": "done"}
            tried["try"] += item.tries
            self._success(item, flight.future.result(), tried)
            if self.groups and "seconds" in tried:
                self.groups.learn(tried["seconds"])
        elif not self.blocks.broken():  # else it is no failure of the row's own: it stays missing
            self._failure(item, error, flight.future)

    def _group_ended(self, flight):
        items = flight.items
        if flight.future.exception() is not None:
            for item in items:
                item.held.grouped = False
            if not self.blocks.broken():
                self.again.extend(items)  # it was lost again and again: one of its rows may be the cause
            return
        name = items[0].held.func.__name__
        opened = list(self.groups.opened(flight.future, name))
        for item, (result, error, tried) in zip(items, opened, strict=False):
            if error is None:
                item.held.tell(result)
                self._success(item, result, tried)
                self.groups.learn(tried["seconds"])
                continue
            self._record_try(item.line, tried)
            item.tries, item.cost = 1, 1
            if self.groups.hopeless(error, item.cost):
                item.held.tell(None, error)
                self._failure(item, error)
            else:
                item.held.grouped = False
                self.again.append(item)
        for item in items[len(opened) :]:  # not begun: the group had taken its time
            item.held.grouped = False
            self.back.append(item)

    def _record_failed_tries(self, early=(), flights=None):
        for future, tried in (*early, *self.blocks.failed_tries()):
            flight = self.flights.get(future) or (flights or {}).get(future)
            if flight is None and self.ensemble.in_task:
                self.early.append((future, tried))
            for item in flight.items if flight else ():  # else an app that is called by another app
                self._record_try(item.line, {**tried, "try": tried["try"] + item.tries})

    def _record_try(self, line, tried):
        tried |= {"run": self.ensemble.run_number, "line": line}
        self.tries.writerow([tried.get(name, "") for name in RECORD])

    def _success(self, item, result, tried):
        cells, kinds, wrong = self._kept(item, result)
        if wrong:
            self._record_try(item.line, {**tried, "status": "failed", "cause": wrong})
            self._no_result(item, wrong)
            return
        inputs = map(values.input_cell, item.row.values())
        place = [tried.get(name, "") for name in PLACE]
        status = "retried" if tried["try"] else "done"
        self.results.writerow([*inputs, *cells, *place, status, " ".join(kinds)])
        self.ensemble.done += 1
        self._record_try(item.line, tried)

    def _kept(self, item, result):
        """What a task returned as cells and their kinds, or why it is no result."""
        cells, kinds = [], []
        outputs = self.ensemble.outputs
        has = result if isinstance(result, dict) else {}
        missing = [name for name in outputs if name not in has]
        if missing:
            returned = f"it has {', '.join(map(str, has))}" if has else "it is no dict, or an empty one"
            wrong = f"OUTPUTS names {', '.join(missing)}, which the result of the task lacks; {returned}"
            return cells, kinds, f"{printable(wrong)}: change OUTPUTS in run.py, or the app"
        for name in outputs:
            try:
                cell, kind = values.output_cell(result[name], lambda end: self._file(item, name, end))  # noqa: B023
            except values.Unkept as wrong:
                return cells, kinds, f"OUTPUTS names {name}, which {wrong}"
            cells.append(cell)
            kinds.append(kind)
        return cells, kinds, None

    def _file(self, item, name, ending):
        """The path of a file for a value that fits no cell."""
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)[:60]
        if safe != name:
            safe += f"-{list(self.ensemble.outputs).index(name)}"
        return self.ensemble.folder / "values" / f"{key_of(item.row):016x}-{safe}{ending}"

    # --- failures --------------------------------------------------------------------------------
    def _failure(self, item, error, future=None, named=False):
        """A row whose app failed, or one of its apps: named where there are several or task() waited."""
        root = root_of(error)
        failed = next((call.app for call in item.calls if call.app and _raised(call.app, root)), future)
        stderr = getattr(failed, "stderr", None)
        stderr = stderr[0] if isinstance(stderr, tuple) else stderr  # Parsl's (path, mode)
        reason = one_line(root) + _where_to_put_it(root)
        stage = _stage(item, root)
        if stage and (named or root is not error or len(item.calls) > 1):
            reason = f"{stage}: {reason}"
        reason += f"; see {stderr}" if isinstance(stderr, str) else ""
        self._write_failure(item, reason, root)

    def _no_result(self, item, reason, error=None):
        """A row that has no result although no app failed; where no row ever had one, the run stops."""
        run = self.ensemble
        self._write_failure(item, reason, error)
        run.without_result += 1
        few = min(FIRST_ROWS, run.total)
        if run.done == 0 and run.without_result >= few:
            first = "the only row has no result" if few == 1 else f"none of the first {few} rows has a result"
            raise Refused(f"{first}; line {item.line} of the input: {reason}; mend it, then run again")

    def _write_failure(self, item, reason, error):
        run = self.ensemble
        trace = run.folder / "traces" / f"{key_of(item.row):016x}.txt"
        trace.parent.mkdir(exist_ok=True)
        text = _trace(error) if error else f"{reason}\n"
        trace.write_text(text, encoding="utf-8", errors="backslashreplace")
        inputs = map(values.input_cell, item.row.values())
        self.failures.writerow([*inputs, item.line, printable(reason), trace])
        run.last_failure = f"line {item.line} of the input: {printable(reason)}"
        run.failed += 1


def _raised(future, error):
    return future.done() and future.exception() is error


def _where_to_put_it(error):
    """Of a name that an app lacks on workers and run.py has: what to do; else ""."""
    text, main = str(error), sys.modules["__main__"]
    named = re.search(r"^name '(\w+)' is not defined", text) if kind_of(error) == "NameError" else None
    named = named or re.search(r"Can't get attribute '(\w+)' on <module '__main__'", text)
    if not named or not hasattr(main, named[1]):
        return ""
    file = Path(getattr(main, "__file__", "run.py")).name
    if isinstance(getattr(main, named[1]), types.ModuleType):
        return f": {file} imports it, and workers do not load {file}: import it in the app"
    return f": it is in {file}, which workers do not load: it and the app belong into a file such as apps.py"


def _stage(item, error):
    """The name of the app that raised an error; None where none of a row's apps did."""
    mine = (call.func.__name__ for call in item.calls if call.app and _raised(call.app, error))
    return stage_of(error) or next(mine, None)


def _trace(error):
    if isinstance(error, FailedOnWorker):
        return error.trace or f"{kind_of(error)}: {error}\n"
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
