"""MPI tasks: the executor that gives each task its nodes, and on the node what starts its ranks.

Parsl's MPIExecutor runs its workers on the first node of a block; each runs one task at a time, which
starts its ranks on nodes of the block by `$PARSL_MPI_PREFIX`.
"""

import contextlib
import fcntl
import functools
import itertools
import os
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from parsl.executors import MPIExecutor
from parsl.executors.errors import InvalidResourceSpecification
from parsl.executors.high_throughput.errors import ManagerLost

from . import facts, machine
from .blocks import Recording
from .on_worker import timed

PROJECT = Path(__file__).resolve().parent.parent
MPIEXEC = f"bash {shlex.quote(str(PROJECT / 'polaris' / 'mpiexec.sh'))}"  # a zip file would lose its mode
SETTLE = 0.05  # seconds for tasks that were handed out together to queue up in their order


class NodeLost(ManagerLost):
    """A node that a task had was lost; the task is run again, on other nodes."""

    def __init__(self, hostname, said=""):
        super().__init__(b"", hostname)
        self.said = said  # by mpiexec

    def __str__(self):
        return f"node {self.hostname} does not answer{': ' * bool(self.said)}{self.said}"

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

    nodes_per_task, ranks_per_node, threads_per_rank: as in config.py. A task may ask for other numbers by
    Parsl's parsl_resource_specification: num_nodes, ranks_per_node, and launcher_options of mpiexec.
    """

    pools_per_block = 1  # of workers: on the first node alone
    lanes_per_node = 1

    def __init__(self, nodes_per_task, ranks_per_node, threads_per_rank, interchange_launch_cmd, **settings):
        nodes = settings["provider"].nodes_per_block
        # MPIExecutor alone leaves the ports of a run open to other users of the machine.
        super().__init__(max_workers_per_block=max(1, nodes // nodes_per_task), encrypted=True, **settings)
        self.interchange_launch_cmd = interchange_launch_cmd  # a list, MPIExecutor itself takes text alone
        self.threads_per_rank = threads_per_rank
        self.usual = {"num_nodes": nodes_per_task, "ranks_per_node": ranks_per_node}
        self.numbers = itertools.count()

    def submit(self, func, resource_specification, *args, **kwargs):
        future = super().submit(func, resource_specification, *args, **kwargs)
        future.add_done_callback(self._look_for_stranded)
        return future

    def prepared(self, resource_specification):
        """What Parsl is told of a task: always one node. Which it gets is decided on the node, see `take`.

        Parsl's own allotting hangs where tasks ask for different numbers of nodes (Parsl issue 3829).
        """
        given = dict(resource_specification or {})
        self.validate_resource_spec(given.copy() or self.usual.copy())  # unknown words
        nodes = _number("num_nodes", given.get("num_nodes", self.usual["num_nodes"]))
        if nodes > self.provider.nodes_per_block:
            there = f"there are {self.provider.nodes_per_block} for it in this mode"
            raise InvalidResourceSpecification({"num_nodes"}, f"the task asks for {nodes} nodes, {there}")
        ranks = given.get("ranks_per_node")
        if ranks is None and "num_ranks" in given:
            ranks = _number("num_ranks", given["num_ranks"]) / nodes
        ranks = _number("ranks_per_node", self.usual["ranks_per_node"] if ranks is None else ranks)
        if int(given.get("num_ranks", nodes * ranks)) != nodes * ranks:
            wrong = f"{given['num_ranks']} ranks are not {nodes} nodes x {ranks} ranks a node"
            raise InvalidResourceSpecification({"num_ranks"}, wrong)
        threads = min(self.threads_per_rank, facts.threads_per_rank(ranks))
        spec = {"num_nodes": 1, "ranks_per_node": ranks, "num_ranks": nodes * ranks}
        spec["launcher_options"] = given.get("launcher_options", "")
        return functools.partial(with_nodes, nodes, next(self.numbers), threads), spec

    def _look_for_stranded(self, future):
        if isinstance(future.exception(), TooFewNodes):
            self.stranded |= {future.exception().block}


def _number(name, value):
    """A whole number above 0, also as text."""
    try:
        if float(value) == int(float(value)) > 0:
            return int(float(value))
    except (TypeError, ValueError):
        pass
    raise InvalidResourceSpecification({name}, f"{name} = {value!r} of a task is no whole number above 0")


# --- on the node ---------------------------------------------------------------------------------
def with_nodes(count, number, threads, function, args, kwargs):
    """Run on a worker in place of the app: take nodes for it, and say by the environment how to use them.

    count: of nodes. number: of the task, in the order in which tasks were handed out. threads: hardware
    threads of a rank. PARSL_MPI_NODELIST: the nodes; PARSL_MPI_PREFIX: what starts ranks on them.
    """
    with take(count, number) as nodes:
        os.environ["PARSL_NUM_NODES"] = str(count)
        os.environ["PARSL_MPI_NODELIST"] = ",".join(nodes)
        os.environ["PARSL_MPI_PREFIX"] = prefix(nodes)
        # What mpiexec.sh adds where the app says nothing of it.
        os.environ["POLARIS_DEPTH"] = str(threads)
        os.environ["POLARIS_THREAD_VARIABLES"] = " ".join(facts.THREAD_VARIABLES)
        os.environ["POLARIS_CPU_BIND"] = facts.rank_affinity(int(os.environ["PARSL_RANKS_PER_NODE"]), threads)
        told, ran = timed(function, args, kwargs)
        if told[0] == "error":
            for node in nodes:
                wrong = silence_of(node)
                if wrong is not None:
                    _mark(node, ".dead").touch()
                    raise NodeLost(node, wrong)
    return told, {**ran, "host": ";".join(nodes), "gpu": "", "worker": "", "cores": ""}


def prefix(nodes):
    """mpiexec with the options of the task; more may follow. Without a PBS job, the MPI of this machine."""
    options = os.environ["PARSL_LAUNCHER_OPTIONS"]
    if "PBS_JOBID" not in os.environ:
        ranks = min(int(os.environ["PARSL_RANKS_PER_NODE"]), os.cpu_count() or 1)
        return f"{MPIEXEC} -n {ranks} {options}".strip()
    # Parsl's own prefix has -ppn and -hosts, for MPICH; PALS documents --ppn and --hosts.
    ranks, per_node = os.environ["PARSL_NUM_RANKS"], os.environ["PARSL_RANKS_PER_NODE"]
    return f"{MPIEXEC} -n {ranks} --ppn {per_node} --hosts {','.join(nodes)} {options}".strip()


@contextlib.contextmanager
def take(count, number):
    """Hold `count` nodes of this block that no other task has, and that were not lost.

    Tasks get nodes in the order of their numbers: one that needs many starts at the latest when those before
    it have ended. Parsl would give a lost node to the next task again and again. By locks on files that all
    workers of the block see: they are on one node.
    """
    every = machine.nodes_of_job()
    with contextlib.ExitStack() as held:
        mine = []
        with _turn(number):
            while not mine:
                dead = [node for node in every if _mark(node, ".dead").exists()]
                if len(every) - len(dead) < count:
                    break
                mine = _lock([node for node in every if node not in dead], count, held)
                if not mine:
                    time.sleep(0.1)
        if not mine:
            time.sleep(15)  # until the submit side has heard of it, and sends no more tasks
            raise TooFewNodes(dead[0], os.environ["PARSL_WORKER_BLOCK_ID"])
        yield mine


def _lock(nodes, count, held):
    """Lock `count` of these nodes that are free, until `held` is closed; [] where there are fewer."""
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
            while any(_waits(other) for other in ticket.parent.glob("*.waits") if other.name < ticket.name):
                time.sleep(0.05)
            yield
        finally:
            ticket.unlink(missing_ok=True)


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
    # The parent of a worker is the block's one pool of workers.
    pool = f"{os.environ.get('PBS_JOBID', 'none').split('.')[0]}-{os.getppid()}"
    folder = Path(tempfile.gettempdir()) / f"polaris-nodes-{os.getuid()}-{pool}"
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    return folder / f"{node}{suffix}"


def silence_of(node):
    """What mpiexec says where no program can be started on a node; None where one can."""
    if "PBS_JOBID" not in os.environ:
        return None
    return machine.complaint(["mpiexec", "-n", "1", "--hosts", node, "--cpu-bind", "none", "true"], 30)


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
