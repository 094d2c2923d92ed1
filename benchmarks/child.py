"""A program with a limit of time, of which nothing is left when it is over."""

import os
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

MARK = "BENCH_CHILD"


def run(command, folder, env, limit):
    """(what it printed, its exit status; None where it took longer than `limit` seconds)."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_all(mark)
            child.wait()
        printed.seek(0)
        return printed.read(), status


def end_all(mark):
    """End what the child has started and left, wherever it hides: all that has its mark."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(10):
            left = marked(mark)
            for process in left:
                try:
                    os.kill(process, sign)
                except ProcessLookupError:
                    pass
            if not left:
                return
            time.sleep(0.1)


def marked(mark):
    """Processes with this mark in their environment, but for those that have ended."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and wanted in (each / "environ").read_bytes():
                found.append(int(each.name))
        except OSError:  # ended, or another user's
            pass
    return found
