"""Parsl's interchange, which the nodes of all blocks talk to; this one can forget a block at once.

Parsl's own takes a node for lost when it has been silent for heartbeat_threshold seconds. PBS knows
earlier that a block has ended; the submit side then writes the block's number into a file, and what
ran there runs again elsewhere. Started by config.py in place of Parsl's, out of the reach of the
terminal's Ctrl-C.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import sys
import time

ENDED = "ended_blocks"  # in the interchange's folder of logs: a line each
PR_SET_PDEATHSIG = 1
SIGTERM = 15


def main() -> None:
    """What Parsl's own interchange.py does, for the class below."""
    parent = int(sys.argv[1])  # which may be gone by now, as os.getppid() could not tell
    os.setpgid(0, 0)  # a terminal sends Ctrl-C to every process of its foreground group
    end_with_parent(SIGTERM)  # killed -9, run.py takes it along
    if os.getppid() != parent:
        return  # killed meanwhile

    from parsl.utils import setproctitle

    setproctitle("parsl: HTEX interchange")
    settings = pickle.load(sys.stdin.buffer)
    forgetting_class()(**settings).start()


def end_with_parent(number: int) -> None:
    """Have the kernel send this process that signal when its parent ends, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def forgetting_class() -> type:
    """A class of Parsl's, which is imported no earlier than this process may outlive its parent."""
    from parsl.executors.high_throughput.interchange import Interchange

    class Forgetting(Interchange):
        """An Interchange that takes the managers of ended blocks for lost."""

        def __init__(self, **settings):
            super().__init__(**settings)
            self.ended_file = os.path.join(self.logdir, ENDED)
            self.read = 0  # bytes of it
            self.next_look = 0.0

        def expire_bad_managers(self, interesting_managers, monitoring_radio):
            # This is called for every message; the file lies on a shared file system.
            if time.monotonic() > self.next_look:
                self.next_look = time.monotonic() + 1
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(self.ended_file).st_size > self.read:
                        self.forget()
            super().expire_bad_managers(interesting_managers, monitoring_radio)

        def forget(self):
            with open(self.ended_file, "rb") as file:
                file.seek(self.read)
                lines = file.read().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            self.read += sum(map(len, whole))
            ended = {line.decode().strip() for line in whole}
            for manager in self._ready_managers.values():
                if manager["block_id"] in ended:
                    manager["last_heartbeat"] = 0.0

    return Forgetting


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules have no business at the top level
    main()
