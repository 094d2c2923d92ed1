"""What the stand-in's commands and its server share: state on disk, queues, processes, formats."""

import contextlib
import fcntl
import json
import os
import pwd
import re
import signal
import sys
import time

SERVER = "polaris-login-01"
VERSION = "23.06.06"
HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.join(HERE, "bin")
SITE = os.path.join(HERE, "site")
NODE_CPUS = 64
NODE_GPUS = 4

HOUR = 3600
# ALCF user guide, polaris/running-jobs/index.md; the numbers of jobs as recorded on the machine in September and
# October 2026, where they differ. A copy of the stand-in's own: the tests are worth something
# only while this table does not come from the project that they test.
QUEUES = {
    "debug": {"nodes": (1, 2), "walltime": (300, HOUR), "user_run": 1, "user_queued": 1},
    "debug-scaling": {"nodes": (1, 10), "walltime": (300, HOUR), "user_run": 1, "user_queued": 1},
    "prod": {"route": ("small", "medium", "large"), "project_queued": 100},
    "small": {"nodes": (10, 24), "walltime": (300, 3 * HOUR), "project_run": 10, "from_route": True},
    "medium": {"nodes": (25, 99), "walltime": (300, 6 * HOUR), "project_run": 10, "from_route": True},
    "large": {"nodes": (100, 496), "walltime": (300, 24 * HOUR), "project_run": 10, "from_route": True},
    "preemptable": {
        "nodes": (1, 10),
        "walltime": (300, 72 * HOUR),
        "project_run": 10,
        "user_queued": 20,
        "project_queued": 20,
    },
    "demand": {"nodes": (1, 56), "walltime": (300, HOUR), "project_queued": 100},
    "capacity": {"nodes": (1, 4), "walltime": (300, 168 * HOUR), "project_run": 1, "project_queued": 2},
    # A reservation's queue, which only the live server knows.
    "R1819640": {},
}

# Order in which qstat -f prints a job (openpbs-23.06.txt; depend and Mail_Users in their alphabetical place).
# fmt: off
ORDER = [
    "Job_Name", "Job_Owner", "resources_used", "job_state", "queue", "server", "Account_Name", "Checkpoint",
    "ctime", "depend", "Error_Path", "exec_host", "exec_vnode", "Hold_Types", "Join_Path", "Keep_Files",
    "Mail_Points", "Mail_Users", "mtime", "Output_Path", "Priority", "qtime", "Rerunable", "Resource_List",
    "stime", "obittime", "session_id", "Shell_Path_List", "jobdir", "substate", "Variable_List", "comment",
    "etime", "run_count", "Stageout_status", "Exit_status", "Submit_arguments", "history_timestamp",
    "project", "Submit_Host",
]
# fmt: on
TIMES = {"ctime", "mtime", "qtime", "stime", "obittime", "etime"}


def log_call(folder, command, argv):
    append_line(os.path.join(folder, "calls.jsonl"), {"command": command, "argv": argv, "time": time.time()})


def append_line(path, record):
    with open(path, "a") as out:
        out.write(json.dumps(record) + "\n")


def read_lines(path):
    try:
        with open(path) as text:
            return [json.loads(line) for line in text if line.endswith("\n")]
    except FileNotFoundError:
        return []


def load(folder):
    with open(os.path.join(folder, "state.json")) as text:
        return json.load(text)


@contextlib.contextmanager
def locked(folder):
    """The state under the lock; what the caller changed in it is written back."""
    with open(os.path.join(folder, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(os.path.join(folder, "state.json")) as text:
            before = text.read()
        state = json.loads(before)
        try:
            yield state
        finally:
            after = json.dumps(state)
            if after != before:
                write(folder, after)


def write(folder, text):
    fresh = os.path.join(folder, "state.json.new")
    with open(fresh, "w") as out:
        out.write(text)
    os.replace(fresh, os.path.join(folder, "state.json"))


def ask_server(folder, request, timeout=10.0):
    """Have the server do something to a running job or a node, and wait until it is done."""
    with locked(folder) as state:
        state["next_request"] += 1
        request["number"] = state["next_request"]
        state["requests"].append(request)
    end = time.time() + timeout
    while any(other["number"] == request["number"] for other in load(folder)["requests"]):
        if time.time() > end:
            raise TimeoutError(f"the stand-in's server did not answer {request}")
        time.sleep(0.02)


def user_name(state):
    try:
        return state["options"]["user"] or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def full_id(text):
    """'11' or '11.polaris-login-01' as a full job id; None when it is not a job id at all."""
    number, _, server = text.partition(".")
    if not number.isdigit():
        return None
    return f"{number}.{server or SERVER}"


def seconds(text):
    """Seconds of a PBS duration ([[H:]M:]S[.ms]), or None."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        return None
    total = 0
    for part in text.split(".")[0].split(":"):
        total = total * 60 + int(part)
    return total


def duration(total):
    total = int(total)
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def processes(folder, job=None, host=None):
    """Live processes of a job (all jobs without one), on one host if named.

    Found by the session of the job's shell, and by the environment, which ranks on other nodes have too."""
    mine = b"STAND_IN_DIR=" + os.fsencode(folder)
    wanted = b"PBS_JOBID=" + (job["id"].encode() if job else b"")
    where = b"STAND_IN_HOST=" + host.encode() if host else None
    session = str(job["session"]) if job and job.get("session") and not host else None
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as text:
                fields = text.read().rpartition(b")")[2].split()
            with open(f"/proc/{name}/environ", "rb") as text:
                environ = text.read().split(b"\0")
        except OSError:
            continue
        if fields[0] in (b"Z", b"X"):
            continue
        named = mine in environ and (wanted in environ if job else any(v.startswith(wanted) for v in environ))
        if (named and (where is None or where in environ)) or fields[3].decode() == session:
            found.append(int(name))
    return found


def send(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def slay(folder, job=None, host=None, timeout=5.0):
    """SIGKILL until nothing is left, seen twice: a process in the middle of exec shows no environment."""
    end = time.time() + timeout
    quiet = 0
    while quiet < 2 and time.time() < end:
        pids = processes(folder, job, host)
        send(pids, signal.SIGKILL)
        quiet = 0 if pids else quiet + 1
        time.sleep(0.01)
    if quiet < 2:
        sys.stderr.write(f"still alive after SIGKILL: {pids}\n")


def leave(job, now, substate, status=None, ending=""):
    """The job becomes history."""
    attrs = job["attrs"]
    attrs.update(job_state="F", substate=substate, mtime=now, history_timestamp=int(now))
    attrs["Hold_Types"] = "n"
    if "stime" in attrs:
        attrs["obittime"] = now
        attrs["Stageout_status"] = 1
        attrs["resources_used"]["walltime"] = duration(now - attrs["stime"])
    if status is not None:
        attrs["Exit_status"] = status
    if ending:
        attrs["comment"] = (attrs.get("comment", "Job") + " " + ending).strip()


def resolve(state, job, now):
    """Release or drop a job that waits for others (outcomes: walltime-and-chains.txt)."""
    never = pending = False
    for kind, parents in job["depend"]:
        for parent in parents:
            other = state["jobs"].get(parent)
            if other and other["attrs"]["job_state"] != "F":
                pending = True
                continue
            status = other["attrs"].get("Exit_status") if other else None
            # A parent that itself never ran satisfies only afterany: not recorded, but a chain of afternotok
            # would otherwise run every second link of a campaign that is done.
            good = {"afterok": status == 0, "afternotok": status not in (0, None), "afterany": True}[kind]
            never = never or not good
    if never:
        leave(job, now, 92)
    elif not pending:
        job["depend"] = []
        attrs = job["attrs"]
        if attrs["Hold_Types"] == "s":
            attrs.update(job_state="Q", substate=10, Hold_Types="n", mtime=now)
            attrs["etime"] = now


def node_jobs(state, node):
    return [
        job for job in state["jobs"].values() if node in job["nodes"] and job["attrs"]["job_state"] == "R"
    ]
