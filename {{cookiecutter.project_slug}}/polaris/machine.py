"""What the machine at hand is: inside a job, on a login node or a laptop; its GPUs, its addresses."""

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

from . import facts

MODES = ("local", "job", "blocks")


class WrongMode(ValueError):
    """A mode that cannot work here."""


def choose_mode(mode="auto"):
    """Resolve "auto": "job" inside a PBS job, "blocks" where PBS can be asked for nodes, else "local"."""
    if mode == "auto":
        inside = os.environ.get("PBS_NODEFILE") is not None
        mode = "job" if inside else "blocks" if shutil.which("qsub") else "local"
    if mode not in MODES:
        raise WrongMode(f"mode {mode!r} is none of auto, {', '.join(MODES)}")
    return mode


def nodes_of_job():
    """Host names of the PBS job's nodes, in PBS's order, each once."""
    nodefile = os.environ.get("PBS_NODEFILE")
    if nodefile is None:
        raise WrongMode("mode 'job' works inside a PBS job alone: there is no $PBS_NODEFILE here")
    return list(dict.fromkeys(Path(nodefile).read_text(encoding="utf-8").split()))


def output(*command, whole=True):
    """What a command prints; None where it is missing, hangs or, unless `whole` is False, fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, start_new_session=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 or not whole else None


def complaint(command, timeout):
    """The last line of what a command complains of; None where it succeeds. timeout: seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return None if done.returncode == 0 else (said or [f"status {done.returncode}"])[-1]


def pbs_time(text):
    """ "Tue Nov 24 00:49:36 2026" -> seconds since the epoch."""
    return time.mktime(time.strptime(text, "%a %b %d %H:%M:%S %Y"))


def jobs_in(text):
    """{number: {attribute: value}} of the jobs that `qstat -f` prints, as JSON or not; None: it says nothing.

    The JSON of a real server may be none: it writes a value such as 005 as a number.
    """
    with contextlib.suppress(ValueError):
        return {name.split(".")[0]: job for name, job in json.loads(text).get("Jobs", {}).items()}
    jobs = {}
    for part in re.split(r"^Job Id: ", text, flags=re.MULTILINE)[1:]:
        number, _, lines = part.partition("\n")
        job = jobs[number.split(".")[0]] = {}
        for name, value in re.findall(r"^ {4}(\S+) = (.*)$", lines.replace("\n\t", ""), re.MULTILINE):
            group, _, inner = name.partition(".")
            if inner:
                job.setdefault(group, {})[inner] = value
            else:
                job[name] = value
    return jobs or None


def this_job():
    """What PBS says of the job that runs this, {attribute: value}; {} outside of one or without an answer."""
    job = os.environ.get("PBS_JOBID")
    with contextlib.suppress(LookupError):
        return _asked(job) if job else {}
    return {}


@functools.lru_cache
def _asked(job):
    """As `this_job`, PBS being asked until it has answered once; LookupError where it does not."""
    for form in (("-F", "json"), ()):
        found = jobs_in(output("qstat", "-f", *form, job) or "")
        if found:
            return next(iter(found.values()))
    raise LookupError(job)


def job_is_over(job):
    """Whether PBS says that a job has ended; False too where it says nothing."""
    found = jobs_in(output("qstat", "-x", "-f", job) or "") or {}
    return found.get(job.split(".")[0], {}).get("job_state") == "F"


def ends_of_jobs(jobs):
    """{job: when it ended, seconds since the epoch} of those of which PBS says so."""
    found = jobs_in(output("qstat", "-x", "-f", *jobs, whole=False) or "") or {}  # it may know some no more
    about = {job: found.get(job.split(".")[0], {}) for job in jobs}
    return {job: pbs_time(says["obittime"]) for job, says in about.items() if "obittime" in says}


def again():
    """The command that goes on with what this run leaves: in a job that which submitted it."""
    if "PBS_JOBID" not in os.environ or os.environ.get("PBS_ENVIRONMENT") == "PBS_INTERACTIVE":
        return shlex.join(["python", *sys.argv])
    given = str(this_job().get("Submit_arguments", ""))
    if not given or "depend=" in given:  # a link of a chain
        given = "-v MODE=blocks driver.pbs" if os.environ.get("MODE") == "blocks" else "driver.pbs"
    return f"qsub {given}"


def starts_again(ends):
    """Whether PBS itself starts this job again, if it ends it now: after preemption, or qrerun.

    ends: when its walltime ends, seconds since the epoch, or None; at that time it does not.
    """
    early = ends is None or time.time() < ends - facts.MINUTE
    return early and this_job().get("Rerunable") == "True"


def settings_of_job():
    """{option: value} of the job that runs this. qsub may have been told otherwise than driver.pbs says."""
    about = this_job()
    resources = about.get("Resource_List", {})
    found = {
        "account": os.environ.get("PBS_ACCOUNT") or about.get("Account_Name"),
        "queue": os.environ.get("PBS_O_QUEUE") or about.get("queue"),  # prod routes into others
        "nodes_per_block": len(nodes_of_job()),
        "walltime": facts.hms(facts.seconds(resources.get("walltime", "")) or 0),
        "filesystems": resources.get("filesystems"),
    }
    # The JSON of PBS has an account that is a number as one.
    found = {name: v if name == "nodes_per_block" else v and str(v) for name, v in found.items()}
    return {name: value for name, value in found.items() if value not in (None, 0, "0:00:00")}


def times_of_job():
    """When the PBS job that runs this started and will end (seconds since the epoch); None outside a job.

    From PBS, else from the walltime in driver.pbs and the age of the node file: no variable holds it.
    """
    job, nodefile = os.environ.get("PBS_JOBID"), os.environ.get("PBS_NODEFILE")
    if job is None:
        return None, None
    about = this_job()
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        start = pbs_time(about["stime"])
        return start, start + facts.seconds(about["Resource_List"]["walltime"])
    with contextlib.suppress(AttributeError, OSError, TypeError):
        text = (Path(__file__).resolve().parent.parent / "driver.pbs").read_text(encoding="utf-8")
        walltime = re.search(r"^#PBS .*walltime=([0-9:]+)", text, re.MULTILINE).group(1)
        start = os.stat(nodefile).st_mtime
        return start, start + facts.seconds(walltime)
    return None, None


def checkpoints(run_dir):
    """The folders of Parsl's checkpoints of earlier runs; a run that was killed may have left one empty."""
    from parsl.utils import get_all_checkpoints

    return [f for f in get_all_checkpoints(str(run_dir)) if os.path.exists(f"{f}/tasks.pkl")]


def monitoring():
    """Parsl's MonitoringHub: a database of tasks, tries, nodes, blocks and the resources that tasks use."""
    from parsl.monitoring import MonitoringHub

    name = Path(__file__).resolve().parent.parent.name
    return MonitoringHub(workflow_name=name, resource_monitoring_interval=30)  # seconds; it lies in run_dir


def packed_environment():
    """Pack this Python's environment into one file beside it, unless that is newer than all of its packages.

    Returns the shell text by which a block's nodes use it; "" where it cannot be packed, which is said.
    """
    venv, script = Path(sys.prefix), Path(__file__).resolve().parent / "local_environment.sh"
    packed, new = venv.with_name(f"{venv.name}.tar.gz"), venv.with_name(f"{venv.name}.{os.getpid()}.tar.gz")
    parts = [venv / "ready", *venv.glob("lib/python*/site-packages")]
    try:
        installed = max(part.stat().st_mtime for part in parts)
        if not packed.exists() or packed.stat().st_mtime <= installed:
            print(f"packing the environment, once: {packed}", file=sys.stderr, flush=True)
            try:
                with tarfile.open(new, "w:gz", compresslevel=1) as tar:
                    tar.add(venv, arcname=".")
                os.replace(new, packed)
            finally:
                new.unlink(missing_ok=True)
    except OSError as error:
        print(f"{error.filename or new}: {error.strerror}: the environment is not packed", file=sys.stderr)
        return ""
    return f"; source {script} {packed}"


class Gpu(NamedTuple):
    """A device of CUDA's, by nvidia-smi. index: of the GPU, "" for a part of one (MIG)."""

    index: str
    uuid: str
    name: str


@functools.lru_cache
def gpus():
    """[Gpu] of this machine, by `nvidia-smi -L`; behind one that is divided (MIG) come its parts."""
    said = output("nvidia-smi", "-L") or ""
    lines = re.findall(r"^(?:GPU (\d+)|  MIG (\S+) +Device +\d+):(.*?) *\(UUID: (\S+)\)", said, re.MULTILINE)
    return [Gpu(index, uuid, name.strip() or f"MIG {part}") for index, part, name, uuid in lines]


def visible_gpus():
    """[how CUDA_VISIBLE_DEVICES names it] of the devices that tasks on this machine may use.

    Where that variable is set, those that it leaves, read as CUDA does: by index, by the first letters of a
    UUID, and none from the first on that does not exist (CUDA programming guide, environment variables).
    """
    found, given = gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    divided = any(not gpu.index for gpu in found)
    if given is None:
        # A GPU that is followed by its parts is used by these alone.
        next_one = [*found[1:], Gpu("none", "", "")]
        whole = [gpu for i, gpu in enumerate(found) if not gpu.index or next_one[i].index]
        return [gpu.uuid if divided else gpu.index for gpu in whole]
    visible = []
    for word in map(str.strip, given.split(",")):
        # An older name of a part is MIG-GPU-<UUID of the GPU>/<instance>/<instance>.
        start = word.removeprefix("MIG-").partition("/")[0] if word.startswith("MIG-GPU-") else word
        by_uuid = start.startswith(("GPU-", "MIG-"))
        named = [gpu for gpu in found if word == gpu.index or (by_uuid and gpu.uuid.startswith(start))]
        if len(named) != 1 or word in visible:
            break
        visible.append(word)
    return visible


def gpus_in_words():
    """The GPUs of this machine, and how many of them CUDA_VISIBLE_DEVICES leaves to mode local."""
    found = gpus()
    if not found:
        return "none on this machine"
    parts = sum(not gpu.index for gpu in found)
    words = f"{len(found) - parts} x {found[0].name}"
    words += f" with {parts} part{'s' * (parts > 1)} (MIG)" if parts else ""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        left = len(visible_gpus())
        words += f"; CUDA_VISIBLE_DEVICES={given} leaves {left or 'none: tasks here run on the CPU'}"
    return words


def local_workers(workers_per_gpu):
    """Settings of HighThroughputExecutor for this machine alone, and the worker_init that goes with them."""
    cores = os.cpu_count() or 1
    visible = visible_gpus()
    workers = len(visible) * workers_per_gpu or min(4, cores)
    pinning = {"max_workers_per_node": workers, "cores_per_worker": cores / workers}
    if visible:
        # Parsl's worker pool divides an index by the workers for each device that nvidia-smi lists.
        share = max(1, workers // len(gpus()))
        named = [str(int(name) * share) if name.isdigit() else name for name in visible]
        pinning["available_accelerators"] = [name for name in named for _ in range(workers_per_gpu)]
    on_cpu = "; export CUDA_VISIBLE_DEVICES=" if gpus() and not visible else ""
    return pinning, f"{_this_environment()}; {threads(max(1, cores // workers))}{on_cpu}"


def local_node(run_dir):
    """The worker_init that makes a worker pool for MPI tasks take this machine for the node of a job."""
    nodes = shlex.quote(f"{run_dir}/localhost")
    return f"{_this_environment()}; hostname >{nodes}; export PBS_NODEFILE={nodes}"


def _this_environment():
    """Shell text: the Python that runs this has what the tasks need, activate.sh sourced or not."""
    folder = shlex.quote(str(Path(sys.executable).parent))
    project = shlex.quote(str(Path(__file__).resolve().parent.parent))
    return f"export PATH={folder}:$PATH PYTHONPATH={project}:$PYTHONPATH"


def problem_of_environment(mode, project):
    """Why no worker would start in this environment, in words; None where it does. Tries Parsl's program.

    As a block does it: by its name, after activate.sh; in mode local beside the Python that runs this.
    """
    load = _this_environment() if mode == "local" else f"source {shlex.quote(f'{project}/activate.sh')}"
    wrong = complaint(["bash", "-c", f"{load} || exit 1; exec process_worker_pool.py --help"], 120)
    return wrong and f"workers cannot be started: {wrong}"


def foreign_mpiexec():
    """The mpiexec of a package of this environment, which knows no nodes, nor PALS's options; or None."""
    found = shutil.which("mpiexec", path=_path_of_tasks())
    places = [place for place in (sys.prefix, os.environ.get("CONDA_PREFIX")) if place]
    return found if found and any(Path(found).is_relative_to(place) for place in places) else None


def has_mpiexec():
    """Whether there is one that could start ranks on this machine."""
    return shutil.which("mpiexec", path=_path_of_tasks()) is not None


def _path_of_tasks():
    return os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])


def lacks_worker_pool(ours):
    """Where Parsl's program for workers should lie and does not; None where it does.

    ours: whether this Python is of the project's environment: then that program must be, too.
    """
    folder = Path(sys.executable).parent
    places = str(folder) if ours else _path_of_tasks()
    return None if shutil.which("process_worker_pool.py", path=places) else folder


def threads(number):
    """Shell text that lets a task's libraries start that many threads."""
    return "export " + " ".join(f"{name}={number}" for name in facts.THREAD_VARIABLES)


def interchange_command():
    """What starts Parsl's interchange, with this Python's environment."""
    return [sys.executable, str(Path(__file__).resolve().with_name("interchange.py"))]


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
