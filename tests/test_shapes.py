"""Each shape of program against each fault: a short program is stopped by it, then goes on to its end.

Every app keeps a ledger of its executions, in a file of its own name. Of every call: that it is made, and that the
program comes to the right answer. Of the executions: that there are as many as calls, plus those that the fault
itself killed. `make faults` prints the table; the line of `sweep` is tests/test_faults.py's, a lost node of `mpi`
tests/test_mpi.py's, with ranks that are real MPI programs.
"""

import contextlib
import csv
import os
import pickle
import re
import shutil
import signal
import time

import pytest
from conftest import HEADER, Terminal, edit, run
from faults import FAULTS, Project, count
from pbs.server import PBS

pytestmark = [pytest.mark.slow, pytest.mark.fault]

# --- the programs --------------------------------------------------------------------------------
APPS = """
import os
import time

from parsl import python_app

LEDGER = {ledger!r}
SIZE = 40_000


def noted(app, *keys):
    from polaris import machine

    host = machine.where()["host"]
    with open(f"{{LEDGER}}/seconds") as file:
        seconds = float(file.read())
    ledger = os.open(f"{{LEDGER}}/{{app}}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for what in ("start", "end"):
        lines = [f"{{what}} {{key}} {{host}}\\n" for key in keys]
        os.write(ledger, "".join(lines).encode())
        time.sleep(seconds if what == "start" else 0)
    os.close(ledger)


@python_app
def embed(rows):
    noted("embed", *[row["x"] for row in rows])
    return [{{"y": 3 * row["x"], "pad": "-" * 4000}} for row in rows]


@python_app
def ising(temperature, size, sweeps, seed, parsl_resource_specification=None):
    from polaris import mpi

    mpi.run(["bash", f"{{LEDGER}}/../rank.sh", LEDGER, temperature], 60)
    return {{"value": 2 * temperature, "pad": "-" * 8000}}


@python_app
def external(temperature, size, sweeps, seed):
    from polaris import machine
    from polaris.programs import run_in_folder

    host = machine.where()["host"]
    command = ["bash", "@project@/rank.sh", LEDGER, "@temperature@", "external"]
    run_in_folder({{"temperature": temperature}}, command)
    with open(f"{{LEDGER}}/external", "a") as ledger:  # by now its folder is marked finished
        ledger.write(f"end {{temperature}} {{host}}\\n")
    return {{"value": 2 * temperature, "pad": "-" * 8000}}


@python_app(cache=True)
def simulate(i):
    noted("simulate", i)
    return bytes([i]) * SIZE


@python_app(cache=True)
def analyse(series, i):
    noted("analyse", i)
    return 10 * sum(series) // len(series)


@python_app(cache=True)
def train(inputs=()):
    noted("train", 0)
    return sum(inputs)


@python_app
def evaluate(x):
    noted("evaluate", x)
    return {{"y": (7 * x + 3) % 1009, "pad": "-" * 4000}}


@python_app(cache=True)
def total(inputs=()):
    noted("total", 0)
    return sum(square for _, square in inputs)
"""
RANK = """
[ "${PMI_RANK:-0}" = 0 ] || exit 0
echo "start $2 $(hostname)" >> "$1/${3:-ising}"
sleep "$(cat "$1/seconds")"
[ "${3:-}" = external ] || echo "end $2 $(hostname)" >> "$1/ising"
"""
RUN = """
import sys

from polaris import cli
from polaris.sources import table
import apps

inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)


def main(run):
{main}
    print("answer", answer, flush=True)


if __name__ == "__main__":
    sys.exit(cli.main(main, *{inputs}))
"""
MPI = """
    answer = sum(row["value"] for row in run.map(apps.ising, inputs))
"""
PROGRAM = MPI.replace("apps.ising", "apps.external")
INFERENCE = """
    answer = sum(row["y"] for row in run.map(apps.embed, [{"x": x} for x in range(48)], batch=2))
"""
STAGES = """
    analysed = [apps.analyse(apps.simulate(i), i) for i in range(12)]
    answer = apps.train(inputs=analysed).result()
"""
STEERING = """
    answer = 1
    for _ in range(8):
        tried = [run.submit(apps.evaluate, x=answer + i) for i in range(3)]
        answer += 3 + sum(future.result()["y"] for future in tried) % 5
"""
SCRIPT = """
import sys

from parsl import python_app

import apps
from polaris.session import session


@python_app(cache=True)
def square(i):
    apps.noted("square", i)
    return bytes([i]) * apps.SIZE, i * i


with session(mode=sys.argv[1]) as run:
    squares = [square(i) for i in range(24)]
    print("answer", apps.total(inputs=squares).result(), flush=True)
"""
MAINS = {
    "inference": (INFERENCE, "[]"),
    "program": (PROGRAM, "[inputs]"),
    "mpi": (MPI, "[inputs]"),
    "stages": (STAGES, "[]"),
    "steering": (STEERING, "[]"),
}


def steered():
    """What STEERING asks for, and its answer."""
    answer, asked = 1, []
    for _ in range(8):
        tried = [answer + i for i in range(3)]
        asked += tried
        answer += 3 + sum((7 * x + 3) % 1009 for x in tried) % 5
    return asked, answer


def calls_of(shape):
    """{(app, key)} of all that a program calls, as its ledgers have them; and its answer."""
    if shape in ("program", "mpi"):
        app = "external" if shape == "program" else "ising"
        return {(app, f"{i + 1}.0") for i in range(20)}, 420.0
    if shape == "inference":
        return {("embed", f"{x}") for x in range(48)}, 3 * sum(range(48))
    if shape == "stages":
        calls = {(app, f"{i}") for app in ("simulate", "analyse") for i in range(12)} | {("train", "0")}
        return calls, 660
    if shape == "steering":
        asked, answer = steered()
        return {("evaluate", f"{x}") for x in asked}, answer
    return {("square", f"{i}") for i in range(24)} | {("total", "0")}, sum(i * i for i in range(24))


class Case(Project):
    """A program of a shape whose executions are counted."""

    def __init__(self, project, pbs, shape):
        super().__init__(project, pbs)
        self.shape = shape
        self.rows = 2 if shape == "inference" else 1  # of a call
        self.wanted, self.answer = calls_of(shape)
        self.ledgers = project / "ledger"
        self.ledgers.mkdir()
        (project / "apps.py").write_text(APPS.format(ledger=str(self.ledgers)))
        (project / "rank.sh").write_text(RANK)
        rows = [f"{i + 1}.0,4,20,1\n" for i in range(20)]
        (project / "inputs" / "sweep.csv").write_text(HEADER + "".join(rows))
        if shape == "script":
            (project / "own.py").write_text(SCRIPT)
            edit(project, "driver.pbs", 'exec python run.py --mode "${MODE:-job}"', "exec python own.py job")
        else:
            main, inputs = MAINS[shape]
            (project / "run.py").write_text(RUN.format(main=main.strip("\n"), inputs=inputs))
        self.seconds(0)

    def seconds(self, seconds):
        """How long each call takes from now on."""
        (self.ledgers / "seconds").write_text(f"{seconds}\n")

    def command(self, mode=None):
        """mode: None is the quickest that the shape runs in; MPI programs need the stand-in's mpiexec."""
        mode = mode or ("blocks" if self.shape == "mpi" else "local")
        return f"python own.py {mode}" if self.shape == "script" else f"python run.py --mode {mode}"

    @property
    def results(self):
        return self.project / "results" / ("own" if self.shape == "script" else "")

    def ledger(self, what="start", host=None):
        """(app, key) of every line that begins so."""
        found = []
        for path in self.ledgers.iterdir():
            lines = path.read_text().splitlines() if path.name != "seconds" else []
            for line in lines:
                word, key, where = line.split()
                if word == what and host in (None, where):
                    found.append((path.name, key))
        return found

    def kept(self):
        """How many results there are that a later run reads again."""
        if self.shape == "program":  # a folder that is finished is used, whether its row is written or not
            return len(list(self.project.glob("results/runs/*/finished.json")))
        if self.shape in ("inference", "mpi", "steering"):
            path = self.results / ("evaluate.csv" if self.shape == "steering" else "results.csv")
            text = path.read_text() if path.exists() else ""
            return len(list(csv.DictReader(text.splitlines(keepends=True)[: text.count("\n")])))
        found = set()
        for path in self.project.glob("runinfo/**/checkpoint/tasks.pkl"):
            with open(path, "rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
                while True:
                    found.add(pickle.load(file)["hash"])
        return len(found)

    def killed(self):
        """Executions that were started so far and whose result is not kept: what the fault took."""
        return len(self.ledger()) - self.kept()

    def unended(self):
        """Executions that did not come to their end."""
        ends = self.ledger("end")
        # A finished folder's task may be run again, without its program.
        return len(self.ledger()) - len(set(ends) if self.shape == "program" else ends)

    def right(self, said):
        """The program came to its answer."""
        assert f"answer {self.answer}\n" in said.replace("\r", ""), said
        assert "Traceback" not in said, said

    def goes_on(self):
        """Run again, to the end."""
        self.seconds(0)
        done = self.user(self.command())
        assert done.returncode == 0, done.stdout
        self.right(done.stdout)

    def settled(self, fault, killed):
        """The invariants, once the program has come to its end."""
        begun, ended = self.ledger(), set(self.ledger("end"))
        lost, repeated = len(self.wanted - ended), len(begun) - len(self.wanted) - killed
        count(self.shape, fault, len(self.wanted), killed, lost, max(0, repeated))
        assert set(begun) == self.wanted and lost == 0, self.said()
        assert repeated == 0, f"{len(begun)} of {len(self.wanted)}, {killed} killed\n{self.said()}"
        assert not (self.results / "running.json").exists()
        self.nothing_left()


@pytest.fixture
def case_of(polaris, tmp_path):
    """A project of a shape on a login node: a node for its jobs, of the workload mpi two."""
    with contextlib.ExitStack() as open_until_then:

        def make(shape, **answers):
            mpi = shape == "mpi"
            server = PBS(tmp_path, home=tmp_path, kill_delay=8, abort_on_node_loss=mpi)
            answers = {"nodes": "2" if mpi else "1", "queue": "preemptable", "walltime": "0:05:00", **answers}
            project = polaris(workload="mpi" if mpi else "sweep", **answers)
            return Case(project, open_until_then.enter_context(server), shape)

        yield make


# --- the faults: each returns how many executions it killed --------------------------------------
def the_walltime_in_a_job(case):
    case.seconds(2.6 if case.shape == "program" else 2)  # so that four workers do not come to the end
    case.stops_after(9)
    assert case.pbs.wait(case.qsub(), 60)["Exit_status"] == 75, case.said()
    assert "stopped by the end of the walltime" in case.said()
    assert "qsub driver.pbs goes on from here" in case.said() and "Traceback" not in case.said()
    assert 0 < case.kept() < len(case.wanted) and case.killed() == 0, case.said()
    edit(case.project, "polaris/facts.py", "SHORTEST_MARGIN = 291", "SHORTEST_MARGIN = 120")
    case.goes_on()
    return 0


def the_walltime_in_blocks(case):
    case.seconds(2.6 if case.shape == "program" else 2)
    case.stops_after(8)
    edit(case.project, "polaris/parsl_parts.py", "max(30, ", "max(8, ")
    done = case.user(case.command("blocks"), timeout=200)
    assert done.returncode == 0, done.stdout
    case.right(done.stdout)
    assert len(case.pbs.submissions) >= 2
    return 0


def sigterm(case):
    case.seconds(0.7)
    job = case.qsub()
    case.until(lambda: case.kept() >= 3)
    assert case.pbs.run("qdel", job).returncode == 0
    assert case.pbs.wait(job, 30)["Exit_status"] == 75, case.said()
    assert "stopped by SIGTERM" in case.said() and "Traceback" not in case.said()
    killed = case.killed()
    assert killed <= 4 * case.rows, "more than ran"
    case.goes_on()
    return killed


def ctrl_c(case):
    case.seconds(0.6)
    command = ["bash", "-c", f"source activate.sh && exec {case.command()}"]
    terminal = Terminal(command, case.project, case.pbs.env())
    case.until(lambda: len(case.ledger()) >= 4)
    terminal.type("\x03")
    assert terminal.wait(40) == 130, terminal.seen
    assert "stopped by Ctrl-C" in terminal.seen and "Traceback" not in terminal.seen, terminal.seen
    assert f"{case.command()} goes on from here" in terminal.seen, terminal.seen
    assert 0 < case.kept() < len(case.wanted) and case.killed() == 0, terminal.seen
    case.goes_on()
    return 0


def kill_9(case):
    case.seconds(0.5)
    running = case.start(case.command())
    case.until(lambda: case.kept() >= 4)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    time.sleep(1.5)  # what the workers still had in hand ends, and nobody hears of it
    killed = case.killed()
    assert killed <= 4 * case.rows, "more than ran on two workers, and what had just ended there"
    case.goes_on()
    return killed


def a_lost_node(case):
    case.seconds(1)
    job = case.qsub()
    case.pbs.wait(job, state="R")
    node = case.pbs.job(job)["nodes"][1]
    looks = [0]

    def works():
        """Something has just begun there, so that it does not end before the node does."""
        looks.append(len(case.ledger(host=node)))
        begun = looks[-1] > max(looks[-2], len(case.ledger("end", host=node)))
        return begun and case.kept()

    case.until(works)
    case.pbs.kill_node(node)
    assert case.pbs.wait(job, 90)["Exit_status"] == 0, case.said()
    case.right(case.said())
    killed = case.unended()
    (*_, lost) = re.findall(r"(\d+) tries lost with a worker, node or block", case.said())
    # One may be lost before it has said that it began.
    assert 1 <= killed <= case.rows * int(lost) <= case.rows * 4, case.said()
    return killed


def a_lost_block(case):
    case.seconds(0.7)
    running = case.start(case.command("blocks"))
    case.until(lambda: case.kept() >= 3)
    case.until(lambda: case.unended() >= 1)
    case.pbs.preempt(next(iter(case.pbs.jobs())))
    assert running.wait(90) == 0, case.said()
    case.right(case.said())
    assert len(case.pbs.submissions) == 2
    return case.unended()


def a_refused_qsub(case):
    case.pbs.refuse("qsub: would exceed queue generic's per-user limit", 38)
    done = case.user(case.command("blocks"))
    assert done.returncode == 2 and "Traceback" not in done.stdout, done.stdout
    nodes = 2 if case.shape == "mpi" else 1
    said = f"qsub: would exceed queue generic's per-user limit: {nodes} node(s) for 0:05:00 in queue preemptable; mend"
    assert len(re.findall(f"^{re.escape(said)}", done.stdout, re.M)) == 1, done.stdout
    assert len(case.pbs.refusals) == 1 and case.ledger() == []
    case.goes_on()
    return 0


def a_full_disk(case):
    """Results and Parsl's files on one small file system, which then becomes a large one."""
    disk = case.project.parent / "disk"
    disk.mkdir()
    size = "500k" if case.shape in ("stages", "script") else "200k"
    if run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], case.project).returncode:
        pytest.skip("only root can mount a small file system")
    places = [case.project / name for name in ("results", "runinfo")]
    try:
        for place in places:
            place.mkdir()
            (disk / place.name).mkdir()
            assert run(["mount", "--bind", disk / place.name, place], case.project).returncode == 0
        with open(disk / "other", "wb") as file:
            file.write(bytes(60_000))
        done = case.user(case.command())
        assert done.returncode == 2 and "Traceback" not in done.stdout, done.stdout
        assert re.search(r"No space left on device: .* make room there, then run again", done.stdout), (
            done.stdout
        )
        case.nothing_left()
        kept = case.project.parent / "kept"
        for place in places:
            shutil.copytree(place, kept / place.name)
    finally:
        for place in (*places, disk):
            run(["umount", "-l", place], case.project)
    shutil.copytree(kept, case.project, dirs_exist_ok=True)  # the user makes room
    killed = case.killed()
    case.goes_on()
    return killed


def a_second_run_at_once(case):
    case.seconds(0.4)
    first = case.start(case.command())
    case.until(case.kept)
    second = case.user(case.command())
    held = (
        rf"another run holds results\S*: process {first.pid} on \S+, since [\d :-]+: wait for it, or end it\n"
    )
    assert second.returncode == 2 and re.fullmatch(held, second.stdout), second.stdout
    assert first.wait(60) == 0, case.said()
    case.right(case.said())
    return 0


INJECTED = {
    "the walltime, in a job": the_walltime_in_a_job,
    "the walltime, in blocks": the_walltime_in_blocks,
    "SIGTERM": sigterm,
    "Ctrl-C": ctrl_c,
    "kill -9": kill_9,
    "a lost node": a_lost_node,
    "a lost block": a_lost_block,
    "a refused qsub": a_refused_qsub,
    "a full disk": a_full_disk,
    "a second run at once": a_second_run_at_once,
}
CASES = [(shape, fault) for shape in (*MAINS, "script") for fault in INJECTED]
CASES.remove(("mpi", "a lost node"))


@pytest.mark.parametrize("shape, fault", CASES)
def test_what_a_fault_costs(case_of, shape, fault):
    case = case_of(shape, **({"nodes": "2"} if fault == "a lost node" else {}))
    killed = INJECTED[fault](case)
    case.settled(fault, killed)


def test_the_table_has_a_line_for_each_fault():
    assert tuple(INJECTED) == FAULTS
