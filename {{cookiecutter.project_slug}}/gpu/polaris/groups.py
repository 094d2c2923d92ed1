"""Short rows in groups: one Parsl task for several, where handing each out takes longer than running it.

Parsl spends about a millisecond on a task, whatever it does. Each row of a group is still recorded, retried
and resumed on its own: one that fails is run again as a task of its own, and so are all of a lost group.
"""

import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

from parsl.app.errors import RemoteExceptionWrapper, wrap_error
from parsl.data_provider.files import File
from parsl.serialize import deserialize, serialize

from . import facts
from .blocks import SAME_EVERY_TIME
from .ensemble import one_line

SHORT = 0.1  # seconds; rows that take longer are tasks of their own: handing one out is a hundredth of that
TARGET = 1.0  # seconds that a group is to take
MOST_ROWS_OUT = 50_000  # rows in flight, where they go out in groups
ENOUGH = 20  # rows that tell how long the others will take
WAITED_FOR = (Future, File)  # among the arguments of a task, by Parsl
NOT_GROUPED = ("inputs", "outputs", "stdout", "stderr", "parsl_resource_specification")  # handled by Parsl


class Call(NamedTuple):
    """An app with its arguments, not submitted yet."""

    func: object
    args: tuple
    kwargs: dict
    options: dict  # of DataFlowKernel.submit


class Groups:
    """Makes Parsl tasks of rows for the engine.

    rows_per_task: as in config.py; None means learnt, for about TARGET seconds a task.
    """

    def __init__(self, dfk, workers, rows_per_task=None):
        self.dfk, self.workers, self.fixed = dfk, workers, rows_per_task
        self.retries = dfk.config.retries
        self.thread = threading.get_ident()
        self.submit = dfk.submit
        # With many workers even tasks of a second come faster than they can be handed out.
        shortest = workers / facts.TASKS_PER_SECOND
        self.short, self.target = max(SHORT, shortest), max(TARGET, 2 * shortest)
        self.mean, self.known = 0.0, 0
        self.alone = False  # whether rows came that cannot go into groups

    def learn(self, seconds):
        """Take the time of one more row: the mean over about the last hundred."""
        self.known += 1
        self.mean += (seconds - self.mean) / min(self.known, 100)

    def size(self, waiting):
        """How many rows the next task gets. waiting: rows that no task has yet; they are to keep all busy."""
        if self.fixed is None and self.known < ENOUGH:
            return 1
        wanted = self.fixed or (int(self.target / max(self.mean, 1e-6)) if self.mean < self.short else 1)
        return max(1, min(wanted, facts.ROWS_PER_TASK, waiting // (2 * self.workers)))

    def room(self, window, size):
        """How many rows may be with Parsl. window: tasks. Few, until it is known how long they take."""
        if self.fixed is None and self.known < ENOUGH:
            return max(4 * self.workers, 2 * ENOUGH)
        return max(window, min(4 * self.workers * size, MOST_ROWS_OUT))

    def call(self, task, row):
        """What task(row) calls: a Call where it may go into a group, else the future of what it submitted."""
        self.dfk.submit = self._caught
        try:
            return task(row)
        finally:
            del self.dfk.submit

    def _caught(self, func, app_args, app_kwargs, **options):
        alone = options.get("cache") or options.get("join") or not app_kwargs.keys().isdisjoint(NOT_GROUPED)
        waits = any(isinstance(value, WAITED_FOR) for value in (*app_args, *app_kwargs.values()))
        if alone or waits or threading.get_ident() != self.thread:
            self.alone = True
            return self.submit(func, app_args=app_args, app_kwargs=app_kwargs, **options)
        return Call(func, app_args, app_kwargs, options)

    def one(self, call, cost=0):
        """Submit a call as a task of its own. cost: what its tries so far cost of `retries`."""
        future = self.submit(call.func, app_args=call.args, app_kwargs=call.kwargs, **call.options)
        future.task_record["fail_cost"] += cost
        return future

    def group(self, calls):
        """Submit calls of one app as one task; its result is what `run_group` returns."""
        each = [(call.args, call.kwargs) for call in calls]
        options = {**calls[0].options, "ignore_for_cache": None}
        return self.submit(run_group, app_args=(serialize(calls[0].func), each), app_kwargs={}, **options)

    @staticmethod
    def opened(future, name):
        """Of a group that ended, for each row: (result, error, what the record of tries says of it)."""
        ran = future.task_record["exec_fu"].ran
        common = {**ran, "app": name, "try": 0, "submitted": future.task_record["exec_fu"].submitted}
        for result, began, took in future.result():
            tried = {**common, "started": round(began, 3), "ended": round(began + took, 3), "status": "done"}
            tried["seconds"] = round(took, 3 if took > 0.1 else 6)
            error = None
            if isinstance(result, RemoteExceptionWrapper):
                error = result.get_exception()
                tried |= {"status": "failed", "cause": one_line(error)}
            yield result, error, tried

    def hopeless(self, error, cost):
        """Whether a row that failed in a group is not to be tried again."""
        return isinstance(error, SAME_EVERY_TIME) or cost > self.retries


@wrap_error
def run_group(function, calls):
    """On a worker: the rows of a group, one after the other: [(result or wrapped error, start, seconds)]."""
    function = deserialize(function)
    done = []
    for args, kwargs in calls:
        began, start = time.time(), time.perf_counter()
        result = function(*args, **kwargs)
        done.append((result, began, time.perf_counter() - start))
    return done
