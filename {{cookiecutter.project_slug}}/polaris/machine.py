"""What the machine at hand is: inside a job, on a login node or a laptop; its GPUs, its addresses."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from . import facts

MODES = ("local", "job", "blocks")


def choose_mode(mode="auto"):
    """Resolve "auto": "job" inside a PBS job, "blocks" where PBS can be asked for nodes, else "local"."""
    if mode == "auto":
        inside = os.environ.get("PBS_NODEFILE") is not None
        mode = "job" if inside else "blocks" if shutil.which("qsub") else "local"
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is none of auto, {', '.join(MODES)}")
    return mode


def nodes_of_job():
    """Host names of the PBS job's nodes, in PBS's order, each once."""
    nodefile = os.environ.get("PBS_NODEFILE")
    if nodefile is None:
        raise ValueError("mode 'job' works inside a PBS job alone: there is no $PBS_NODEFILE here")
    return list(dict.fromkeys(Path(nodefile).read_text().split()))


def gpus():
    """The names of this machine's GPUs, by nvidia-smi; [] where there are none."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU \d+: (.*?) \(UUID", listing.stdout, re.MULTILINE)


def local_workers(workers_per_gpu):
    """Settings of HighThroughputExecutor for this machine alone, and the worker_init that goes with them."""
    cores = os.cpu_count() or 1
    found = len(gpus())
    workers = found * workers_per_gpu or min(4, cores)
    pinning = {"max_workers_per_node": workers, "cores_per_worker": cores / workers}
    if found:
        pinning["available_accelerators"] = workers
    # The Python that runs this has what the tasks need, whether or not activate.sh was sourced.
    folder = shlex.quote(str(Path(sys.executable).parent))
    project = shlex.quote(str(Path(__file__).resolve().parent.parent))
    threads = max(1, cores // workers)
    return pinning, f"export PATH={folder}:$PATH PYTHONPATH={project}:$PYTHONPATH OMP_NUM_THREADS={threads}"


def interchange_command():
    """What starts Parsl's interchange, of this Python's environment, out of the terminal's reach.

    A terminal sends Ctrl-C to every process of its foreground group; the interchange must outlive it.
    """
    script = str(Path(sys.executable).with_name("interchange.py"))
    script = script if os.path.exists(script) else shutil.which("interchange.py") or script
    detach = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", detach, script]


def address(mode):
    """The IP address that workers connect to; None lets Parsl offer all of this host's."""
    if mode == "local":
        return "127.0.0.1"
    from parsl.addresses import address_by_interface

    names = [name for _, name in socket.if_nameindex()]
    return address_by_interface(facts.LOGIN_INTERFACE) if facts.LOGIN_INTERFACE in names else None


def where():
    """Where a task runs, for its result: host, GPU and hardware threads ("" and all, if it is not bound)."""
    threads = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "host": socket.gethostname(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "cores": facts.ranges(sorted(threads)),
    }
