"""What is fixed about Polaris: its nodes, queues, file systems and paths. Standard library only.

Source: ALCF user guides, https://docs.alcf.anl.gov/polaris/ (August 2026). Every other file derives
these figures from here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# --- a node (polaris/system-overview) ------------------------------------------------------------
GPUS_PER_NODE = 4
THREADS_PER_NODE = 64  # hardware threads, which is what ALCF's ncpus counts; two a core
MAX_WORKERS_PER_GPU = 8  # each GPU has eight cores next to it

# The cores in each GPU's NUMA domain; the second hardware thread of core c is c + 32.
CORES_OF_GPU = (range(24, 32), range(16, 24), range(8, 16), range(0, 8))


def ranges(numbers):
    """[24, 25, 26, 56] -> "24-26,56"."""
    runs = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs)


def cpu_affinity(workers_per_gpu):
    """Parsl's affinity list: one entry a worker, each GPU's own hardware threads divided among its workers.

    Worker i has GPU i // workers_per_gpu. Parsl's "block-reverse" would straddle NUMA domains.
    """
    entries = []
    for cores in CORES_OF_GPU:
        for i in range(workers_per_gpu):
            mine = cores[i * len(cores) // workers_per_gpu : (i + 1) * len(cores) // workers_per_gpu]
            entries.append(ranges([*mine, *(core + THREADS_PER_NODE // 2 for core in mine)]))
    return "list:" + ":".join(entries)


def threads_of(affinity):
    """The number of hardware threads in the first entry of such a list; 1 where it is none."""
    spans = re.findall(r"([0-9]+)-?([0-9]*)", affinity.split(":")[1] if ":" in affinity else "0")
    return sum(int(last or first) - int(first) + 1 for first, last in spans)


def rank_affinity(ranks_per_node, threads_per_rank):
    """mpiexec's --cpu-bind for MPI ranks: local rank i has hardware threads next to GPU 3 - i % 4.

    That is the GPU which gpu_affinity.sh gives it; ranks that share one divide its cores.
    """
    entries = []
    for rank in range(ranks_per_node):
        sharing = -(-ranks_per_node // GPUS_PER_NODE)
        cores = CORES_OF_GPU[GPUS_PER_NODE - 1 - rank % GPUS_PER_NODE]
        first = rank // GPUS_PER_NODE * len(cores) // sharing
        mine = cores[first : first + (threads_per_rank + 1) // 2]
        seconds = [core + THREADS_PER_NODE // 2 for core in mine]
        entries.append(ranges([*mine, *seconds[: threads_per_rank // 2]]))
    return "list:" + ":".join(entries)


def threads_per_rank(ranks_per_node):
    """The most hardware threads that each MPI rank of a node can have next to its GPU."""
    ranks = ranks_per_node if isinstance(ranks_per_node, int) and ranks_per_node > 0 else 1  # see checks
    return 2 * (len(CORES_OF_GPU[0]) // -(-ranks // GPUS_PER_NODE))


# What sets the number of threads in the libraries that tasks use; PBS sets the first to those of the node.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


# --- queues (polaris/running-jobs) ---------------------------------------------------------------
MINUTE, HOUR = 60, 3600


class Queue(NamedTuple):
    """Limits of one queue: nodes of a job, its walltime in seconds, and how many jobs at a time."""

    nodes: tuple
    walltime: tuple
    running: int  # jobs that run at a time
    queued: int  # jobs that may wait, be held or run: one more is refused by qsub
    per: str  # whose jobs are counted: those of a "user" or of a "project"
    routes: tuple = ()  # (fewest nodes, most nodes, longest walltime); a job that fits none vanishes


# Their numbers of jobs were recorded on the machine in September and October 2026.
QUEUES = {
    "debug": Queue((1, 2), (5 * MINUTE, HOUR), running=1, queued=1, per="user"),
    "debug-scaling": Queue((1, 10), (5 * MINUTE, HOUR), running=1, queued=1, per="user"),
    "prod": Queue(
        (10, 496),
        (5 * MINUTE, 24 * HOUR),
        running=10,
        queued=100,
        per="project",
        routes=((10, 24, 3 * HOUR), (25, 99, 6 * HOUR), (100, 496, 24 * HOUR)),
    ),
    "preemptable": Queue((1, 10), (5 * MINUTE, 72 * HOUR), running=10, queued=20, per="project"),
    "capacity": Queue((1, 4), (5 * MINUTE, 168 * HOUR), running=1, queued=2, per="project"),
    "demand": Queue((1, 56), (5 * MINUTE, HOUR), running=100, queued=100, per="project"),
}
NOT_FOR_USERS = re.compile(r"small|medium|large|backfill-.*")  # prod routes into these
SHORTEST_MARGIN = 120  # seconds before the end of a walltime in which no task starts, unless set
LARGE_JOBS_WAIT = 476  # nodes; a larger job may never find that many working at once

# --- the submit side: run.py and Parsl's interchange (measured, see the template's README) -------
TASKS_PER_SECOND = 1000  # that one of it hands out with ease, however many workers there are
ROWS_PER_SECOND = 10_000  # that it hands out in groups, and records
ROWS_PER_TASK = 500  # in one group, at most

# --- accounts, file systems, software ------------------------------------------------------------
PLACEHOLDER = "YOURPROJECT"  # as on the page; no job can be charged to it
FILESYSTEMS = {"home": (), "eagle": ("/eagle", "/lus/eagle")}  # and the folders that only Polaris has
NOT_ON_POLARIS = {"grand": "grand is retired", "flare": "flare is Aurora's"}

ACCOUNT = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(::[A-Za-z0-9][A-Za-z0-9_-]{0,63})?"  # project::sub-allocation
CONDA_VERSIONS = ("default", "2025-09-25", "2025-09-28", "2026-10-09")  # in October 2026; older ones are gone
CONDA_DEFAULT = "2025-09-25"
PARSL_TESTED = (2026, 10, 26)  # older ones lack or misread settings that config.py makes
LOGIN_INTERFACE = "bond0"  # reached from compute nodes, on login and compute nodes alike


# --- how these figures are written ---------------------------------------------------------------
def seconds(walltime):
    """ "1:30:00" -> 5400; None where the text is not H:MM:SS."""
    match = re.fullmatch(r"([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])", walltime)
    if match is None:
        return None
    hours, minutes, rest = map(int, match.groups())
    return hours * HOUR + minutes * MINUTE + rest


def hms(duration):
    """5400 -> "1:30:00"."""
    return f"{int(duration) // HOUR}:{int(duration) // MINUTE % 60:02}:{int(duration) % MINUTE:02}"


def in_words(duration):
    """300 -> "5 min", 3600 -> "1 h"."""
    return f"{duration // HOUR} h" if duration % HOUR == 0 else f"{duration // MINUTE} min"


def what_fits(name):
    """The limits of a queue in words, as the question at generation and every refusal show them."""
    queue = QUEUES[name]
    if queue.routes:
        return ", ".join(f"{a}-{b} nodes up to {in_words(most)}" for a, b, most in queue.routes)
    shortest, longest = map(in_words, queue.walltime)
    return f"{queue.nodes[0]}-{queue.nodes[1]} nodes, {shortest} - {longest}"
