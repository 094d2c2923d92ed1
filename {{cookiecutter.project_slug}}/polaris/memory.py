"""Memory of the submit side: what calls in flight take of it, said before it is spent.

Each call of an app that has not ended is kept by Parsl, in run.py and in its interchange. A program
that calls millions at once fills a login node before the first ends; rows of run.map never do.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

from . import facts

SHARE = 0.25  # of the memory, from which on it is said
FEW = 1000  # calls in flight that nothing is said of, whatever run.py holds
SMALL = 100_000  # bytes of a result, some hundreds of which may lie about for a while
OBJECTS = 10_000  # new ones between two looks for cycles; Python's own number is 700
CALM = 2  # seconds without many calls, after which it looks as usual
NONE = 1 << 60  # bytes that no limit has: the word of Linux for none is larger
ROOT = Path("/")


class Limit(NamedTuple):
    """How much memory there is. of: whose, in words. size: bytes."""

    of: str
    size: int


def limit(root: Path = ROOT) -> Limit | None:
    """The smallest limit of the memory of this process; None where none can be read."""
    found = [Limit("this machine", size) for size in _of_machine(root)]
    found += [Limit("this process, its control group,", size) for size in _of_groups(root)]
    if re.fullmatch(facts.LOGIN_NODE, socket.gethostname()):
        found.append(Limit("a user on a login node", facts.LOGIN_MEMORY))
    return min(found, key=lambda each: each.size, default=None)


def _of_machine(root):
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return []
    total = re.search(r"^MemTotal: +(\d+) kB$", text, re.MULTILINE)
    return [int(total[1]) * 1024] if total else []


def _of_groups(root):
    """The limits of the control groups of this process, of both kinds of them."""
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if not kinds:
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in kinds.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            size = _number_in(folder / name)
            if size is not None:
                yield size
            if folder == top:
                break


def _number_in(path):
    """The bytes that such a file names; None where it names none."""
    try:
        size = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max"
        return None
    return size if size < NONE else None


def taken() -> int:
    """Bytes of memory that this process has; 0 where that cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Memory:
    """What is there for the calls of a session, from its first one on."""

    def __init__(self):
        self.limit = limit()
        self.before = taken()
        self.said = False
        self.said_of_results = False
        self.largest = 0  # bytes of a result that was looked at

    def foresee(self, calls: int) -> str | None:
        """Once, where the calls in flight take a large part of it: that, and what to do."""
        if self.said or self.limit is None or calls < FEW:
            return None
        grown = taken() - self.before
        need = max(grown, calls * facts.BYTES_PER_CALL)
        if need < SHARE * self.limit.size:
            return None
        self.said = True
        there = f"{in_words(need)} of the {in_words(self.limit.size)} of {self.limit.of}"
        fit = int(calls * self.limit.size / need)
        fit -= fit % 1000 if fit > 10_000 else 0  # no more digits than are known
        mend = "run.map over rows keeps a few thousand in flight, however many rows there are"
        return f"{calls:,} calls wait or run, and take {there}: about {fit:,} would fill it; {mend}"

    def foresee_results(self, size: int, workers: int) -> str | None:
        """Once, where results of so many bytes, one of each worker, take a large part of it."""
        self.largest = size
        need = size * workers
        if self.said_of_results or self.limit is None or need < SHARE * self.limit.size:
            return None
        self.said_of_results = True
        there = f"{in_words(need)} of the {in_words(self.limit.size)} of {self.limit.of}"
        each = f"a result of {in_words(size)} came through run.py"
        all_of_them = f"one from each of {workers:,} workers takes {there}"
        return f"{each}; {all_of_them}: have apps write files, and return their paths"


def in_words(size: float) -> str:
    """Bytes in words: 8589934592 -> "8.6 GB"."""
    for unit, least in (("GB", 1e9), ("MB", 1e6)):
        if size >= least:
            number = size / least
            return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.2g} {unit}"
    return f"{size / 1e3:.0f} kB"


class Garbage:
    """How often Python looks for objects in cycles, which Parsl's records of calls are part of.

    A whole look goes through the records of all calls in flight: a fifth of the time of a graph of
    10,000 calls. What has ended stays until the next one, so with large results it looks as usual.
    """

    def __init__(self):
        self.usual = None  # gc's thresholds, while it looks less often
        self.crowded = -CALM  # when many calls were in flight

    def look_less(self, in_flight: int, largest: int) -> None:
        """Where many calls are in flight, and the largest result so far has few bytes."""
        now = time.monotonic()
        if in_flight >= FEW:
            self.crowded = now
        if now > self.crowded + CALM or largest > SMALL:
            self.look_as_usual()
        elif self.usual is None and 0 < gc.get_threshold()[0] < OBJECTS:
            self.usual = gc.get_threshold()
            gc.set_threshold(OBJECTS, *self.usual[1:])

    def look_as_usual(self) -> None:
        if self.usual is not None:
            gc.set_threshold(*self.usual)
            self.usual = None
