"""The process that all workers of a node are forked of; multiprocessing's forkserver imports this.

Not to be imported elsewhere: what it does, it does at once.
"""

import ctypes
import gc
import os
import signal

from . import imported

NAMES = "POLARIS_PRELOAD"  # variable with the names of packages, as worker_pool.py sets it
PR_SET_PDEATHSIG = 1

server = os.getpid()
why_not = imported.load(os.environ.get(NAMES, "").split())


def _begin() -> None:
    """In each process that is forked, and not in those that a task forks later."""
    if os.getppid() != server:
        return
    # Its end is not known to the node's manager without the server, which would start it twice.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    imported.reseed()


os.register_at_fork(after_in_child=_begin)
# No collection of garbage in a worker writes to what it shares with the others.
gc.collect()
gc.freeze()
