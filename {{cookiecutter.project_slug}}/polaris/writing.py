"""What has ended is written down: results, tries, counts. By a thread of its own, in the order of
the ends.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import time

from .errors import one_line, root_of, stage_of
from .jobs import shares_of, trace_of
from .kernel import Called, Tried, bytes_of
from .lock import BEAT
from .machine import shown
from .parsl_parts import about_try

FIRST_TRACES = 20  # of the failed calls of an app, that are kept
PACE = 0.1  # seconds that a plain call waits for others, to be written down with them


class Ended:
    """What has ended and is to be written down, for the thread that writes.

    A row or run.submit's call wakes it at once: its future waits for its line. Nothing waits for
    that of a plain call.
    """

    def __init__(self):
        self.at_once = queue.SimpleQueue()
        self.plain = collections.deque()

    def put(self, ended) -> None:
        if isinstance(ended, Called) and ended.owner is None:
            self.plain.append(ended)
        else:
            self.at_once.put(ended)

    def empty(self) -> bool:
        return self.at_once.empty() and not self.plain

    def within(self, seconds: float) -> list:
        """All that ended since last asked; waits so long for what is written at once."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self.at_once.get(timeout=seconds))
            while True:
                found.append(self.at_once.get_nowait())
        while self.plain:
            found.append(self.plain.popleft())
        return found


class Writer:
    """Writes down what ends in a session, until it is closed."""

    def __init__(self, session):
        self.session = session
        self.folder = session.folder
        self.tally = session.tally
        self.calls = session.calls
        self.ended = session.ended
        self.closed = threading.Event()
        self.looked = time.monotonic()
        self.thread = threading.Thread(target=self._write, name="results", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def close(self) -> None:
        """Write what has ended so far, and end."""
        self.closed.set()
        self.thread.join(BEAT)

    def _write(self):
        while not self.closed.is_set():
            self._write_down(self.ended.within(PACE))
            self.session.running.look_for_garbage()
        self._write_down(self.ended.within(0))

    def _write_down(self, found):
        if time.monotonic() - self.looked > BEAT:  # it was suspended
            self.session.guarded(self.folder.check)
        self.looked = time.monotonic()
        if self.folder.lost is not None:
            return  # another run computes these rows, or has
        for ended in found:
            self.session.guarded(self._one, ended)
        if found:
            self.session.running.stop_if_broken()  # before anybody takes what is missing for ended
            self.session.guarded(self._flush)
            self.session.notify()

    def _flush(self):
        self.folder.flush()
        for job in list(self.session.jobs.values()):
            job.flushed()

    def _one(self, ended):
        if isinstance(ended, Called):
            self._call_ended(ended)
        elif isinstance(ended, Tried):
            self._try_failed(ended)
        else:
            ended.landed()

    def _call_ended(self, ended):
        future, owner = ended
        task = future.task_record
        if owner is not None:
            self.calls.owner_of(task, forget=True)
        rows = 1 if owner is None else len(owner.lines)
        self.session.running.came(bytes_of(future) // rows)
        counted = owner is None or owner.counted
        if not counted:
            return
        count = self.tally.app(task["func_name"])
        error = future.exception()
        if error is None:
            count.done += 1
            count.before += task["from_memo"]
            if owner is None and not task["memoize"] and not task["join"]:
                count.uncached += 1
            if not task["from_memo"] and not task["join"]:
                self._record(task, about_try(task), owner)
        elif not self.session.cut_off(error):
            count.failed += 1
            self._tell_failure(task, error, count)

    def _tell_failure(self, task, error, count):
        """A plain call that failed: its reason, and where its trace is."""
        root = root_of(error)
        app = stage_of(root) or task["func_name"]
        reason = f"{app}: {one_line(root)}"
        if root is error and count.failed <= FIRST_TRACES:
            name = f"{app}-run{self.folder.run_number}-task{task['id']}"
            trace = self.folder.trace(name, trace_of(error))
            reason += f"; trace: {shown(trace)}"
        self.tally.last_failure = count.last_failure = reason

    def _try_failed(self, ended):
        if not self.session.over:
            self._record(ended.task, ended.tried, self.calls.owner_of(ended.task))

    def _record(self, task, tried, owner):
        if owner is None:
            self.folder.record_try({**tried, "table": "", "line": ""})
            return
        tried = {**tried, "table": owner.table, "try": tried["try"] + owner.tries}
        shares = shares_of(tried, len(owner.lines))
        for line, share in zip(owner.lines, shares, strict=True):
            self.folder.record_try({**share, "line": line})
