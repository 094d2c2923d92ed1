"""PBS: a strict stand-in for PBS Pro, PALS mpiexec and nvidia-smi on Polaris, for tests.

with PBS(tmp_path) as pbs:
    subprocess.run(["qsub", ...], env=pbs.env())
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pbs_state

NODES = ("x3001c0s1b0n0", "x3001c0s7b0n0", "x3001c0s13b0n0", "x3001c0s19b0n0")


def node_names(count):
    """The four names of the transcripts' cluster, then further ones of the same form."""
    names = list(NODES)
    cabinet = 3001
    while len(names) < count:
        cabinet += 1
        names += [f"x{cabinet}c0s{slot}b0n{node}" for slot in range(1, 38, 6) for node in (0, 1)]
    return names[:count]


def flag(name):
    """A switch kept in the server's state."""

    def read(self):
        return self.state()[name]

    def write(self, value):
        with pbs_state.locked(self.folder) as state:
            state[name] = bool(value)

    return property(read, write)


class PBS:
    """Options: nodes (a number or names), kill_delay, start_delay, walltime_scale (shortens only the kill),
    abort_on_node_loss, path_extra (more PATH entries inside jobs), user, home."""

    vanish = flag("vanish")
    hold_jobs = flag("hold_jobs")

    def __init__(
        self,
        folder,
        *,
        nodes=4,
        kill_delay=10.0,
        start_delay=0.0,
        walltime_scale=1.0,
        abort_on_node_loss=False,
        path_extra=(),
        user=None,
        home=None,
    ):
        self.folder = os.path.join(os.path.abspath(folder), "pbs-state")
        self.home = home
        self.daemon = None
        names = node_names(nodes) if isinstance(nodes, int) else list(nodes)
        now = time.time()
        for name in ("spool", "nodefiles"):
            os.makedirs(os.path.join(self.folder, name))
        os.symlink(os.path.realpath(sys.executable), os.path.join(self.folder, "python"))
        state = {
            "options": {
                "kill_delay": kill_delay,
                "start_delay": start_delay,
                "walltime_scale": walltime_scale,
                "abort_on_node_loss": abort_on_node_loss,
                "path_extra": [str(path) for path in path_extra],
                "user": user,
            },
            "nodes": {name: {"state": "free", "changed": now, "used": None} for name in names},
            "jobs": {},
            "next_id": 0,
            "requests": [],
            "next_request": 0,
            "refuse": [],
            "vanish": False,
            "vanish_next": 0,
            "notice": "",
            "hold_jobs": False,
            "submissions": [],
            "refusals": [],
        }
        Path(self.folder, "state.json").write_text(json.dumps(state))

    def __enter__(self):
        log = open(os.path.join(self.folder, "server.log"), "w")
        env = {"PATH": "/usr/bin:/bin"}
        command = [
            os.path.join(self.folder, "python"),
            "-SE",
            os.path.join(pbs_state.HERE, "stand_in.py"),
            "server",
        ]
        self.daemon = subprocess.Popen(
            [*command, self.folder],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        return self

    def __exit__(self, problem=None, *_):
        self.daemon.terminate()
        try:
            self.daemon.wait(10)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        pbs_state.slay(self.folder)
        errors = Path(self.folder, "server.log").read_text()
        assert problem or not errors, f"the stand-in's server failed:\n{errors}"

    def env(self, **more):
        """The environment of a login node: the caller's, less what a job would have set."""
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PBS_", "PMI_", "STAND_IN_"))
        }
        env["STAND_IN_DIR"] = self.folder
        env["PATH"] = f"{pbs_state.BIN}:{env.get('PATH', '/usr/bin:/bin')}"
        if self.home:
            env["HOME"] = str(self.home)
        return {**env, **more}

    def run(self, *argv, **options):
        """A command on the login node, e.g. pbs.run("qsub", "-q", "debug", "job.pbs", cwd=folder)."""
        options.setdefault("env", self.env())
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False, **options)

    def state(self):
        return pbs_state.load(self.folder)

    def jobs(self):
        """Every job, finished ones too: qstat's attributes, id, nodes, stdout_path, stderr_path..."""
        keys = ("id", "nodes", "lost_nodes", "session", "stdout_path", "stderr_path")
        jobs = self.state()["jobs"].values()
        return {job["id"]: {**job["attrs"], **{key: job[key] for key in keys}} for job in jobs}

    def job(self, job_id):
        return self.jobs()[pbs_state.full_id(str(job_id))]

    def wait(self, job_id, timeout=30.0, state="F"):
        """Wait until the job is in the given state; None when the server does not know it."""
        job_id = pbs_state.full_id(str(job_id))
        end = time.time() + timeout
        while True:
            job = self.jobs().get(job_id)
            if job is None or job["job_state"] == state:
                return job
            if time.time() > end:
                raise TimeoutError(
                    f"{job_id} is in state {job['job_state']} after {timeout} s: {job.get('comment')}"
                )
            time.sleep(0.05)

    @property
    def submissions(self):
        """Accepted qsub calls: argv, cwd, time, id, queue, script_path, script, vanished."""
        return self.state()["submissions"]

    @property
    def refusals(self):
        """Refused qsub calls: argv, cwd, time, script_path, text, code."""
        return self.state()["refusals"]

    def calls(self):
        """(command, argv, time) of every stand-in command run."""
        records = pbs_state.read_lines(os.path.join(self.folder, "calls.jsonl"))
        return [(record["command"], record["argv"], record["time"]) for record in records]

    def ranks(self):
        """Placement of every mpiexec rank: job, rank, host, cpus, argv, pid, time."""
        return pbs_state.read_lines(os.path.join(self.folder, "ranks.jsonl"))

    def refuse(self, text, code, times=1):
        """Answer the next otherwise good qsub calls with this text and exit code."""
        with pbs_state.locked(self.folder) as state:
            state["refuse"].append({"text": text, "code": code, "times": times})

    def notice(self, text):
        """Have qsub print a line before the job's id, as sites do."""
        with pbs_state.locked(self.folder) as state:
            state["notice"] = text

    def hold(self, job_id):
        """`qhold` of a job that waits (PBS user's guide: state H, a user hold)."""
        with pbs_state.locked(self.folder) as state:
            attrs = state["jobs"][pbs_state.full_id(str(job_id))]["attrs"]
            assert attrs["job_state"] == "Q", attrs
            attrs.update(job_state="H", Hold_Types="u", substate=20)

    def release(self, job_id):
        """`qrls` of a job that is held so."""
        with pbs_state.locked(self.folder) as state:
            attrs = state["jobs"][pbs_state.full_id(str(job_id))]["attrs"]
            attrs.update(job_state="Q", Hold_Types="n", substate=10)

    def vanish_next(self, times=1):
        """The next accepted job gets an id and is then unknown (silent rejection)."""
        with pbs_state.locked(self.folder) as state:
            state["vanish_next"] += times

    def kill_node(self, name):
        """The node dies: what ran on it is SIGKILLed at once, and it stays down."""
        assert name in self.state()["nodes"], f"no node {name}"
        pbs_state.ask_server(self.folder, {"kind": "kill_node", "node": name})

    def revive_node(self, name):
        assert name in self.state()["nodes"], f"no node {name}"
        pbs_state.ask_server(self.folder, {"kind": "revive_node", "node": name})

    def preempt(self, job_id, delay=0.0):
        """SIGKILL without warning; requeued (not before delay seconds) when rerunable, else deleted."""
        job_id = pbs_state.full_id(str(job_id))
        assert job_id in self.jobs(), f"no job {job_id}"
        pbs_state.ask_server(self.folder, {"kind": "preempt", "id": job_id, "delay": delay})

    def leftovers(self):
        """Processes still alive that belong to a job of this stand-in."""
        return pbs_state.processes(self.folder)
