"""Parsl's DataFlowKernel as a session loads it: each call of an app is checked, counted and
recorded.

A plain Parsl program goes through it unawares: `app(...)` asks for the loaded kernel and calls its
`submit`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

from parsl import DataFlowKernel
from parsl.dataflow.dflow import DataFlowKernelLoader
from parsl.dataflow.futures import AppFuture

from . import on_worker
from .arguments import kept
from .errors import Refused, Unfinished
from .wanted import named, unknown

GROUP = on_worker.run_group


class Owner(NamedTuple):
    """The rows that a call is made for: of which table, on which lines of the input.

    calls: the futures of all its calls. counted: whether a call counts as one of its app. tries:
    that they have had before, in a group.
    """

    table: str
    lines: list
    calls: list
    counted: bool = True
    tries: int = 0


class Called(NamedTuple):
    """A call of an app that has ended."""

    future: AppFuture
    owner: Owner | None


class Tried(NamedTuple):
    """A try of a call that failed, and what the record says of it."""

    task: dict
    tried: dict


class Calls:
    """What a session knows of the calls of its program.

    tell: a function that is given each Called and Tried. tally: counts them. why_not: a function
    that says why no further app is called, or None. kinds: a function that gives the labels of the
    executors.
    """

    def __init__(self, tell, tally, why_not: Callable, kinds: Callable):
        self.tell = tell
        self.tally = tally
        self.why_not = why_not
        self.kinds = kinds
        self.owners = {}  # id of Parsl's task -> Owner, as long as it runs
        self.running = {}  # id of Parsl's task -> its future
        self.local = threading.local()
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def made_for(self, owner: Owner, timeout: float | None = None) -> Iterator[Owner]:
        """What is called within, in this thread, is for these rows. timeout: s, of each call."""
        self.local.owner, self.local.timeout = owner, timeout
        try:
            yield owner
        finally:
            self.local.owner = self.local.timeout = None

    def submit(self, submit: Callable, func, app_args, executors, app_kwargs, join, **options):
        """Make a call as Parsl does; returns its AppFuture."""
        name = func.__name__
        wrong = self.why_not()
        if wrong:
            raise Unfinished(f"{name} is not called: {wrong}")
        self._refuse_strange(name, app_args, app_kwargs)
        executors = self._executors_of(name, executors, join)
        owner = getattr(self.local, "owner", None)
        timeout = getattr(self.local, "timeout", None)
        if join:
            func = _join_guarded(func)
        elif timeout is not None and func is not GROUP:
            func = on_worker.Limited(func, timeout)
        if func is not GROUP:
            app_args, app_kwargs = kept(tuple(app_args)), kept(dict(app_kwargs))
        with self.lock:
            future = submit(
                func,
                app_args=app_args,
                executors=executors,
                app_kwargs=app_kwargs,
                join=join,
                **options,
            )
            number = future.task_record["id"]
            self.running[number] = future
            if owner is not None:
                self.owners[number] = owner
                owner.calls.append(future)
        if owner is None or owner.counted:
            self.tally.called(name)
        future.add_done_callback(functools.partial(self._ended, number, owner))
        return future

    def _ended(self, number, owner, future):
        self.running.pop(number, None)
        self.tell(Called(future, owner))

    def failed_try(self, task: dict, tried: dict) -> None:
        """For Parsl's retry handler: a try of a call has failed."""
        self.tell(Tried(task, tried))

    def owner_of(self, task: dict, forget: bool = False) -> Owner | None:
        """The rows that a task is for."""
        with self.lock:
            number = task["id"]
            return self.owners.pop(number, None) if forget else self.owners.get(number)

    def is_shared(self, task: dict) -> bool:
        """Whether a task is for several rows: one of them may be the cause of its failure."""
        owner = self.owner_of(task)
        return owner is not None and len(owner.lines) > 1

    def count(self, label: str) -> int:
        """How many calls of an executor have not ended."""
        mine = [f for f in list(self.running.values()) if f.task_record["executor"] == label]
        return len(mine)

    def _executors_of(self, name, executors, join):
        if join:
            return executors
        kinds = self.kinds()
        if isinstance(executors, str) and executors.lower() == "all":
            return kinds[:1]  # Parsl itself would take a random one
        wrong = unknown(name, executors, kinds)
        if wrong:
            raise Refused(wrong)
        return named(executors)

    def _refuse_strange(self, name, args, kwargs):
        """A future of another session may never end, and then nothing that waits for it would."""
        given = [*args, *kwargs.values()]
        inputs = kwargs.get("inputs")
        if isinstance(inputs, list | tuple):
            given += inputs
        for value in given:
            strange = isinstance(value, AppFuture) and value.task_record["dfk"] is not _loaded()
            if strange:
                app = value.task_record["func_name"]
                wrong = f"it is given a future of {app} of another session"
                raise Refused(f"{name}: {wrong}: give it its result()")


def _loaded():
    return DataFlowKernelLoader._dfk


@functools.lru_cache
def _join_guarded(func):
    """A join app's function, which Parsl runs in a thread of this process."""

    @functools.wraps(func)
    def guarded(*args, **kwargs):
        return on_worker.guarded(func, args, kwargs)

    return guarded


class Kernel(DataFlowKernel):
    """DataFlowKernel whose calls go through a session's Calls."""

    def __init__(self, config, calls: Calls):
        self.calls = calls
        super().__init__(config)

    def submit(
        self, func, app_args, executors, cache, ignore_for_cache, app_kwargs, join=False
    ) -> AppFuture:
        return self.calls.submit(
            super().submit,
            func,
            app_args,
            executors,
            app_kwargs,
            join,
            cache=cache,
            ignore_for_cache=ignore_for_cache,
        )


class Door:
    """Stands where Parsl looks for its kernel until the first app is called: only then is Parsl
    started.
    """

    def __init__(self, start: Callable[[], Kernel]):
        self.start = start

    def submit(self, *args, **options) -> AppFuture:
        return self.start().submit(*args, **options)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.start(), name)


def open_door(start: Callable[[], Kernel]) -> None:
    """Have Parsl's apps come to a session from now on; Refused where Parsl is loaded already."""
    if DataFlowKernelLoader._dfk is not None:
        mine = isinstance(DataFlowKernelLoader._dfk, Kernel | Door)
        if mine:
            raise Refused(
                "a session is open in this program already: use that one, or end it first"
            )
        mend = "leave out parsl.load(), or end it first: parsl.dfk().cleanup()"
        raise Refused(f"Parsl is loaded already, by parsl.load() in this program: {mend}")
    DataFlowKernelLoader._dfk = Door(start)


def load(kernel: Kernel) -> None:
    DataFlowKernelLoader._dfk = kernel


def close_door() -> None:
    DataFlowKernelLoader.clear()


def bytes_of(future: AppFuture) -> int:
    """How large the result of a call was on its way; 0 where it did not come from a worker."""
    return getattr(future.task_record.get("exec_fu"), "size", 0)


def failed(error: Exception) -> Future:
    """A future that has failed already."""
    future = Future()
    future.set_exception(error)
    return future
