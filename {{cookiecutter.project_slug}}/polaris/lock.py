"""One run at a time in a folder of results: the file running.json says whose it is, and how it goes.

Which other run lives is never read off a clock: hosts disagree about the time. A run gives a sign of life
every BEAT seconds, whatever else it does, and one of another host that gives none while watched is dead.
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

BEAT = 10  # seconds between signs of life
WATCHED = 3 * BEAT  # seconds without one, after which a run of another host is taken for dead
SAYS = ("host", "pid", "job", "mode", "since", "blocks")  # what running.json says at least


class Lock:
    """Of one folder. mine: what running.json says of this run; left: of a dead one that had it before.

    left["mode"] is None where a crash left what that run had noted unreadable.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "running.json"
        self.holding = False
        self.left = None
        self.mine = _here() | {"pid": os.getpid(), "job": os.environ.get("PBS_JOBID")}
        self.mine["token"] = uuid.uuid4().hex
        self.mine |= {"blocks": [], "lines": []}
        self.writing = threading.Lock()
        self.given_back = threading.Event()

    def hold(self, mode: str) -> None:
        """Take the folder for this run; Refused where another run has it."""
        self.mine |= {"mode": mode, "since": time.strftime("%Y-%m-%d %H:%M:%S"), "start": _start_of_job()}
        try:
            self.folder.mkdir(exist_ok=True)
            new = self.file.with_suffix(f".{self.mine['host']}-{self.mine['pid']}")
            new.write_text(json.dumps(self.mine), encoding="utf-8")
            try:
                while not self.holding:
                    # A link to a whole file: of several runs that start at once, one succeeds.
                    try:
                        os.link(new, self.file)
                        self.holding = True
                    except FileExistsError:
                        with contextlib.suppress(FileNotFoundError):  # another one was quicker
                            self.left = self._take_from_the_dead(new.with_suffix(".dead")) or self.left
            finally:
                new.unlink()
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}: results cannot be written there") from None
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def note(self, blocks: list, lines: list) -> None:
        """Write down how the run goes, for `--status`, and its blocks, for who clears up if it is killed."""
        with self.writing:
            self.check()
            self.mine |= {"blocks": blocks, "lines": lines}
            tables.replace(self.file, json.dumps(self.mine))

    def check(self) -> None:
        """Refused where the folder is this run's no more."""
        if self._is_mine():
            return
        if not self.file.exists():
            raise Refused(f"{self.folder}/ was moved or deleted while this run wrote into it; run again")
        other = read(self.file) or {"pid": "?", "host": "another host"}
        wrong = f"process {other['pid']} on {other['host']} took {self.folder} over"
        raise Refused(f"{wrong} while this run gave no sign of life for {WATCHED} s: was it suspended?")

    def let_go(self) -> None:
        """Give the folder back."""
        self.given_back.set()
        if self.holding:
            self.holding = False
            with self.writing, contextlib.suppress(OSError):
                if self._is_mine():
                    self.file.unlink()
                self.folder.rmdir()  # where nothing came of it

    def _is_mine(self):
        other = read(self.file)
        return other is not None and other.get("token") == self.mine["token"]

    def _beat(self):
        """Give the signs of life, also while a summary is made, or PBS does not answer."""
        while not self.given_back.wait(BEAT):
            with self.writing, contextlib.suppress(OSError):
                if self._is_mine():
                    os.utime(self.file)

    def _take_from_the_dead(self, aside):
        """Move the lock of a dead run away and return what it said; Refused if that run lives."""
        text = self.file.read_bytes()
        nobody = {"host": "a host that crashed", "pid": None, "job": None, "mode": None, "blocks": []}
        other = _said(text) or nobody
        # A run writes its lock whole: one that cannot be read is what a crash of its node left.
        if other is not nobody and self._lives(other):
            job = f", PBS job {other['job']}" if other["job"] else ""
            raise Refused(
                f"another run holds {self.folder}: process {other['pid']} on {other['host']}{job}, since "
                f"{other.get('since', 'a moment ago')}: wait for it, or end it"
            )
        os.rename(self.file, aside)
        now = _said(aside.read_bytes())
        if now is None or now.get("token") == other.get("token"):
            aside.unlink()
            return other
        # Since it was read, another run has taken the folder: that one's lock goes back.
        os.link(aside, self.file)
        aside.unlink()
        return None

    def _lives(self, other):
        if is_here(other):
            return is_run(other["pid"])
        if other["job"] is not None:
            starts = {other.get("start"), self.mine["start"]}
            restarted = other["job"] == self.mine["job"] and len(starts - {None}) == 2
            if restarted or machine.job_is_over(other["job"]):
                return False
        print(f"a run on {other['host']} held {self.folder}: waiting to see if it lives", flush=True)
        return gives_a_sign(self.file, WATCHED)


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


def lives(file: Path) -> bool:
    """Whether the run of a lock file lives, for who only asks; one of another host may have to be watched."""
    run = read(file)
    if run is None:
        return False
    if is_here(run):
        return is_run(run["pid"])
    with contextlib.suppress(FileNotFoundError):
        if 0 <= time.time() - os.stat(file).st_mtime < 60:
            return True
    print(f"a run on {run['host']} holds {file.parent}: looking for a sign of life", flush=True)
    return gives_a_sign(file, 1.5 * BEAT)


def is_here(run: dict) -> bool:
    """Whether a run is on this machine."""
    return all(run.get(name, value) == value for name, value in _here().items())


def read(file: Path) -> dict | None:
    """What running.json says; None where there is none, or not a whole one."""
    with contextlib.suppress(OSError):
        return _said(file.read_bytes())
    return None


def _said(text):
    said = tables.loaded(text)
    return said if said is not None and all(name in said for name in SAYS) else None


def is_run(pid: int | None) -> bool:
    """Whether a process of this machine is a run of ours."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, TypeError):
        return False
    except PermissionError:
        pass
    command = Path(f"/proc/{pid}/cmdline")
    return not Path("/proc/self").exists() or (command.exists() and b"run.py" in command.read_bytes())


def _here():
    """What tells this machine, since it was booted, and this container from others, of the same name too."""
    here = {"host": socket.gethostname()}
    with contextlib.suppress(OSError):
        here["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        here["processes"] = os.readlink("/proc/self/ns/pid")
    return here


def _start_of_job():
    """When PBS last started the job that runs this, as PBS says it; None where it does not."""
    return machine.this_job().get("stime")
