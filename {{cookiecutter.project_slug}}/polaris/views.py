"""What a run shows while it goes: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from typing import NamedTuple, Protocol


class Shown(NamedTuple):
    """How a run is, as a view shows it.

    text: how far it is, in one line. around: lines about workers and blocks. failure: the last one,
    in words, or None. done: tasks that ended. total: how many there are; None where nobody knows.
    stopping: whether no further task starts.
    """

    text: str
    around: list[str]
    failure: str | None
    done: int
    total: int | None
    stopping: bool

    def last_failure(self) -> list[str]:
        """In words, as a list of one line or none."""
        return [f"last failure: {self.failure}"] if self.failure else []


class View(Protocol):
    """Shows how a run is; may be asked at every task that ends."""

    def update(self, shown: Shown, last: bool = False) -> None:
        """Show it where it is time to; the last time in any case, without what is around."""

    def close(self) -> None:
        """Nothing more is shown."""


class Clock:
    """True once every `seconds`."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.next = time.monotonic() + seconds

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self.next:
            return False
        self.next = now + self.seconds
        return True


class Lines:
    """Plain lines, one a minute and where the run begins to stop: for the log of a job."""

    def __init__(self, every: float = 60):
        self.due = Clock(every)
        self.stopping = False

    def update(self, shown: Shown, last: bool = False) -> None:
        news = shown.stopping != self.stopping
        self.stopping = shown.stopping
        if not (last or news or self.due()) or (last and not shown.done):
            return
        said = [shown.text]
        if not last:
            said += shown.around + shown.last_failure()
        clock = time.strftime("%H:%M:%S")
        print(clock, "; ".join(said), flush=True)

    def close(self) -> None:
        pass


class Bar:
    """The same on a terminal: a bar that moves; below it workers, blocks and the last failure."""

    def __init__(self):
        from rich.live import Live

        self.due = Clock(0.5)  # drawing at every task that ends would slow short ones
        first = Shown("starting workers", [], None, 0, 1, False)
        # Drawn by who updates it, not by a thread of rich's: so a terminal that is gone is noticed.
        self.live = Live(_drawing(first, last=False), auto_refresh=False)
        self.live.start()

    def update(self, shown: Shown, last: bool = False) -> None:
        if last or self.due():
            self.live.update(_drawing(shown, last), refresh=True)

    def close(self) -> None:
        self.live.stop()


def _drawing(shown, last):
    """A run as rich draws it; the bar of a run with no known end shows only that it goes on."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Column, Table
    from rich.text import Text

    total = shown.total
    if total is None and last:
        total = max(1, shown.done)
    bar = ProgressBar(total, shown.done, width=20, complete_style="green")
    text = Text(shown.text)
    line = Table.grid(Column(), Column(no_wrap=True), padding=(0, 1))
    line.add_row(bar, text)
    if last:
        return line
    around = [Text(words, "cyan") for words in shown.around]
    failures = [Text(words, "red") for words in shown.last_failure()]
    return Group(line, *around, *failures)


def asked_line_by_line() -> bool:
    """Whether somebody types the program: in Python's own shell, IPython or a notebook."""
    return hasattr(sys, "ps1")


def progress() -> View:
    """The view that fits where the output goes."""
    if asked_line_by_line() or not sys.stdout.isatty():
        return Lines()
    return Bar()
