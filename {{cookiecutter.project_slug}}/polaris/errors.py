"""What can go wrong, and how it is said: refusals, failures on a worker, one line for each."""

from __future__ import annotations

import contextlib
from enum import Enum


class Stop(Enum):
    """Why a run stops before its end: in words, and the exit status that says so."""

    CTRL_C = ("Ctrl-C", 130)
    TERMINAL_LOST = ("the loss of the terminal", 130)
    SIGTERM = ("SIGTERM", 75)
    WALLTIME = ("the end of the walltime", 75)
    NODES_LOST = ("the loss of nodes: too few are left for a task", 75)
    NO_WORKERS = ("no workers", 75)
    MAIN_RAISED = ("an error in the program", 2)
    PROBLEM = ("a problem with the results", 2)

    def __init__(self, words: str, status: int):
        self.words = words
        self.status = status


class Refused(Exception):
    """What the user must mend: its lines are printed, nothing else, and the status is 2."""


class Stopped(BaseException):
    """Raised in the user's program when the run stops. No Exception: it must not go on with it.

    It is never put into a future: Parsl ends no future that holds one.
    """


class Unfinished(Exception):
    """What a future raises that had no result when the run stopped; the next run has it."""


class Unusable(ValueError):
    """What an app gave, a template or a command, is wrong: no other try would end otherwise."""


class FailedOnWorker(Exception):
    """A failure in words alone: what was raised there cannot be made again on the submit side.

    kind: the name of its class. text: what it said. trace: its traceback, as text. again: whether
    another try may end otherwise.
    """

    def __init__(self, kind: str, text: str, trace: str = "", again: bool = True):
        super().__init__(kind, text, trace, again)
        self.kind, self.text, self.trace, self.again = kind, text, trace, again

    def __str__(self):
        return self.text


def kind_of(error: BaseException) -> str:
    """The name of an error's class; of one that stayed on the worker, that of the class it had
    there.
    """
    return error.kind if isinstance(error, FailedOnWorker) else type(error).__name__


def root_of(error: BaseException) -> BaseException:
    """The failure behind Parsl's DependencyError or JoinError: the first one of a stage that ran
    itself.
    """
    while inner := getattr(error, "dependent_exceptions_tids", None):
        error = inner[0][0]
    return error


def is_unfinished(error: BaseException) -> bool:
    """Whether a call failed because the run stopped, or has no workers: no failure of its own."""
    return isinstance(root_of(error), Unfinished)


def stage_of(error: BaseException) -> str | None:
    """The name of the app that raised an error, as `raised_by` noted it."""
    return getattr(error, "raised_by_app", None)


def raised_by(app: str, error: BaseException) -> None:
    """Note which app raised an error; Parsl passes the error on to every app that waits for that
    one.
    """
    if stage_of(error) is None:
        with contextlib.suppress(Exception):  # an error that takes no notes
            error.raised_by_app = app


def one_line(error: BaseException) -> str:
    """The reason of a failure: its kind and the first line of its text that says something."""
    text = next((line for line in map(printable, str(error).splitlines()) if line), "")
    return f"{kind_of(error)}: {text}"[:300] if text else kind_of(error)


def printable(text: str) -> str:
    """A text without what would break a line or a terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
