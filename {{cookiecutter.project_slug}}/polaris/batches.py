"""`run.map(app, rows, batch=64)`: the app gets a list of rows and returns a list as long.

Each row is still recorded, retried and resumed on its own. Of a batch that fails the two halves are
tried, and their halves, until the bad row is alone; what works is kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from .errors import Refused, one_line
from .jobs import Flight, Item, shares_of
from .kernel import Owner
from .maps import Early, Map
from .work import BatchWork, Work

AGE = 1.0  # seconds that rows wait for others of a batch, at most, while all workers are busy
BRIEF = 0.05  # and while a worker waits for them
SMALLEST = 8  # towards the end a batch is made smaller, down to a part of so many of its size


def map_of(session, app, rows, table, timeout, outputs, batch: int | None) -> Map:
    """What `run.map` means: a task a row, or a task for so many rows; Refused where it is wrong."""
    if batch is None:
        return Map(session, Work(app), rows, table, timeout, outputs)
    if type(batch) is not int or batch < 1:
        wrong = "is no whole number of rows above 0"
        raise Refused(f"run.map(batch={batch!r}): {wrong} (for example batch=64)")
    return BatchMap(session, BatchWork(app), rows, table, timeout, outputs, batch)


class Sizes:
    """How many rows the next batch gets, and how many batches may be with Parsl.

    batch: rows of one, at most. workers: that take them.
    """

    def __init__(self, batch: int, workers: int):
        self.batch = batch
        self.workers = workers
        # One in hand and one to come for each worker, and a few that are on their way.
        self.window = max(2 * workers, workers + 4)

    def size(self, waiting: int | None, out: int) -> int:
        """Rows of the next batch. waiting: rows that no batch has yet, None: unknown. out: batches.

        The last ones are made smaller, so that all workers end at about the same time.
        """
        if waiting is None:
            return self.batch
        free = self.workers - out
        if free > 0:
            fair = _parts(waiting, free)
        else:
            fair = min(_parts(self.batch, SMALLEST), _parts(waiting, self.workers))
        wanted = max(fair, _parts(waiting, 2 * self.workers))
        return max(1, min(self.batch, wanted))


def _parts(number, parts):
    return -(-number // parts)


class BatchMap(Map):
    """A task for each batch of rows."""

    def __init__(self, session, work, rows, table, timeout, outputs, batch: int):
        super().__init__(session, work, rows, table, timeout, outputs)
        self.batch = batch
        self.batches = None  # Sizes, once Parsl is started
        self.ahead = None  # rows that come slowly, and those that were read of them
        self.gathered = []  # items of the next batch
        self.since = 0.0  # when the first of them came
        self.calls_sent = self.calls_back = 0

    def _begin_sizes(self):
        super()._begin_sizes()
        workers = self.session.running.workers_for(self.work.given)
        self.batches = Sizes(self.batch, workers)

    def _read_ahead(self, rows):
        session = self.session
        self.ahead = Ahead(rows, 2 * self.batch, session.notify, lambda: session.stopping)
        return self.ahead

    # --- out --------------------------------------------------------------------------------------
    @property
    def calls_out(self) -> int:
        """Batches that are with Parsl."""
        return self.calls_sent - self.calls_back

    def _all_ended(self):
        return super()._all_ended() and not self.gathered

    def _hand_out(self):
        """Hand out one more batch, where there is room and it is time; whether that was so."""
        out = self.calls_out
        if out >= self.batches.window:
            return False
        if self.again:
            self._call(self.again.popleft())
            return True
        size = self.batches.size(self._waiting(), out)
        idle = out < self.batches.workers and self.session.running.works_for(self.work.given)
        self._gather(size, idle)
        if not self.gathered or not self._is_time(size, idle):
            return False
        items = self.gathered[:size]
        self.gathered = self.gathered[size:]
        self._call(items)
        return True

    def _waiting(self):
        """Rows that no batch has yet; None where nobody knows."""
        if self.count.known is not None:
            return self.count.left - self.out
        if self.ahead is not None and self.ahead.ended:
            return len(self.gathered) + len(self.back) + len(self.ahead.read)
        return None

    def _gather(self, size, idle):
        """Take rows for the next batch, as many as are there."""
        while len(self.gathered) < size and (self.back or self.more):
            if not self._is_there(idle):
                return
            item = self._read_item()
            if item is None:
                continue
            if not self.gathered:
                self.since = time.monotonic()
            self.gathered.append(item)

    def _is_there(self, idle):
        if self.back or self.ahead is None:
            return True
        waits = BRIEF + self.since - time.monotonic() if idle and self.gathered else 0
        return self.ahead.is_there(waits)

    def _is_time(self, size, idle):
        whole = len(self.gathered) >= size or not self.more
        return whole or idle or time.monotonic() > self.since + AGE

    def _call(self, items):
        """Call the app with the rows of some items, in a task."""
        numbers = [item.number for item in items]
        owner = Owner(self.table.name, numbers, [], counted=False, tries=items[0].tries)
        self._goes_out(items)
        error = future = None
        try:
            with self.session.calls.made_for(owner, self.timeout):
                future = self.work.call([self.source.for_app(item.row) for item in items])
        except (Exception, SystemExit) as raised:
            error = raised
        for item in items:
            item.future = future
            if error is not None:
                self.session.ended.put(Early(self, item, error))
        if future is not None:
            if len(items) == 1:
                future.task_record["lost_workers"] = items[0].cost  # with it in their hands
            self.calls_sent += 1
            self.fly(items, [future], grouped=True)

    # --- back -------------------------------------------------------------------------------------
    def _group_ended(self, flight: Flight):
        self.calls_back += 1
        items = flight.items
        error, tried = self.end_of(items[0])
        if error is not None:
            if not self.session.cut_off(error):  # else they stay missing
                self._batch_failed(items, error)
            return
        result = items[0].future.result()
        wrong = self._wrong_list(result, len(items))
        for i, (item, share) in enumerate(zip(items, shares_of(tried, len(items)), strict=True)):
            if wrong is None:
                self.succeeded(item, result[i], share)
                continue
            if "started" in share:
                self.record_try(item, {**share, "status": "failed", "cause": wrong})
            self.no_result(item, wrong)

    def _wrong_list(self, result, number):
        """Why no row can be given its part of what the app returned; None where it can."""
        if type(result) is list and len(result) == number:
            return None
        made = f"a {type(result).__name__}"
        if type(result) is list:
            made = f"a list of {len(result)}"
        mend = (
            "which is of which is not known: return a list with a result for each, in their order"
        )
        return f"{self.work.name} was given {number} rows and returned {made}; {mend}"

    def _batch_failed(self, items, error):
        """Try the halves; a row that is alone has failed.

        So has each row of a batch that lost its node again and again, which is no row's fault.
        """
        if len(items) == 1 or isinstance(error, ManagerLost):
            for item in items:
                self.failed(item, error, item.future)
            return
        tries = items[0].future.task_record["try_id"] + 1
        for item in items:
            item.tries += tries
            item.cost += isinstance(error, WorkerLost)
        for half in halves(items):
            self.again.append(half)


def halves(items: list[Item]) -> list[list[Item]]:
    """Two lists, of two items or more."""
    cuts = (0, len(items) // 2, len(items))
    return [items[start:end] for start, end in pairwise(cuts)]


class Ahead:
    """Rows that are read by a thread of their own, so many ahead: who takes them need not wait.

    room: rows that are kept. tell: is called when one comes that was waited for. over: says when
    to read no further. read: those that nobody took yet. ended: whether there are no more.
    """

    def __init__(self, rows: Iterator, room: int, tell: Callable, over: Callable):
        self.rows = rows
        self.room = room
        self.tell = tell
        self.over = over
        self.read = deque()
        self.error = None
        self.ended = False
        self.waited_for = False
        self.changed = threading.Condition()
        threading.Thread(target=self._read, name="rows ahead", daemon=True).start()

    def _read(self):
        try:
            for row in self.rows:
                if not self._put(row):
                    return
        except BaseException as error:  # of the program's: told where rows are taken
            self.error = error
        self.ended = True
        self._came()

    def _put(self, row):
        """Keep a row once there is room; False where no more are wanted."""
        with self.changed:
            while len(self.read) >= self.room:
                self.changed.wait(1)
                if self.over():
                    return False
            self.read.append(row)
        self._came()
        return True

    def _came(self):
        with self.changed:
            told, self.waited_for = self.waited_for, False
            self.changed.notify_all()
        if told:
            self.tell()

    def is_there(self, seconds: float) -> bool:
        """Whether the next row, or the end, is there, or comes within so many seconds."""
        with self.changed:
            there = self.changed.wait_for(lambda: self.read or self.ended, max(0, seconds))
            self.waited_for = not there
            return bool(there)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        with self.changed:
            self.changed.wait_for(lambda: self.read or self.ended)
            if self.read:
                self.changed.notify_all()
                return self.read.popleft()
        if isinstance(self.error, Exception):
            raise self.error
        if self.error is not None:
            wrong = f"the generator of the rows raised {one_line(self.error)}"
            raise Refused(f"{wrong}; what is finished is kept")
        raise StopIteration
