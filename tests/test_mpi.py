"""The workload mpi: each task an MPI program on nodes of its own, with real MPI under the stand-in's mpiexec."""

import csv
import os
import re
import time
from collections import Counter

import pytest
from conftest import ROOT, edit, results, run, runs_an_executable, starts_locally, tool, user, user_env
from faults import MPI, SUMS, count
from pbs.server import PBS

pytestmark = pytest.mark.slow

HEADER = "temperature,size,sweeps,seed\n"
# GPU of each local rank and the hardware threads next to it: 3 - i, and the user guide's table.
RANKS = {0: ("3", "0-7,32-39"), 1: ("2", "8-15,40-47"), 2: ("1", "16-23,48-55"), 3: ("0", "24-31,56-63")}


@pytest.fixture(scope="module")
def ready_mpi(tmp_path_factory):
    """A project of the workload mpi with its environment, baked by the command line as a user does."""
    folder = tmp_path_factory.mktemp("mpi")
    command = [tool("cookiecutter"), str(ROOT), "--no-input", "workload=mpi", "create_venv=yes"]
    baked = run(command, folder, env=user_env(folder))
    assert (folder / "ising-sweep/.venv/plain/ready").exists(), baked.stdout
    return folder / "ising-sweep"


@pytest.fixture
def laptop(ready_mpi, bake):
    """A fresh project on a machine whose mpiexec is that of the MPICH wheel."""
    path = bake(workload="mpi").project_path
    (path / ".venv").symlink_to(ready_mpi / ".venv")
    return path


class Polaris:
    """A fresh project on a login node; PALS's mpiexec, the stand-in's, is the only one there."""

    def __init__(self, project, pbs, environment, nodes_per_task):
        self.project, self.pbs = project, pbs
        edit(project, "config.py", "nodes_per_task = 1", f"nodes_per_task = {nodes_per_task}")
        edit(project, "config.py", "heartbeat_period=15", "heartbeat_period=1")
        edit(project, "config.py", "heartbeat_threshold=120", "heartbeat_threshold=5")
        (project / ".venv").symlink_to(environment)

    def rows(self, count, size=16, sweeps=20):
        lines = [f"{1.5 + i / 20:.2f},{size},{sweeps},{i}\n" for i in range(count)]
        (self.project / "inputs" / "sweep.csv").write_text(HEADER + "".join(lines))
        return self

    def program(self, text):
        """Lines of the user's own at the start of what each rank does; `row` is the number of the task."""
        edit(self.project, "ising.py", "    up, down = ", f"    row = seed\n    {text}\n    up, down = ")
        return self

    def counted(self, text):
        """As `program`; and rank 0 of each task keeps a ledger of how often a row was started."""
        ledger = f"if comm.rank == 0: open({str(self.project / 'ledger')!r}, 'a').write(f'{{row}}\\n')"
        return self.program(f"{ledger}\n    comm.Barrier()\n    {text}")

    def begun(self):
        """How often a row was started, but for one that the fault may have taken before it could say so."""
        return len((self.project / "ledger").read_text().split())

    def settled(self, killed, retries=0, fault=None):
        """Every row ended exactly once, and none was run again but those that the fault took."""
        with open(self.project / "inputs" / "sweep.csv", newline="") as file:
            wanted = Counter(row["seed"] for row in csv.DictReader(file))
        got = Counter(row["seed"] for row in results(self.project) + results(self.project, "failures.csv"))
        repeated = self.begun() - len(wanted) - killed - retries
        lost = sum((wanted - got).values())
        SUMS[MPI].update(faults=1, rows=len(wanted), killed=killed, lost=lost, repeated=max(0, repeated))
        if fault:
            count("mpi", fault, len(wanted), killed, lost, max(0, repeated))
        assert got == wanted and repeated == 0 and killed <= 1, (got, killed, repeated)

    def qsub(self, timeout=120):
        job = user(self.project, "qsub driver.pbs", self.pbs).stdout.strip()
        ended = self.pbs.wait(job, timeout=timeout)
        return ended, (self.project / f"ising-sweep.o{job.split('.')[0]}").read_text()

    def until(self, true, timeout=60):
        """Wait until something is true of the ranks that mpiexec has started."""
        deadline = time.monotonic() + timeout
        while not true(self.pbs.ranks()):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def ranks(self):
        """{task's temperature: [(rank, host, GPU and threads that it saw)]} by what the ranks themselves said."""
        said = {}
        for row in results(self.project):
            places = [
                re.fullmatch(r"(\S+) gpu (\S*) cores (\S+)", p).groups() for p in row["placement"].split("; ")
            ]
            said[row["temperature"]] = [(i, *place) for i, place in enumerate(places)]
        return said


@pytest.fixture
def polaris_mpi(ready_mpi, bake, tmp_path):
    bin_ = ready_mpi / ".venv/plain/bin"
    hydra = {bin_ / name: bin_ / f"{name}.of-the-wheel" for name in ("mpiexec", "mpirun")}
    for name, aside in hydra.items():
        os.rename(name, aside)
    servers = []

    def make(nodes=4, nodes_per_task=1, **options):
        pbs = PBS(tmp_path, home=tmp_path, nodes=nodes, kill_delay=2, **options)
        servers.append(pbs.__enter__())
        baked = bake(workload="mpi", account="MyProj", queue="preemptable", nodes=str(nodes))
        return Polaris(baked.project_path, pbs, ready_mpi / ".venv", nodes_per_task)

    yield make
    for pbs in servers:
        pbs.__exit__()
    for name, aside in hydra.items():
        os.rename(aside, name)


# --- one after the other, what a user does -------------------------------------------------------
def test_on_a_laptop_the_sweep_agrees_with_the_exact_curve(laptop):
    lines = [f"{t},64,400,{seed}\n" for t in (1.8, 2.0, 3.5) for seed in (1, 2)]
    (laptop / "inputs" / "sweep.csv").write_text(HEADER + "".join(lines))
    done = user(laptop, "python run.py --mode local")
    assert done.returncode == 0 and "6 of 6 tasks done" in done.stdout, done.stdout
    for row in results(laptop, "magnetization.csv"):
        assert abs(float(row["magnetization"]) - float(row["exact"])) < (
            0.02 if float(row["exact"]) else 0.06
        )
    assert {row["ranks"] for row in results(laptop)} == {str(min(4, os.cpu_count()))}
    again = user(laptop, "python run.py --mode local")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert user(laptop, "python -m polaris.report").returncode == 0


def test_the_projects_own_tests_pass(laptop):
    done = user(laptop, "python -m pip install -q pytest 2>&1 && python -m pytest -q")
    assert re.search(r"\d+ passed", done.stdout) and done.returncode == 0, done.stdout


@pytest.mark.parametrize("nodes_per_task", [2, 1])
def test_qsub_splits_the_nodes_of_the_job_among_tasks(polaris_mpi, nodes_per_task):
    case = polaris_mpi(nodes_per_task=nodes_per_task).rows(8)
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0 and "8 of 8 tasks done" in log, log
    assert f"{4 // nodes_per_task} workers on 4 node(s)" in log
    used = {}
    for row in results(case.project):
        assert abs(float(row["magnetization"]) - 0.98) < 0.15
        used.setdefault(row["host"], 0)
        assert len(row["host"].split(";")) == nodes_per_task and row["ranks"] == str(4 * nodes_per_task)
    for ranks in case.ranks().values():
        assert [(gpu, cores) for _, _, gpu, cores in ranks] == [
            RANKS[i % 4] for i in range(4 * nodes_per_task)
        ]
        assert len({host for _, host, *_ in ranks}) == nodes_per_task
    assert {host for hosts in used for host in hosts.split(";")} == set(ended["nodes"]), "all nodes worked"
    # No node had two tasks at a time.
    spans = {}
    for row in results(case.project, "tasks.csv"):
        for host in row["host"].split(";"):
            spans.setdefault(host, []).append((float(row["started"]), float(row["ended"])))
    for each in spans.values():
        each.sort()
        assert all(b[0] >= a[1] - 0.05 for a, b in zip(each, each[1:], strict=False))
    # Again: nothing is left to do, and no rank is started.
    before = len(case.pbs.ranks())
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0 and "nothing to do" in log and len(case.pbs.ranks()) == before


def test_ranks_start_from_their_nodes_copy_of_the_environment(polaris_mpi, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    case = polaris_mpi(nodes=2, nodes_per_task=2).rows(2)
    starts_locally(case.project, scratch, "ising.py")
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0, log
    (copy,) = scratch.iterdir()
    assert {row["device"] for row in results(case.project)} == {str(copy)}


def test_blocks_split_theirs(polaris_mpi):
    case = polaris_mpi(nodes_per_task=2).rows(6)
    done = user(case.project, "python run.py --mode blocks", case.pbs)
    assert done.returncode == 0 and "6 of 6 tasks done" in done.stdout, done.stdout
    assert "2 workers a job" in done.stdout
    assert list(case.project.glob("runinfo/000/mpi/certificates/*")), "no other user can send tasks"
    (block,) = case.pbs.jobs().values()
    assert block["Resource_List"]["select"] == "4:ncpus=64:system=polaris:ngpus=4"
    assert all(len(ranks) == 8 for ranks in case.ranks().values())
    again = user(case.project, "python run.py --mode blocks", case.pbs)
    assert "nothing to do" in again.stdout and len(case.pbs.submissions) == 1
    report = user(case.project, "python -m polaris.report", case.pbs)
    assert report.returncode == 0, report.stdout
    assert "6 of 6 in all" in (case.project / "results" / "report.html").read_text()


def test_the_prefix_has_the_flags_of_pals_and_each_rank_its_threads(polaris_mpi):
    """By an executable of the user's, with four threads a rank and eight ranks a node."""
    case = polaris_mpi(nodes=2, nodes_per_task=2).rows(1)
    edit(case.project, "config.py", "ranks_per_node = facts.GPUS_PER_NODE", "ranks_per_node = 8")
    edit(case.project, "config.py", "= facts.threads_per_rank(ranks_per_node)", "= 6")
    runs_an_executable(case.project, "which_ranks")
    shown = "rank $PMI_RANK on $(hostname) GPU $CUDA_VISIBLE_DEVICES"
    edit(case.project, "apps.py", shown, f"{shown} $OMP_NUM_THREADS $MKL_NUM_THREADS")
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0, log
    (out,) = (case.project / "results" / "output").glob("*.out")
    lines = sorted(out.read_text().splitlines(), key=lambda line: int(line.split()[3]))
    assert len(lines) == 16
    for i, line in enumerate(lines):
        assert line == f"T 1.5: rank {i} on {ended['nodes'][i // 8]} GPU {3 - i % 4} 6 6"
    (call,) = [argv for name, argv, _ in case.pbs.calls() if name == "mpiexec"]
    assert call[:6] == ["-n", "16", "--ppn", "8", "--hosts", ",".join(ended["nodes"])]
    assert "--depth=6" in call and call[call.index("--cpu-bind") + 1].startswith("list:0-2,32-34:8-10,40-42:")
    bound = [rank["cpus"] for rank in case.pbs.ranks()]
    assert bound[0] == "0-2,32-34" and bound[4] == "4-6,36-38" and len(set(bound[:8])) == 8


def test_tasks_may_ask_for_other_nodes_but_not_for_more_than_there_are(polaris_mpi):
    case = polaris_mpi(nodes=2)
    inputs = "temperature,size,sweeps,seed,nodes\n1.5,16,20,1,1\n1.6,16,20,1,2\n1.7,16,20,1,5\n"
    (case.project / "inputs" / "sweep.csv").write_text(inputs)
    takes_nodes_of_a_column(case)
    ended, log = case.qsub()
    assert ended["Exit_status"] == 1, log
    assert {row["nodes"]: row["ranks"] for row in results(case.project)} == {"1": "4", "2": "8"}
    (failure,) = results(case.project, "failures.csv")
    assert failure["nodes"] == "5" and "the task asks for 5 nodes, there are 2 for it" in failure["reason"]
    assert "Traceback" not in log


def takes_nodes_of_a_column(case):
    """As the comments of run.py tell."""
    run = (case.project / "run.py").read_text()
    begin, end = run.index("# def task(row):"), run.index("# An executable for each row")
    lines = run[begin:end].splitlines(keepends=True)
    task = "".join(line.removeprefix("# ") for line in lines)
    run = f"{run[:begin]}\n\n{task}\n\n{run[end:]}"
    run = run.replace("seed=int)", "seed=int, nodes=int)").replace("run.map(apps.ising,", "run.map(task,")
    (case.project / "run.py").write_text(run)


def asks_for_nodes(case, nodes):
    """Rows that ask for other numbers of nodes, by a column of the input."""
    rows = [f"{1.5 + i / 20:.2f},96,20,{i},{n}\n" for i, n in enumerate(nodes)]
    (case.project / "inputs" / "sweep.csv").write_text("temperature,size,sweeps,seed,nodes\n" + "".join(rows))
    takes_nodes_of_a_column(case)


def spans(project):
    """{line of the input: (start, end, hosts)} of each task."""
    rows = [row for row in results(project, "tasks.csv") if row["status"] == "done"]
    return {
        int(row["line"]): (float(row["started"]), float(row["ended"]), row["host"].split(";")) for row in rows
    }


def test_tasks_of_different_nodes_in_one_block_all_end_in_their_order(polaris_mpi):
    """1, 1, 4, 1, 2, 3 nodes on four: the one for four starts when those before it have ended, not later."""
    nodes = (1, 1, 4, 1, 2, 3)
    case = polaris_mpi()
    asks_for_nodes(case, nodes)
    case.program("__import__('time').sleep(1.5)")
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0 and "6 of 6 tasks done" in log, log
    took = spans(case.project)
    assert [len(took[line][2]) for line in range(2, 8)] == list(nodes)
    assert {int(row["nodes"]): int(row["ranks"]) for row in results(case.project)} == {
        n: 4 * n for n in nodes
    }
    start, end = took[4][:2]
    assert start >= max(took[2][1], took[3][1]) - 0.05, "it needs all the nodes"
    assert all(took[line][0] >= end - 0.05 for line in (5, 6, 7)), "those after it wait for it"
    busy = {}
    for begin, finish, hosts in took.values():
        for host in hosts:
            busy.setdefault(host, []).append((begin, finish))
    for each in busy.values():
        each.sort()
        assert all(b[0] >= a[1] - 0.05 for a, b in zip(each, each[1:], strict=False)), "a node has one task"


def test_ranks_as_parsls_own_words_have_them(polaris_mpi):
    """num_ranks in place of ranks_per_node; what contradicts itself is that task's failure."""
    case = polaris_mpi(nodes=2)
    asks_for_nodes(case, (2, 1, 1, 1))
    edit(
        case.project,
        "run.py",
        'parsl_resource_specification={"num_nodes": nodes}',
        "parsl_resource_specification=spec",
    )
    specs = """
    spec = [
        {"num_nodes": nodes, "num_ranks": 4}, {"num_nodes": "1", "ranks_per_node": 2}, {"num_nodes": 1, "num_ranks": 8,
        "ranks_per_node": 4}, {"num_nodes": 1, "nodes": 1},
    ][row["seed"]]
    return apps.ising"""
    edit(case.project, "run.py", "    return apps.ising", specs.lstrip("\n"))
    ended, log = case.qsub()
    assert ended["Exit_status"] == 1 and "2 of 4 tasks done" in log, log
    assert {row["seed"]: row["ranks"] for row in results(case.project)} == {"0": "4", "1": "2"}
    reasons = {row["seed"]: row["reason"] for row in results(case.project, "failures.csv")}
    assert "8 ranks are not 1 nodes x 4 ranks a node" in reasons["2"] and "nodes" in reasons["3"]


def test_options_of_mpiexec_may_follow_the_prefix(polaris_mpi):
    """The idiom of ALCF's page and workshop, in a script of the user's own with this project's config."""
    case = polaris_mpi(nodes=2, nodes_per_task=2)
    (case.project / "affinity.sh").write_text('#!/bin/bash\nexport MINE=1\nexec "$@"\n')
    hello = "hello $PMI_RANK $PALS_LOCAL_RANKID $(hostname) gpu $CUDA_VISIBLE_DEVICES threads $OMP_NUM_THREADS mine $MINE"
    (case.project / "hello.sh").write_text(f'#!/bin/bash\necho "{hello}"\n')
    (case.project / "own.py").write_text(
        """
import os
import parsl
from parsl import bash_app
from config import fresh_config

here = os.getcwd()
spec = {"num_nodes": 2, "ranks_per_node": 4, "num_ranks": 8}


@bash_app
def hello(parsl_resource_specification, depth=8, here=here, stdout="out", stderr="err"):
    return f"$PARSL_MPI_PREFIX --cpu-bind depth --depth={depth} bash {here}/affinity.sh bash {here}/hello.sh"


with parsl.load(fresh_config()):
    tasks = [hello(spec, stdout=f"{here}/hello-{i}.out", stderr=f"{here}/hello-{i}.err") for i in range(3)]
    print("codes", [task.result() for task in tasks])
"""
    )
    edit(case.project, "driver.pbs", "exec python run.py --mode", "exec python own.py #")
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0 and "codes [0, 0, 0]" in log, log
    for i in range(3):
        lines = sorted((case.project / f"hello-{i}.out").read_text().splitlines())
        assert lines == [
            f"hello {r} {r % 4} {ended['nodes'][r // 4]} gpu {3 - r % 4} threads 8 mine 1" for r in range(8)
        ], lines
    calls = [argv for name, argv, _ in case.pbs.calls() if name == "mpiexec"]
    for call in calls:
        assert (
            call.count("--cpu-bind") == 1
            and call[call.index("--cpu-bind") + 1] == "depth"
            and "--depth=8" in call
        )
    bound = {rank["local"]: rank["cpus"] for rank in case.pbs.ranks()}
    assert bound == {i: f"{8 * i}-{8 * i + 7}" for i in range(4)}


def test_the_prefix_takes_options_on_a_laptop_too(laptop):
    script = """
import parsl
from parsl import bash_app
from config import fresh_config


@bash_app
def hello(stdout="out", stderr="err", parsl_resource_specification=None):
    return "$PARSL_MPI_PREFIX --cpu-bind depth --depth=8 --env COLOUR=red bash -c 'echo $PMI_SIZE $COLOUR'"


with parsl.load(fresh_config("local")):
    print("code", hello(stdout="OUT", parsl_resource_specification={"ranks_per_node": 2, "num_nodes": 1}).result())
"""
    (laptop / "own.py").write_text(script.replace("OUT", str(laptop / "said")))
    done = user(laptop, "python own.py")
    assert done.returncode == 0 and "code 0" in done.stdout, done.stdout
    assert (laptop / "said").read_text().split() == ["2", "red"] * 2


def test_several_apps_in_task_of_the_workload_mpi(laptop):
    """As in the workload sweep: tests/test_truth.py has the ways."""
    from test_truth import LOCAL, done, right, ways_of_passing_futures

    ways_of_passing_futures(laptop, rows=1)
    table = (laptop / "inputs" / "sweep.csv").read_text().splitlines()
    few = [line for line in table if int(line.split(",")[0].replace("x", "0")) < 1000]
    (laptop / "inputs" / "sweep.csv").write_text("\n".join([*few, ""]))
    done(laptop, LOCAL)
    right(laptop, rows=1, plain=0)
    assert "nothing to do" in done(laptop, LOCAL)
    right(laptop, rows=1, plain=0)


@pytest.mark.parametrize(
    "option, value, said",
    [
        (
            "nodes_per_task = 1",
            "nodes_per_task = 5",
            "is more nodes than there are for it: 4",
        ),
        ("nodes_per_task = 1", "nodes_per_task = '1'", "is not a whole number"),
        ("ranks_per_node = facts.GPUS_PER_NODE", "ranks_per_node = 0", "is not within 1-32"),
        ("nodes_per_task = 1", "nodes_per_task = 0", "tasks that share nodes are those of the kind 'gpu'"),
        ("nodes_per_task = 1", "nodes_per_task = 3", "leaves 1 of 4 nodes idle"),
        ("ranks_per_node = facts.GPUS_PER_NODE", "ranks_per_node = 33", "is not within 1-32"),
        ("= facts.threads_per_rank(ranks_per_node)", "= 17", "is not within 1-16"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_submitted(laptop, option, value, said):
    edit(laptop, "config.py", "nodes_per_block = 1", "nodes_per_block = 4")
    edit(laptop, "driver.pbs", "select=1:", "select=4:")
    for file in ("config.py", "driver.pbs"):
        edit(laptop, file, "debug", "preemptable")
    edit(laptop, "config.py", option, value)
    done = user(laptop, "python run.py --check")
    warned = "idle" in said
    assert done.returncode == (0 if warned else 2), done.stdout
    assert re.search(f"{'note' if warned else 'WRONG'}: .*{re.escape(said)}", done.stdout), done.stdout


# --- faults --------------------------------------------------------------------------------------
@pytest.mark.fault
def test_a_rank_that_aborts_fails_its_task_alone(polaris_mpi):
    case = polaris_mpi().rows(8).counted("(row == 3 and comm.rank == 1) and comm.Abort(9)")
    ended, log = case.qsub()
    assert ended["Exit_status"] == 1 and "7 of 8 tasks done" in log, log
    (failure,) = results(case.project, "failures.csv")
    assert failure["seed"] == "3" and "mpiexec left with 9" in failure["reason"], failure
    failed = [row["try"] for row in results(case.project, "tasks.csv") if row["status"] == "failed"]
    assert failed == ["0", "1", "2"]
    case.settled(killed=0, retries=2)


@pytest.mark.fault
def test_ranks_that_hang_are_killed_after_the_timeout(polaris_mpi):
    case = polaris_mpi(nodes=2).rows(4)
    case.counted("(row == 1 and comm.rank == 1) and __import__('time').sleep(600)")
    edit(case.project, "apps.py", "TIMEOUT = 1800", "TIMEOUT = 8")
    edit(case.project, "config.py", "retries = 2", "retries = 0")
    ended, log = case.qsub()
    assert ended["Exit_status"] == 1 and "3 of 4 tasks done" in log, log
    (failure,) = results(case.project, "failures.csv")
    assert "TimeoutError: its ranks were killed after 8 s" in failure["reason"]
    case.settled(killed=0)


@pytest.mark.fault
def test_a_node_lost_in_the_middle_of_a_task_is_left_out_and_the_others_go_on(polaris_mpi):
    case = polaris_mpi(abort_on_node_loss=True, nodes_per_task=1).rows(24)
    case.counted("__import__('time').sleep(1)")
    job = user(case.project, "qsub driver.pbs", case.pbs).stdout.strip()
    case.pbs.wait(job, state="R")
    lost = case.pbs.job(job)["nodes"][2]
    case.until(lambda ranks: sum(rank["host"] == lost for rank in ranks) >= 8)
    time.sleep(1)  # into its second task
    case.pbs.kill_node(lost)
    ended = case.pbs.wait(job, timeout=120)
    log = (case.project / f"ising-sweep.o{job.split('.')[0]}").read_text()
    assert ended["Exit_status"] == 0 and "24 of 24 tasks done" in log, log
    tries = results(case.project, "tasks.csv")
    assert sum(row["status"] == "done" for row in tries) == 24
    (gone,) = [row for row in tries if row["status"] != "done"]
    assert gone["status"] == "lost" and gone["host"] == lost and "does not answer" in gone["cause"]
    assert "1 tries lost with a worker, node or block" in log
    assert results(case.project, "failures.csv") == []
    case.settled(killed=case.begun() - 24, fault="a lost node")


@pytest.mark.fault
def test_a_job_with_too_few_nodes_left_ends_and_the_next_one_goes_on(polaris_mpi):
    case = polaris_mpi(nodes=2, nodes_per_task=2, abort_on_node_loss=True).rows(6)
    case.counted("__import__('time').sleep(1)")
    job = user(case.project, "qsub driver.pbs", case.pbs).stdout.strip()
    case.pbs.wait(job, state="R")
    lost = case.pbs.job(job)["nodes"][1]
    case.until(lambda ranks: len(ranks) >= 16)
    time.sleep(1)
    case.pbs.kill_node(lost)
    ended = case.pbs.wait(job, timeout=120)
    log = (case.project / f"ising-sweep.o{job.split('.')[0]}").read_text()
    assert ended["Exit_status"] == 75 and "too few are left for a task" in log, log
    assert "qsub driver.pbs goes on from here" in log and results(case.project, "failures.csv") == []
    case.pbs.revive_node(lost)
    ended, log = case.qsub()
    assert ended["Exit_status"] == 0 and "6 of 6 tasks done" in log, log
    case.settled(killed=case.begun() - 6)
