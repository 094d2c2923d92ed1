"""From the start of a program to the first result of each worker: `.venv/bin/python benchmarks/start.py`, six minutes.

In mode local, in turn: workers forked of one process that has imported all (this project), the same project
with Parsl's own start of each worker (spawn), and version 0.1 of the template where this clone has it. 4, 16 and 32
workers, with empty tasks and, with --torch, with tasks that import torch (2.13.0, installed into .bench/ for that; preload
has it then). Medians of rounds, and of each round's ratio to 0.1, or to spawn where there is no 0.1. Once for 16 workers: opens and stats
of files by all processes of the node (strace, where it is installed), and the memory that the workers have to
themselves (USS, MB a worker).
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]

from project import pip, ready  # noqa: E402
from shapes import older, shell  # noqa: E402

OLD = "44f7807"  # version 0.1
TORCH = "2.13.0"
WORKERS = (4, 16, 32)
SCRIPT = """
import json, sys, time
begun = time.time()
import parsl, config
from parsl import python_app
workers, with_torch, way, counted = int(sys.argv[1]), sys.argv[2] == "torch", sys.argv[3], sys.argv[4]
if with_torch and way == "forked":
    config.preload = ["torch"]
made = config.fresh_config("local")
executor = made.executors[0]
executor.max_workers_per_node = workers
executor.cores_per_worker = 1 / 64
command = executor.launch_cmd
if way == "spawn":
    command = command.replace(command[command.index("python3 -m") : command.index("process_worker_pool.py")], "")
if counted != "no":
    command = f"strace -f -qq -e trace=open,openat,stat,lstat,newfstatat,statx,access,readlink -o {counted} {command}"
executor.launch_cmd = command

@python_app
def work(with_torch, wait):
    import os, time
    if with_torch:
        import torch
        float(torch.rand(2, 2).sum())
    time.sleep(wait)
    with open("/proc/self/smaps_rollup") as file:
        own = sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    return os.environ["PARSL_WORKER_RANK"], own / 1024

with parsl.load(made):
    first, own = None, {}
    while len(own) < workers:
        for future in [work(with_torch, 0.05) for _ in range(workers)]:
            worker, uss = future.result()
            first = first or time.time() - begun
            own.setdefault(worker, uss)
    print("MEASURED", json.dumps([first, time.time() - begun, sorted(own.values())[len(own) // 2]]), flush=True)
"""


def one(project, way, workers, with_torch, counted="no"):
    """(seconds to the first result, to that of the last worker, MB that a worker has to itself)"""
    shutil.rmtree(project / "runinfo", ignore_errors=True)
    (project / "start_script.py").write_text(SCRIPT)
    what = "torch" if with_torch else "empty"
    done = shell(project, f"python start_script.py {workers} {what} {way} {counted}", timeout=200)
    _, found, rest = done.stdout.partition("MEASURED")
    if not found:
        sys.exit(done.stdout[-2000:])
    return json.loads(rest.split("\n")[0])


def opened(project, way):
    """How many opens and stats of files the processes of a node with 16 workers make until all have answered."""
    with tempfile.TemporaryDirectory() as folder:
        one(project, way, 16, False, f"{folder}/calls")
        return len(re.findall(r"\) += ", Path(folder, "calls").read_text(errors="replace")))


def ways_of(project):
    ways = {"forked": project, "spawn": project}
    known = subprocess.run(["git", "cat-file", "-e", OLD], cwd=ROOT, capture_output=True).returncode == 0
    if known:
        ways["0.1"] = older(OLD, project)
    return ways


def row(ways, workers, with_torch, rounds, limits):
    """A line for the first and one for the last worker; returns [(goal, value, limit)]."""
    found = {way: [] for way in ways}
    for _ in range(rounds):
        for way, project in ways.items():
            found[way].append(one(project, way, workers, with_torch))
    base = list(ways)[-1]
    goals = []
    what = f"{workers} workers, {'torch' if with_torch else 'empty'} tasks"
    for place, name in ((0, "first"), (1, "last")):
        cells = []
        for way in ways:
            median = statistics.median(each[place] for each in found[way])
            ratios = [a[place] / b[place] for a, b in zip(found[way], found[base], strict=True)]
            spread = f" ({statistics.median(ratios):.2f}, {min(ratios):.2f}-{max(ratios):.2f})"
            cells.append(f"{median:.2f}{spread if way != base else ''}")
            if way == "forked" and name == "last" and (workers, with_torch) in limits:
                goals.append((statistics.median(ratios), limits[workers, with_torch]))
        what = "torch" if with_torch else "empty"
        print(
            f"| {workers} workers, {what} tasks, {name} result, s | " + " | ".join(cells) + " |", flush=True
        )
    return [
        (f"last of {workers} workers, {'torch' if with_torch else 'empty'}, to {base}", *g) for g in goals
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch", action="store_true", help="also tasks that import torch")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    project = ready(folder=".bench/start")
    if args.torch:
        pip(project, "install", f"torch=={TORCH}")
    ways = ways_of(project)
    limits = {(16, False): 0.50, (16, True): 0.25, (4, True): 0.60}
    print("| | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))
    goals = []
    for with_torch in (False, True) if args.torch else (False,):
        for workers in WORKERS:
            goals += row(ways, workers, with_torch, args.rounds, limits)
    own = {way: one(path, way, 16, args.torch)[2] for way, path in ways.items()}
    print("| MB of its own, one of 16 workers | " + " | ".join(f"{own[way]:.0f}" for way in ways) + " |")
    if shutil.which("strace"):
        calls = {way: opened(path, way) for way, path in ways.items()}
        print(
            "| opens and stats of a node, 16 workers | "
            + " | ".join(f"{calls[way]:,}" for way in ways)
            + " |"
        )
        goals.append(
            (f"opens and stats, to {list(ways)[-1]}", calls["forked"] / list(calls.values())[-1], 0.25)
        )
    for goal, value, limit in goals:
        print(f"{goal:50} {value:6.2f}   at most {limit:<5g} {'met' if value <= limit else 'not met'}")


if __name__ == "__main__":
    main()
