"""What is fixed about Polaris: its nodes, queues, file systems and paths. Standard library only.

Source: ALCF user guides, https://docs.alcf.anl.gov/polaris/ (August 2026). Every other file derives
these figures from here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

# --- a node (polaris/system-overview) -------------------------------------------------------------
GPUS_PER_NODE = 4
THREADS_PER_NODE = 64  # hardware threads, which is what ALCF's ncpus counts; two a core
CORES_PER_NODE = 32
CORES_PER_GPU = 8  # those next to it
MAX_WORKERS_PER_GPU = CORES_PER_GPU

# The cores in each GPU's NUMA domain; the second hardware thread of core c is c + CORES_PER_NODE.
CORES_OF_GPU = (
    range(24, 32),
    range(16, 24),
    range(8, 16),
    range(0, 8),
)


def ranges(numbers: Iterable[int]) -> str:
    """[24, 25, 26, 56] -> "24-26,56"."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = []
    for first, last in runs:
        words.append(f"{first}-{last}" if first < last else str(first))
    return ",".join(words)


def numbers_in(entry: str) -> list[int]:
    """ "24-26,56" -> [24, 25, 26, 56]; ValueError where it is no such list."""
    numbers = []
    for part in entry.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def threads_of(cores: Sequence[int]) -> list[int]:
    """Both hardware threads of each core, the first ones before the second ones."""
    twins = [core + CORES_PER_NODE for core in cores]
    return [*cores, *twins]


def cores_left(taken: Collection[int] = ()) -> list[list[int]]:
    """The cores next to each GPU, without those that are taken."""
    return [[core for core in cores if core not in taken] for cores in CORES_OF_GPU]


def cpu_affinity(workers_per_gpu: int, taken: Collection[int] = ()) -> str:
    """Parsl's affinity list: an entry a worker, each GPU's own threads divided among its workers.

    Worker i has GPU i // workers_per_gpu. taken: cores that other workers have. Parsl's
    "block-reverse" would straddle NUMA domains.
    """
    of_each = []
    for cores in cores_left(taken):
        for i in range(workers_per_gpu):
            first = i * len(cores) // workers_per_gpu
            end = (i + 1) * len(cores) // workers_per_gpu
            of_each.append(cores[first:end])
    return affinity_list(of_each)


def affinity_list(of_each: Iterable[Sequence[int]]) -> str:
    """Parsl's list of the hardware threads of a node's workers, of the cores that each has."""
    entries = [ranges(threads_of(cores)) for cores in of_each]
    return "list:" + ":".join(entries)


def threads_per_worker(workers_per_gpu: int, taken: Collection[int] = ()) -> int:
    """The fewest hardware threads that a worker has in that list."""
    fewest = min(len(cores) for cores in cores_left(taken))
    return 2 * (fewest // workers_per_gpu)


def ranks_per_gpu(ranks_per_node: int) -> int:
    """The most MPI ranks that share a GPU, with so many on a node."""
    return -(-ranks_per_node // GPUS_PER_NODE)


def rank_affinity(ranks_per_node: int, threads_per_rank: int) -> str:
    """mpiexec's --cpu-bind for MPI ranks: local rank i has hardware threads next to GPU 3 - i % 4.

    That is the GPU which gpu_affinity.sh gives it; ranks that share one divide its cores.
    """
    sharing = ranks_per_gpu(ranks_per_node)
    number = (threads_per_rank + 1) // 2  # of cores
    doubled = threads_per_rank // 2  # of them whose second thread is used, too
    entries = []
    for rank in range(ranks_per_node):
        turn, place = divmod(rank, GPUS_PER_NODE)
        cores = CORES_OF_GPU[GPUS_PER_NODE - 1 - place]
        first = turn * CORES_PER_GPU // sharing
        mine = cores[first : first + number]
        threads = threads_of(mine)
        entries.append(ranges(threads[: number + doubled]))
    return "list:" + ":".join(entries)


def threads_per_rank(ranks_per_node: int) -> int:
    """The most hardware threads that each MPI rank of a node can have next to its GPU."""
    ranks = 1
    if isinstance(ranks_per_node, int) and ranks_per_node > 0:  # if not, the checks say so
        ranks = ranks_per_node
    return 2 * (CORES_PER_GPU // ranks_per_gpu(ranks))


# What sets the number of threads in libraries; PBS sets the first one, to those of the node.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


# --- queues (polaris/running-jobs) ----------------------------------------------------------------
MINUTE, HOUR = 60, 3600
SHORTEST = 5 * MINUTE  # walltime, of every queue


class Queue(NamedTuple):
    """Limits of one queue: nodes of a job, its walltime in seconds, and how many jobs at a time."""

    nodes: tuple
    walltime: tuple
    running: int  # jobs that run at a time
    queued: int  # jobs that may wait, be held or run: one more is refused by qsub
    per: str  # whose jobs are counted: those of a "user" or of a "project"
    routes: tuple = ()  # (fewest nodes, most nodes, longest walltime): a job that fits none is lost


# Their numbers of jobs were recorded on the machine in September and October 2026.
QUEUES = {
    "debug": Queue(
        nodes=(1, 2),
        walltime=(SHORTEST, HOUR),
        running=1,
        queued=1,
        per="user",
    ),
    "debug-scaling": Queue(
        nodes=(1, 10),
        walltime=(SHORTEST, HOUR),
        running=1,
        queued=1,
        per="user",
    ),
    "prod": Queue(
        nodes=(10, 496),
        walltime=(SHORTEST, 24 * HOUR),
        running=10,
        queued=100,
        per="project",
        routes=(
            (10, 24, 3 * HOUR),
            (25, 99, 6 * HOUR),
            (100, 496, 24 * HOUR),
        ),
    ),
    "preemptable": Queue(
        nodes=(1, 10),
        walltime=(SHORTEST, 72 * HOUR),
        running=10,
        queued=20,
        per="project",
    ),
    "capacity": Queue(
        nodes=(1, 4),
        walltime=(SHORTEST, 168 * HOUR),
        running=1,
        queued=2,
        per="project",
    ),
    "demand": Queue(
        nodes=(1, 56),
        walltime=(SHORTEST, HOUR),
        running=100,
        queued=100,
        per="project",
    ),
}
NOT_FOR_USERS = re.compile(r"small|medium|large|backfill-.*")  # prod routes into these
SHORTEST_MARGIN = 120  # seconds before the end of a walltime in which no task starts, unless set
LARGE_JOBS_WAIT = 476  # nodes; a larger job may never find that many working at once

# --- the submit side: run.py and Parsl's interchange (measured, see the template's README) --------
TASKS_PER_SECOND = 1000  # that one of it hands out with ease, however many workers there are
ROWS_PER_SECOND = 10_000  # that it hands out in groups, and records
ROWS_PER_TASK = 500  # in one group, at most
BYTES_PER_CALL = 10_500  # in flight: 8 kB in run.py, 2.4 kB in the interchange; small arguments
LOGIN_NODE = r"polaris-login-\d+.*"  # their host names
LOGIN_MEMORY = 8 * 2**30  # bytes that all processes of a user may have on one

# --- accounts, file systems, software -------------------------------------------------------------
PLACEHOLDER = "YOURPROJECT"  # as on the page; no job can be charged to it
FILESYSTEMS = {  # and the folders that only Polaris has
    "home": (),
    "eagle": ("/eagle", "/lus/eagle"),
}
HOMES = ("/home",)  # on the file system home; a laptop has such a folder, too
OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/local/scratch")  # which no other node sees
NOT_ON_POLARIS = {
    "grand": "grand is retired",
    "flare": "flare is Aurora's",
}

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
ACCOUNT = rf"{NAME}(::{NAME})?"  # project::sub-allocation
CONDA_VERSIONS = (  # in October 2026; older ones are gone
    "default",
    "2025-09-25",
    "2025-09-28",
    "2026-10-09",
)
CONDA_DEFAULT = "2025-09-25"
PARSL_TESTED = (2026, 10, 26)  # older ones lack or misread settings that config.py makes
LOGIN_INTERFACE = "bond0"  # reached from compute nodes, on login and compute nodes alike


# --- how these figures are written ----------------------------------------------------------------
def seconds(walltime: str) -> int | None:
    """ "1:30:00" -> 5400; None where the text is not H:MM:SS."""
    match = re.fullmatch(r"([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])", walltime)
    if match is None:
        return None
    hours, minutes, rest = map(int, match.groups())
    return hours * HOUR + minutes * MINUTE + rest


def hms(duration: float) -> str:
    """5400 -> "1:30:00"."""
    minutes, rest = divmod(int(duration), MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def in_words(duration: float) -> str:
    """A number of seconds: 45 -> "45 s", 90 -> "90 s", 300 -> "5 min", 3725 -> "1 h 2 min"."""
    whole = int(duration)
    if whole < 100:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / MINUTE), 60)
    if hours == 0:
        return f"{minutes} min"
    if minutes == 0:
        return f"{hours} h"
    return f"{hours} h {minutes} min"


def what_fits(name: str) -> str:
    """The limits of a queue in words, as the question at generation and every refusal show them."""
    queue = QUEUES[name]
    if queue.routes:
        rooms = []
        for fewest, most, longest in queue.routes:
            rooms.append(f"{fewest}-{most} nodes up to {in_words(longest)}")
        return ", ".join(rooms)
    fewest, most = queue.nodes
    shortest, longest = queue.walltime
    return f"{fewest}-{most} nodes, {in_words(shortest)} - {in_words(longest)}"
