"""`make bench`: the generated project beside ALCF's page and other tools, on this machine, in one run.

Four workers each, in turn, several rounds; medians, and of each round the ratio to the page with its spread.
Parsl runs as it would on Polaris, its block a job on the tests' stand-in for PBS, and so does dask-jobqueue's
PBSCluster; the others run locally, which spares them that. What is measured:

    first        seconds from the start of the configuration to the first result
    empty        empty tasks a second, after that
    bash         tasks a second that start a shell command, `true`
    1 ms         tasks a second that sleep so long
    1 MB         tasks a second that take 1 MB and give it back
    busy         share of the workers' time that tasks of 1 s, 0.1 s, 0.01 s filled, from first start to last end
    CPU          microseconds of the submitting process, for each empty task
    MB           memory of the submitting process in the end
    log bytes    written into the run directory for each empty task, and `node bytes` for each node at its start
    files        in the run directory for each empty task, and `node files` for each node

Then rows through run.py, and once what `peers.py` measures, without its heavy peers: about a quarter of an hour in all.
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

import child  # noqa: E402
from pbs.server import PBS  # noqa: E402
from project import measured  # noqa: E402

LIMIT = 600  # seconds for a child
COMMON = """
import json, os, resource, sys, time
from pathlib import Path
TASKS = int(sys.argv[1])

def used_by(folder):
    files = [p for p in Path(folder).rglob("*") if p.is_file()] if folder else []
    return sum(p.stat().st_size for p in files), len(files)

def nothing(i):
    return i

def same(data):
    return data

def command(i):
    import subprocess
    return subprocess.run("true", shell=True).returncode

def nap(seconds):
    import time
    began = time.time()
    time.sleep(seconds)
    return began, time.time()

def filled(spans):
    return sum(b - a for a, b in spans) / 4 / (max(b for _, b in spans) - min(a for a, _ in spans))

def rate(submit, results, function, arguments):
    start = time.perf_counter()
    results([submit(function, argument) for argument in arguments])
    return len(arguments) / (time.perf_counter() - start)

def measure(submit, results, logs=None):
    # submit(function, argument) -> handle; results(handles) -> list
    results([submit(nothing, 0)])
    first = time.perf_counter() - begun
    node_bytes, node_files = used_by(logs)
    results([submit(nothing, i) for i in range(100)])  # until every worker is there
    (size, files), used = used_by(logs), time.process_time()
    empty = rate(submit, results, nothing, range(TASKS))
    used = time.process_time() - used
    size_now, files_now = used_by(logs)
    found = {"first": first, "empty": empty, "CPU": used / TASKS * 1e6}
    if logs:
        found |= {"log bytes": (size_now - size) / TASKS, "files": (files_now - files) / TASKS}
        found |= {"node bytes": node_bytes, "node files": node_files}
    found["bash"] = rate(submit, results, command, range(TASKS // 10))
    found["1 ms"] = rate(submit, results, nap, [0.001] * TASKS)
    found["1 MB"] = rate(submit, results, same, [bytes([i]) * 1_000_000 for i in range(100)])
    for seconds, number in ((1.0, 24), (0.1, 120), (0.01, 800)):
        found[f"busy {seconds:g} s"] = filled(results([submit(nap, seconds) for _ in range(number)]))
    found["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("MEASURED", json.dumps(found), flush=True)

begun = time.perf_counter()
"""
PARSL = """
import parsl
apps = {f: parsl.python_app(f) for f in (nothing, same, nap)}

@parsl.bash_app
def command_app(i):
    return "true"

apps[command] = command_app
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
JOBQUEUE = """
from dask.distributed import Client
from dask_jobqueue import PBSCluster
if __name__ == "__main__":
    cluster = PBSCluster(
        cores=4, processes=4, memory="16GB", queue="preemptable", account="MyProj", walltime="1:00:00",
        resource_spec="select=1:system=polaris", job_extra_directives=["-l filesystems=home:eagle"],
        job_script_prologue=[f"source {os.path.abspath('activate.sh')}"], scheduler_options={"dashboard": False},
        log_directory="jobqueue",
    )
    cluster.scale(jobs=1)
    with cluster, Client(cluster) as client:
        measure(lambda f, x: client.submit(f, x, pure=False), client.gather)
"""
HQ = """
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
    found = {"first": first, "empty": TASKS // 100 / (time.perf_counter() - start)}
    start, job = time.perf_counter(), Job()
    for _ in range(TASKS // 10):
        job.program(["sh", "-c", "true"])
    client.wait_for_jobs([client.submit(job)])
    found["bash"] = TASKS // 10 / (time.perf_counter() - start)
    print("MEASURED", json.dumps(found), flush=True)
os._exit(0)
"""
WAYS = {
    "page": COMMON + PARSL + PAGE,
    "generated": COMMON + PARSL + GENERATED,
    "Dask": COMMON + DASK,
    "dask-jobqueue": COMMON + JOBQUEUE,
    "HyperQueue": COMMON + HQ,
}


PARALLEL = "GNU parallel"


def one(way, project, tasks):
    """Run one way once; returns its figures, and what it printed where it came to none."""
    with tempfile.TemporaryDirectory() as folder, PBS(folder, home=folder, nodes=1, kill_delay=1) as pbs:
        for left in ("page-runinfo", "runinfo", "jobqueue", ".hq-server"):
            shutil.rmtree(project / left, ignore_errors=True)
        figures, printed = measured(project, WAYS[way], pbs, tasks)
    return (figures, None) if figures else ({}, printed)


def parallel(tasks):
    """GNU parallel with one slot a GPU: a shell command for each task."""
    if shutil.which("parallel") is None:
        return {}, "GNU parallel is not installed (apt-get install parallel)"
    start = time.perf_counter()
    lines = "".join(f"{i}\n" for i in range(tasks))
    command = ["parallel", "-j4", "CUDA_VISIBLE_DEVICES=$(({%}-1)) true {}"]
    subprocess.run(command, input=lines, text=True, check=True, stderr=subprocess.DEVNULL, timeout=LIMIT)
    return {"bash": tasks / (time.perf_counter() - start)}, None


SWEEPER = """
import resource
import sys

from polaris import cli
from polaris.sources import table

import apps

inputs = table("inputs/bench.csv", {order}temperature=float, size=int, sweeps=int, seed=int)


def main(run):
    run.map(apps.nothing, inputs, outputs=())


if __name__ == "__main__":
    status = cli.main(main, inputs)
    print("MAXRSS", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    sys.exit(status)
"""
APP = """
from parsl import python_app


@python_app
def nothing(temperature, size, sweeps, seed):
    import time
    {work}
    return {{}}
"""


def sweeper(project, work, longest_first=None):
    """A program whose rows do some work, a line of Python, on the columns of the sample."""
    order = f"longest_first={longest_first!r}, " if longest_first else ""
    (project / "bench_run.py").write_text(SWEEPER.format(order=order))
    (project / "apps.py").write_text(APP.format(work=work))
    shutil.rmtree(project / "results", ignore_errors=True)


def sweep(project, rows=None, nodes=None):
    """Run it, on (temperature, sweeps) pairs or what is there; returns its seconds and memory, MB.

    nodes: of a block on the stand-in for PBS; None: in mode local."""
    if rows is not None:
        with open(project / "inputs" / "bench.csv", "w") as file:
            file.write("temperature,size,sweeps,seed\n")
            file.writelines(f"{temperature},16,{sweeps},1\n" for temperature, sweeps in rows)
    start = time.perf_counter()
    command = "source activate.sh && exec python bench_run.py inputs/bench.csv --mode "
    if nodes:
        config = (project / "config.py").read_text()
        (project / "config.py").write_text(
            config.replace("nodes_per_block = 1", f"nodes_per_block = {nodes}")
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            PBS(folder, home=folder, nodes=nodes, kill_delay=1) as pbs,
        ):
            done = said(["bash", "-c", command + "blocks"], project, pbs.env())
        (project / "config.py").write_text(config)
    else:
        done = said(["bash", "-c", command + "local"], project)
    return time.perf_counter() - start, int(done.split("MAXRSS ")[1].split()[0])


def said(command, folder, env=None):
    """What a command prints; it must end with 0."""
    printed, status = child.run(list(map(str, command)), folder, env or os.environ, LIMIT)
    assert status == 0, f"status {status} ({LIMIT} s at most): {printed[-2000:]}"
    return printed


def through_run_py(project, rows, milliseconds, nodes=None):
    """Rows through run.py, then once more: rows a second between the first start and the last end, seconds of
    the whole run and of the one that finds all rows done, and the memory of run.py, MB."""
    sweeper(project, f"time.sleep({milliseconds / 1000})" if milliseconds else "pass")
    took, memory = sweep(project, ((i / 100, 20) for i in range(rows)), nodes)
    again, _ = sweep(project)
    with open(project / "results" / "tasks.csv", newline="") as file:
        spans = [(float(row["started"]), float(row["ended"])) for row in csv.DictReader(file)]
    rate = rows / (max(end for _, end in spans) - min(begin for begin, _ in spans))
    return rate, took, again, memory


def tail(project, longest_first):
    """120 rows of 0.1 s, then one of 4 s: (share of the workers' time in the report's tail, seconds of all)."""
    sweeper(project, "time.sleep(sweeps / 1000)", longest_first)
    took, _ = sweep(project, ((i / 100, 100 if i < 120 else 4000) for i in range(121)))
    read = "from pathlib import Path; from polaris import runs, spent; "
    read += "print(list(runs.read(Path('results')).values())[-1].shares[spent.TAIL])"
    share = said([project / ".venv" / "plain" / "bin" / "python", "-c", read], project)
    return float(share.split()[-1]), took


def generation(project, rounds):
    """Medians: seconds of a bake without the environment, and of `run.py --check`."""
    times = {"bake": [], "check": []}
    env = {**os.environ, "COOKIECUTTER_CONFIG": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            bake = [Path(sys.executable).with_name("cookiecutter"), ROOT, "--no-input", "create_venv=no"]
            for name, command, where in (
                ("bake", bake, folder),
                ("check", [project / ".venv" / "plain" / "bin" / "python", "run.py", "--check"], project),
            ):
                start = time.perf_counter()
                subprocess.run(
                    command, cwd=where, env=env, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT
                )
                times[name].append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times.values()]


def rounds_of(project, tasks, rounds):
    """{(way, figure): [its value in each round]}, the ways in turn."""
    found = {}
    for i in range(rounds):
        for way in [*WAYS, PARALLEL]:
            figures, problem = parallel(tasks // 10) if way == PARALLEL else one(way, project, tasks)
            if problem:
                print(f"{way}: {problem}", flush=True)
            for name, value in figures.items():
                found.setdefault((way, name), []).append(value)
            shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
            print(f"round {i + 1}: {way}: {shown}", flush=True)
    return found


def compared(found, way, name, to="page"):
    """[median of a figure] and, where the other way has it too, of each round's ratio: median, smallest, largest."""
    values, others = found.get((way, name), []), found.get((to, name), [])
    shown = [statistics.median(values)] if values else []
    if values and len(others) == len(values) and min(others) > 0:
        ratios = [a / b for a, b in zip(values, others, strict=True)]
        shown += [statistics.median(ratios), min(ratios), max(ratios)]
    return shown


def main(tasks=3000, rounds=3):
    import peers  # which uses this module

    project = peers.prepared()
    shutil.rmtree(project / "results", ignore_errors=True)  # of a benchmark that was stopped
    bake, check = generation(project, rounds)
    found = rounds_of(project, tasks, rounds)
    print(
        f"\n{tasks} empty tasks, {rounds} rounds, {os.cpu_count()} cores; in brackets the ratio to the page:\n"
    )
    ways = [*WAYS, PARALLEL]
    print(f"{'':11}" + "".join(f"{way:>27}" for way in ways))
    for name in dict.fromkeys(name for _, name in found):
        cells = []
        for way in ways:
            shown = compared(found, way, name)
            cell = f"{shown[0]:.4g}" if shown else "-"
            if shown[1:] and way != "page":
                cell += " ({:.2f}, {:.2f}-{:.2f})".format(*shown[1:])
            cells.append(f"{cell:>27}")
        print(f"{name:11}" + "".join(cells))
    page, page_ms = (statistics.median(found[("page", name)]) for name in ("empty", "1 ms"))
    print("\nthrough run.py, short rows in groups:")
    through = {}
    sweeps = [
        (10_000, 0, None),
        (100_000, 0, None),
        (1_000_000, 0, None),
        (200_000, 1, 8),
    ]
    for rows, milliseconds, nodes in sweeps:
        swept = through_run_py(project, rows, milliseconds, nodes)
        rate, whole, again, memory = through[rows, milliseconds] = swept
        where = f"a block of {nodes} nodes" if nodes else "mode local"
        print(
            f"{rows:>9,} rows of {milliseconds} ms, {where}: {rate:,.0f} rows/s, {whole:.1f} s in all; "
            f"again with nothing to do {again:.1f} s; {memory} MB",
            flush=True,
        )
    before, after = tail(project, None), tail(project, "sweeps")
    print(
        f"120 rows of 0.1 s, then one of 4 s: tail {before[0]:.1%} of the workers' time, {before[1]:.1f} s in all;"
    )
    print(f"with longest_first = 'sweeps': tail {after[0]:.1%}, {after[1]:.1f} s")
    print(f"a bake without the environment {bake:.2f} s; run.py --check {check:.2f} s")
    others = peers.measure(project, list(peers.PARTS), 1, light=True)
    goals = [
        ("empty tasks a second, single, to the page's", compared(found, "generated", "empty")[1], 2.5, True),
        ("empty rows a second, through run.py, to the page's", through[10_000, 0][0] / page, 20, True),
        ("empty tasks a second, to Dask's", compared(found, "generated", "empty", "Dask")[1], 1.5, True),
        ("1 ms rows a second, through run.py, to the page's", through[200_000, 1][0] / page_ms, 20, True),
        ("first result, 4 workers, to the page's", compared(found, "generated", "first")[1], 0.4, False),
        ("log bytes a task, to the page's", compared(found, "generated", "log bytes")[1], 0.1, False),
        ("busy share of 1 s tasks", compared(found, "generated", "busy 1 s")[0], 0.98, True),
        ("resume of 1,000,000 rows done, s", through[1_000_000, 0][2], 15, False),
        ("memory, 1,000,000 rows to 10,000", through[1_000_000, 0][3] / through[10_000, 0][3], 1.2, False),
        ("a bake without environment, s", bake, 0.5, False),
        ("run.py --check, s", check, 0.7, False),
    ]
    print("\ngoals:")
    print("\n".join(peers.told(goals + peers.goals(others))))
    shutil.rmtree(project / "results", ignore_errors=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
