"""What workers start with: shell text, GPUs, addresses; and whether they would start at all."""

from __future__ import annotations

import hashlib
import importlib
import os
import shlex
import shutil
import socket
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from . import facts, machine, prefix
from .errors import one_line
from .imported import WORKER_POOL
from .machine import PROJECT

MONITORED = 30  # seconds between looks at the resources that a task uses
NO_GPUS = "export CUDA_VISIBLE_DEVICES="  # shell text: CPU workers leave them to others
SLOW = 120  # seconds that Parsl's program for workers may take to say what it can


# --- the folder of Parsl's files ------------------------------------------------------------------
def make_private(run_dir: os.PathLike) -> None:
    """Make the folder of Parsl's files: who can read the certificates in it can send tasks.

    It is there before a block starts: the launcher's own files, such as $JOBNAME.nodes, go there.
    """
    os.makedirs(run_dir, exist_ok=True)
    os.chmod(run_dir, 0o700)


def checkpoints(run_dir: os.PathLike) -> list[str]:
    """The folders of Parsl's checkpoints of earlier runs, without those that a kill left empty."""
    from parsl.utils import get_all_checkpoints

    folders = get_all_checkpoints(str(run_dir))
    return [folder for folder in folders if os.path.exists(f"{folder}/tasks.pkl")]


def monitoring():
    """Parsl's MonitoringHub: a database of tasks, nodes, blocks and resources, in run_dir."""
    from parsl.monitoring import MonitoringHub

    return MonitoringHub(
        workflow_name=PROJECT.name,
        resource_monitoring_interval=MONITORED,
    )


# --- how Parsl's programs are started -------------------------------------------------------------
def of_local_node(run_dir: os.PathLike) -> str:
    """The worker_init that makes a pool for MPI tasks take this machine for the node of a job."""
    nodes = shlex.quote(f"{run_dir}/localhost")
    return f"{_this_environment()}; hostname >{nodes}; export PBS_NODEFILE={nodes}"


def node_list(run_dir: os.PathLike, kind: str, nodes: list[str]) -> str:
    """Shell text by which a kind of workers has these nodes of the job, and no others; "" for all.

    What starts workers, or MPI ranks, reads them from $PBS_NODEFILE.
    """
    if nodes == machine.nodes_of_job():
        return ""
    job = machine.number_of(os.environ.get("PBS_JOBID", ""))
    path = Path(run_dir) / f"nodes-{kind}-{job}"
    path.write_text("".join(f"{node}\n" for node in nodes), encoding="utf-8")
    return f"; export PBS_NODEFILE={shlex.quote(str(path))}"


def when_it_ends(mode: str, walltime: str) -> str:
    """Shell text for $POLARIS_ENDS: when the job's or block's walltime ends, s since 1970.

    walltime: of a block, which started when PBS wrote its $PBS_NODEFILE.
    """
    if mode == "job":
        _, end = machine.times_of_job()
        return "" if end is None else f"; export POLARIS_ENDS={end:.0f}"
    began = 'began=$(stat -c %Y "$PBS_NODEFILE")'
    return f"; {began} && export POLARIS_ENDS=$((began + {facts.seconds(walltime)}))"


def threads(number: int) -> str:
    """Shell text that lets a task's libraries start that many threads."""
    words = [f"{name}={number}" for name in facts.THREAD_VARIABLES]
    return "export " + " ".join(words)


def start_workers(preload: Sequence[str] = ()) -> str:
    """What starts a pool of workers: in the project's folder, where tasks find their files.

    preload: packages that all workers of a node have imported when they start.
    """
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    return f"bash {PROJECT}/polaris/start_workers.sh {_pool(preload)}{DEFAULT_LAUNCH_CMD}"


def _pool(preload):
    """What stands before Parsl's program for workers, see worker_pool.py."""
    if sys.platform != "linux":
        return ""
    return f"python3 -m polaris.worker_pool {','.join(preload) or '-'} "


def start_interchange() -> list[str]:
    """What starts Parsl's interchange, with this Python's environment."""
    return [sys.executable, f"{PROJECT}/polaris/interchange.py", str(os.getpid())]


def address(mode: str) -> str | None:
    """The IP address that workers connect to; None lets Parsl offer all of this host's."""
    if mode == "local":
        return "127.0.0.1"
    from parsl.addresses import address_by_interface

    for _, name in socket.if_nameindex():
        if name == facts.LOGIN_INTERFACE:
            return address_by_interface(name)
    return None


# --- mode local -----------------------------------------------------------------------------------
def local_workers(
    kind: str, workers_per_gpu: int, cpu_workers: int, cores_each: int, kinds: Sequence[str]
) -> tuple[dict, str]:
    """(settings of an executor for this machine alone, the worker_init that goes with them).

    kind: of its workers. The kinds of workers share the machine's cores, and "gpu" and "node" its
    GPUs. cpu_workers, cores_each: CPU workers, at most as many, and the cores of each.
    """
    cores = os.cpu_count() or 1
    visible = machine.visible_gpus()
    on_gpus = len(visible) * workers_per_gpu
    if "gpu" in kinds and not visible:
        on_gpus = min(4, cores if "cpu" not in kinds else max(1, cores // 2))
    workers = 1
    if kind == "gpu":
        workers = on_gpus
    elif kind == "cpu":
        left = cores - on_gpus if "gpu" in kinds else cores
        workers = max(1, min(cpu_workers, left // cores_each))
    settings = {"max_workers_per_node": workers, "cores_per_worker": cores / workers}
    each = cores_each if kind == "cpu" else cores // workers
    worker_init = f"{_this_environment()}; {threads(max(1, min(each, cores)))}"
    if kind == "gpu" and visible:
        settings["available_accelerators"] = _devices(visible, workers, workers_per_gpu)
    elif machine.gpus() and (kind == "cpu" or not visible):
        worker_init += f"; {NO_GPUS}"
    return settings, worker_init


def _devices(visible, workers, workers_per_gpu):
    """The device of each worker, by name.

    Parsl's worker pool divides an index by the workers for each device that nvidia-smi lists.
    """
    share = max(1, workers // len(machine.gpus()))
    devices = []
    for name in visible:
        if name.isdigit():
            name = str(int(name) * share)
        devices += [name] * workers_per_gpu
    return devices


def _this_environment():
    """Shell text: the Python that runs this has what the tasks need, activate.sh sourced or not."""
    folder = shlex.quote(str(Path(sys.executable).parent))
    project = shlex.quote(str(PROJECT))
    return f"export PATH={folder}:$PATH PYTHONPATH={project}:$PYTHONPATH"


# --- the environment on the nodes' own disks ------------------------------------------------------
def packed_environment() -> str:
    """Pack this Python's environment into one file beside it, where there is no newer one.

    Returns the shell text by which a block's nodes use it; "" where it cannot be packed, which is
    said.
    """
    venv, packed = _venv_and_packed()
    new = packed.with_name(f"{os.getpid()}.{packed.name}")
    try:
        packed.parent.mkdir(exist_ok=True)
        if _is_older(packed, venv):
            print(f"packing the environment, once: {packed}", file=sys.stderr, flush=True)
            _pack(venv, new, packed)
    except OSError as error:
        file = error.filename or new
        wrong = f"{file}: {error.strerror}: the environment is not packed"
        print(wrong, file=sys.stderr)
        return ""
    return f"; source {PROJECT}/polaris/local_environment.sh {packed}"


def _venv_and_packed():
    """(the environment, the file that it is packed into): nothing is put beside the user's own."""
    mine = prefix.own()
    if mine is None:
        venv = Path(sys.prefix)
        return venv, venv.with_name(f"{venv.name}.tar.gz")
    digest = hashlib.sha256(os.path.realpath(mine.folder).encode()).hexdigest()[:12]
    return Path(mine.folder), PROJECT / ".packed" / f"{digest}.tar.gz"


def _is_older(packed, venv):
    """Whether a packed environment is not there, or older than the packages of its venv."""
    made = venv / "ready"  # setup_env.sh's
    if not made.exists():
        made = venv / "pyvenv.cfg"
    parts = [made, *venv.glob("lib/python*/site-packages")]
    installed = max(part.stat().st_mtime for part in parts)
    return not packed.exists() or packed.stat().st_mtime <= installed


def _pack(venv, new, packed):
    """Write it under another name first: a job that starts meanwhile sees no half of it."""
    try:
        with tarfile.open(new, "w:gz", compresslevel=1) as tar:
            tar.add(venv, arcname=".")
        os.replace(new, packed)
    finally:
        new.unlink(missing_ok=True)


# --- whether workers would start ------------------------------------------------------------------
def problem_of_start(mode: str) -> str | None:
    """Why no worker would start here, in words; None where it does. Loads Parsl's program.

    As a block does it: by its name, after activate.sh; in mode local by the Python that runs this.
    """
    wrong = _problem_here() if mode == "local" else _problem_of_block()
    return wrong and f"workers cannot be started: {wrong}"


def _problem_here():
    try:
        importlib.import_module(WORKER_POOL)
    except Exception as error:
        return one_line(error)
    return None


def _problem_of_block():
    activate = shlex.quote(f"{PROJECT}/activate.sh")
    script = f"source {activate} || exit 1; exec python3 -c 'import {WORKER_POOL}'"
    return machine.complaint(["bash", "-c", script], SLOW)


def lacks_worker_pool(ours: bool) -> Path | None:
    """Where Parsl's program for workers should lie and does not; None where it does.

    ours: whether this Python is of the project's environment: then that program must be, too.
    """
    folder = Path(sys.executable).parent
    places = str(folder) if ours else _path_of_tasks()
    if shutil.which("process_worker_pool.py", path=places):
        return None
    return folder


def foreign_mpiexec() -> str | None:
    """The mpiexec of a package of this environment, which knows no nodes, nor PALS's options."""
    found = shutil.which("mpiexec", path=_path_of_tasks())
    if found is None:
        return None
    mine = prefix.own()
    for place in (sys.prefix, mine and mine.folder, os.environ.get("CONDA_PREFIX")):
        if place and Path(found).is_relative_to(place):
            return found
    return None


def has_mpiexec() -> bool:
    """Whether there is one that could start ranks on this machine."""
    return shutil.which("mpiexec", path=_path_of_tasks()) is not None


def _path_of_tasks():
    folders = [str(Path(sys.executable).parent), *os.get_exec_path()]
    mine = prefix.own()
    if mine is not None:
        folders.insert(0, f"{mine.folder}/bin")
    return os.pathsep.join(folders)
