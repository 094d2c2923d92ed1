"""A node's worker pool: Parsl's, whose workers are forked of one process that has all imported.

    python3 -m polaris.worker_pool PACKAGES process_worker_pool.py ARGUMENTS...

PACKAGES: names joined by commas, `preload` of config.py, or "-". Parsl itself starts a new Python
for each worker, and each imports everything anew; with many workers a node that is most of the time
to the first result. Where that process cannot be forked safely, workers are started as Parsl does
it, and the reason is said.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import runpy
import sys
from multiprocessing import forkserver

from .imported import PRELOAD, SPAWNED, WORKER_POOL, tell
from .mailbox import Count, InHand, Queue


class Context:
    """In place of Parsl's SpawnContext: how a pool starts processes, and what they share."""

    def __init__(self):
        self.spawn = multiprocessing.get_context("spawn")
        self.fork = multiprocessing.get_context("forkserver")
        self.chosen = None
        self.in_hand = InHand()

    def __getattr__(self, name):
        return getattr(self.spawn, name)

    def Process(self, *given, **settings):  # noqa: N802  multiprocessing's name
        if self.chosen is None:
            self.chosen = self._choose()
        return self.chosen.Process(*given, **settings)

    def _choose(self):
        wrong = self._why_not()
        if wrong is None:
            return self.fork
        print(f"workers start one by one: {wrong}", file=sys.stderr, flush=True)
        os.environ[SPAWNED] = wrong
        return self.spawn

    def _why_not(self):
        """As the process that would be forked says it, once it has imported all."""
        said = self.Queue()
        asked = self.fork.Process(target=tell, args=(said,))
        try:
            asked.start()
            while True:
                alive = asked.is_alive()
                try:
                    return said.get(timeout=1)
                except queue.Empty:
                    if not alive:
                        return f"a forked process left with {asked.exitcode}"
        except (EOFError, OSError) as error:
            return f"the process that imports for all has ended: {error!r}"

    def Manager(self):  # noqa: N802
        return self  # no further process: what it makes is shared as it is

    def Queue(self):  # noqa: N802
        return Queue(self.in_hand)

    def Value(self, kind, value):  # noqa: N802
        return Count(value)

    def dict(self):
        return self.in_hand


def main(packages: str, arguments: list[str]) -> None:
    """Run Parsl's program for workers in this process."""
    os.environ[PRELOAD] = "" if packages == "-" else packages.replace(",", " ")
    forkserver.set_forkserver_preload(["polaris.fork_server"])
    forkserver.ensure_running()  # it imports while this process does
    import parsl.multiprocessing

    parsl.multiprocessing.SpawnContext = Context()
    sys.argv = arguments
    runpy.run_module(WORKER_POOL, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
