"""What runs on a worker around a task: where, when and how long it ran, and how it ended, whatever it did.

What a task returned or raised travels as bytes of its own beside plain words. The submit side opens the bytes
where a failure to read them is that task's alone; in Parsl's own thread it would end the thread, and the run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import time
import traceback
from pathlib import Path

from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.errors import InvalidResourceSpecification
from parsl.serialize import deserialize, serialize

from . import machine
from .errors import FailedOnWorker

PROJECT = Path(__file__).resolve().parent.parent

# What a program would raise every time: it is not tried again.
SAME_EVERY_TIME = (
    ImportError, NameError, RecursionError, SyntaxError, TypeError, InvalidResourceSpecification,
)  # fmt: skip


def worth_another_try(error: BaseException) -> bool:
    """Whether another try may end otherwise; `retries` in config.py says how many there are."""
    if isinstance(error, FailedOnWorker):
        return error.again
    return isinstance(error, Exception) and not isinstance(error, SAME_EVERY_TIME)


def timed(function, args, kwargs):
    """Run on a worker in place of the app: its `outcome`, and where, when and how long it ran."""
    began, start = time.time(), time.perf_counter()
    told = outcome(deserialize(function), args, kwargs)
    took = time.perf_counter() - start
    block, worker = os.environ.get("PARSL_WORKER_BLOCK_ID", ""), os.environ.get("PARSL_WORKER_RANK", "")
    when = {"started": round(began, 3), "ended": round(began + took, 3), "seconds": round(took, 3)}
    return told, {"block": block, **machine.where(), "worker": worker, **when}


def run_group(function, calls, budget):
    """On a worker: the rows of a group one after the other, for about `budget` seconds.

    Returns [(how it ended, start, seconds)] of those that were begun; the others are handed out again.
    """
    function = deserialize(function)
    done = []
    end = time.perf_counter() + budget
    for args, kwargs in calls:
        began, start = time.time(), time.perf_counter()
        told = outcome(function, args, kwargs)
        now = time.perf_counter()
        done.append((told, began, now - start))
        if now > end:
            break
    return done


def guarded(function, args, kwargs):
    """Call a function; what no future may hold (sys.exit, KeyboardInterrupt) is raised as a plain failure."""
    try:
        return function(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise _in_words(error) from None


# --- how a task ended, on its way ----------------------------------------------------------------
def outcome(function, args, kwargs):
    """Call a function: ("result", bytes) or ("error", bytes or None, kind, text, trace, again).

    In the project's folder, wherever a task before it went by os.chdir.
    """
    try:
        os.chdir(PROJECT)
        result = function(*args, **kwargs)
        if not isinstance(result, RemoteExceptionWrapper):
            return "result", _packed(result)
        error = result.get_exception()
    except BaseException as raised:  # whatever it is, the worker lives on
        error = raised
    packed = None
    if isinstance(error, Exception) and not isinstance(error, RecursionError):
        with contextlib.suppress(Exception):  # else its words are all that is sent
            packed = serialize(RemoteExceptionWrapper(type(error), error, error.__traceback__))
    words = _in_words(error)
    return "error", packed, words.kind, words.text, words.trace, words.again


def opened(told):
    """What `outcome` told, on the submit side: (result, None) or (None, the error)."""
    if told[0] == "result":
        try:
            return _unpacked(told[1]), None
        except BaseException as problem:  # unpickling runs code of whatever class it is
            said = f"its result cannot be read on {socket.gethostname()}: {_say(problem)}"
            advice = "return plain values or numpy arrays"
            return None, FailedOnWorker(type(problem).__name__, f"{said}: {advice}", again=False)
    _, packed, kind, text, trace, again = told
    if packed is not None:
        with contextlib.suppress(BaseException):
            error = deserialize(packed).get_exception()
            if isinstance(error, Exception):
                return None, error
    return None, FailedOnWorker(kind, text, trace, again)


def _packed(result):
    with contextlib.suppress(Exception):
        return b"p" + pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    try:
        return b"d" + serialize(result)
    except Exception as problem:
        wrong = f"its result, a {type(result).__name__}, cannot be sent: {_say(problem)}"
        raise TypeError(wrong) from None


def _unpacked(packed):
    return pickle.loads(packed[1:]) if packed[:1] == b"p" else deserialize(packed[1:])


def _in_words(error):
    try:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # an error whose own text cannot be made
        trace = "".join(traceback.format_tb(error.__traceback__))
    return FailedOnWorker(type(error).__name__, _say(error, kind=False), trace, worth_another_try(error))


def _say(error, kind=True):
    try:
        text = str(error)
    except Exception as problem:
        text = f"(no text: its __str__ raised {type(problem).__name__})"
    return f"{type(error).__name__}: {text}" if kind else text
