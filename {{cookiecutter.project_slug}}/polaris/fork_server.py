"""The process that all workers of a node are forked of; multiprocessing's forkserver imports this.

Not to be imported elsewhere: what it does, it does at once.
"""

import gc
import os
import signal

from . import imported
from .interchange import end_with_parent

server = os.getpid()
why_not = imported.load(os.environ.get(imported.PRELOAD, "").split())


def _begin() -> None:
    """In each process that is forked, and not in those that a task forks later."""
    if os.getppid() != server:
        return
    # Its end is not known to the node's manager without the server, which would start it twice.
    end_with_parent(signal.SIGKILL)
    imported.reseed()


os.register_at_fork(after_in_child=_begin)
# No collection of garbage in a worker writes to what it shares with the others.
gc.collect()
gc.freeze()
