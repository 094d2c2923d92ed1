"""How far a run is: counts of tasks by app, and of rows by table, also in words."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterable

from . import facts
from .errors import Stop


class Count:
    """Of the calls of one app, or the rows of one table.

    known: how many there are, as far as is known; None: rows are read as they come, `read` of them
    so far.
    """

    def __init__(self, known: int | None = 0):
        self.known = known
        self.read = 0
        self.done = 0
        self.failed = 0
        self.uncached = 0  # finished calls that the next run would make again
        self.before = 0  # of those done, that were done before this run
        self.last_failure = None

    def all_known(self) -> None:
        """Nothing will be added: what was read is all."""
        if self.known is None:
            self.known = self.read

    @property
    def left(self) -> int:
        known = self.read if self.known is None else self.known
        return known - self.done - self.failed

    @property
    def ended(self) -> int:
        """In this run."""
        return self.done + self.failed - self.before

    def text(self, name: str, noun: str = "") -> str:
        """ "simulate 120 of 200, 3 failed"."""
        of = f" of {self.known}" if self.known is not None else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{name} {self.done}{of}{noun}{failed}"


class Tally:
    """The counts of a run. tables: {name: Count} of rows; apps: {name: Count} of calls that are no
    rows.
    """

    def __init__(self):
        self.start = time.monotonic()
        self.tables = {}
        self.apps = collections.defaultdict(Count)
        self.last_failure = None
        self.lock = threading.Lock()

    def app(self, name: str) -> Count:
        with self.lock:
            return self.apps[name]

    def called(self, name: str) -> None:
        count = self.app(name)
        with self.lock:
            count.known += 1

    def counts(self) -> Iterable[Count]:
        return [*self.tables.values(), *self.apps.values()]

    @property
    def ended(self) -> int:
        """Tasks that ended in this run."""
        return sum(count.ended for count in self.counts())

    @property
    def done(self) -> int:
        return sum(count.done for count in self.counts())

    @property
    def failed(self) -> int:
        return sum(count.failed for count in self.counts())

    @property
    def left(self) -> int:
        return sum(count.left for count in self.counts())

    @property
    def total(self) -> int | None:
        """How many tasks there are; None where nobody knows."""
        if any(count.known is None for count in self.counts()):
            return None
        return sum(count.known for count in self.counts())

    def text(self, stopping: Stop | None) -> str:
        """How far the run is, in one line."""
        text = self._counts_in_words()
        left = self.left
        if stopping is not None and left:
            # In front: a narrow terminal cuts off what is behind.
            said = f"{stopping.words}: no further task, waiting for those that run"
            said += " (Ctrl-C again: at once)" if stopping is Stop.CTRL_C else ""
            return f"{said}; {text}"
        if not left:
            return text
        ended = self.ended
        if not ended:
            return text + "; waiting for the first result"
        elapsed = max(time.monotonic() - self.start, 1e-6)
        rate = ended / elapsed
        text += f"; {rate:,.0f}" if rate >= 100 else f"; {rate:.2g}"
        text += " tasks/s"
        if self.total is None:
            return text
        return text + f", {facts.in_words(left * elapsed / ended)} to go"

    def _counts_in_words(self):
        if len(self.tables) == 1 and not self.apps and self.total is not None:
            (count,) = self.tables.values()
            return f"done {count.done}, failed {count.failed}, left {count.left} of {count.known}"
        rows = [count.text(name, " rows") for name, count in self.tables.items()]
        calls = [count.text(name) for name, count in self.apps.items()]
        known = " (of those known so far)" if calls else ""
        return "; ".join([*rows, ", ".join(calls) + known] if calls else rows) or "no task yet"

    def left_in_words(self) -> str:
        """ "3 of 48 tasks left", with the apps where there are several."""
        if self.left <= 0:
            return "the program had not come to its end"
        total = self.total
        of = f" of {total}" if total is not None else ""
        words = f"{self.left}{of} tasks left"
        if not self.apps:
            return words
        counts = [*self.tables.items(), *self.apps.items()]  # they may have a name in common
        parts = [f"{name} {count.left}" for name, count in counts if count.left > 0]
        return f"{words} ({', '.join(parts)})" if parts else words
