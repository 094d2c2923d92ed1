"""How many tasks a second one submit side hands out: `.venv/bin/python benchmarks/scale.py [SHAPES...] [NODES...]`.

Real worker pools of Parsl, four workers each, as nodes of one block on the tests' stand-in for PBS; empty tasks in
three shapes: `rows` through run.map of a generated project, each a Parsl task of its own; `stages`, a graph of plain
calls in two stages, all in flight at once; `steering`, run.submit with 2 x workers in flight. For each number of
nodes it prints what the two processes of the submit side (run.py and Parsl's interchange) use of the CPU for a task,
and the most memory that they had, and fits a + b x nodes to all (b no less than 0). Ten minutes a shape with 96 nodes. Here workers and submit side share this machine's cores, which is the
measured rate; on Polaris the two processes have a core each, and the busier one saturates first: the table at the
end is that model, not a run of that size.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from pbs.server import PBS  # noqa: E402
from project import measured, ready  # noqa: E402

SHAPES = ("rows", "stages", "steering")
NODES = (1, 4, 16, 48, 96)  # 96: about 600 processes and 10 GB

CHILD = """
import gc, json, os, queue, sys, time
import parsl
import config
from polaris import views
from polaris.session import session
shape, nodes, tasks = sys.argv[1], *map(int, sys.argv[2:])
config.account, config.walltime, config.nodes_per_block = "MyProj", "1:00:00", nodes
config.queue = "preemptable" if nodes < 10 else "prod"
config.rows_per_task = 1

@parsl.python_app
def nothing(x, seconds=0):
    import time
    time.sleep(seconds)
    return {"y": x}

class NoView:
    def update(self, shown, last=False): pass
    def close(self): pass

def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

def memory(pid, what="VmRSS"):
    text = open(f"/proc/{pid}/status").read()
    return int(text.partition(what + ":")[2].split()[0]) / 1024

def rows():
    results = run.map(nothing, [{"x": i} for i in range(tasks)])
    results.wait()
    assert len(results) == tasks, len(results)

def stages():
    first = [nothing(i) for i in range(tasks // 2)]
    second = [nothing(each) for each in first]
    for future in second:
        future.result()

def steering():
    ended, asked, back = queue.SimpleQueue(), 0, 0
    while back < tasks:
        while asked < tasks and asked - back < 8 * nodes:
            run.submit(nothing, x=asked).add_done_callback(ended.put)
            asked += 1
        ended.get().result()
        back += 1

views.progress = NoView
run = session("bench-scale", mode="blocks").open()
nothing(0).result()
executor = parsl.dfk().executors["gpu"]
while len(executor.connected_managers()) < nodes:
    time.sleep(0.5)
for future in [nothing(i, 0.1) for i in range(8 * nodes)]:  # until every worker is there
    future.result()
interchange = executor.interchange_proc.pid
idle = cpu(interchange)
time.sleep(5)
idle = (cpu(interchange) - idle) / 5
begun, mine, its = time.perf_counter(), time.process_time(), cpu(interchange)
empty = memory("self"), memory(interchange)
{"rows": rows, "stages": stages, "steering": steering}[shape]()
took = time.perf_counter() - begun
mine, its = time.process_time() - mine, cpu(interchange) - its
most = memory("self", "VmHWM"), memory(interchange, "VmHWM")
figures = [tasks / took, 1e3 * mine / tasks, 1e3 * its / tasks, *most, *empty, 100 * idle]
print("MEASURED", json.dumps(figures), flush=True)
for block in run.running.blocks:
    block.abandon()
os._exit(0)
"""


WHAT = ("run.py, ms a task", "interchange, ms a task", "run.py, MB at most", "interchange, MB at most",
        "run.py, MB before", "interchange, MB before", "interchange, % of a core, idle")  # fmt: skip


def one(project, shape, nodes):
    """One block of that many nodes: [tasks a second here, and what WHAT says]."""
    for left in ("runinfo", "results/bench-scale"):
        shutil.rmtree(project / left, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, PBS(folder, home=folder, nodes=nodes, kill_delay=1) as pbs:
        figures, printed = measured(project, CHILD, pbs, shape, nodes, max(3000, 100 * nodes))
    return figures or sys.exit(printed)


def fitted(points):
    """(a, b) of a + b x nodes through the figures of WHAT, b no less than 0, for each of them."""
    sizes = [nodes for nodes, *_ in points]
    for figures in list(zip(*points, strict=True))[2:]:
        slope, start = statistics.linear_regression(sizes, figures)
        yield (start, slope) if slope >= 0 else (statistics.fmean(figures), 0.0)


def scaled(project, shape, sizes, rounds):
    points = []
    print(f"\n{shape}\n{'nodes':>5} {'workers':>8} {'tasks/s here':>13}  " + "; ".join(WHAT))
    for nodes in sorted(sizes) * rounds:
        rate, *figures = one(project, shape, nodes)
        points.append((nodes, rate, *figures))
        print(
            f"{nodes:5} {4 * nodes:8} {rate:13,.0f} ",
            " ".join(f"{each:8.3f}" for each in figures),
            flush=True,
        )
    fits = list(fitted(points))
    for name, (start, slope) in zip(WHAT, fits, strict=True):
        print(f"{name}: {start:.3f} + {slope:.5f} x nodes")
    print(
        f"{'nodes':>5} {'workers':>8} {'saturates at, tasks/s':>22} {'shortest task that keeps all busy, s':>37}"
    )
    for nodes in (10, 100, 496):
        rate = 1e3 / max(start + slope * nodes for start, slope in fits[:2])
        print(f"{nodes:5} {4 * nodes:8} {rate:22,.0f} {4 * nodes / rate:37.2f}", flush=True)


def main(*words, rounds=2):
    shapes = [word for word in words if word in SHAPES] or SHAPES
    sizes = [int(word) for word in words if word not in SHAPES] or NODES
    if len(sizes) == 1:
        sys.exit("two numbers of nodes or more: a line is fitted to them")
    project = ready()
    for shape in shapes:
        scaled(project, shape, sizes, rounds)


if __name__ == "__main__":
    main(*sys.argv[1:])
