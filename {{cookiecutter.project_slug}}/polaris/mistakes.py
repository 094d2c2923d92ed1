"""A user's mistake that leaves the program as an exception, said in one line instead of a
traceback.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from . import settings
from .errors import Refused, Stop, one_line, root_of, stage_of
from .machine import PROJECT

WRONG = 2  # the exit status


def is_of_a_task(error: BaseException) -> bool:
    """Whether an error that left the program is that of a task that failed."""
    return isinstance(error, Exception) and stage_of(root_of(error)) is not None


def hint(error: BaseException) -> str | None:
    """What Parsl's own words for a mistake mean here."""
    if "parsl" not in sys.modules:
        return None  # this Python may have none
    from parsl.errors import ConfigurationError, NoDataFlowKernelError

    if isinstance(error, ConfigurationError):
        return "a session has loaded Parsl already: leave parsl.load() out"
    if isinstance(error, NoDataFlowKernelError):
        return "an app was called outside of the session: call it inside its `with`"
    return None


def of_executors(error: BaseException) -> str | None:
    """What is wrong with the executors that an app names, where Parsl's decorator refused them."""
    place = given = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.parent == PROJECT:
            place = f"{path} line {line}"
        if frame.f_globals.get("__name__") == "parsl.app.app":
            given = frame.f_locals.get("executors")
    is_right = isinstance(given, list) and all(isinstance(label, str) for label in given)
    if given is None or given == "all" or is_right or place is None:
        return None
    label = given if isinstance(given, str) else "cpu"
    wrong = "is no list of kinds of workers, each in quotes"
    return f'{place}: executors={given!r}: {wrong}: write executors=["{label}"]'


def place_of(error: BaseException) -> tuple[str, bool]:
    """(where a mistake is and what is wrong, whether it is in a file of the user's)."""
    wrong = of_executors(error)
    if wrong is not None:
        return wrong, True
    line, theirs = settings.place_of(error, error.__traceback__)
    more = hint(error)
    return (f"{line}: {more}" if more else line), theirs or more is not None


def in_words(error: BaseException) -> str:
    """An error that left the program, in one line: where, and what."""
    if isinstance(error, Refused):
        return str(error)
    if is_of_a_task(error):
        root = root_of(error)
        return f"the program ended: its task {stage_of(root)} failed: {one_line(root)}"
    line, _ = place_of(error)
    return f"what is finished is kept, but the program failed: {line}"


def said_in_one_line(kind, error, trace) -> None:
    """An excepthook for run.py: every mistake in the user's files."""
    if issubclass(kind, KeyboardInterrupt | BrokenPipeError):
        raise SystemExit(Stop.CTRL_C.status)
    line, theirs = place_of(error.with_traceback(trace))
    print(line, file=sys.stderr, flush=True)
    if not theirs:
        sys.__excepthook__(kind, error, trace)  # ours to mend, not the user's
    raise SystemExit(WRONG)


def say_ours_in_one_line() -> None:
    """For a user's script: what this project and Parsl refuse is one line, all else as ever."""
    before = sys.excepthook
    if before in (said_in_one_line, _ours):
        return

    sys.excepthook = _ours


def _ours(kind, error, trace):
    if issubclass(kind, Refused) or hint(error) or of_executors(error):
        line = str(error) if issubclass(kind, Refused) else place_of(error.with_traceback(trace))[0]
        print(line, file=sys.stderr, flush=True)
        raise SystemExit(WRONG)
    sys.__excepthook__(kind, error, trace)
