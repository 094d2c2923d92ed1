"""The finished rows of a map, as its program gets them: the same values in the first run and in
later ones.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from .errors import Refused, Unfinished
from .keys import Places, key_of

TICK = 0.25  # seconds between looks at the file while nothing ends


class Results:
    """Finished rows: {name: value} of inputs and outputs. Iterating waits until all have ended."""

    def __init__(self, job):
        self._job = job
        self._order = []  # keys, of rows that can be read but once
        self._old = Places()  # of results of earlier runs, likewise
        self._asked = deque()  # (offset) of those that were asked for again
        self._start = 0  # where the results of this run begin in the file, likewise

    def __len__(self) -> int:
        """How many rows are finished."""
        return self._job.count.done

    @property
    def total(self) -> int | None:
        """How many rows there are; None where that is not known yet."""
        return self._job.count.known

    @property
    def failed(self) -> int:
        """How many rows failed in this run; results/failures.csv has them."""
        return self._job.count.failed

    def wait(self) -> None:
        """Until every row has ended; Unfinished in a thread of the program's where the run stops
        before.
        """
        session = self._job.session
        while not self._job.over:
            session.wait(TICK)
        self._leave()

    def _leave(self):
        """The program is left where the run stops; a thread gets no part for the whole."""
        session = self._job.session
        session.signals.leave()
        main = threading.current_thread() is threading.main_thread()
        if session.stopping is not None and self._job.count.left and not main:
            raise Unfinished(f"the run was stopped by {session.stopping.words}")

    def __iter__(self) -> Iterator[dict]:
        """The finished rows in the order of the input, once all have ended."""
        self.wait()
        if self._job.table.header is None:
            return
        places = self._places()
        table = self._job.table
        for key in self._keys():
            offset = places.get(key)
            if offset is not None:
                yield table.row_at(offset)

    def __getitem__(self, place: int | slice) -> dict | list:
        """One of the finished rows, or some, in the order of the input, once all have ended."""
        return list(self)[place]

    def as_completed(self) -> Iterator[dict]:
        """The finished rows as they end; those of earlier runs first."""
        session = self._job.session
        state = {"offset": self._start, "seen": set()}
        while True:
            over = self._job.over
            yield from self._new(state)
            if over:
                self._leave()
                return
            session.wait(TICK)

    def frame(self):
        """The finished rows as a pandas DataFrame."""
        try:
            import pandas
        except ModuleNotFoundError:
            raise Refused("results.frame() needs pandas: pip install pandas") from None
        return pandas.DataFrame(list(self), columns=self._job.table.columns or None)

    def _new(self, state):
        """Rows that were written since last asked."""
        table = self._job.table
        while self._asked:
            yield table.row_at(self._asked.popleft())
        if table.header is None:
            return
        for line in table.recorded(state["offset"]):
            state["offset"] = line.end
            if line.row is not None and self._is_mine(line.row, state["seen"]):
                yield table.row_of(line)

    def _is_mine(self, row, seen):
        job = self._job
        key = key_of(row)
        mine = key in job.plan.keys if job.source.rereadable else key in job.seen
        if not mine or key in seen:
            return False
        if key in job.plan.repeated:
            seen.add(key)
        return True

    def _places(self):
        places = Places()
        for line in self._job.table.recorded():
            if line.row is not None:
                places.add(key_of(line.row), line.offset)
        places.sort()
        return places

    def _keys(self):
        job = self._job
        if not job.source.rereadable:
            yield from self._order
            return
        for _, row in job.source.rows():
            key = key_of(row)
            if job.plan.wanted is None or key in job.plan.keys:
                yield key

    # --- what the job tells -----------------------------------------------------------------------
    def begin_stream(self) -> None:
        """Rows can be read but once: keep where the results of earlier runs are."""
        table = self._job.table
        if table.path.exists():
            self._start = table.path.stat().st_size
            self._old = self._places() if table.header is not None else Places()

    def asked(self, key: int, done: bool) -> None:
        """A row was read. done: whether an earlier run has its result."""
        self._order.append(key)
        if done:
            self._asked.append(self._old.get(key))
