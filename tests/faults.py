"""Projects whose executions are counted, and the table of shapes and faults that `make faults` ends with."""

import csv
import json
import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

from conftest import BEGUN, HEADER, ROOT, edit, user, user_env

SHAPES = ("sweep", "inference", "program", "mpi", "stages", "steering", "script")
FAULTS = (
    "the walltime, in a job",
    "the walltime, in blocks",
    "SIGTERM",
    "Ctrl-C",
    "kill -9",
    "a lost node",
    "a lost block",
    "a refused qsub",
    "a full disk",
    "a second run at once",
)
CELLS = {}  # (shape, fault) -> Counter of calls, killed, lost, repeated
CACHE = ROOT / ".cache"
SWEEPS, MPI = "faults.txt", "faults-mpi.txt"
OF = {SWEEPS: "", MPI: "of MPI tasks: "}
SUMS = {kind: Counter() for kind in OF}  # of the faults that this process injected

# An app that keeps a ledger of its executions; the column sweeps is how long it takes, in ms; seed what it does.
APPS = """
from parsl import python_app


@python_app
def ising(temperature, size, sweeps, seed):
    import os, signal, time
    ledger = os.open({ledger!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(ledger, f"start {{temperature}}\\n".encode())
    time.sleep(sweeps / 1000)
    if seed == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 8:
        raise ValueError("bad luck")
    if seed == 7:
        len(seed)
    os.write(ledger, f"end {{temperature}}\\n".encode())
    os.close(ledger)
    return {{"value": 2 * temperature}}
"""


# --- what is counted -----------------------------------------------------------------------------
def count(shape, fault, calls, killed, lost, repeated):
    """Of one injected fault: how many calls there were, and what became of them.

    killed: executions that the fault itself took; repeated: beyond those.
    """
    assert shape in SHAPES and fault in FAULTS
    counted = {"calls": calls, "killed": killed, "lost": lost, "repeated": repeated}
    CELLS.setdefault((shape, fault), Counter()).update(counted)


def write_down():
    """Keep what this process counted: pytest -n has several, and any of them may have any test."""
    if not CELLS and not any(SUMS.values()):
        return
    (CACHE / "counted").mkdir(parents=True, exist_ok=True)
    cells = [[*cell, dict(counted)] for cell, counted in CELLS.items()]
    new = CACHE / "counted" / f"{os.getpid()}.new"  # whole at once
    new.write_text(json.dumps({"cells": cells, "sums": SUMS}))
    new.rename(new.with_suffix(".json"))


def sum_up():
    """Write the table and the lines of all that was counted since pytest began; returns what was lost or repeated."""
    cells, sums = {}, {kind: Counter() for kind in SUMS}
    for path in (CACHE / "counted").glob("*.json"):
        if path.stat().st_mtime >= BEGUN:
            counted = json.loads(path.read_text())
            for shape, fault, numbers in counted["cells"]:
                cells.setdefault((shape, fault), Counter()).update(numbers)
            for kind, numbers in counted["sums"].items():
                sums[kind].update(numbers)
    if cells:
        (CACHE / "faults-by-shape.txt").write_text(table(cells))
    for kind, numbers in sums.items():
        if numbers:
            (CACHE / kind).write_text(f"{OF[kind]}{sums_in_words(numbers)}\n")
    return sum(numbers["lost"] + numbers["repeated"] for numbers in [*cells.values(), *sums.values()])


def sums_in_words(sums):
    return (
        f"faults injected: {sums['faults']}; rows: {sums['rows']}, lost: {sums['lost']}; executions killed by the faults: "
        f"{sums['killed']}; rows repeated beyond those: {sums['repeated']}"
    )


def table(found):
    """Markdown: a line for each fault, a column for each shape."""
    lines = [
        "Calls lost, calls run again beyond those that the fault killed, and in brackets how many these were,",
        "of how many calls:",
        "",
        "| | " + " | ".join(f"`{shape}`" if shape != "script" else "a script" for shape in SHAPES) + " |",
        "|---|" + "---|" * len(SHAPES),
    ]
    for fault in FAULTS:
        cells = [in_words(found.get((shape, fault))) for shape in SHAPES]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def in_words(counted):
    if counted is None:
        return "-"
    return f"{counted['lost']}, {counted['repeated']} ({counted['killed']}) of {counted['calls']}"


# --- projects ------------------------------------------------------------------------------------
class Project:
    """A project, and what a user does in it."""

    def __init__(self, project, pbs=None):
        self.project, self.pbs = project, pbs
        # Heartbeats and PBS polls in seconds rather than minutes.
        edit(project, "config.py", "heartbeat_period=15", "heartbeat_period=2")
        edit(project, "config.py", "heartbeat_threshold=120", "heartbeat_threshold=10")
        with open(project / "polaris" / "parsl_parts.py", "a") as file:
            file.write("\n\nPolarisProvider.status_polling_interval = 3\n")

    def stops_after(self, seconds):
        """Have the margin before the end of a 5 minute walltime begin so early."""
        edit(self.project, "polaris/facts.py", "SHORTEST_MARGIN = 120", f"SHORTEST_MARGIN = {300 - seconds}")

    def user(self, script, **options):
        return user(self.project, script, self.pbs, **options)

    def start(self, script="python run.py --mode local"):
        """The same in the background; returns the process, its output in a file."""
        env = self.pbs.env() if self.pbs else user_env(self.project.parent)
        self.log = self.project.parent / "run.log"
        with open(self.log, "w") as log:
            return subprocess.Popen(
                ["bash", "-c", f"source activate.sh && exec {script}"], cwd=self.project, env=env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def qsub(self, *options):
        done = self.user(f"qsub {' '.join(options)} driver.pbs")
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def until(self, condition, timeout=60):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self):
        logs = [*self.project.glob("*.o*"), *[p for p in [getattr(self, "log", None)] if p]]
        return "\n".join(f"== {p.name}\n{p.read_text()}" for p in logs)

    def nothing_left(self):
        """No process of the project, and no job in PBS."""
        deadline = time.monotonic() + 25
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        while self.pbs and {job["job_state"] for job in self.pbs.jobs().values()} - {"F"}:
            assert time.monotonic() < deadline, self.pbs.jobs()
            time.sleep(0.2)

    def processes(self):
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                where = os.readlink(folder / "cwd")
            except OSError:
                continue
            ours = str(self.project) in words or where.startswith(str(self.project))
            if ours:
                found[folder.name] = words
        return found


class Case(Project):
    """A sweep whose executions are counted."""

    def __init__(self, project, pbs=None):
        super().__init__(project, pbs)
        (project / "apps.py").write_text(APPS.format(ledger=str(project / "ledger")))
        text = (project / "run.py").read_text()
        text, cut = re.subn(r"    averages = .*\n    return .*\n", "", text)
        assert cut == 1
        (project / "run.py").write_text(text)

    def rows(self, count, milliseconds=300, special=()):
        """Write the input; special: {index: seed}."""
        special = dict(special)
        lines = [f"{i + 1}.0,4,{milliseconds},{special.get(i, 1)}\n" for i in range(count)]
        (self.project / "inputs" / "sweep.csv").write_text(HEADER + "".join(lines))
        return self

    def ledger(self, what="start"):
        path = self.project / "ledger"
        return (
            [line for line in path.read_text().splitlines() if line.startswith(what)] if path.exists() else []
        )

    def recorded(self):
        """The temperatures in results.csv and failures.csv; a last line without its end does not count."""
        found = []
        for name in ("results.csv", "failures.csv"):
            path = self.project / "results" / name
            if path.exists():
                whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
                found += [row["temperature"] for row in csv.DictReader(whole)]
        return found

    def killed(self):
        """Executions that were started so far and whose outcome is in no file: what the fault took."""
        return len(self.ledger()) - len(self.recorded())

    def settled(self, killed, faults=1, retries=0, fault=None):
        """The invariants, once the run is complete.

        killed: executions that the faults took; retries: of failing rows; fault: whose line of the table it is.
        """
        with open(self.project / "inputs" / "sweep.csv") as file:
            wanted = Counter(row["temperature"] for row in csv.DictReader(file))
        got = Counter(self.recorded())
        lost, repeated = sum((wanted - got).values()), len(self.ledger()) - len(wanted) - killed - retries
        SUMS[SWEEPS].update(
            faults=faults, rows=len(wanted), killed=killed, lost=lost, repeated=max(0, repeated)
        )
        if fault:
            count("sweep", fault, len(wanted), killed, lost, max(0, repeated))
        assert got == wanted, self.said()
        assert repeated == 0, (
            f"{len(self.ledger())} executions of {len(wanted)} rows, {killed} killed\n{self.said()}"
        )
        assert not (self.project / "results" / "running.json").exists()
        self.nothing_left()
