"""What seeing a run costs: `.venv/bin/python benchmarks/record.py [TASKS] [ROUNDS]`, about five minutes.

Empty rows through run.map of a generated project, a task each, four workers on this machine, in turn without any
record, with the record of tries, with it and the live view, and with Parsl's own monitoring on top of the
record. Prints the median rate of each, and of each round's ratio to the rate without. Empty tasks show the
cost per task at its largest: the longer tasks are, the smaller its share.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("without", "record", "record and live view", "Parsl's monitoring")

CHILD = """
import json, sys, time
from parsl import python_app
from parsl.executors import HighThroughputExecutor
import config
from polaris import environment, folder, machine, parsl_parts, views
from polaris.session import session
way, tasks, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
machine.visible_gpus = machine.gpus = lambda: []
local = environment.local_workers
def four(workers_per_gpu):
    pinning, init = local(workers_per_gpu)
    return {"max_workers_per_node": 4, "cores_per_worker": 0.1}, init
environment.local_workers = four
config.rows_per_task = 1
config.monitoring = way == "Parsl's monitoring"
if way == "without":
    parsl_parts.Executor.submit = HighThroughputExecutor.submit
    folder.Folder.record_try = lambda *_: None

@python_app
def nothing(x):
    return {"y": x}

class NoView:
    def update(self, shown, last=False): pass
    def close(self): pass

view = views.Bar() if way == "record and live view" else NoView()
views.progress = lambda: view
spent, update = 0.0, view.update
def timed_update(*args, **kwargs):
    global spent
    start = time.perf_counter()
    update(*args, **kwargs)
    spent += time.perf_counter() - start
view.update = timed_update
with session(name, mode="local") as run:
    for future in [nothing(i) for i in range(200)]:  # until every worker is there
        future.result()
    spent = 0.0
    begun, used = time.perf_counter(), time.process_time()
    results = run.map(nothing, [{"x": i} for i in range(tasks)])
    results.wait()
    took, used = time.perf_counter() - begun, time.process_time() - used
    assert len(results) == tasks, len(results)
print("MEASURED", json.dumps([tasks / took, used / tasks, spent / took]))
"""


def main(tasks=4000, rounds=5):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from project import ready

    project = ready("parsl[monitoring]", folder=".bench/monitoring")
    rates, cpu, view = ({way: [] for way in WAYS} for _ in range(3))
    for i in range(rounds):
        for way in WAYS:
            number = tasks // 8 if way == WAYS[-1] else tasks  # it is so much slower
            python = project / ".venv/plain/bin/python"
            command = [python, "-c", CHILD, way, str(number), f"bench-{os.getpid()}"]
            with open(project / "bench.out", "w+") as out:
                # On a terminal, for the live view: script(1) makes one, in util-linux.
                subprocess.run(["rm", "-rf", f"results/bench-{os.getpid()}"], cwd=project)
                quoted = " ".join("'" + str(part).replace("'", "'\\''") + "'" for part in command)
                done = subprocess.run(
                    ["script", "-qec", quoted, "/dev/null"], cwd=project, stdout=out, stderr=out,
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip
                out.seek(0)
                said = out.read()
            if done.returncode or "MEASURED" not in said:
                sys.exit(f"{way} failed:\n{said[-2000:]}")
            rate, seconds, spent = json.loads(said.split("MEASURED")[1].split("\n")[0])
            rates[way].append(rate)
            cpu[way].append(seconds)
            view[way].append(spent)
            print(f"round {i + 1}: {way}: {rate:.0f} tasks/s", flush=True)
    print(f"\n{tasks} empty tasks, 4 workers, {rounds} rounds; ratio of each round to 'without':")
    for way in WAYS:
        ratios = [a / b for a, b in zip(rates[way], rates["without"], strict=True)]
        print(
            f"{way:22} {statistics.median(rates[way]):6.0f} tasks/s  x {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f})  "
            f"{1e6 * statistics.median(cpu[way]):.0f} us of CPU a task on the submit side"
        )
    shown = statistics.median(view["record and live view"])
    print(f"of its run's time updating the live view took {shown:.2%}; rich draws it beside, twice a second")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
