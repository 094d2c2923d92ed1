"""Several kinds of workers in one program, as in a search for materials: simulate on GPUs, relax by MPI on two nodes,
train on a whole node, post-process on CPUs.
"""

import json
import os
import re
import signal
import time

import pytest
from conftest import edit, nothing_left, results, user
from faults import Project
from pbs.server import PBS

pytestmark = pytest.mark.slow

APPS = """
import json
import os
import subprocess
import sys
import time

from parsl import python_app

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def seen():
    from polaris import machine

    return {**machine.where(), "threads": sorted({os.environ.get(name, "") for name in THREADS})}


def at_work(kind, seconds=60):
    # Ends once a task of every kind runs: none of them waits for another one's end.
    open(f"at-work/{kind}-{os.getpid()}", "w").close()
    end = time.time() + seconds
    while time.time() < end:
        here = {name.partition("-")[0] for name in os.listdir("at-work")}
        if {"gpu", "cpu", "node", "mpi"} <= here:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{kind} is at work without the others: {sorted(here)}")


@python_app
def simulate(i):
    at_work("gpu")
    time.sleep(1)  # so that none of the workers has two
    return {**seen(), "value": 2 * i}


@python_app(executors=["cpu"])
def analyse(i):
    at_work("cpu")
    time.sleep(1)
    return {**seen(), "value": 3 * i}


@python_app(executors=["node"])
def train():
    # As torchrun starts them: a process a GPU, all of them see all GPUs.
    at_work("node")
    rank = "import os; print(os.environ['LOCAL_RANK'], os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))"
    ranks = []
    for i in range(4):
        env = {**os.environ, "LOCAL_RANK": str(i)}
        ranks.append(subprocess.Popen([sys.executable, "-c", rank], env=env, stdout=subprocess.PIPE, text=True))
    return {**seen(), "ranks": [rank.communicate()[0].strip() for rank in ranks]}


@python_app(executors=["mpi"])
def relax(i, parsl_resource_specification=None):
    from polaris import mpi

    at_work("mpi")
    out = mpi.run(["bash", "rank.sh"], 60)
    return {**seen(), "ranks": sorted(out.splitlines()), "nodes": os.environ["PARSL_MPI_NODELIST"]}
"""
RANK = """
echo "$PMI_RANK $(hostname) $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS"
sleep 1
"""
RUN = """
import json
import os
import sys

from polaris import cli

import apps


def main(run):
    open("pid", "w").write(str(os.getpid()))
    asked = {{
        "simulate": [apps.simulate(i) for i in range({gpu})],
        "analyse": [apps.analyse(i) for i in range({cpu})],
        "train": [apps.train()],
        "relax": [apps.relax(0, parsl_resource_specification={{"num_nodes": 2}})],
    }}
    said = {{name: [each.result() for each in futures] for name, futures in asked.items()}}
    with open("said.json", "w") as file:
        json.dump(said, file)


if __name__ == "__main__":
    sys.exit(cli.main(main))
"""
FOUR = 'kinds = ["gpu", "cpu", "node", "mpi"]'


def of_four_kinds(project, gpu=4, cpu=16, nodes='{"node": 1, "mpi": 2}'):
    edit(project, "config.py", 'kinds = ["gpu"]', FOUR)
    edit(project, "config.py", "nodes_of_kind = {}", f"nodes_of_kind = {nodes}")
    (project / "apps.py").write_text(APPS)
    (project / "rank.sh").write_text(RANK)
    (project / "run.py").write_text(RUN.format(gpu=gpu, cpu=cpu))
    (project / "at-work").mkdir()
    return project


@pytest.fixture
def four_nodes(tmp_path):
    with PBS(tmp_path, home=tmp_path, nodes=4, kill_delay=2) as server:
        yield server
        nothing_left(server)


def cpus(text):
    found = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_four_kinds_of_workers_at_work_at_the_same_time_in_one_job(polaris, four_nodes):
    project = of_four_kinds(polaris(nodes="4", queue="debug-scaling"))
    job = four_nodes.run("qsub", "driver.pbs", cwd=project).stdout.strip()
    ended = four_nodes.wait(job, 120)
    log = "".join(path.read_text() for path in project.glob("*.o[0-9]*"))
    assert ended["Exit_status"] == 0, log
    assert "gpu: 4 workers on 1 node(s); cpu: 16 workers on 1 node(s); node: 1 worker on 1 node(s)" in log
    said = json.loads((project / "said.json").read_text())
    first, second, third, fourth = four_nodes.state()["jobs"][job]["nodes"]

    # GPUs and threads by the table of ALCF's page, less the cores of the CPU workers, which no other has.
    gpus = sorted((each["gpu"], each["cores"], each["host"], *each["threads"]) for each in said["simulate"])
    assert gpus == [
        ("0", "24-27,56-59", fourth, "8"),
        ("1", "16-19,48-51", fourth, "8"),
        ("2", "8-11,40-43", fourth, "8"),
        ("3", "0-3,32-35", fourth, "8"),
    ]
    analysed = said["analyse"]
    assert {(each["gpu"], each["host"], *each["threads"]) for each in analysed} == {("", fourth, "2")}
    taken = [cpus(each["cores"]) for each in analysed]
    assert len(taken) == 16 and all(len(mine) == 2 and mine[1] == mine[0] + 32 for mine in taken)
    taken += [cpus(each[1]) for each in gpus]
    flat = [cpu for mine in taken for cpu in mine]
    assert sorted(flat) == list(range(64)), "each hardware thread has one worker"
    (trained,) = said["train"]
    assert (trained["host"], trained["gpu"], trained["cores"]) == (third, "", "0-63")
    assert trained["threads"] == ["64"] and trained["ranks"] == [f"{i} all" for i in range(4)]
    (relaxed,) = said["relax"]
    assert relaxed["nodes"] == f"{first},{second}"
    expected = [f"{i} {(first, second)[i // 4]} {3 - i % 4} 16" for i in range(8)]
    assert relaxed["ranks"] == expected
    assert [each["value"] for each in said["simulate"]] == [0, 2, 4, 6]
    assert [each["value"] for each in analysed] == [3 * i for i in range(16)]

    tries = results(project, "tasks.csv")
    lanes = {kind: {(t["host"], t["worker"], t["gpu"]) for t in tries if t["executor"] == kind} for kind in
             ("gpu", "cpu", "node", "mpi")}  # fmt: skip
    assert [len(lanes[kind]) for kind in lanes] == [4, 16, 1, 1]
    done = user(project, "python -m polaris.report && python run.py --status", four_nodes)
    assert done.returncode == 0, done.stdout
    page = (project / "results" / "report.html").read_text()
    for kind in ("gpu", "cpu", "node", "mpi"):
        assert re.search(rf"\b{kind}\b", page), kind
    assert "simulate 4 of 4, analyse 16 of 16, train 1 of 1, relax 1 of 1" in done.stdout


def test_ctrl_c_with_four_kinds_leaves_nothing_behind_and_the_rest_runs_later(polaris, four_nodes):
    project = of_four_kinds(polaris(nodes="4", queue="debug-scaling"), gpu=30, cpu=60)
    text = (project / "apps.py").read_text()
    (project / "apps.py").write_text(text.replace("@python_app(", "@python_app(cache=True, ").replace(
        "@python_app\n", "@python_app(cache=True)\n"))  # fmt: skip
    job = four_nodes.run("qsub", "driver.pbs", cwd=project).stdout.strip()
    end = time.monotonic() + 60
    tries = project / "results" / "tasks.csv"
    while not (tries.exists() and tries.read_text().count("\n") > 20):
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(int((project / "pid").read_text()), signal.SIGINT)
    assert four_nodes.wait(job, 60)["Exit_status"] == 130
    log = "".join(path.read_text() for path in project.glob("*.o[0-9]*"))
    assert "stopped by Ctrl-C" in log and "Traceback" not in log, log
    nothing_left(four_nodes)
    first = results(project, "tasks.csv")
    assert 20 < len(first) < 92
    job = four_nodes.run("qsub", "driver.pbs", cwd=project).stdout.strip()
    assert four_nodes.wait(job, 120)["Exit_status"] == 0
    assert len(results(project, "tasks.csv")) == 92, "none twice"


BLOCKS = """
import os
import sys
import time

from polaris import cli

import apps


def main(run):
    print("simulated", [each.result()["value"] for each in [apps.simulate(i) for i in range(3)]], flush=True)
    open("simulated", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.1)
    print("analysed", [each.result()["value"] for each in [apps.analyse(i) for i in range(3)]], flush=True)
    print("trained", apps.train().result()["ranks"], flush=True)


if __name__ == "__main__":
    sys.exit(cli.main(main))
"""


def nodes_asked_for(pbs):
    return [int(re.search(r"select=(\d+)", submission["script"])[1]) for submission in pbs.submissions]


def test_in_blocks_each_kind_asks_for_its_first_job_when_its_first_task_comes(polaris, four_nodes):
    project = of_four_kinds(polaris(nodes="4", queue="preemptable"), nodes='{"node": 1, "mpi": 1, "cpu": 1}')
    (project / "run.py").write_text(BLOCKS)
    for kind in ("gpu", "cpu", "node", "mpi"):
        (project / "at-work" / f"{kind}-0").touch()
    edit(project, "config.py", "nodes_per_block = 4", "nodes_per_block = 1")
    check = user(project, "python run.py --check --mode blocks", four_nodes)
    assert check.returncode == 0, check.stdout
    case = Project(project, four_nodes)
    running = case.start("python run.py")
    case.until((project / "simulated").exists)
    assert nodes_asked_for(four_nodes) == [1], "the others wait for tasks of theirs"
    (project / "go").touch()
    assert running.wait(60) == 0, case.log.read_text()
    said = case.log.read_text()
    assert "analysed [0, 3, 6]" in said and "trained ['0 all', '1 all', '2 all', '3 all']" in said, said
    assert nodes_asked_for(four_nodes) == [1, 1, 1], "none for mpi"
    tries = results(project, "tasks.csv")
    cores = {t["executor"]: len(cpus(t["cores"])) for t in tries}
    # No other kind is on its node: CPU workers have as many as there are cores, those of GPUs all threads.
    assert cores == {"gpu": 16, "cpu": 2, "node": 64}
    assert "cpu: up to 1 job(s) of 1 node(s) in queue preemptable, 32 workers a node" in said


LOSING = """
import sys
from polaris import cli
import apps


def main(run):
    asked = [apps.simulate(i) for i in range(12)] + [apps.analyse(i) for i in range(40)] + [apps.train()]
    print("sum", sum(each.result()["value"] for each in asked[:-1]), flush=True)
    open("no-node", "w").close()
    last = [apps.simulate(100), apps.train()]
    print([each.result() for each in last])


if __name__ == "__main__":
    sys.exit(cli.main(main))
"""


def test_a_lost_node_costs_each_kind_what_ran_there_and_no_more(polaris, four_nodes):
    project = of_four_kinds(polaris(nodes="4", queue="debug-scaling"), nodes='{"node": 1, "mpi": 1}')
    for kind in ("gpu", "cpu", "node", "mpi"):
        (project / "at-work" / f"{kind}-0").touch()
    text = (project / "apps.py").read_text().replace("time.sleep(1)", "time.sleep(8 if i == 100 else 3)")
    (project / "apps.py").write_text(text.replace("    ranks = []\n", "    time.sleep(60)\n    ranks = []\n"))
    (project / "run.py").write_text(LOSING)
    case = Project(project, four_nodes)
    job = case.qsub()
    record = project / "results" / "tasks.csv"
    case.until(lambda: record.exists() and record.read_text().count("done") > 12)
    nodes = four_nodes.job(job)["nodes"]
    four_nodes.kill_node(nodes[2])  # GPU and CPU workers share it with the last one
    case.until((project / "no-node").exists, 90)
    lost = [t for t in results(project, "tasks.csv") if t["status"] == "lost"]
    assert {t["host"] for t in lost} == {nodes[2]} and {t["executor"] for t in lost} <= {"gpu", "cpu"}
    assert 0 < len(lost) <= 20, "what ran there"
    four_nodes.kill_node(nodes[1])  # the only one of "node": what GPU workers run is awaited
    assert four_nodes.wait(job, 90)["Exit_status"] == 75
    said = "".join(path.read_text() for path in project.glob("*.o[0-9]*"))
    assert f"sum {2 * 66 + 3 * 780}\n" in said and "stopped by no workers" in said, said
    assert "qsub driver.pbs goes on from here" in said and "Traceback" not in said, said
    tries = results(project, "tasks.csv")
    assert len([t for t in tries if t["status"] == "done"]) == 53, "simulate(100), too"


@pytest.mark.parametrize(
    "queue, nodes, given, said",
    [
        (
            "debug",
            "2",
            '["gpu", "cpu"]',
            "kinds = ['gpu', 'cpu']: in blocks each kind of workers has a job of its own, and debug runs 1 at a time"
            " for one user: qsub driver.pbs, in whose job the kinds share the nodes",
        ),
        ("capacity", "2", '["gpu", "cpu"]', "and capacity runs 1 at a time for one project: qsub driver.pbs"),
        ("prod", "12", '["gpu", "node"]', "in blocks 'node' has jobs of its own, of 1 node, and prod takes 10-24 nodes"),
        ("preemptable", "2", '["gpu", "cpu", "node"]', None),
    ],
)  # fmt: skip
def test_blocks_of_several_kinds_where_the_queue_allows_it(polaris, pbs, queue, nodes, given, said):
    project = polaris(queue=queue, nodes=nodes)
    edit(project, "config.py", 'kinds = ["gpu"]', f"kinds = {given}")
    if "node" in given:
        edit(project, "config.py", "nodes_of_kind = {}", 'nodes_of_kind = {"node": 1}')
    for command in ("--check --mode blocks", "--mode blocks"):
        if said is None and command == "--mode blocks":
            continue
        done = user(project, f"python run.py {command}", pbs)
        assert done.returncode == (0 if said is None else 2), done.stdout
        assert said is None or said in done.stdout, done.stdout
        assert "Traceback" not in done.stdout
    assert pbs.submissions == []


def test_in_blocks_kinds_need_no_nodes_of_their_own_and_the_job_of_driver_pbs_is_said_to(polaris, pbs):
    project = polaris(queue="preemptable", nodes="2")
    edit(project, "config.py", 'kinds = ["gpu"]', 'kinds = ["gpu", "node"]')
    shown = user(project, "python run.py --dry-run --mode blocks", pbs)
    assert shown.returncode == 0 and shown.stdout.count("select=2") == 2, shown.stdout
    checked = user(project, "python run.py --check --mode blocks", pbs)
    lines = [line for line in checked.stdout.splitlines() if line.startswith("WRONG")]
    assert checked.returncode == 2 and len(lines) == 1, checked.stdout
    assert lines[0].startswith("WRONG:  driver.pbs: nodes_of_kind {}: leaves 'node' without nodes of its own")


def test_an_app_whose_kinds_are_no_list_is_refused_in_one_line(project):
    edit(project, "apps.py", "@python_app\ndef ising", '@python_app(executors="cpu")\ndef ising')
    refused = user(project, "python run.py --mode local")
    (line,) = refused.stdout.splitlines()
    assert refused.returncode == 2 and f"{project}/apps.py line " in line
    assert line.endswith("executors='cpu': is no list of kinds of workers, each in quotes: "
                         'write executors=["cpu"]')  # fmt: skip
    assert not (project / "results").exists()


def test_what_no_kind_has_room_for_is_said_before_the_queue_and_in_the_job(polaris, pbs):
    project = polaris(queue="debug", nodes="2")
    edit(project, "config.py", 'kinds = ["gpu"]', 'kinds = ["gpu", "node"]')
    edit(project, "config.py", "nodes_of_kind = {}", 'nodes_of_kind = {"node": 2}')
    said = "no node is left for 'gpu': 2 nodes, 2 of them for 'node' (for example 3)"
    check = user(project, "python run.py --check", pbs)
    assert check.returncode == 2 and f"driver.pbs line 5: #PBS -l select 2: {said}" in check.stdout, (
        check.stdout
    )
    job = pbs.run("qsub", "driver.pbs", cwd=project).stdout.strip()
    assert pbs.wait(job, 30)["Exit_status"] == 2
    log = "".join(path.read_text() for path in project.glob("*.o[0-9]*"))
    assert f"driver.pbs line 5: #PBS -l select 2: {said}" in log and "Traceback" not in log, log


def test_on_a_laptop_the_kinds_share_the_machine(project):
    edit(project, "config.py", 'kinds = ["gpu"]', 'kinds = ["gpu", "cpu", "node"]')
    edit(project, "config.py", "nodes_of_kind = {}", 'nodes_of_kind = {"node": 1}')
    (project / "apps.py").write_text(APPS.replace('"node", "mpi"', '"node"').replace('executors=["mpi"]', ""))
    (project / "at-work").mkdir()
    (project / "run.py").write_text(BLOCKS.replace("while not os", "while False and not os"))
    for kind in ("gpu", "cpu", "node"):
        (project / "at-work" / f"{kind}-0").touch()
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0, done.stdout
    assert re.search(
        r"gpu: \d workers? on this machine; cpu: \d workers? on this machine; node: 1 worker", done.stdout
    )
    assert "simulated [0, 2, 4]" in done.stdout and "analysed [0, 3, 6]" in done.stdout, done.stdout
