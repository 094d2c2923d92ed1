"""The stand-in's server, scheduler and execution host in one process."""

import contextlib
import json
import os
import signal
import subprocess
import time

from pbs_state import (
    BIN,
    NODE_CPUS,
    NODE_GPUS,
    QUEUES,
    SITE,
    leave,
    locked,
    processes,
    resolve,
    send,
    slay,
    write,
)

PERIOD = 0.05
# What PBS Pro sets TMPDIR to on Polaris; too long for a socket's path (ALCF user guide, known issues).
TMPDIR = "/var/tmp/pbs.{}.polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov"


def main(folder):
    server = Server(folder)
    signal.signal(signal.SIGTERM, server.stop)
    parent = os.getppid()
    try:
        # A test run that was killed must not leave a server behind.
        while not server.stopping and os.getppid() == parent:
            with locked(folder) as state:
                server.tick(state, time.time())
            time.sleep(PERIOD)
    finally:
        slay(folder)
    for shell in server.shells.values():
        shell.wait()
    return 0


class Server:
    def __init__(self, folder):
        self.folder = folder
        self.shells = {}
        self.stopping = False

    def stop(self, *_):
        self.stopping = True

    def tick(self, state, now):
        for request in state["requests"]:
            getattr(self, request["kind"])(state, request, now)
        state["requests"] = []
        for job in list(state["jobs"].values()):
            if job["attrs"]["job_state"] == "R":
                self.watch(state, job, now)
        for job in state["jobs"].values():
            if job["attrs"]["Hold_Types"] == "s":
                resolve(state, job, now)
        self.schedule(state, now)

    # ------------------------------------------------------------ running jobs

    def watch(self, state, job, now):
        status = self.shells[job["id"]].poll()
        killing = job["killing"]
        scale = state["options"]["walltime_scale"]
        if killing is None and status is None and now - job["attrs"]["stime"] > job["walltime"] * scale:
            used = max(int((now - job["attrs"]["stime"]) / scale), job["walltime"] + 1)
            job["killing"] = {
                "until": now + state["options"]["kill_delay"],
                "status": -29,
                "line": f"=>> PBS: job killed: walltime {used} exceeded limit {job['walltime']}",
            }
            send(processes(self.folder, job), signal.SIGTERM)
            return
        if killing and now >= killing["until"]:
            slay(self.folder, job)
            status = self.shells[job["id"]].wait()
        if status is None or (killing and now < killing["until"] and processes(self.folder, job)):
            return
        slay(self.folder, job)
        self.finish(state, job, now)

    def finish(self, state, job, now, status=None, substate=None, ending=None):
        shell = self.shells.pop(job["id"]).wait()
        killing = job["killing"] or {}
        if status is None:
            status = killing.get("status", shell if shell >= 0 else 256 - shell)
        if substate is None:
            substate = killing.get("substate", 92 if status == 0 else 93)
        # Endings as OpenPBS adds them to the comment; "failed" is not in the transcripts.
        ending = ending or killing.get("ending") or ("and finished" if substate == 92 else "and failed")
        if "line" in killing:
            with contextlib.suppress(OSError), open(job["stderr_path"], "a") as out:
                out.write(killing["line"] + "\n")
        leave(job, now, substate, status, ending)
        self.free(state, job, now)

    def free(self, state, job, now):
        job["killing"] = None
        for name in job["nodes"]:
            state["nodes"][name]["used"] = now

    def requeue(self, state, job, now, delay=0.0):
        self.shells.pop(job["id"]).wait()
        self.free(state, job, now)
        attrs = job["attrs"]
        for name in ("exec_host", "exec_vnode", "stime", "session_id", "resources_used", "jobdir", "comment"):
            attrs.pop(name, None)
        attrs.update(job_state="Q", substate=10, mtime=now)
        job.update(nodes=[], session=None, ready=now + delay)

    # ------------------------------------------------------------ requests

    def qdel(self, state, request, now):
        job = state["jobs"][request["id"]]
        if job["attrs"]["job_state"] != "R":
            return
        if request["force"]:
            slay(self.folder, job)
            self.finish(state, job, now, substate=91, ending=request["ending"])
        elif job["killing"] is None:
            job["killing"] = {
                "until": now + state["options"]["kill_delay"],
                "substate": 91,
                "ending": request["ending"],
            }
            send(processes(self.folder, job), signal.SIGTERM)

    def preempt(self, state, request, now):
        job = state["jobs"][request["id"]]
        if job["attrs"]["job_state"] == "R":
            slay(self.folder, job)
            self.lose(state, job, now, 265, "and terminated", request["delay"])

    def lose(self, state, job, now, status, ending, delay=0.0):
        if job["attrs"]["Rerunable"] == "True":
            self.requeue(state, job, now, delay)
        else:
            self.finish(state, job, now, status, 91, ending)

    def kill_node(self, state, request, now):
        name = request["node"]
        state["nodes"][name].update(state="down", changed=now)
        # mpiexec tells a lost node from a crashed rank by the state on disk, so that must change first.
        write(self.folder, json.dumps(state))
        for job in state["jobs"].values():
            if name not in job["nodes"] or job["attrs"]["job_state"] != "R":
                continue
            job["lost_nodes"].append(name)
            if name != job["nodes"][0]:
                slay(self.folder, job, name)
                continue
            # Without its first node a job is requeued or deleted; -20 is JOB_EXEC_RERUN_MS_FAIL (PBS
            # reference guide, job exit codes). A real server first waits node_fail_requeue (310 s).
            slay(self.folder, job)
            self.lose(state, job, now, -20, "and terminated")

    def revive_node(self, state, request, now):
        state["nodes"][request["node"]].update(state="free", changed=now)

    # ------------------------------------------------------------ starting jobs

    def schedule(self, state, now):
        running = [job for job in state["jobs"].values() if job["attrs"]["job_state"] == "R"]
        taken = {name for job in running for name in job["nodes"]}
        free = [
            name for name, node in state["nodes"].items() if node["state"] != "down" and name not in taken
        ]
        for job in sorted(state["jobs"].values(), key=lambda job: int(job["id"].partition(".")[0])):
            attrs = job["attrs"]
            if attrs["job_state"] != "Q":
                continue
            limits = QUEUES[attrs["queue"]]
            there = [other for other in running if other["attrs"]["queue"] == attrs["queue"]]
            mine = sum(other["user"] == job["user"] for other in there)
            ours = sum(other["attrs"]["Account_Name"] == attrs["Account_Name"] for other in there)
            short = lacking(job, free)
            if mine >= limits.get("user_run", mine + 1):
                attrs["comment"] = f"Not Running: User has reached queue {attrs['queue']} running job limit."
            elif ours >= limits.get("project_run", ours + 1):
                # By analogy with the user's text, which is recorded.
                attrs["comment"] = (
                    f"Not Running: Project has reached queue {attrs['queue']} running job limit."
                )
            elif short:
                attrs["comment"] = f"Not Running: Insufficient amount of resource: {short} "
            elif state["hold_jobs"] or now < job["ready"]:
                attrs.setdefault("comment", "Not Running: Insufficient amount of resource: ncpus ")
            else:
                job["nodes"] = free[: len(job["chunks"])]
                del free[: len(job["chunks"])]
                self.start(state, job, now)
                running.append(job)

    def start(self, state, job, now):
        attrs, nodes, chunks = job["attrs"], job["nodes"], job["chunks"]
        cpus = [int(chunk.get("ncpus", 1)) for chunk in chunks]
        vnodes = []
        for name, chunk in zip(nodes, chunks, strict=True):
            parts = [f"{key}={chunk[key]}" for key in chunk if key in ("ncpus", "ngpus")]
            parts += [] if "ncpus" in chunk else ["ncpus=1"]
            vnodes.append(f"({name}:{':'.join(parts)})")
        attrs["exec_host"] = "+".join(
            f"{name}/0" + (f"*{n}" if n > 1 else "") for name, n in zip(nodes, cpus, strict=True)
        )
        attrs["exec_vnode"] = "+".join(vnodes)
        nodefile = os.path.join(self.folder, "nodefiles", job["id"])
        with open(nodefile, "w") as out:
            for name, chunk in zip(nodes, chunks, strict=True):
                out.write(f"{name}\n" * int(chunk.get("mpiprocs", 1)))
        shell = job["attrs"].get("Shell_Path_List", "/bin/bash").partition("@")[0]
        out, err = self.outputs(job)
        try:
            child = subprocess.Popen(
                [shell, job["spool"]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=job["home"],
                env=self.environment(state, job, nodefile, cpus[0]),
                start_new_session=True,
                umask=0o077,  # whatever the user's login has
            )
        except OSError as problem:
            os.write(err, f"{shell}: {problem.strerror}\n".encode())
            child = subprocess.Popen(["/bin/false"], start_new_session=True)
        finally:
            os.close(out)
            os.close(err)
        self.shells[job["id"]] = child
        job["session"] = child.pid
        attrs.update(
            job_state="R",
            substate=42,
            stime=now,
            mtime=now,
            session_id=child.pid,
            jobdir=job["home"],
            run_count=attrs.get("run_count", 0) + 1,
            comment=f"Job run at {time.strftime('%a %b %d at %H:%M')} on {attrs['exec_vnode']}",
            resources_used={
                "cpupercent": 0,
                "cput": "00:00:00",
                "mem": "0kb",
                "ncpus": sum(cpus),
                "vmem": "0kb",
                "walltime": "00:00:00",
            },
        )

    def outputs(self, job):
        """Both files where the user wants them (-k doe); a run after a requeue appends.

        When a file cannot be written the job runs all the same and its output is lost: PBS leaves it
        undelivered in the node's spool."""
        files = []
        for key in ("stdout_path", "stderr_path"):
            path = job[key]
            try:
                files.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
            except OSError:
                path = os.path.join(
                    self.folder, "spool", f"{job['id']}.{'OU' if key == 'stdout_path' else 'ER'}"
                )
                files.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
        return files

    def environment(self, state, job, nodefile, cpus):
        """Nothing of the submitter's environment but -v and -V (names: walltime-and-chains.txt)."""
        attrs, variables = job["attrs"], job["variables"]
        extra = state["options"]["path_extra"]
        origin = {name: value for name, value in attrs["Variable_List"].items() if name.startswith("PBS_O_")}
        env = {
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": ":".join([BIN, *extra, "/usr/local/bin", "/usr/bin", "/bin"]),
            **variables,
            "HOME": job["home"],
            "USER": job["user"],
            "LOGNAME": job["user"],
            "TMPDIR": TMPDIR.format(job["id"]),
            "NCPUS": str(cpus),
            "OMP_NUM_THREADS": str(cpus),
            **origin,
            "PBS_ACCOUNT": attrs["Account_Name"],
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBID": job["id"],
            "PBS_JOBNAME": attrs["Job_Name"],
            "PBS_JOBDIR": job["home"],
            "PBS_NODEFILE": nodefile,
            "PBS_QUEUE": attrs["queue"],
            "PBS_NODENUM": "0",
            "PBS_TASKNUM": "1",
            "STAND_IN_DIR": self.folder,
            "STAND_IN_HOST": job["nodes"][0],
        }
        if BIN not in env["PATH"].split(":"):
            env["PATH"] = f"{BIN}:{env['PATH']}"
        env["PYTHONPATH"] = ":".join(
            [SITE] + [p for p in variables.get("PYTHONPATH", "").split(":") if p and p != SITE]
        )
        return env


def lacking(job, free):
    """The resource that keeps a job from starting now, if any: one chunk a node, nodes exclusive to a job."""
    for chunk in job["chunks"]:
        if int(chunk.get("ncpus", 1)) > NODE_CPUS:
            return "ncpus"
        if int(chunk.get("ngpus", 0)) > NODE_GPUS:
            return "ngpus"
        if chunk.get("system", "polaris") != "polaris":
            return "system"
    return "ncpus" if len(job["chunks"]) > len(free) else None
