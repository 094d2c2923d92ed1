"""MPI tasks: the executor that gives each task its nodes, and on the node what starts its ranks.

Parsl's MPIExecutor runs its workers on the first node of a block; each runs one task at a time, which
starts its ranks on nodes of the block by `$PARSL_MPI_PREFIX`.
"""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors import MPIExecutor
from parsl.executors.errors import InvalidResourceSpecification
from parsl.executors.high_throughput.errors import ManagerLost

from . import facts, machine
from .blocks import Recording, timed

PROJECT = Path(__file__).resolve().parent.parent
GPU_AFFINITY = f"bash {shlex.quote(str(PROJECT / 'gpu_affinity.sh'))}"  # a zip file would lose its mode


class NodeLost(ManagerLost):
    """A node that a task had was lost; the task is run again, on other nodes."""

    def __init__(self, hostname):
        super().__init__(b"", hostname)

    def __str__(self):
        return f"node {self.hostname} does not answer"

    def __reduce__(self):
        return type(self), (self.hostname,)


class TooFewNodes(NodeLost):
    """So many nodes of a block were lost that the task can never run there."""

    def __init__(self, hostname, block):
        super().__init__(hostname)
        self.block = block

    def __str__(self):
        return f"too few nodes are left in block {self.block}: {self.hostname} does not answer"

    def __reduce__(self):
        return type(self), (self.hostname, self.block)


class Executor(Recording, MPIExecutor):
    """MPIExecutor that knows what a task takes, and records where and how long tasks run.

    nodes_per_task, ranks_per_node, threads_per_rank: as in config.py. A task may ask for other numbers by
    Parsl's parsl_resource_specification: num_nodes, ranks_per_node, and launcher_options of mpiexec.
    """

    pools_per_block = 1  # of workers: on the first node alone
    lanes_per_node = 1

    def __init__(self, nodes_per_task, ranks_per_node, threads_per_rank, interchange_launch_cmd, **settings):
        nodes = settings["provider"].nodes_per_block
        # MPIExecutor alone leaves the ports of a run open to other users of the machine.
        super().__init__(max_workers_per_block=max(1, nodes // nodes_per_task), encrypted=True, **settings)
        self.runner = with_nodes
        self.interchange_launch_cmd = interchange_launch_cmd  # a list, MPIExecutor itself takes text alone
        self.threads_per_rank = threads_per_rank
        self.usual = {"num_nodes": nodes_per_task, "ranks_per_node": ranks_per_node}

    def submit(self, func, resource_specification, *args, **kwargs):
        spec = {**self.usual, **(resource_specification or {})}
        nodes, ranks = int(spec["num_nodes"]), int(spec["ranks_per_node"])
        if not 1 <= nodes <= self.provider.nodes_per_block:
            there = f"there are {self.provider.nodes_per_block} for it in this mode"
            raise InvalidResourceSpecification({"num_nodes"}, f"the task asks for {nodes} nodes, {there}")
        spec["num_ranks"] = nodes * ranks
        spec.setdefault("launcher_options", launcher_options(ranks, self.threads_per_rank))
        future = super().submit(func, spec, *args, **kwargs)
        future.add_done_callback(self._look_for_stranded)
        return future

    def _look_for_stranded(self, future):
        if isinstance(future.exception(), TooFewNodes):
            self.stranded |= {future.exception().block}


def launcher_options(ranks_per_node, threads_per_rank):
    """What mpiexec of PALS is told of a rank: its hardware threads, how many, and its GPU."""
    options = f"--depth={threads_per_rank} --cpu-bind {facts.rank_affinity(ranks_per_node, threads_per_rank)}"
    options += "".join(f" --env {name}={threads_per_rank}" for name in facts.THREAD_VARIABLES)
    return f"{options} {GPU_AFFINITY}"


# --- on the node ---------------------------------------------------------------------------------
def with_nodes(function, args, kwargs):
    """Run on a worker in place of the app: take nodes for it, and say by the environment how to use them.

    PARSL_MPI_NODELIST: the nodes; PARSL_MPI_PREFIX: what starts the ranks of a program on them.
    """
    with take(int(os.environ["PARSL_NUM_NODES"])) as nodes:
        os.environ["PARSL_MPI_NODELIST"] = ",".join(nodes)
        os.environ["PARSL_MPI_PREFIX"] = prefix(nodes)
        result, ran = timed(function, args, kwargs)
        if isinstance(result, RemoteExceptionWrapper):
            for node in nodes:
                if not answers(node):
                    _mark(node, ".dead").touch()
                    raise NodeLost(node)
    return result, {**ran, "host": ";".join(nodes), "gpu": "", "worker": "", "cores": ""}


def prefix(nodes):
    """mpiexec with the options of PALS; without a PBS job, of the MPI that is on this machine."""
    if "PBS_JOBID" not in os.environ:
        ranks = min(int(os.environ["PARSL_RANKS_PER_NODE"]), os.cpu_count() or 1)
        return f"mpiexec -n {ranks} {GPU_AFFINITY}"
    # Parsl's own prefix has -ppn and -hosts, for MPICH; PALS documents --ppn and --hosts.
    ranks, per_node = os.environ["PARSL_NUM_RANKS"], os.environ["PARSL_RANKS_PER_NODE"]
    options = os.environ["PARSL_LAUNCHER_OPTIONS"]
    return f"mpiexec -n {ranks} --ppn {per_node} --hosts {','.join(nodes)} {options}"


@contextlib.contextmanager
def take(count):
    """Hold `count` nodes of this block that no other task has, and that were not lost.

    Parsl would give a lost node to the next task again and again. By locks on files that all workers of
    the block see: they are on one node.
    """
    given = os.environ["PARSL_MPI_NODELIST"].split(",")
    every = list(dict.fromkeys([*given, *machine.nodes_of_job()]))
    while True:
        dead = [node for node in every if _mark(node, ".dead").exists()]
        if len(every) - len(dead) < count:
            time.sleep(15)  # until the submit side has heard of it, and sends no more tasks
            raise TooFewNodes(dead[0], os.environ["PARSL_WORKER_BLOCK_ID"])
        with contextlib.ExitStack() as held:
            mine = []
            for node in every:
                if node not in dead and len(mine) < count:
                    file = held.enter_context(open(_mark(node, ".lock"), "w"))
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        mine.append(node)
            if len(mine) == count:
                yield mine
                return
        time.sleep(0.2)


def _mark(node, suffix):
    # The parent of a worker is the block's one pool of workers.
    pool = f"{os.environ.get('PBS_JOBID', 'none').split('.')[0]}-{os.getppid()}"
    folder = Path(tempfile.gettempdir()) / f"polaris-nodes-{os.getuid()}-{pool}"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder / f"{node}{suffix}"


def answers(node):
    """Whether a program can be started on a node."""
    if "PBS_JOBID" not in os.environ:
        return True
    return machine.output("mpiexec", "-n", "1", "--hosts", node, "--cpu-bind", "none", "true") is not None


def run(command, timeout):
    """Run an MPI program on the nodes of this task; returns what it prints.

    command: list, the program and its arguments. timeout: seconds after which its ranks are killed.
    Raises RuntimeError with its last words, or TimeoutError.
    """
    words = [*shlex.split(os.environ["PARSL_MPI_PREFIX"]), *map(str, command)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=PROJECT
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=10)
            raise TimeoutError(f"its ranks were killed after {timeout} s; do they hang?") from None
    if process.returncode:
        last = list(dict.fromkeys(line.strip() for line in err.splitlines() if line.strip()))[-3:]
        raise RuntimeError(f"mpiexec left with {process.returncode}: {' / '.join(last) or 'no message'}")
    return out
