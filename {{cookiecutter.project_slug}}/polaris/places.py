"""Where programs run: a folder for each, which is finished or not.

A program runs in unfinished/NAME/HOST-PID-TIME, which nobody else writes into. When it has ended
well the folder gets its mark, and then its place: NAME. So a folder there is finished, and two
tasks that want the same one do not meet: who ends later takes what is there.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import signal
import socket
import time
from pathlib import Path, PurePath

from . import rendering, tables
from .errors import Unusable, one_line
from .machine import shown

FINISHED = "finished.json"  # the mark
UNFINISHED, FAILED = "unfinished", "failed"


# --- when it is done ------------------------------------------------------------------------------
class Rule:
    """When a program has ended well. log: the name of its log."""

    def __init__(self, done, log: str):
        self.log = str(log)
        self.wanted = list(done) if isinstance(done, list | tuple) else [done]
        if done is None:
            self.wanted = []
        for each in self.wanted:
            if not each or not (isinstance(each, str | PurePath) or callable(each)):
                allowed = "a text in the log, a Path of a file, or a function of the folder"
                raise Unusable(f"done={each!r}: give {allowed}")

    def broken_by(self, folder: Path, status: int) -> str | None:
        """What a program lacks that left with that status, in words; None: nothing."""
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-status).name}"
        if status:
            return f"status {status}"
        if not (folder / self.log).is_file():
            return f"status 0, but there is no {self.log}"
        for each in self.wanted:
            wrong = self._lacks(folder, each)
            if wrong:
                return f"status 0, but {wrong}"
        return None

    def _lacks(self, folder, wanted):
        if isinstance(wanted, str):
            return None if holds(folder / self.log, wanted) else f"no {wanted[:40]!r} in {self.log}"
        if isinstance(wanted, PurePath):
            return None if (folder / wanted).exists() else f"there is no {wanted}"
        name = getattr(wanted, "__name__", "done")
        try:
            return None if wanted(folder) else f"{name} says no"
        except Exception as error:
            return f"{name} raised {one_line(error)}"


def holds(path: Path, text: str) -> bool:
    """Whether a text stands in a file, which may be large."""
    if path.stat().st_size == 0:
        return False
    with open(path, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text.encode()) >= 0


# --- where it runs --------------------------------------------------------------------------------
class Folder:
    """The folder of a program. path: of the finished one. tries: where those lie that did not end.

    digest: of all that the folder's name stands for. rule: when it is finished.
    """

    def __init__(self, within: Path, name: str, digest: str, rule: Rule):
        self.path = within / name
        self.tries = within / UNFINISHED / name
        self.digest = digest
        self.rule = rule

    def is_finished(self) -> bool:
        try:
            mark = json.loads((self.path / FINISHED).read_text(encoding="utf-8"))
            digest, status = mark["digest"], mark["status"]
        except (OSError, ValueError, LookupError, TypeError):
            return False
        if digest != self.digest:
            raise Unusable(f"{shown(self.path)} is of other inputs: move it away")
        return self.rule.broken_by(self.path, status) is None

    def new_try(self) -> Path:
        """A new folder for a program to run in."""
        place = self.tries / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
        for _ in range(9):  # another task that has just finished takes `tries` away
            with contextlib.suppress(FileNotFoundError):
                place.mkdir(parents=True)
                return place
        place.mkdir(parents=True)
        return place

    def take_over(self, patterns: list[str], place: Path) -> None:
        """Copy into a new try what earlier ones leave to it, and clear those up that are dead.

        One on another host may be alive, thought lost: it stays until the folder is finished.
        """
        others = []
        with contextlib.suppress(FileNotFoundError):  # another one has just finished
            others = [other for other in self.tries.iterdir() if other != place]
        left = [_matching(other, patterns) for other in others]
        for files, other in sorted(zip(left, others, strict=True), key=_latest)[-1:]:
            rendering.copy(files, other, place)
        for other in others:
            if _is_dead(other.name):
                shutil.rmtree(other, ignore_errors=True)

    def put_aside(self, place: Path) -> Path:
        """Where a try that failed lies from now on."""
        failed = self.tries / FAILED
        for _ in range(3):
            shutil.rmtree(failed, ignore_errors=True)
            with contextlib.suppress(OSError):  # another one, meanwhile; or `tries` is gone
                os.rename(place, failed)
                return failed
        return place

    def finish(self, place: Path, mark: dict) -> None:
        """Mark a try as finished and give it its place, unless another one has it."""
        with contextlib.suppress(FileNotFoundError):  # another one has, and took `tries` away
            tables.replace(place / FINISHED, json.dumps(mark, indent=1) + "\n")
        while not self.is_finished():
            try:
                os.rename(place, self.path)
            except OSError:
                if not self.path.exists():
                    raise
                if self.is_finished():  # since the last look
                    break
                os.rename(self.path, self.tries / f"{FAILED}-{time.time_ns()}")  # it has no mark
        shutil.rmtree(self.tries, ignore_errors=True)
        with contextlib.suppress(OSError):  # those of others are in there
            self.tries.parent.rmdir()


def _matching(folder, patterns):
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def _latest(left):
    """By what a try is the best to go on from: how late its files are, and that it has all."""
    files, other = left
    return max((path.stat().st_mtime_ns for path in files), default=0), len(files), other


def _is_dead(name):
    """Whether nothing runs in a try of this name any more, as far as can be known here."""
    host, _, rest = name.partition(socket.gethostname() + "-")
    process = rest.partition("-")[0]
    if name.startswith(FAILED):
        return True
    return not host and process.isdigit() and not os.path.exists(f"/proc/{process}")
