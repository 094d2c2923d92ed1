"""One run at a time in a folder of results: running.json says whose it is, and how it goes.

Which other run lives is never read off a clock: hosts disagree about the time. A run gives a sign
of life every BEAT seconds, whatever else it does, and one of another host that gives none while
watched is dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from . import machine, tables
from .errors import Refused
from .machine import shown

BEAT = 10  # seconds between signs of life
WATCHED = 3 * BEAT  # seconds without one, after which a run of another host is taken for dead
RECENT = 60  # seconds within which a sign of life needs no watching for a question
SAYS = ("host", "pid", "job", "mode", "since", "blocks")  # what running.json says at least
NOBODY = {  # where a crash left what a run had noted unreadable
    "host": "a host that crashed",
    "pid": None,
    "job": None,
    "mode": None,
    "blocks": [],
}


class Lock:
    """Of one folder. mine: what running.json says of this run; left: what it said of a dead one.

    left["mode"] is None where a crash left what the dead run had noted unreadable.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "running.json"
        self.holding = False
        self.left = None
        self.mine = {
            **_here(),
            "pid": os.getpid(),
            "began": _start_of(os.getpid()),
            "job": os.environ.get("PBS_JOBID"),
            "token": uuid.uuid4().hex,
            "blocks": [],
            "lines": [],
        }
        self.writing = threading.Lock()
        self.given_back = threading.Event()

    def hold(self, mode: str) -> None:
        """Take the folder for this run; Refused where another run has it."""
        self.mine["mode"] = mode
        self.mine["since"] = time.strftime("%Y-%m-%d %H:%M:%S")
        self.mine["start"] = _start_of_job()
        new = self.file.with_suffix(f".{self.mine['host']}-{self.mine['pid']}")
        try:
            self.folder.mkdir(exist_ok=True)
            new.write_text(json.dumps(self.mine), encoding="utf-8")
            try:
                while not self.holding:
                    self._try_to_hold(new)
            finally:
                new.unlink()
        except OSError as error:
            place = shown(error.filename or self.folder)
            wrong = f"{place}: {error.strerror}: results cannot be written there"
            raise Refused(wrong) from None
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _try_to_hold(self, new):
        """Make a link to a whole file: of several runs that start at once, one succeeds."""
        try:
            os.link(new, self.file)
            self.holding = True
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # another one was quicker
                dead = self._take_from_the_dead(new.with_suffix(".dead"))
                self.left = dead or self.left

    def note(self, blocks: list, lines: list) -> None:
        """Write down how the run goes, for `--status`, and its blocks, to be cleared up."""
        with self.writing:
            self.check()
            self.mine["blocks"] = blocks
            self.mine["lines"] = lines
            tables.replace(self.file, json.dumps(self.mine))

    def check(self) -> None:
        """Refused where the folder is this run's no more."""
        if self._is_mine():
            return
        if not self.file.exists():
            wrong = "was moved or deleted while this run wrote into it; run again"
            raise Refused(f"{shown(self.folder)}/ {wrong}")
        other = read(self.file) or {"pid": "?", "host": "another host"}
        wrong = f"process {other['pid']} on {other['host']} took {shown(self.folder)} over"
        why = f"while this run gave no sign of life for {WATCHED} s: was it suspended?"
        raise Refused(f"{wrong} {why}")

    def let_go(self) -> None:
        """Give the folder back."""
        self.given_back.set()
        if not self.holding:
            return
        self.holding = False
        with self.writing, contextlib.suppress(OSError):
            if self._is_mine():
                self.file.unlink()
            self.folder.rmdir()  # where nothing came of it

    def _is_mine(self):
        other = read(self.file)
        if other is None:
            return False
        return other.get("token") == self.mine["token"]

    def _beat(self):
        """Give the signs of life, whatever the program does, also while PBS does not answer."""
        while not self.given_back.wait(BEAT):
            with self.writing, contextlib.suppress(OSError):
                if self._is_mine():
                    os.utime(self.file)

    def _take_from_the_dead(self, aside):
        """Move the lock of a dead run away and return what it said; Refused if that run lives."""
        other = _said(self.file.read_bytes())
        # A run writes its lock whole: one that cannot be read is what a crash of its node left.
        if other is None:
            other = NOBODY
        elif self._lives(other):
            raise Refused(self._held_by(other))
        os.rename(self.file, aside)
        now = _said(aside.read_bytes())
        if now is None or now.get("token") == other.get("token"):
            aside.unlink()
            return other
        # Since it was read, another run has taken the folder: that one's lock goes back.
        os.link(aside, self.file)
        aside.unlink()
        return None

    def _held_by(self, other):
        whose = f"process {other['pid']} on {other['host']}"
        if other["job"]:
            whose += f", PBS job {other['job']}"
        since = other.get("since", "a moment ago")
        wrong = f"another run holds {shown(self.folder)}: {whose}, since {since}"
        return f"{wrong}: wait for it, or end it"

    def _lives(self, other):
        if is_here(other):
            return is_run(other)
        if other["job"] is not None:
            if self._is_same_job(other) or machine.job_is_over(other["job"]):
                return False
        held = f"a run on {other['host']} held {shown(self.folder)}"
        print(f"{held}: waiting to see if it lives", flush=True)
        return gives_a_sign(self.file, WATCHED)

    def _is_same_job(self, other):
        """Whether it was this very job before PBS started it again, and is gone with that."""
        before = other.get("start")
        now = self.mine["start"]
        if before is None or now is None or before == now:
            return False
        return other["job"] == self.mine["job"]


# --- does another run live? -----------------------------------------------------------------------
def lives(file: Path) -> bool:
    """Whether the run of a lock file lives, for who only asks.

    One of another host may have to be watched for a while.
    """
    run = read(file)
    if run is None:
        return False
    if is_here(run):
        return is_run(run)
    with contextlib.suppress(FileNotFoundError):
        age = time.time() - os.stat(file).st_mtime
        if 0 <= age < RECENT:
            return True
    holds = f"a run on {run['host']} holds {shown(file.parent)}"
    print(f"{holds}: looking for a sign of life", flush=True)
    return gives_a_sign(file, 1.5 * BEAT)


def gives_a_sign(file: Path, seconds: float) -> bool:
    """Whether the run of a lock file gives a sign of life within so many seconds from now."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
        seen = os.stat(file).st_mtime_ns
        while time.monotonic() < deadline:
            time.sleep(0.5)
            if os.stat(file).st_mtime_ns != seen:
                return True
    return False


def read(file: Path) -> dict | None:
    """What running.json says; None where there is none, or not a whole one."""
    with contextlib.suppress(OSError):
        return _said(file.read_bytes())
    return None


def _said(text):
    said = tables.loaded(text)
    if said is None:
        return None
    whole = all(name in said for name in SAYS)
    return said if whole else None


def is_here(run: dict) -> bool:
    """Whether a run is on this machine."""
    for name, value in _here().items():
        if run.get(name, value) != value:
            return False
    return True


def is_run(run: dict) -> bool:
    """Whether the process of a run on this machine lives: that one, for numbers are used again."""
    pid = run["pid"]
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, TypeError):
        return False
    except PermissionError:
        pass
    return _start_of(pid) == run.get("began")


def _start_of(pid):
    """When a process began, in ticks since the boot of this machine.

    None where it has ended, or where the system does not say it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    _, _, rest = text.rpartition(
        ")"
    )  # behind the name of its program, which may have anything in it
    state, *numbers = rest.split()
    if state in ("Z", "X"):  # killed, and its parent has not asked yet
        return None
    return int(numbers[18])


def _here():
    """What tells this machine, since it was booted, and this container from others of its name."""
    here = {"host": socket.gethostname()}
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        here["boot"] = boot.strip()
        here["processes"] = os.readlink("/proc/self/ns/pid")
    return here


def _start_of_job():
    """When PBS last started the job that runs this, as PBS says it; None where it does not."""
    return machine.this_job().get("stime")
