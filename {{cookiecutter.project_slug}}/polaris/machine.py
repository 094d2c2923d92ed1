"""The machine at hand: laptop, login node or nodes of a job; what PBS says of it; its GPUs."""

from __future__ import annotations

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
import time
from pathlib import Path
from typing import NamedTuple

from . import facts

PROJECT = Path(__file__).resolve().parent.parent  # the folder of the user's files
MODES = ("local", "job", "blocks")
PATIENCE = 30  # seconds that a command may take


class WrongMode(ValueError):
    """A mode that cannot work here."""


def shown(path: os.PathLike | str) -> str:
    """A path as it is shown: relative to the project where it lies in it."""
    near = os.path.relpath(path, PROJECT)
    if near.startswith(".."):
        return os.path.abspath(path)
    return near


# --- where this runs ------------------------------------------------------------------------------
def choose_mode(mode: str = "auto") -> str:
    """Resolve "auto": "job" inside a PBS job, "blocks" where there is a qsub, else "local"."""
    if mode == "auto":
        return _usual_mode()
    if mode not in MODES:
        raise WrongMode(f"mode {mode!r} is none of auto, {', '.join(MODES)}")
    return mode


def _usual_mode():
    if "PBS_NODEFILE" in os.environ:
        return "job"
    return "blocks" if shutil.which("qsub") else "local"


def nodes_of_job() -> list[str]:
    """Host names of the PBS job's nodes, in PBS's order, each once; WrongMode outside of one."""
    nodefile = os.environ.get("PBS_NODEFILE")
    if nodefile is None:
        wrong = "mode 'job' works inside a PBS job alone: there is no $PBS_NODEFILE here"
        raise WrongMode(wrong)
    text = Path(nodefile).read_text(encoding="utf-8")
    names = dict.fromkeys(text.split())
    return list(names)


def where() -> dict[str, str]:
    """Where this runs: host, GPU and hardware threads ("" and all, where it is not bound)."""
    if hasattr(os, "sched_getaffinity"):
        threads = os.sched_getaffinity(0)
    else:
        threads = range(os.cpu_count() or 1)
    return {
        "host": socket.gethostname(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "cores": facts.ranges(sorted(threads)),
    }


# --- commands -------------------------------------------------------------------------------------
def output(*command: str, whole: bool = True) -> str | None:
    """What a command prints; None where it is missing, hangs or, unless `whole` is False, fails."""
    try:
        done = _done(command, PATIENCE, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if whole and done.returncode != 0:
        return None
    return done.stdout


def both(*command: str) -> tuple[str, str]:
    """What a command prints, and what it complains of; as complaint what keeps it from ending."""
    try:
        done = _done(command, PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, done.stderr


def complaint(command: list[str], timeout: float) -> str | None:
    """The last line of what a command complains of; None where it succeeds. timeout: seconds."""
    try:
        done = _done(command, timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.strip()
    if not said:
        return f"status {done.returncode}"
    return said.splitlines()[-1].strip()


def _done(command, timeout, **options):
    """A command that has ended, with its words."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        **options,
    )


# --- what PBS says of jobs ------------------------------------------------------------------------
def pbs_time(text: str) -> float:
    """ "Tue Nov 24 00:49:36 2026" -> seconds since the epoch."""
    moment = time.strptime(text, "%a %b %d %H:%M:%S %Y")
    return time.mktime(moment)


def number_of(job: str) -> str:
    """ "7.polaris-pbs-01" -> "7"."""
    number, _, _ = job.partition(".")
    return number


def jobs_in(text: str) -> dict[str, dict] | None:
    """{number: {attribute: value}} of the jobs that `qstat -f` prints, as JSON or not.

    None: it says nothing. The JSON of a real server may be none: it writes a value such as 005 as
    a number.
    """
    try:
        jobs = json.loads(text).get("Jobs", {})
    except ValueError:
        return _jobs_in_lines(text) or None
    return {number_of(job): about for job, about in jobs.items()}


def _jobs_in_lines(text):
    """As `jobs_in`, of what is printed for people; long lines go on behind a tab."""
    jobs = {}
    _, *parts = re.split(r"^Job Id: ", text, flags=re.MULTILINE)
    for part in parts:
        job, _, lines = part.partition("\n")
        whole_lines = lines.replace("\n\t", "")
        pairs = re.findall(r"^ {4}(\S+) = (.*)$", whole_lines, re.MULTILINE)
        about = {}
        for name, value in pairs:
            group, _, inner = name.partition(".")
            if inner:
                about.setdefault(group, {})[inner] = value
            else:
                about[name] = value
        jobs[number_of(job)] = about
    return jobs


def this_job() -> dict:
    """What PBS says of the job that runs this, {attribute: value}; {} outside or unanswered."""
    job = os.environ.get("PBS_JOBID")
    if not job:
        return {}
    with contextlib.suppress(LookupError):
        return _asked(job)
    return {}


@functools.lru_cache
def _asked(job):
    """As `this_job`, PBS being asked until it has answered once; LookupError where it does not."""
    for form in (["-F", "json"], []):
        said = output("qstat", "-f", *form, job)
        found = jobs_in(said or "")
        if found:
            return next(iter(found.values()))
    raise LookupError(job)


def job_is_over(job: str) -> bool:
    """Whether PBS says that a job has ended; False too where it says nothing."""
    said = output("qstat", "-x", "-f", job)
    found = jobs_in(said or "") or {}
    about = found.get(number_of(job), {})
    return about.get("job_state") == "F"


def ends_of_jobs(jobs: list[str]) -> dict[str, float]:
    """{job: when it ended, seconds since the epoch} of those of which PBS says so."""
    said = output("qstat", "-x", "-f", *jobs, whole=False)  # it may know some no more
    found = jobs_in(said or "") or {}
    ends = {}
    for job in jobs:
        about = found.get(number_of(job), {})
        if "obittime" in about:
            ends[job] = pbs_time(about["obittime"])
    return ends


# --- the job that runs this -----------------------------------------------------------------------
def again() -> str:
    """The command that goes on with what this run leaves: in a job that which submitted it."""
    by_hand = os.environ.get("PBS_ENVIRONMENT") == "PBS_INTERACTIVE"
    if by_hand or "PBS_JOBID" not in os.environ:
        return shlex.join(["python", *_without_again(sys.argv)])
    given = this_job().get("Submit_arguments")
    given = str(given or "")
    if given and "depend=" not in given:  # which a link of a chain has
        return f"qsub {given}"
    if os.environ.get("MODE") == "blocks":
        return "qsub -v MODE=blocks driver.pbs"
    return "qsub driver.pbs"


def _without_again(words):
    """A command without what it was asked to compute anew: that is on its way."""
    left = []
    skipped = False
    for word in words:
        if skipped or word.startswith("--again="):
            skipped = False
        elif word == "--again":
            skipped = True
        else:
            left.append(word)
    return left


def starts_again(ends: float | None) -> bool:
    """Whether PBS itself starts this job again, if it ends it now: after preemption, or qrerun.

    ends: when its walltime ends, seconds since the epoch, or None; at that time it does not.
    """
    if ends is not None and time.time() >= ends - facts.MINUTE:
        return False
    return this_job().get("Rerunable") == "True"


def settings_of_job() -> dict[str, str | int]:
    """{option: value} of the job that runs this, where PBS says it.

    qsub may have been told otherwise than driver.pbs says.
    """
    about = this_job()
    resources = about.get("Resource_List", {})
    walltime = facts.seconds(resources.get("walltime", ""))
    account = os.environ.get("PBS_ACCOUNT") or about.get("Account_Name")
    queue = os.environ.get("PBS_O_QUEUE")  # prod routes into others
    found = {
        "account": account,
        "queue": queue or about.get("queue"),
        "walltime": facts.hms(walltime) if walltime else None,
        "filesystems": resources.get("filesystems"),
    }
    known = {}
    for name, value in found.items():
        if value:
            known[name] = str(value)  # the JSON of PBS has an account that is a number as one
    nodes = len(nodes_of_job())
    if nodes:
        known["nodes_per_block"] = nodes
    return known


def times_of_job() -> tuple[float, float] | tuple[None, None]:
    """When the PBS job that runs this started and will end, seconds since the epoch.

    From PBS, else from the walltime in driver.pbs and the age of the node file: no variable holds
    it. None outside a job, or where neither says it.
    """
    if "PBS_JOBID" not in os.environ:
        return None, None
    return _times_by_pbs() or _times_by_files() or (None, None)


def _times_by_pbs():
    about = this_job()
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        start = pbs_time(about["stime"])
        walltime = about["Resource_List"]["walltime"]
        return start, start + facts.seconds(walltime)
    return None


def _times_by_files():
    nodefile = os.environ.get("PBS_NODEFILE")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        text = (PROJECT / "driver.pbs").read_text(encoding="utf-8")
        found = re.search(r"^#PBS .*walltime=([0-9:]+)", text, re.MULTILINE)
        start = os.stat(nodefile).st_mtime
        return start, start + facts.seconds(found[1])
    return None


# --- GPUs -----------------------------------------------------------------------------------------
class Gpu(NamedTuple):
    """A device of CUDA's, by nvidia-smi. index: of the GPU, "" for a part of one (MIG)."""

    index: str
    uuid: str
    name: str

    @property
    def is_part(self) -> bool:
        return self.index == ""

    def is_named(self, word: str) -> bool:
        """Whether a word of CUDA_VISIBLE_DEVICES is its index, or the first letters of its UUID."""
        if word == self.index and not self.is_part:
            return True
        start = word
        if word.startswith("MIG-GPU-"):  # an older name: MIG-GPU-<UUID>/<instance>/<instance>
            start, _, _ = word.removeprefix("MIG-").partition("/")
        by_uuid = start.startswith(("GPU-", "MIG-"))
        return by_uuid and self.uuid.startswith(start)


@functools.lru_cache
def gpus() -> list[Gpu]:
    """Those of this machine, by `nvidia-smi -L`; behind a divided one (MIG) come its parts."""
    said = output("nvidia-smi", "-L") or ""
    line = r"^(?:GPU (\d+)|  MIG (\S+) +Device +\d+):(.*?) *\(UUID: (\S+)\)"
    found = []
    for index, part, name, uuid in re.findall(line, said, re.MULTILINE):
        gpu = Gpu(index, uuid, name.strip() or f"MIG {part}")
        found.append(gpu)
    return found


def visible_gpus() -> list[str]:
    """How CUDA_VISIBLE_DEVICES names the devices that tasks on this machine may use.

    Where that variable is set, those that it leaves, read as CUDA does: by index, by the first
    letters of a UUID, and none from the first on that does not exist (CUDA programming guide,
    environment variables).
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return _all_gpus()
    visible = []
    for part in given.split(","):
        word = part.strip()
        named = [gpu for gpu in gpus() if gpu.is_named(word)]
        if len(named) != 1 or word in visible:
            break
        visible.append(word)
    return visible


def _all_gpus():
    """Names of all of them; a GPU that is followed by its parts is used by these alone."""
    found = gpus()
    divided = any(gpu.is_part for gpu in found)
    names = []
    for i, gpu in enumerate(found):
        following = found[i + 1 : i + 2]
        has_parts = any(other.is_part for other in following)
        if has_parts and not gpu.is_part:
            continue
        names.append(gpu.uuid if divided else gpu.index)
    return names


def gpus_in_words() -> str:
    """The GPUs of this machine, and how many of them CUDA_VISIBLE_DEVICES leaves to mode local."""
    found = gpus()
    if not found:
        return "none on this machine"
    parts = sum(gpu.is_part for gpu in found)
    words = f"{len(found) - parts} x {found[0].name}"
    if parts == 1:
        words += " with 1 part (MIG)"
    elif parts:
        words += f" with {parts} parts (MIG)"
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        left = len(visible_gpus()) or "none: tasks here run on the CPU"
        words += f"; CUDA_VISIBLE_DEVICES={given} leaves {left}"
    return words
