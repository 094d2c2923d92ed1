"""What tasks print, they themselves and the programs that they start: kept for one that fails.

A worker prints into a file of its own in the run's folder, where it stays if the worker dies. When
a task has ended, what it printed goes on to where the worker printed before: the `.out` file of its
block.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import time
from pathlib import Path

MOST = 64 * 1024  # bytes that go along with an error, the last ones
PIECE = 1024 * 1024  # bytes copied at a time
TEXT, STACKS = ".txt", ".stacks"  # endings of a worker's files; see time_limit.py for the latter


class Prints:
    """The file of what this worker process prints. Where it cannot be made, all stays as it was."""

    def __init__(self):
        self.stem = None  # path of the files of this process, but for the ending
        self.file = None  # descriptor
        self.stdout = None  # descriptor of what was stdout before

    def start(self, folder: str) -> None:
        """A task starts. folder: for the files of all workers."""
        if self.stem is None:
            self.stem = os.path.join(folder, own_name())
            with contextlib.suppress(OSError):
                self._redirect(folder)
        else:
            self.pass_on()

    def _redirect(self, folder):
        os.makedirs(folder, exist_ok=True)
        how = os.O_RDWR | os.O_APPEND | os.O_CREAT
        file = os.open(self.stem + TEXT, how, 0o600)
        _flush()
        self.stdout = os.dup(1)
        for stream in (1, 2):
            os.dup2(file, stream)
        self.file = file

    def size(self) -> int:
        """How many bytes were printed since the last task that ran."""
        if self.file is None:
            return 0
        _flush()
        return os.lseek(self.file, 0, os.SEEK_END)

    def since(self, start: int) -> str:
        """What was printed after the file had this size; its last 64 KiB."""
        end = self.size()
        if end <= start:
            return ""
        start = max(start, end - MOST)
        said = os.pread(self.file, end - start, start)
        return said.decode(errors="replace")

    def pass_on(self) -> None:
        """Hand on to the worker's own stdout what was printed."""
        size = self.size()
        if size == 0:
            return
        with contextlib.suppress(OSError):  # a full disk
            for start in range(0, size, PIECE):
                _write(self.stdout, os.pread(self.file, PIECE, start))
            os.ftruncate(self.file, 0)


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # a task may have closed it
            pass


def _write(file, data):
    while data:
        data = data[os.write(file, data) :]


@functools.cache
def prints() -> Prints:
    """The Prints of this worker process."""
    return Prints()


# --- names of the files ---------------------------------------------------------------------------
def own_name() -> str:
    """HOST-WORKER-TIME-PID of this process."""
    host = platform.node()
    worker = os.environ.get("PARSL_WORKER_RANK", "")
    return f"{host}-{worker}-{time.time_ns()}-{os.getpid()}"


def files_of(folder: str, host: str, worker: int, ending: str) -> list[Path]:
    """The files of one worker's processes that hold something, the oldest first."""
    found = []
    every = Path(folder).glob(f"{host}-{worker}-*{ending}")
    for path in sorted(every):
        with contextlib.suppress(OSError):
            if path.stat().st_size:
                found.append(path)
    return found


def end_of(path: Path) -> str:
    """The last 64 KiB of a file, or "" where it cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST))
        return file.read().decode(errors="replace")
    return ""
