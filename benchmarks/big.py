"""A large run looked at, and gone on with: `.venv/bin/python benchmarks/big.py [PARTS...]`, six minutes.

stages: 1,000,000 tries of five apps on 2,000 lanes (400 of its 404 nodes have GPU and CPU workers), with failures and lost nodes, as a run of
plain calls would have noted them. rows: a sweep of as many rows, really run, empty tasks. files: 1,000 arrays as files of
their own, and 1,000,000 lines of 1,000 input files, really run. calls: 10,000 calls with cache=True. For each it prints seconds and memory of the report, of `--status`
and of `python run.py` once all is done, and the size of the page.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]

from project import ready  # noqa: E402

TRIES, ROWS = 1_000_000, 1_000_000
BEGAN = 1_790_000_000.0
RECORD = "run,table,line,app,executor,try,submitted,started,ended,block,host,gpu,worker,cores,status,cause"
CORES = ("24-31,56-63", "16-23,48-55", "8-15,40-47", "0-7,32-39")
APPS = {  # name: (executor, seconds)
    "simulate": ("gpu", 30.0),
    "relax": ("gpu", 60.0),
    "analyse": ("cpu", 20.0),
    "reduce": ("cpu", 5.0),
    "fit": ("node", 15.0),
}
TOLD = """
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
took = time.monotonic() - began
print("TOLD", code, took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""
EMPTY = """
from parsl import python_app


@python_app
def work(**row):
    return {"y": 1.5}


@python_app
def array(x):
    import numpy

    return {"series": numpy.full(1000, x), "y": x}


@python_app(cache=True)
def call(x):
    return x
"""
HEAD = """
import sys
from polaris import cli
from polaris.sources import lines, table
import apps

"""
TAIL = """

if __name__ == "__main__":
    sys.exit(cli.main(main{inputs}))
"""
PROGRAMS = {
    "rows": 'inputs = table("inputs/big.csv", x=float, size=int, seed=int)\n\n\n'
    "def main(run):\n    run.map(apps.work, inputs).wait()\n",
    "lines": 'inputs = lines("inputs/many/*.txt")\n\n\ndef main(run):\n    run.map(apps.work, inputs).wait()\n',
    "arrays": 'inputs = table("inputs/big.csv", x=float)\n\n\ndef main(run):\n'
    '    assert sum(row["series"][0] for row in run.map(apps.array, inputs)) == 499500\n',
    "calls": "def main(run):\n    calls = [apps.call(i) for i in range(10_000)]\n"
    "    assert sum(call.result() for call in calls) == 49995000\n",
}


def told(project, command):
    """(exit status, seconds, MB of the largest process) of a command in a project."""
    words = ["bash", "-c", f"source activate.sh && exec python - {command} <<'END'\n{TOLD}\nEND"]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True)
    if "TOLD" not in done.stdout:
        raise SystemExit((done.stdout + done.stderr)[-2000:])
    code, seconds, memory = done.stdout.partition("TOLD ")[2].split()[:3]
    if int(code) > 1:  # 1: some task failed
        print((done.stdout + done.stderr)[-2000:])
    return int(code), float(seconds), float(memory)


def show(project, what, command, rounds=3):
    """Print what a command takes."""
    found = [told(project, command) for _ in range(rounds)]
    times = [seconds for _, seconds, _ in found]
    memory = statistics.median(each for *_, each in found)
    spread = f"({min(times):.1f}-{max(times):.1f})"
    print(
        f"{what:32} {statistics.median(times):6.1f} s {spread:14} {memory:7.0f} MB  status {found[0][0]}",
        flush=True,
    )


def program(project, name):
    """Write apps.py and run.py of one of PROGRAMS."""
    (project / "apps.py").write_text(EMPTY)
    inputs = ", inputs" if name != "calls" else ""
    (project / "run.py").write_text(HEAD + PROGRAMS[name] + TAIL.format(inputs=inputs))
    shutil.rmtree(project / "results", ignore_errors=True)
    shutil.rmtree(project / "runinfo", ignore_errors=True)


# --- a run on 2,000 lanes -------------------------------------------------------------------------
def host_of(number):
    return f"x3{number // 64:03}c{number // 8 % 8}s{number % 8}b0n0"


def lanes():
    """{executor: its lanes (host, gpu, worker, cores)}: 1,200, 400 and 400."""
    found = {"gpu": [], "cpu": [], "node": []}
    for node in range(300):
        for gpu in range(4):
            found["gpu"].append((host_of(node), str(gpu), str(gpu), CORES[gpu]))
    for node in range(300, 325):
        for worker in range(16):
            found["cpu"].append((host_of(node), "", str(worker), str(worker)))
    for node in range(325, 725):
        found["node"].append((host_of(node), "0,1,2,3", "0", "0-63"))
    return found


def stages(project):
    """A run with a million tries of plain calls, as it would have noted them."""
    program(project, "calls")
    results = project / "results"
    results.mkdir()
    rng = random.Random(1)
    of = lanes()
    free = {kind: [BEGAN + 60 + rng.random() * 30 for _ in mine] for kind, mine in of.items()}
    share = {app: TRIES // len(APPS) for app in APPS}
    counts = {app: {"done": 0, "failed": 0, "known": 0} for app in APPS}
    tries = []
    for app, (kind, seconds) in APPS.items():
        for i in range(share[app]):
            place = i % len(of[kind])
            host, gpu, worker, cores = of[kind][place]
            begun = free[kind][place] + 0.002
            ended = free[kind][place] = begun + seconds * rng.uniform(0.7, 1.4)
            status, cause = "done", ""
            chance = rng.random()
            if chance < 0.002:
                status, cause = "lost", f"WorkerLost: worker {worker} on host {host} was lost"
            elif chance < 0.01:
                status, cause = "failed", f"ValueError: step {i}: no convergence after {i % 77} iterations"
            if status == "done":
                counts[app]["done"] += 1
                counts[app]["known"] += 1
            at = f"{BEGAN + 5:.3f},{begun:.3f},{ended:.3f}"
            said = f'0,{host},{gpu if "," not in gpu else chr(34) + gpu + chr(34)},{worker},"{cores}"'
            tries.append((ended, f"1,,,{app},{kind},0,{at},{said},{status},{cause}\n"))
    tries.sort()
    with open(results / "tasks.csv", "w") as file:
        file.write(RECORD + "\n")
        file.writelines(line for _, line in tries)
    end = tries[-1][0] + 5
    noted = [{"event": "start", "time": BEGAN + 4, "began": BEGAN, "mode": "job", "host": host_of(0), "job": "1.polaris",
              "job_start": BEGAN - 60, "job_nodes": [host_of(n) for n in range(725)], "script": "run.py",
              "executors": {kind: {"nodes_per_block": len({h for h, *_ in mine}),
                                   "workers_per_node": {"gpu": 4, "cpu": 16, "node": 1}[kind], "workers": len(mine)}
                            for kind, mine in of.items()}, "settings": {}, "versions": {}}]  # fmt: skip
    for kind, mine in of.items():
        for at in range(30):  # workers come up
            noted.append({"event": "block", "time": BEGAN + 60 + at, "executor": kind, "block": "0", "job": "99",
                          "state": "RUNNING", "workers": len(mine) * (at + 1) // 30, "start": None, "end": None})  # fmt: skip
    noted.append({"event": "end", "time": end, "stopped": None, "at_once": False, "done": sum(c["done"] for c in counts.values()),
                  "failed": 0, "left": 0, "apps": counts, "tables": {}, "uncached": {}})  # fmt: skip
    (results / "runs.jsonl").write_text("".join(json.dumps({"run": 1, **event}) + "\n" for event in noted))
    looked_at(project, "stages, 1,000,000 tries")


def looked_at(project, what):
    """Print what the report and --status of a project take."""
    show(project, f"{what}: report", "python -m polaris.report")
    page = (project / "results" / "report.html").stat().st_size
    print(
        f"{what}: the page has {page / 1e6:.2f} MB, tasks.csv {(project / 'results' / 'tasks.csv').stat().st_size / 1e6:.0f} MB"
    )
    show(project, f"{what}: --status", "python run.py --status")


# --- really run -----------------------------------------------------------------------------------
def run_and_again(project, what, rounds=3):
    show(project, f"{what}: first run", "python run.py --mode local", rounds=1)
    show(project, f"{what}: resume", "python run.py --mode local", rounds)


def rows(project):
    program(project, "rows")
    with open(project / "inputs" / "big.csv", "w") as file:
        file.write("x,size,seed\n")
        file.writelines(f"{i / 1000},16,{i}\n" for i in range(ROWS))
    run_and_again(project, "rows, 1,000,000")
    looked_at(project, "rows, 1,000,000")
    (project / "inputs" / "big.csv").unlink()


def files(project):
    many = project / "inputs" / "many"
    many.mkdir(exist_ok=True)
    for i in range(1000):
        (many / f"part-{i:04}.txt").write_text("".join(f"text {i} {j}\n" for j in range(1000)))
    program(project, "lines")
    run_and_again(project, "lines of 1,000 files")
    looked_at(project, "lines of 1,000 files")
    shutil.rmtree(many)
    program(project, "arrays")
    (project / "inputs" / "big.csv").write_text("x\n" + "".join(f"{i}\n" for i in range(1000)))
    run_and_again(project, "arrays in 1,000 files")
    (project / "inputs" / "big.csv").unlink()


def calls(project):
    program(project, "calls")
    run_and_again(project, "10,000 cached calls")


PARTS = {"stages": stages, "rows": rows, "files": files, "calls": calls}

if __name__ == "__main__":
    project = ready() if "BIG_PROJECT" not in os.environ else Path(os.environ["BIG_PROJECT"])
    for part in sys.argv[1:] or PARTS:
        began = time.time()
        PARTS[part](project)
        print(f"({part}: {time.time() - began:.0f} s in all)", flush=True)
