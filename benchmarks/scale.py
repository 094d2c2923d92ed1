"""How many tasks a second one submit side hands out: `.venv/bin/python benchmarks/scale.py [NODES...]`, ten minutes.

Real worker pools of Parsl, four workers each, as nodes of one block on the tests' stand-in for PBS; empty tasks
through run.map of a generated project, each a Parsl task of its own. For each number of nodes it prints what
the two processes of the submit side (run.py and Parsl's interchange) use of the CPU for a task, and fits
a + b x nodes to both (b no less than 0). Here workers and submit side share this machine's cores, which is the
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

NODES = (1, 4, 16, 48, 96)  # 96: about 600 processes and 10 GB

CHILD = """
import json, os, sys, time
import parsl
import config
from polaris import views
from polaris.session import session
nodes, tasks = map(int, sys.argv[1:])
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

views.progress = NoView
run = session("bench-scale", mode="blocks").open()
nothing(0).result()
executor = parsl.dfk().executors["gpu"]
while len(executor.connected_managers()) < nodes:
    time.sleep(0.5)
for future in [nothing(i, 0.1) for i in range(8 * nodes)]:  # until every worker is there
    future.result()
begun, mine, its = time.perf_counter(), time.process_time(), cpu(executor.interchange_proc.pid)
results = run.map(nothing, [{"x": i} for i in range(tasks)])
results.wait()
took = time.perf_counter() - begun
mine, its = time.process_time() - mine, cpu(executor.interchange_proc.pid) - its
assert len(results) == tasks, len(results)
print("MEASURED", json.dumps([tasks / took, 1e3 * mine / tasks, 1e3 * its / tasks]), flush=True)
for block in run.running.blocks:
    block.abandon()
os._exit(0)
"""


def one(project, nodes):
    """One block of that many nodes: [tasks a second here, ms of CPU a task of run.py, of the interchange]."""
    for left in ("runinfo", "results/bench-scale"):
        shutil.rmtree(project / left, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, PBS(folder, home=folder, nodes=nodes, kill_delay=1) as pbs:
        figures, printed = measured(project, CHILD, pbs, nodes, max(3000, 100 * nodes))
    return figures or sys.exit(printed)


def main(*sizes, rounds=2):
    if len(sizes) == 1:
        sys.exit("two numbers of nodes or more: a line is fitted to them")
    project, points = ready(), []
    print(f"{'nodes':>5} {'workers':>8} {'tasks/s here':>13} {'run.py, ms a task':>18} {'interchange':>12}")
    for nodes in sorted(sizes or NODES) * rounds:
        rate, mine, its = one(project, nodes)
        points.append((nodes, mine, its))
        print(f"{nodes:5} {4 * nodes:8} {rate:13,.0f} {mine:18.3f} {its:12.3f}", flush=True)
    fits = []
    for name, costs in zip(("run.py", "interchange"), list(zip(*points, strict=True))[1:], strict=True):
        slope, start = statistics.linear_regression([nodes for nodes, *_ in points], costs)
        if slope < 0:
            slope, start = 0.0, statistics.fmean(costs)
        fits.append((start, slope))
        print(f"{name}: {start:.3f} ms + {1e3 * slope:.2f} us x nodes")
    print(
        f"\n{'nodes':>5} {'workers':>8} {'saturates at, tasks/s':>22} {'shortest task that keeps all busy, s':>37}"
    )
    for nodes in (10, 100, 496):
        rate = 1e3 / max(start + slope * nodes for start, slope in fits)
        print(f"{nodes:5} {4 * nodes:8} {rate:22,.0f} {4 * nodes / rate:37.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
