"""What runs on a worker around a task: where, when and how long it ran, and how it ended.

What a task returned or raised travels as bytes of its own beside plain words. The submit side opens
the bytes where a failure to read them is that task's alone; in Parsl's own thread it would end the
thread, and the run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.errors import InvalidResourceSpecification

from . import machine, sending
from .errors import FailedOnWorker, Unusable
from .imported import SPAWNED
from .printed import prints
from .sending import Function as packed_function  # noqa: F401  for the function of run_group
from .time_limit import Limited  # noqa: F401

PROJECT = Path(__file__).resolve().parent.parent

MOST_BYTES = 8_000_000  # of results, that one group brings back
LEAVING = 0.005  # seconds for the result of the task before, to leave the worker
# What a program would raise every time: it is not tried again.
SAME_EVERY_TIME = (
    ImportError,
    NameError,
    RecursionError,
    SyntaxError,
    TypeError,
    Unusable,
    InvalidResourceSpecification,
)


class Failure(NamedTuple):
    """How a task failed. packed: the error as bytes, or None. printed: the last that it printed."""

    packed: bytes | None
    kind: str
    text: str
    trace: str
    again: bool
    printed: str


def worth_another_try(error: BaseException) -> bool:
    """Whether another try may end otherwise; `retries` in config.py says how many there are."""
    if isinstance(error, FailedOnWorker):
        return error.again
    return isinstance(error, Exception) and not isinstance(error, SAME_EVERY_TIME)


# --- on the worker --------------------------------------------------------------------------------
def execute(buffer: bytes, folder: str) -> bytes:
    """Parsl's task_executor: run what `sending.task` made. folder: see printed.py."""
    return reply(*timed(buffer, folder))


def reply(told: tuple, ran: dict) -> bytes:
    """What `timed` returned, as Parsl carries it to the submit side."""
    return pickle.dumps((told, ran), pickle.HIGHEST_PROTOCOL)


def reply_in(packed: bytes) -> tuple[tuple, dict]:
    """What `reply` made, on the submit side."""
    return pickle.loads(packed)


def timed(buffer: bytes, folder: str) -> tuple[tuple, dict]:
    """Run a task: (how it ended, as of `outcome`, {column of the record of tries: value})."""
    began = time.time()
    start = time.perf_counter()
    prints().start(folder)
    told = outcome(_run, (buffer,), {})
    prints().pass_on()
    took = time.perf_counter() - start
    ran = {
        "block": os.environ.get("PARSL_WORKER_BLOCK_ID", ""),
        **machine.where(),
        "worker": os.environ.get("PARSL_WORKER_RANK", ""),
        "started": round(began, 3),
        "ended": round(began + took, 3),
        "seconds": round(took, 3),
    }
    if SPAWNED in os.environ:
        ran["spawned"] = os.environ[SPAWNED]
    return told, ran


def _run(buffer):
    function, args, kwargs = sending.reader().task(buffer)
    if sys.platform != "linux" and (isinstance(function, Limited) or function is run_group):
        # The result before this one leaves by a thread, but for mailbox.py. Code that lets no other
        # thread run, and is ended with its worker at its limit, would take it along.
        time.sleep(LEAVING)
    return function(*args, **kwargs)


def run_group(function: Callable, calls: list[tuple], budget: float) -> list[tuple]:
    """On a worker: the rows of a group one after the other, for about `budget` seconds.

    function: that of the app, given as `packed_function`. calls: [(args, kwargs)]. Returns [(how it
    ended, start, seconds)] of those that were begun; the others are handed out again. So are those
    whose results would make the group's too large.
    """
    done = []
    size = 0
    end = time.perf_counter() + budget
    for args, kwargs in calls:
        began = time.time()
        start = time.perf_counter()
        told = outcome(function, args, kwargs)
        now = time.perf_counter()
        done.append((told, began, now - start))
        size += size_of(told)
        if now > end or size > MOST_BYTES:
            break
    return done


def call(function: Callable, args: tuple, kwargs: dict) -> Any:
    """On a worker: call a function that is an argument."""
    return function(*args, **kwargs)


def guarded(function: Callable, args: tuple, kwargs: dict) -> Any:
    """Call a function; what no future may hold, SystemExit say, is raised as a plain failure."""
    try:
        return function(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise _in_words(error) from None


# --- how a task ended, on its way -----------------------------------------------------------------
def outcome(function: Callable, args: tuple, kwargs: dict) -> tuple:
    """Call a function: ("result", bytes) or ("error", *Failure).

    In the project's folder, wherever a task before it went by os.chdir.
    """
    printed = prints().size()
    try:
        os.chdir(PROJECT)
        result = function(*args, **kwargs)
        if not isinstance(result, RemoteExceptionWrapper):
            return "result", _packed(result)
        error = result.get_exception()
    except BaseException as raised:  # whatever it is, the worker lives on
        error = raised
    words = _in_words(error)
    said = prints().since(printed)
    failure = Failure(_packed_error(error), words.kind, words.text, words.trace, words.again, said)
    return "error", *failure


def size_of(told: tuple) -> int:
    """Bytes of what `outcome` told."""
    return len(told[1] or b"")


def opened(told: tuple) -> tuple[Any, Exception | None]:
    """What `outcome` told, on the submit side: (result, None) or (None, the error)."""
    if told[0] == "result":
        return _opened_result(told[1])
    failure = Failure(*told[1:])
    error = _opened_error(failure.packed)
    if error is None:
        error = FailedOnWorker(failure.kind, failure.text, failure.trace, failure.again)
    with contextlib.suppress(Exception):  # an error that takes no notes
        error.printed = failure.printed
    return None, error


def _packed(result):
    try:
        return sending.PLAIN + pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except Exception:
        pass  # by other means
    try:
        packed, _ = sending.pack(result)
    except Exception as problem:
        what = f"its result, a {type(result).__name__}, cannot be sent: {sending.say(problem)}"
        raise TypeError(f"{what}: return plain values or numpy arrays") from None
    return packed


def _opened_result(packed):
    try:
        return sending.unpack(packed), None
    except BaseException as problem:  # unpickling runs code of whatever class it is
        host = socket.gethostname()
        said = f"its result cannot be read on {host}: {sending.say(problem)}"
        advice = "return plain values or numpy arrays"
        kind = type(problem).__name__
        return None, FailedOnWorker(kind, f"{said}: {advice}", again=False)


def _packed_error(error):
    """An error and its traceback as bytes; None where its words are all that can be sent."""
    if not isinstance(error, Exception) or isinstance(error, RecursionError):
        return None
    with contextlib.suppress(Exception):
        if isinstance(error, NameError):
            error.__dict__["name"] = error.name  # pickle would leave it out
        wrapped = RemoteExceptionWrapper(type(error), error, error.__traceback__)
        packed, _ = sending.pack(wrapped)
        return packed
    return None


def _opened_error(packed):
    if packed is None:
        return None
    with contextlib.suppress(BaseException):
        error = sending.unpack(packed).get_exception()
        if isinstance(error, Exception):
            return error
    return None


def _in_words(error):
    try:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # an error whose own text cannot be made
        trace = "".join(traceback.format_tb(error.__traceback__))
    text = sending.say(error, kind=False)
    return FailedOnWorker(type(error).__name__, text, trace, worth_another_try(error))
