"""Short rows in groups: one Parsl task for several, where handing each out takes longer than
running it.

Parsl spends about a millisecond on a task, whatever it does. Each row of a group is still recorded,
retried and resumed on its own: one that fails is run again as a task of its own, and so are all of
a lost group. A group that takes too long gives back the rows that it has not begun.
"""

from __future__ import annotations

from . import facts, on_worker

# Seconds; rows that take longer are tasks of their own: handing one out is a hundredth of that.
SHORT = 0.1
TARGET = 1.0  # seconds that a group is to take
BUDGET = (
    1.5  # seconds after which a group begins no further row: what is done is recorded within two
)
MOST_ROWS_OUT = 50_000  # rows in flight, where they go out in groups
ENOUGH = 20  # rows that tell how long the others will take
HELD = 64_000_000  # bytes of results, as which rows may be with Parsl, beside EACH of each worker
EACH = 2  # tasks for each worker: one that it runs, one that waits
WINDOW = 1000  # tasks in flight, at least; more where there are more workers


class Sizes:
    """How many rows the next Parsl task gets, and how many may be with Parsl.

    workers: how many there will be. rows_per_task: as in config.py; None means learnt, for about
    TARGET seconds a task. grouped: whether rows may share a task at all.
    """

    def __init__(self, workers: int, rows_per_task: int | None = None, grouped: bool = True):
        self.workers = workers
        self.fixed = rows_per_task
        self.grouped = grouped
        self.window = max(WINDOW, 4 * workers)
        # With many workers even tasks of a second come faster than they can be handed out.
        shortest = workers / facts.TASKS_PER_SECOND
        self.short = max(SHORT, shortest)
        self.target = max(TARGET, 2 * shortest)
        self.mean = 0.0  # seconds of a row
        self.bytes = 0.0  # of its result, likewise
        self.known = 0
        self.most = facts.ROWS_PER_TASK  # that one group brought back

    def learn(self, seconds: float, size: int = 0) -> None:
        """Take time and bytes of one more row: the means over about the last hundred."""
        self.known += 1
        share = 1 / min(self.known, 100)
        self.mean += (seconds - self.mean) * share
        self.bytes += (size - self.bytes) * share

    def group_ended(self, rows: int, begun: int) -> None:
        """A group of so many rows has begun so many of them, and given back the others."""
        whole = begun >= rows
        self.most = min(facts.ROWS_PER_TASK, 2 * self.most) if whole else max(1, begun)

    def size(self, waiting: int | None) -> int:
        """How many rows the next task gets. waiting: rows that no task has yet; they are to keep
        all busy.
        """
        if not self.grouped:
            return 1
        if self.fixed is None and self.known < ENOUGH:
            return 1
        wanted = self.fixed or self._learnt()
        wanted = min(wanted, facts.ROWS_PER_TASK)
        if waiting is not None:
            wanted = min(wanted, waiting // (EACH * self.workers))
        return max(1, wanted)

    def _learnt(self):
        if self.mean >= self.short:
            return 1
        by_time = int(self.target / max(self.mean, 1e-6))
        return min(self.most, by_time, self._held() // (EACH * self.workers))

    def room(self, size: int) -> int:
        """How many rows may be with Parsl. Few, until it is known how long they take; fewer, where
        their results are large: those that come faster than they are written down are kept.
        """
        return min(self._held(), self._room(size))

    def _held(self):
        """How many rows' results run.py may keep at a time."""
        return max(EACH * self.workers, int(HELD / max(self.bytes, 1)))

    def _room(self, size):
        if not self.grouped:
            return self.window
        if self.fixed is None and self.known < ENOUGH:
            return max(4 * self.workers, 2 * ENOUGH)
        return max(self.window, min(EACH * self.workers * size, MOST_ROWS_OUT))


def as_one_task(session, app, rows: list, timeout: float | None, owner):
    """Submit several rows of an app as one Parsl task; returns its future."""
    function = app.func if timeout is None else on_worker.Limited(app.func, timeout)
    calls = [((), row) for row in rows]
    with session.calls.made_for(owner):
        return session.start().submit(
            on_worker.run_group,
            app_args=(on_worker.packed_function(function), calls, BUDGET),
            executors=app.executors,
            cache=False,
            ignore_for_cache=None,
            app_kwargs={},
        )
