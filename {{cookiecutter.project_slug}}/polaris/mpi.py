"""MPI tasks: the executor that gives each task its nodes, and on the node what starts its ranks.

Parsl's MPIExecutor runs its workers on the first node of a block; each runs one task at a time,
which starts its ranks on nodes of the block by `$PARSL_MPI_PREFIX`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from parsl.executors import MPIExecutor
from parsl.executors.errors import InvalidResourceSpecification
from parsl.executors.high_throughput.errors import ManagerLost

from . import facts, machine, on_worker
from .parsl_parts import Recording

PROJECT = Path(__file__).resolve().parent.parent
MPIEXEC = (
    f"bash {shlex.quote(str(PROJECT / 'polaris' / 'mpiexec.sh'))}"  # a zip file would lose its mode
)
SETTLE = 0.05  # seconds for tasks that were handed out together to queue up in their order


class NodeLost(ManagerLost):
    """A node that a task had was lost; the task is run again, on other nodes."""

    def __init__(self, hostname, said=""):
        super().__init__(b"", hostname)
        self.said = said  # by mpiexec

    def __str__(self):
        said = f": {self.said}" if self.said else ""
        return f"node {self.hostname} does not answer{said}"

    def __reduce__(self):
        return type(self), (self.hostname, self.said)


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

    nodes_per_task, ranks_per_node, threads_per_rank: as in config.py. A task may ask for other
    numbers by Parsl's parsl_resource_specification: num_nodes, ranks_per_node, and launcher_options
    of mpiexec.
    """

    pools_per_block = 1  # of workers: on the first node alone
    lanes_per_node = 1

    def __init__(
        self,
        nodes_per_task: int,
        ranks_per_node: int,
        threads_per_rank: int,
        interchange_launch_cmd: list[str],
        **settings,
    ):
        nodes = settings["provider"].nodes_per_block
        at_a_time = max(1, nodes // nodes_per_task)
        # MPIExecutor alone leaves the ports of a run open to other users of the machine.
        super().__init__(max_workers_per_block=at_a_time, encrypted=True, **settings)
        self.interchange_launch_cmd = (
            interchange_launch_cmd  # a list, MPIExecutor itself takes text alone
        )
        self.threads_per_rank = threads_per_rank
        self.usual = {"num_nodes": nodes_per_task, "ranks_per_node": ranks_per_node}
        self.numbers = itertools.count()

    def submit(self, func: Callable, resource_specification: dict, *args, **kwargs) -> Future:
        future = super().submit(func, resource_specification, *args, **kwargs)
        future.add_done_callback(self._look_for_stranded)
        return future

    def prepared(self, resource_specification: dict) -> tuple[dict, dict]:
        """What Parsl is told of a task: always one node. Which it gets is decided in `take`.

        Parsl's own allotting hangs where tasks ask for different numbers of nodes (Parsl issue
        3829).
        """
        given = dict(resource_specification or {})
        copied = given or self.usual
        self.validate_resource_spec(copied.copy())  # unknown words; it adds some
        nodes = self._nodes(given)
        ranks = self._ranks_per_node(given, nodes)
        threads = min(self.threads_per_rank, facts.threads_per_rank(ranks))
        number = next(self.numbers)
        runner = {
            "f": "polaris.mpi.execute",
            "a": (nodes, number, threads, self.prints_folder),
        }
        specification = {
            "num_nodes": 1,
            "ranks_per_node": ranks,
            "num_ranks": nodes * ranks,
            "launcher_options": given.get("launcher_options", ""),
        }
        return runner, specification

    def _nodes(self, given):
        asked = given.get("num_nodes", self.usual["num_nodes"])
        nodes = _number("num_nodes", asked)
        most = self.provider.nodes_per_block
        if nodes > most:
            wrong = f"the task asks for {nodes} nodes, there are {most} for it in this mode"
            raise InvalidResourceSpecification({"num_nodes"}, wrong)
        return nodes

    def _ranks_per_node(self, given, nodes):
        ranks = given.get("ranks_per_node")
        total = given.get("num_ranks")
        if ranks is None and total is not None:
            ranks = _number("num_ranks", total) / nodes
        if ranks is None:
            ranks = self.usual["ranks_per_node"]
        ranks = _number("ranks_per_node", ranks)
        if total is not None and int(total) != nodes * ranks:
            wrong = f"{total} ranks are not {nodes} nodes x {ranks} ranks a node"
            raise InvalidResourceSpecification({"num_ranks"}, wrong)
        return ranks

    def _look_for_stranded(self, future):
        error = future.exception()
        if isinstance(error, TooFewNodes):
            self.stranded.add(error.block)


def _number(name, value):
    """A whole number above 0, also as text."""
    try:
        number = float(value)
        if number == int(number) > 0:
            return int(number)
    except (OverflowError, TypeError, ValueError):
        pass
    wrong = f"{name} = {value!r} of a task is no whole number above 0"
    raise InvalidResourceSpecification({name}, wrong)


# --- on the node ----------------------------------------------------------------------------------
def execute(buffer: bytes, count: int, number: int, threads: int, folder: str) -> bytes:
    """Parsl's task_executor: take nodes for a task, say in the environment which they are, run it.

    count: of nodes. number: of the task, in the order in which tasks were handed out. threads:
    hardware threads of a rank. folder: see printed.py. PARSL_MPI_NODELIST: the nodes;
    PARSL_MPI_PREFIX: what starts ranks on them.
    """
    with take(count, number) as nodes:
        _tell(nodes, threads)
        told, ran = on_worker.timed(buffer, folder)
        if told[0] == "error":
            _look_for_dead(nodes)
    ran["host"] = ";".join(nodes)
    for column in ("gpu", "worker", "cores"):
        ran[column] = ""
    return on_worker.reply(told, ran)


def _tell(nodes, threads):
    ranks_per_node = int(os.environ["PARSL_RANKS_PER_NODE"])
    os.environ["PARSL_NUM_NODES"] = str(len(nodes))
    os.environ["PARSL_MPI_NODELIST"] = ",".join(nodes)
    os.environ["PARSL_MPI_PREFIX"] = prefix(nodes)
    # What mpiexec.sh adds where the app says nothing of it.
    os.environ["POLARIS_DEPTH"] = str(threads)
    os.environ["POLARIS_THREAD_VARIABLES"] = " ".join(facts.THREAD_VARIABLES)
    os.environ["POLARIS_CPU_BIND"] = facts.rank_affinity(ranks_per_node, threads)


def _look_for_dead(nodes):
    """Of the nodes of a task that failed; NodeLost for one that does not answer."""
    for node in nodes:
        wrong = silence_of(node)
        if wrong is not None:
            _mark(node, ".dead").touch()
            raise NodeLost(node, wrong)


def prefix(nodes: list[str]) -> str:
    """mpiexec with the options of the task; more may follow.

    Without a PBS job, the MPI of this machine.
    """
    options = os.environ["PARSL_LAUNCHER_OPTIONS"]
    if "PBS_JOBID" not in os.environ:
        asked = int(os.environ["PARSL_RANKS_PER_NODE"])
        ranks = min(asked, os.cpu_count() or 1)
        return f"{MPIEXEC} -n {ranks} {options}".strip()
    # Parsl's own prefix has -ppn and -hosts, for MPICH; PALS documents --ppn and --hosts.
    ranks = os.environ["PARSL_NUM_RANKS"]
    per_node = os.environ["PARSL_RANKS_PER_NODE"]
    hosts = ",".join(nodes)
    return f"{MPIEXEC} -n {ranks} --ppn {per_node} --hosts {hosts} {options}".strip()


@contextlib.contextmanager
def take(count: int, number: int) -> Iterator[list[str]]:
    """Hold `count` nodes of this block that no other task has, and that were not lost.

    Tasks get nodes in the order of their numbers: one that needs many starts at the latest when
    those before it have ended. Parsl would give a lost node to the next task again and again. By
    locks on files that all workers of the block see: they are on one node.
    """
    every = machine.nodes_of_job()
    with contextlib.ExitStack() as held:
        mine = []
        with _turn(number):
            while not mine:
                dead = [node for node in every if _mark(node, ".dead").exists()]
                alive = [node for node in every if node not in dead]
                if len(alive) < count:
                    break
                mine = _lock(alive, count, held)
                if not mine:
                    time.sleep(0.1)
        if not mine:
            time.sleep(15)  # until the submit side has heard of it, and sends no more tasks
            raise TooFewNodes(dead[0], os.environ["PARSL_WORKER_BLOCK_ID"])
        yield mine


def _lock(nodes, count, held):
    """Lock `count` of these nodes until `held` is closed; [] where fewer of them are free."""
    with contextlib.ExitStack() as tried:
        mine = []
        for node in nodes:
            file = tried.enter_context(open(_mark(node, ".lock"), "w"))
            if _locked(file):
                mine.append(node)
            if len(mine) == count:
                held.push(tried.pop_all())
                return mine
    return []


def _locked(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _turn(number):
    """Wait until no task with a smaller number waits for nodes any more; hold the turn within.

    A waiting task is a locked file; one whose worker died is locked no longer.
    """
    ticket = _mark(f"{number:012}", ".waits")
    with open(ticket.with_suffix(".new"), "w") as file:
        _locked(file)
        os.rename(ticket.with_suffix(".new"), ticket)
        try:
            time.sleep(SETTLE)
            while _others_wait(ticket):
                time.sleep(0.05)
            yield
        finally:
            ticket.unlink(missing_ok=True)


def _others_wait(ticket):
    """Whether a task with a smaller number does."""
    for other in ticket.parent.glob("*.waits"):
        if other.name < ticket.name and _waits(other):
            return True
    return False


def _waits(ticket):
    try:
        with open(ticket) as file:
            if not _locked(file):
                return True
            ticket.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    return False


def _mark(node, suffix):
    job = os.environ.get("PBS_JOBID", "none").split(".")[0]
    pool = os.environ["PARSL_WORKER_POOL_ID"]  # the block's one
    name = f"polaris-nodes-{os.getuid()}-{job}-{pool}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    return folder / f"{node}{suffix}"


def silence_of(node: str) -> str | None:
    """What mpiexec says where no program can be started on a node; None where one can."""
    if "PBS_JOBID" not in os.environ:
        return None
    command = ["mpiexec", "-n", "1", "--hosts", node, "--cpu-bind", "none", "true"]
    return machine.complaint(command, timeout=30)


def run(command: list, timeout: float) -> str:
    """Run an MPI program on the nodes of this task; returns what it prints.

    command: list, the program and its arguments. timeout: seconds after which its ranks are killed.
    Raises RuntimeError with its last words, or TimeoutError.
    """
    words = shlex.split(os.environ["PARSL_MPI_PREFIX"])
    words += map(str, command)
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=PROJECT,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise TimeoutError(f"its ranks were killed after {timeout} s; do they hang?") from None
    if process.returncode:
        lines = [line.strip() for line in err.splitlines()]
        said = [line for line in dict.fromkeys(lines) if line]
        last = " / ".join(said[-3:]) or "no message"
        raise RuntimeError(f"mpiexec left with {process.returncode}: {last}")
    return out


def _end(process):
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)
