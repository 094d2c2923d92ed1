"""`run.submit` and `run.executor`: single calls whose results are kept, for loops, notebooks and
libraries.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import threading
from collections import Counter
from concurrent.futures import Future

from parsl import python_app

from . import on_worker, sources
from .errors import Refused, Unfinished, is_unfinished
from .jobs import Flight, Item, Job, refuse_timeout
from .kernel import Owner
from .keys import KEPT_BY_PARSL, key_of
from .plan import CODE, of_earlier_code
from .result_table import ResultTable
from .work import Work


class Submits(Job):
    """Calls of one app by run.submit: each kept in the table, and answered from there when asked
    for again.
    """

    def __init__(self, session, app, name: str):
        work = Work(app)
        super().__init__(session, work, ResultTable(session.folder, name, {}), None)
        self.futures = {}  # key -> Future
        self.places = {}  # key -> where its line is in the file, of earlier runs
        self.ready = False
        self.number = 0
        self.lock = threading.RLock()
        self.count.known = 0

    def submit(self, app, inputs: dict, timeout: float | None) -> Future:
        """The future of one call."""
        if app is not self.work.given and Work(app).digest != self.work.digest:
            name = self.work.name
            raise Refused(
                f"run.submit: two apps are called {name}, and would share results/{name}.csv"
            )
        refuse_timeout(timeout)
        row = self._row(inputs)
        with self.lock:
            if not self.ready:
                self._read(row)
                self.register()
            if row.keys() != self.table.inputs.keys():
                has = ", ".join(self.table.inputs)
                raise Refused(
                    f"{self.work.name}: {self.table.shown} has the inputs {has}: give the same"
                )
            row = {name: row[name] for name in self.table.inputs}
            key = key_of(row)
            future = self.futures.get(key)
            if future is None:
                future = self.futures[key] = self._recorded(key) or self._call(row, key, timeout)
        return future

    def _row(self, inputs):
        self.work.refuse_columns(inputs)
        if self.work.is_app:
            bound = inspect.signature(self.work.given.func).bind(**inputs)
            bound.apply_defaults()
            given = {n: v for n, v in bound.arguments.items() if n not in KEPT_BY_PARSL}
        else:
            given = inputs
        return {
            name: sources.plain_input(value, f"{self.work.name}: {name}")
            for name, value in given.items()
        }

    def _read(self, row):
        """What is there of earlier runs."""
        columns = dict.fromkeys(row)
        self.use(ResultTable(self.session.folder, self.table.name, columns))
        wrong = self.table.problem()
        if wrong:
            raise Refused(wrong)
        codes = Counter()
        if self.table.header is not None:
            for line in self.table.recorded():
                if line.row is None:
                    mend = "mend the line, or delete it to have its call made again"
                    wrong = f"{self.table.shown} line {line.number}: is no row of results"
                    raise Refused(f"{wrong}: {mend}")
                self.places.setdefault(key_of(line.row), line.offset)
                codes[line.fields[CODE]] += 1
        stale = codes.total() - codes[self.work.code]
        if stale:
            self.session.screen.say(of_earlier_code(self.work.name, stale, codes.total()))
        self.ready = True

    def _recorded(self, key):
        """A future that has its result already, where an earlier run had it."""
        offset = self.places.get(key)
        if offset is None:
            return None
        result = self.table.readable_result(self.table.line_at(offset))
        future = Future()
        future.set_result(result)
        self.count.known += 1
        self.count.done += 1
        self.count.before += 1
        return future

    def _call(self, row, key, timeout):
        if self.table.failures is None:
            self.session.start()
            self.table.begin_failures()
            self.note()
        self.number += 1
        self.count.known += 1
        self.ends(False)
        item = Item(self.number, row, key)
        owner = Owner(self.table.name, [item.number], [], counted=not self.work.is_app)
        with self.session.calls.made_for(owner, timeout):
            item.future = self.work.call(dict(row))
        if not isinstance(item.future, Future):
            raise Refused(f"{self.work.name} must return what an app returns")
        item.calls = tuple(owner.calls)
        outer = Future()
        self.fly_to(outer, item)
        return outer

    def fly_to(self, outer: Future, item: Item) -> None:
        """Wait for a call; its result goes into the outer future once it is written down."""
        futures = list(dict.fromkeys([*item.calls, item.future]))
        flight = Flight(self, [(item, outer)], futures, grouped=False)
        for future in futures:
            future.add_done_callback(lambda _: self.session.ended.put(flight))

    def landed(self, flight: Flight) -> None:
        ((item, outer),) = flight.items
        error = OSError(f"its result could not be written into {self.table.shown}")
        try:
            error = self._write_down(item)
        finally:  # whoever waits for it is told, whatever happens
            self.ends(self.count.left <= 0)
            if error is None:
                outer.set_result(item.future.result())
            else:
                self.futures.pop(item.key, None)
                outer.set_exception(error)

    def _write_down(self, item):
        """Keep the result of a call; returns its error, None where it has a result that is kept."""
        error, tried = self.end_of(item)
        if error is None:
            if self.succeeded(item, item.future.result(), tried):
                self.session.folder.flush()
                return None
            return ValueError(self.session.tally.last_failure)
        if not self.session.cut_off(error):
            self.failed(item, error, item.future)
        elif not is_unfinished(error):
            return Unfinished(self.session.why_not())
        return error

    def no_result(self, item: Item, reason: str, error: BaseException | None = None) -> None:
        """A call whose result cannot be kept: its future says so, and the program goes on."""
        self.write_failure(item, reason, error)

    def place(self, item: Item) -> str:
        return f"call {item.number} of {self.work.name}"


class Pool(concurrent.futures.Executor):
    """An Executor over the workers: any function, kept like apps with cache=True."""

    def __init__(self, session):
        self.session = session
        self.app = python_app(on_worker.call, cache=True)

    def submit(self, fn, /, *args, **kwargs) -> Future:
        inner = self.app(fn, args, kwargs)
        outer = Future()
        outer.set_running_or_notify_cancel()  # Parsl's calls cannot be cancelled
        inner.add_done_callback(lambda _: _pass_on(inner, outer))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the workers are the session's."""


def _pass_on(inner, outer):
    """Give a future the end of another."""
    error = inner.exception()
    if error is None:
        outer.set_result(inner.result())
    else:
        outer.set_exception(error)
