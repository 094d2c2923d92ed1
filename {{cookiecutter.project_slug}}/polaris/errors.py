"""What can go wrong, and how it is said: refusals, failures on a worker, one line for each error."""

from __future__ import annotations

import contextlib


class Refused(Exception):
    """What the user must mend: its lines are printed, nothing else, and the status is 2."""


class Stopped(BaseException):
    """The run stops while task() waits for a result. No Exception: task() must not go on with it."""


class FailedOnWorker(Exception):
    """A failure in words alone: what was raised there cannot be made again on the submit side.

    kind: the name of its class. text: what it said. trace: its traceback, as text. again: whether another
    try may end otherwise.
    """

    def __init__(self, kind: str, text: str, trace: str = "", again: bool = True):
        super().__init__(kind, text, trace, again)
        self.kind, self.text, self.trace, self.again = kind, text, trace, again

    def __str__(self):
        return self.text


def kind_of(error: BaseException) -> str:
    """The name of an error's class; of one that stayed on the worker, that of the class it had there."""
    return error.kind if isinstance(error, FailedOnWorker) else type(error).__name__


def root_of(error: BaseException) -> BaseException:
    """The failure behind Parsl's DependencyError or JoinError: the first one of a stage that ran itself."""
    while inner := getattr(error, "dependent_exceptions_tids", None):
        error = inner[0][0]
    return error


def stage_of(error: BaseException) -> str | None:
    """The name of the app that raised an error, as `raised_by` noted it."""
    return getattr(error, "raised_by_app", None)


def raised_by(app: str, error: BaseException) -> None:
    """Note which app raised an error; Parsl passes the error on to every app that waits for that one."""
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
