"""The apps that task(row) calls: any number, passed on in any of Parsl's ways, each of them run.

A row with a single call may share a Parsl task with other short rows. Therefore that call is held back until
task(row) has returned; whatever else asks for it, another app, `.result()` or a callback, has it submitted at
once.
"""

from __future__ import annotations

import copy
import functools
import threading
from concurrent.futures import Future

from parsl.data_provider.files import File

from . import on_worker
from .errors import Stopped

WAITED_FOR = (Future, File)  # among the arguments of an app, by Parsl
NOT_GROUPED = ("inputs", "outputs", "stdout", "stderr", "parsl_resource_specification")  # handled by Parsl
UNCHANGING = {int, float, bool, str, bytes, complex, type(None)}
LOOKING = threading.Lock()  # held while a call becomes a future, or is told how it ended
TICK = 0.1  # seconds between looks at the run while task() waits for a result


class Call(Future):
    """An app called in task(): a future of its result, as the app itself would return it.

    app: Parsl's own future, None as long as the call is held back. grouped: whether it is part of a group,
    whose end the engine tells it. seen: whether task() has asked for its result. Few calls are ever looked at
    as a future: what Future has is made when one is.
    """

    def __init__(self, calls, func, args, kwargs, options):
        self.calls, self.func, self.args, self.kwargs, self.options = calls, func, args, kwargs, options
        self.app, self.grouped, self.seen = None, False, False
        self.lock = None  # Future's own
        self.told = None  # (result, error), as long as nobody looks

    @property
    def _condition(self):
        """Future's own lock. Who takes it wants to know something of the call: it must be submitted."""
        if self.lock is None:
            with LOOKING:
                told = None
                if self.lock is None:
                    super().__init__()
                    told = self.told
            if told is not None:
                self.tell(*told)
        if self.app is None and not self.grouped:
            self.send()
        return self.lock

    @_condition.setter
    def _condition(self, lock):
        self.lock = lock

    def __getitem__(self, key):
        return self.send()[key]  # Parsl makes an app of it

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.send(), name)  # outputs, stdout, task_record, ... of Parsl's future

    def send(self):
        """Submit it as a Parsl task of its own, once; returns Parsl's future."""
        if self.app is None:
            submit = self.calls.submit
            self.app = submit(self.func, app_args=self.args, app_kwargs=self.kwargs, **self.options)
            self.app.add_done_callback(self._ended)
        return self.app

    def _ended(self, app):
        self.tell(None if app.exception() else app.result(), app.exception())

    def tell(self, result, error=None):
        """Set its result or error."""
        with LOOKING:
            self.told = (result, error)
            if self.lock is None:
                return
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)

    def result(self, timeout=None):
        self.calls.while_waiting(self, timeout)
        self.seen = True
        return super().result(timeout)

    def exception(self, timeout=None):
        self.calls.while_waiting(self, timeout)
        self.seen = True
        return super().exception(timeout)

    @property
    def may_be_grouped(self):
        """Whether it is nothing but a function and arguments, none of them to be waited for or changed."""
        if self.options.get("cache") or self.options.get("join"):
            return False
        if not self.kwargs.keys().isdisjoint(NOT_GROUPED):
            return False
        values = (*self.args, *self.kwargs.values())
        if UNCHANGING.issuperset(map(type, values)):
            return True
        return not any(isinstance(value, WAITED_FOR) for value in values) and self._keep_arguments()

    def _keep_arguments(self):
        """Take copies of what task() could change before the call is submitted; False where there is none."""
        try:
            self.args, self.kwargs = copy.deepcopy((self.args, self.kwargs))
        except Exception:  # deepcopy runs code of whatever class it is
            return False
        return True


class Calls:
    """Sees what task(row) calls of Parsl, from when it is made until it is closed.

    dfk: Parsl's DataFlowKernel. look: a function that sees to the run while task() waits for a result, and
    says whether the run stops.
    """

    def __init__(self, dfk, look, hold_back=True):
        self.dfk, self.look, self.hold_back = dfk, look, hold_back
        self.thread = threading.get_ident()
        self.submit = dfk.submit
        self.of_this_row = None  # [Call] while task() runs
        self.waited = False  # whether task() has waited for a result
        self.unrecorded = False  # whether apps ran that the record of tries does not know
        dfk.submit = self._submit

    def close(self):
        del self.dfk.submit

    def of(self, task, row):
        """Call task(row): (what it returned, what it raised, [the calls that it made]).

        Raises Stopped where the run stops while task() waits.
        """
        self.of_this_row = made = []
        try:
            return task(row), None, made
        except (Exception, SystemExit) as error:
            return None, error, made
        finally:
            self.of_this_row = None

    def while_waiting(self, call, timeout):
        """See to the run until a call has ended that task() waits for."""
        if self.of_this_row is None or threading.get_ident() != self.thread or timeout is not None:
            return
        call.send()
        self.waited = True
        ended = threading.Event()
        call.add_done_callback(lambda _: ended.set())
        row, self.of_this_row = self.of_this_row, None
        try:
            while not ended.wait(TICK):
                if self.look():
                    raise Stopped
        finally:
            self.of_this_row = row

    def _submit(self, func, app_args, app_kwargs, **options):
        if options.get("join"):
            self.unrecorded = True
            func = _join_guarded(func)
        if self.of_this_row is None or threading.get_ident() != self.thread:
            self.unrecorded = True
            return self.submit(func, app_args=app_args, app_kwargs=app_kwargs, **options)
        earlier = self.of_this_row
        for call in earlier:
            call.send()
            self.unrecorded = True
        call = Call(self, func, app_args, app_kwargs, options)
        held = self.hold_back and not earlier and call.may_be_grouped
        earlier.append(call)
        if not held:
            call.send()
        return call


@functools.lru_cache
def _join_guarded(func):
    """A join app's function, which Parsl runs in a thread of this process."""

    @functools.wraps(func)
    def guarded(*args, **kwargs):
        return on_worker.guarded(func, args, kwargs)

    return guarded
