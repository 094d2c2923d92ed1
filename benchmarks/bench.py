"""`make bench`: the generated project beside ALCF's page and other tools, on this machine, in one run.

Four workers each, in turn, several rounds; medians, and of each round the ratio to the page with its spread.
Parsl runs as it would on Polaris, its block a job on the tests' stand-in for PBS; the others run locally, which
spares them that. What is measured:

    first      seconds from the start of the configuration to the first result
    empty      empty tasks a second, after that
    busy       share of the workers' time that tasks of 1 s (0.1 s) filled, from the first start to the last end
    log bytes  written into the run directory for each empty task
    CPU        of the submitting process, for each empty task
"""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLUG = "{{cookiecutter.project_slug}}"
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from project import FOLDER, ready  # noqa: E402

COMMON = """
import json, os, resource, sys, time
from pathlib import Path
TASKS = int(sys.argv[1])

def bytes_in(folder):
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())

def nothing(i):
    return i

def nap(seconds):
    import time
    began = time.time()
    time.sleep(seconds)
    return began, time.time()

def filled(spans):
    return sum(b - a for a, b in spans) / 4 / (max(b for _, b in spans) - min(a for a, _ in spans))

def measure(submit, results, logs=None):
    # submit(function, argument) -> handle; results(handles) -> list
    global begun
    results([submit(nothing, 0)])
    first = time.perf_counter() - begun
    results([submit(nothing, i) for i in range(100)])  # until every worker is there
    before, used = bytes_in(logs) if logs else 0, time.process_time()
    start = time.perf_counter()
    results([submit(nothing, i) for i in range(TASKS)])
    took, used = time.perf_counter() - start, time.process_time() - used
    wrote = bytes_in(logs) - before if logs else 0
    busy = {s: filled(results([submit(nap, s) for _ in range(n)])) for s, n in ((1.0, 24), (0.1, 120))}
    print("MEASURED", json.dumps({"first": first, "empty": TASKS / took, "log bytes": wrote / TASKS,
        "CPU": used / TASKS * 1e6, "busy 1 s": busy[1.0], "busy 0.1 s": busy[0.1]}), flush=True)

begun = time.perf_counter()
"""
PARSL = """
import parsl
apps = {f: parsl.python_app(f) for f in (nothing, nap)}
def run(config, folder):
    with parsl.load(config):
        measure(lambda f, x: apps[f](x), lambda futures: [f.result() for f in futures], folder)
    os._exit(0)
"""
# The page's configuration, word for word but for what keeps it from starting and working at all: the memoizer
# (Parsl 2025.12.08), TMPDIR, the environment that its worker_init sources, and PYTHONPATH.
PAGE = """
from parsl.config import Config
from parsl.providers import PBSProProvider
from parsl.executors import HighThroughputExecutor
from parsl.launchers import MpiExecLauncher
from parsl.utils import get_all_checkpoints
from parsl.dataflow.memoization import BasicMemoizer
run_dir = os.path.abspath("page-runinfo")
os.makedirs(run_dir, exist_ok=True)
run(Config(
    executors=[HighThroughputExecutor(
        label="htex", heartbeat_period=15, heartbeat_threshold=120, worker_debug=True, available_accelerators=4,
        max_workers_per_node=4, cpu_affinity="list:24-31,56-63:16-23,48-55:8-15,40-47:0-7,32-39",
        prefetch_capacity=0,
        provider=PBSProProvider(
            launcher=MpiExecLauncher(bind_cmd="--cpu-bind", overrides="--depth=64 --ppn 1"),
            account="MyProj", queue="preemptable", select_options="ngpus=4",
            scheduler_options="#PBS -l filesystems=home:eagle",
            worker_init=f"source {os.path.abspath('activate.sh')}; cd {run_dir}",
            nodes_per_block=1, init_blocks=1, min_blocks=0, max_blocks=1, cpus_per_node=32, walltime="1:00:00"))],
    memoizer=BasicMemoizer(checkpoint_files=get_all_checkpoints(run_dir), checkpoint_mode="task_exit", memoize=True),
    run_dir=run_dir, retries=2), run_dir)
"""
GENERATED = """
import config
run(config.fresh_config("blocks"), config.run_dir)
"""
DASK = """
from dask.distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=4, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            measure(lambda f, x: client.submit(f, x, pure=False), client.gather)
"""
HQ = """
import subprocess, tempfile
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=4))
    client = cluster.client()
    def many(function, arguments):
        job = Job()
        for argument in arguments:
            job.function(function, args=(argument,))
        client.wait_for_jobs([client.submit(job)])
    many(nothing, [0])
    first = time.perf_counter() - begun
    start = time.perf_counter()
    many(nothing, range(TASKS // 100))  # an interpreter for each task
    print("MEASURED", json.dumps({"first": first, "empty": TASKS // 100 / (time.perf_counter() - start)}), flush=True)
os._exit(0)
"""
WAYS = {
    "page": COMMON + PARSL + PAGE,
    "generated": COMMON + PARSL + GENERATED,
    "Dask": COMMON + DASK,
    "HyperQueue": COMMON + HQ,
}


def one(way, project, tasks):
    """Run one way once; returns its figures."""
    from pbs.server import PBS

    script = project / f"bench_{way}.py"
    script.write_text(WAYS[way])
    with tempfile.TemporaryDirectory() as folder, PBS(folder, home=folder, nodes=1, kill_delay=1) as pbs:
        for left in ("page-runinfo", "runinfo", ".hq-server"):
            shutil.rmtree(project / left, ignore_errors=True)
        command = f"source activate.sh && python {script.name} {tasks}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=project, env=pbs.env(), capture_output=True, text=True, timeout=300
        )
    if "MEASURED" not in done.stdout:
        return {}, (done.stdout + done.stderr)[-1500:]
    return json.loads(done.stdout.split("MEASURED")[1].split("\n")[0]), None


def parallel(tasks):
    """GNU parallel with one slot a GPU: a shell command for each task."""
    if shutil.which("parallel") is None:
        return {}, "GNU parallel is not installed (apt-get install parallel)"
    start = time.perf_counter()
    lines = "".join(f"{i}\n" for i in range(tasks))
    command = ["parallel", "-j4", "CUDA_VISIBLE_DEVICES=$(({%}-1)) true {}"]
    subprocess.run(command, input=lines, text=True, check=True, stderr=subprocess.DEVNULL)
    return {"empty": tasks / (time.perf_counter() - start)}, None


def through_run_py(project, rows, milliseconds):
    """Rows through run.py, then once more: rows a second between the first start and the last end, seconds of
    the whole run and of the one that finds all rows done, and the memory of run.py, MB."""
    (project / "run.py").write_text((ROOT / SLUG / "gpu" / "run.py").read_text())
    text = (project / "run.py").read_text()
    mine = text.replace("OUTPUTS, task, summarize)", "(), lambda row: apps.nothing(**row), lambda *_: None)")
    mine = mine.replace("sys.exit(cli.main", "status = (cli.main")
    mine += "    import resource\n    print('MAXRSS', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    (project / "bench_run.py").write_text(mine + "    sys.exit(status)\n")
    work = f"time.sleep({milliseconds / 1000})" if milliseconds else "pass"
    nothing = f"\n\n@python_app\ndef nothing(temperature, size, sweeps, seed):\n    import time\n    {work}\n    return {{}}\n"
    (project / "apps.py").write_text((ROOT / SLUG / "gpu" / "apps.py").read_text() + nothing)
    shutil.rmtree(project / "results", ignore_errors=True)
    with open(project / "inputs" / "bench.csv", "w") as file:
        file.write("temperature,size,sweeps,seed\n")
        file.writelines(f"{i / 100},16,20,1\n" for i in range(rows))
    took, memory = [], []
    for _ in range(2):
        start = time.perf_counter()
        command = "source activate.sh && python bench_run.py --mode local inputs/bench.csv"
        done = subprocess.run(["bash", "-c", command], cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        took.append(time.perf_counter() - start)
        memory.append(int(done.stdout.split("MAXRSS ")[1]))
    with open(project / "results" / "tasks.csv", newline="") as file:
        spans = [(float(row["started"]), float(row["ended"])) for row in csv.DictReader(file)]
    rate = rows / (max(end for _, end in spans) - min(begin for begin, _ in spans))
    return rate, *took, memory[0]


def main(tasks=3000, rounds=3, long=False):
    project = ready("distributed==2026.8.0", "hyperqueue==0.27.0")
    for name in ("config.py", "driver.pbs"):
        text = (project / name).read_text()
        (project / name).write_text(text.replace("YOURPROJECT", "MyProj").replace("debug", "preemptable"))
    found = {}
    for i in range(rounds):
        for way in [*WAYS, "GNU parallel"]:
            figures, problem = parallel(tasks // 10) if way == "GNU parallel" else one(way, project, tasks)
            if problem:
                print(f"{way}: {problem}", flush=True)
            for name, value in figures.items():
                found.setdefault((way, name), []).append(value)
            shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
            print(f"round {i + 1}: {way}: {shown}", flush=True)
    print(
        f"\n{tasks} empty tasks, {rounds} rounds, {os.cpu_count()} cores; in brackets the ratio to the page:\n"
    )
    names = ["first", "empty", "busy 1 s", "busy 0.1 s", "log bytes", "CPU"]
    print(f"{'':14}" + "".join(f"{name:>26}" for name in names))
    for way in [*WAYS, "GNU parallel"]:
        cells = []
        for name in names:
            values, page = found.get((way, name)), found.get(("page", name))
            cell = "-"
            if values:
                cell = f"{statistics.median(values):.3g}"
                if page and len(page) == len(values) and min(page) > 0:
                    ratios = [a / b for a, b in zip(values, page, strict=True)]
                    cell += f" ({statistics.median(ratios):.2f}, {min(ratios):.2f}-{max(ratios):.2f})"
            cells.append(f"{cell:>26}")
        print(f"{way:14}" + "".join(cells))
    page = statistics.median(found.get(("page", "empty"), [float("nan")]))
    print("\nthrough run.py, --mode local, short rows in groups:")
    for rows, milliseconds in ((10_000, 0), (10_000, 1), (100_000, 0), *(((1_000_000, 0),) if long else ())):
        rate, whole, again, memory = through_run_py(project, rows, milliseconds)
        print(
            f"{rows:>9,} rows of {milliseconds} ms: {rate:,.0f} rows/s ({rate / page:.1f} x the page's empty tasks), "
            f"{whole:.1f} s in all; again with nothing to do {again:.1f} s; {memory} MB",
            flush=True,
        )
    shutil.rmtree(FOLDER / "ising-sweep" / "results", ignore_errors=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:] if word.isdigit()), long="--long" in sys.argv)
