"""PALS mpiexec of the stand-in: ranks are child processes, each told which node it is on."""

import contextlib
import os
import signal
import sys
import time

from pbs_pmi import PMI
from pbs_state import NODE_CPUS, SITE, append_line, load

VALUED = {
    "-n": "n",
    "--np": "n",
    "--ppn": "ppn",
    "-d": "depth",
    "--depth": "depth",
    "--cpu-bind": "bind",
    "--env": "env",
    "--hostfile": "hostfile",
    "--hosts": "hosts",
}
KILL_AFTER = 5.0


class Fatal(Exception):
    def __init__(self, text, code=1):
        super().__init__(text)
        self.code = code


def main(folder, argv):
    try:
        options, command = parse(argv)
        ranks = plan(folder, options, command)
    except Fatal as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.code
    return Run(folder, ranks).wait()


def parse(argv):
    options, words = {"env": []}, list(argv)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            name, equals, value = word, "", ""
        if name not in VALUED:
            # getopt's wording; what the real one prints was not recorded.
            raise Fatal(f"mpiexec: unrecognized option '{word}'", 2)
        if not equals:
            if not words:
                raise Fatal(f"mpiexec: option '{name}' requires an argument", 2)
            value = words.pop(0)
        key = VALUED[name]
        if key in options and key != "env":
            # What the real one makes of an option that is given twice was not recorded.
            raise Fatal(f"mpiexec: option '{name}' is given twice", 2)
        if key in ("n", "ppn", "depth"):
            if not value.isdigit() or int(value) < 1:
                raise Fatal(f"mpiexec: invalid value '{value}' for option '{name}'", 2)
            options[key] = int(value)
        elif key == "env":
            if not value.partition("=")[1]:
                raise Fatal(f"mpiexec: invalid value '{value}' for option '{name}'", 2)
            options["env"].append(value.split("=", 1))
        else:
            options[key] = value
    if not words:
        raise Fatal("mpiexec: no command given", 2)
    return options, words


def plan(folder, options, command):
    """The ranks to start: (number, local number, host, node number, cpus, environment, command)."""
    job_id, nodefile = os.environ.get("PBS_JOBID"), os.environ.get("PBS_NODEFILE")
    state = load(folder)
    job = state["jobs"].get(job_id or "")
    if not job or not nodefile or job["attrs"]["job_state"] != "R":
        raise Fatal("mpiexec: not inside a PBS job")
    # ALCF user guide, known issues: single-node mpiexec jobs need `export TMPDIR=/tmp`.
    if len(job["nodes"]) == 1 and not 0 < len(os.environ.get("TMPDIR", "")) <= 60:
        raise Fatal("OSError: AF_UNIX path too long")
    hosts = read_hosts(options, nodefile)
    for host in hosts:
        if host not in job["nodes"]:
            raise Fatal(f"mpiexec: host {host} is not in the allocation of job {job_id}")
        if state["nodes"][host]["state"] == "down" or host in job["lost_nodes"]:
            raise Fatal(f"mpiexec: host {host} is down")
    count = options.get("n", len(hosts) * options.get("ppn", 1))
    ppn = options.get("ppn", -(-count // len(hosts)))
    if count > len(hosts) * ppn:
        raise Fatal(f"mpiexec: {count} ranks do not fit on {len(hosts)} hosts with {ppn} a host")
    ranks = []
    for number in range(count):
        node, local = divmod(number, ppn)
        env = dict(os.environ)
        env.update(options["env"])
        env.update(
            PMI_RANK=str(number),
            PMI_SIZE=str(count),
            PMI_LOCAL_RANK=str(local),
            PMI_LOCAL_SIZE=str(min(ppn, count - node * ppn)),
            PALS_RANKID=str(number),
            PALS_NODEID=str(node),
            PALS_LOCAL_RANKID=str(local),
            STAND_IN_HOST=hosts[node],
        )
        cpus = binding(options, local)
        env.pop("STAND_IN_CPUS", None)
        if cpus is not None:
            env["STAND_IN_CPUS"] = cpus
        paths = [path for path in env.get("PYTHONPATH", "").split(":") if path and path != SITE]
        env["PYTHONPATH"] = ":".join([SITE, *paths])
        rank = {"rank": number, "local": local, "host": hosts[node], "cpus": cpus, "env": env}
        ranks.append({**rank, "per_node": ppn, "argv": command})
    return ranks


def read_hosts(options, nodefile):
    if "hosts" in options:
        names = options["hosts"].split(",")
    else:
        path = options.get("hostfile", nodefile)
        try:
            with open(path) as text:
                names = [line.partition("#")[0].strip() for line in text]
        except OSError as problem:
            raise Fatal(f"mpiexec: cannot read host file {path}: {problem.strerror}") from None
    hosts = list(dict.fromkeys(name for name in names if name))
    if not hosts:
        raise Fatal("mpiexec: no hosts")
    return hosts


def binding(options, local):
    """The hardware threads of a rank as a list in Linux's form, None for all.

    Without --cpu-bind it is one core a rank: PALS does bind by default, but how was not recorded."""
    how, depth = options.get("bind", "core"), options.get("depth", 1)
    cores = NODE_CPUS // 2
    if how == "none":
        return None
    if how.startswith("list:"):
        entries = how.split(":")[1:]
        for entry in entries:
            check_cpus(entry)
        if local >= len(entries):
            raise Fatal(f"mpiexec: --cpu-bind {how} has no entry for local rank {local}")
        return entries[local]
    if how == "numa":
        first = local % 4 * 8
        return f"{first}-{first + 7},{first + cores}-{first + cores + 7}"
    if how not in ("core", "depth"):
        raise Fatal(f"mpiexec: invalid value '{how}' for option '--cpu-bind'", 2)
    first, last = local * depth, local * depth + depth - 1
    if last >= (cores if how == "core" else NODE_CPUS):
        raise Fatal(f"mpiexec: not enough cpus to bind local rank {local} with depth {depth}")
    spans = [(first, last)] + ([(first + cores, last + cores)] if how == "core" else [])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def check_cpus(entry):
    for span in entry.split(","):
        low, _, high = span.partition("-")
        if not low.isdigit() or (high and not high.isdigit()) or not int(low) <= int(high or low) < NODE_CPUS:
            raise Fatal(f"mpiexec: bad cpu list '{entry}'", 2)


class Run:
    def __init__(self, folder, ranks):
        self.folder = folder
        self.children = []  # kept: a forgotten Popen would be reaped behind our back
        self.hosts = {}
        self.code = 0
        self.got = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self.end(number))
        signal.signal(signal.SIGALRM, lambda *_: self.end(signal.SIGKILL))
        self.pmi = PMI(len(ranks), ranks[0]["per_node"], self.aborted)
        for rank in ranks:
            self.start(rank)
            if self.got:
                # The signal came while ranks were still being started.
                self.end(self.got)
                break

    def start(self, rank):
        import subprocess

        theirs, more = self.pmi.rank()
        try:
            with theirs:
                child = subprocess.Popen(
                    rank["argv"], env={**rank["env"], **more}, pass_fds=[theirs.fileno()]
                )
        except OSError as problem:
            sys.stderr.write(f"mpiexec: {rank['argv'][0]}: {problem.strerror}\n")
            self.code = 127
            self.end(signal.SIGKILL)
            return
        self.children.append(child)
        self.hosts[child.pid] = rank["host"]
        record = {key: rank[key] for key in ("rank", "local", "host", "cpus", "argv")}
        record.update(job=rank["env"]["PBS_JOBID"], pid=child.pid, time=time.time())
        append_line(os.path.join(self.folder, "ranks.jsonl"), record)

    def aborted(self, code):
        """MPI_Abort of a rank ends all."""
        self.code = self.code or code
        self.end(signal.SIGTERM)

    def end(self, number):
        self.got = number
        for pid in list(self.hosts):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self):
        while self.hosts:
            pid, status = os.wait()
            host = self.hosts.pop(pid, None)
            code = os.waitstatus_to_exitcode(status)
            if code == 0 or host is None:
                continue
            state = load(self.folder)
            # What PALS does when a node dies is an option: by default the other ranks go on and mpiexec ends
            # non-zero with the last of them.
            lost = state["nodes"][host]["state"] == "down"
            self.code = self.code or (code if code > 0 else 128 - code)
            if not lost or state["options"]["abort_on_node_loss"]:
                self.end(signal.SIGTERM)
                signal.setitimer(signal.ITIMER_REAL, KILL_AFTER)
        return self.code
