"""Programs of other shapes than a sweep: rows through run.map, a steering loop, a model.

    .venv/bin/python benchmarks/shapes.py                     everything, about twelve minutes
    .venv/bin/python benchmarks/shapes.py steering rows       parts of it
    .venv/bin/python benchmarks/shapes.py rows --old REV      rows beside another revision of this template

Rows: empty ones, seconds of the whole run by `python run.py --mode local`, and memory of its process. Steering:
200 evaluations of 0.5 s on two workers by run.submit, each decided by the results so far; killed after 60,
restarted; beside the ideal of 50 s. Inference: 2,000 texts of 20 ms, in batches of 64, by a model that takes 5 s
to load, on two workers; beside the ideal of 25 s. Then killed half way, and run again.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]

from project import ready  # noqa: E402

ROWS = (10_000, 100_000, 1_000_000)
ROUNDS = 3
EMPTY = """
from parsl import python_app


@python_app
def ising(temperature, size, sweeps, seed):
    return {"value": 2 * temperature}
"""
MAP = """
import sys
from polaris import cli
from polaris.sources import table
import apps

inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)


def main(run):
    run.map(apps.ising, inputs).wait()


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
"""
MAP_BEFORE = """
import sys
from polaris import cli
import apps

INPUTS = {"temperature": float, "size": int, "sweeps": int, "seed": int}


def task(row):
    return apps.ising(**row)


if __name__ == "__main__":
    sys.exit(cli.main("inputs/sweep.csv", INPUTS, ("value",), task, lambda *_: None))
"""
STEER = """
import time
from concurrent.futures import FIRST_COMPLETED, wait
from parsl import python_app
from polaris.session import session


@python_app
def evaluate(x):
    import os, time
    time.sleep(0.5)
    with open("steering.txt", "a") as file:
        file.write(f"{x}\\n")
    return time.time() - 0.5, time.time()


with session(name="steering") as run:
    spans, going, asked = [], set(), 0
    while len(spans) < 200:
        while asked < 200 and len(going) < 2:
            going.add(run.submit(evaluate, x=asked))
            asked += 1
        ended, going = wait(going, return_when=FIRST_COMPLETED)
        spans += [future.result() for future in ended]
    print("SPAN", min(a for a, _ in spans), max(b for _, b in spans))
"""
MODEL = """
import functools, os, time
from parsl import python_app


def note(name, *words):
    ledger = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(ledger, (" ".join(words) + "\\n").encode())
    os.close(ledger)


@functools.cache
def model():
    note("LOADS", str(os.getpid()))
    time.sleep(5)
    return len


@python_app
def embed(rows):
    use = model()
    note("TEXTS", *[row["text"] for row in rows])
    time.sleep(0.02 * len(rows))
    return [use(row["text"]) for row in rows]
"""
BATCHES = """
import sys
from polaris import cli
from polaris.sources import lines
import apps

texts = lines("inputs/texts.txt")


def main(run):
    run.map(apps.embed, texts, batch=64).wait()


if __name__ == "__main__":
    sys.exit(cli.main(main, texts))
"""


def shell(project, command, **options):
    return subprocess.run(
        ["bash", "-c", f"source activate.sh && exec {command}"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def timed(project):
    """(rows a second from the first start to the last end, MB of the process)"""
    shutil.rmtree(project / "results", ignore_errors=True)
    told = (
        "import resource, subprocess, sys; r = subprocess.run([sys.executable, 'run.py', '--mode', 'local'])"
    )
    told += (
        "; print('MB', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(r.returncode)"
    )
    done = shell(project, f'python -c "{told}"')
    if done.returncode:
        raise SystemExit(done.stdout[-2000:])
    start, end, rows = float("inf"), 0.0, 0
    with open(project / "results" / "tasks.csv") as file:
        names = file.readline().strip().split(",")
        at = names.index("started"), names.index("ended")
        for line in file:
            cells = line.split(",")
            start, end = min(start, float(cells[at[0]])), max(end, float(cells[at[1]]))
            rows += 1
    return rows / (end - start), float(done.stdout.rpartition("MB ")[2].split()[0])


def older(revision, project):
    """A project baked from another revision, with the environment of this one."""
    folder = ROOT / ".bench" / "older"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x"], cwd=folder, input=archive, check=True)
    cookiecutter = Path(sys.executable).with_name("cookiecutter")
    env = {**os.environ, "COOKIECUTTER_CONFIG": os.devnull}
    bake = [cookiecutter, folder, "--no-input", "create_venv=no", "project_name=before"]
    subprocess.run(bake, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    (folder / "before" / ".venv").symlink_to(project / ".venv")
    return folder / "before"


def rows(project, revision):
    projects = {"run.map": (project, MAP)}
    if revision:
        projects[revision] = (older(revision, project), MAP_BEFORE)
    for path, program in projects.values():
        (path / "apps.py").write_text(EMPTY)
        (path / "run.py").write_text(program)
    for number in ROWS:
        rates = {name: [] for name in projects}
        for _ in range(1 if number > 100_000 else ROUNDS):
            for name, (path, _) in projects.items():
                with open(path / "inputs" / "sweep.csv", "w") as file:
                    file.write("temperature,size,sweeps,seed\n")
                    file.writelines(f"{i / 100},16,20,1\n" for i in range(number))
                rates[name].append(timed(path))
        for name, found in rates.items():
            rate = statistics.median(rate for rate, _ in found)
            memory = statistics.median(memory for _, memory in found)
            print(f"{number:>9,} rows  {name:10} {rate:9,.0f} rows/s  {memory:6.0f} MB")
        if revision:
            ratios = [a / b for (a, _), (b, _) in zip(rates["run.map"], rates[revision], strict=True)]
            print(
                f"{'':>9}       ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            )


def steering(project):
    (project / "steer.py").write_text(STEER)
    shutil.rmtree(project / "results" / "steering", ignore_errors=True)
    ran = project / "steering.txt"
    ran.unlink(missing_ok=True)
    began = time.time()
    command = ["bash", "-c", "source activate.sh && exec python steer.py"]
    first = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, start_new_session=True)
    while not ran.exists() or len(ran.read_text().split()) < 60:
        time.sleep(0.02)
    before = ran.stat().st_mtime
    first.send_signal(signal.SIGKILL)
    first.wait()
    recorded = len((project / "results" / "steering" / "evaluate.csv").read_text().splitlines()) - 1
    said = shell(project, "python steer.py").stdout
    calls = ran.read_text().split()
    start, end = map(float, said.partition("SPAN ")[2].split()[:2])
    first_start = start  # of a call of the first run: its result is in the table
    lines = (project / "results" / "steering" / "tasks.csv").read_text().splitlines()
    names = lines[0].split(",")
    starts = sorted(float(dict(zip(names, line.split(","), strict=True))["started"]) for line in lines[1:])
    second_start = next(at for at in starts if at > before)
    spent = (before - first_start) + (end - second_start)
    twice = len(calls) - len(set(calls))
    print(f"steering, 200 x 0.5 s on two workers, killed after {recorded} were recorded: {spent:.1f} s, "
          f"{spent / 50:.3f} x the ideal; evaluations made twice: {twice} (of those recorded: "
          f"{len(calls) - 200 - max(0, twice)}); in all {time.time() - began:.0f} s")  # fmt: skip


def inference(project):
    (project / "apps.py").write_text(MODEL)
    (project / "run.py").write_text(BATCHES)
    (project / "inputs" / "texts.txt").write_text("".join(f"text-{i}\n" for i in range(2000)))
    results = project / "results"

    def anew():
        shutil.rmtree(results, ignore_errors=True)
        for name in ("LOADS", "TEXTS"):
            (project / name).unlink(missing_ok=True)

    def lines_of(path):
        return path.read_text().splitlines() if path.exists() else []

    def run():
        began = time.time()
        done = shell(project, "python run.py --mode local")
        assert done.returncode == 0, done.stdout
        return time.time() - began

    anew()
    whole = run()
    tries = [line.split(",") for line in lines_of(results / "tasks.csv")]
    started, ended = (tries[0].index(name) for name in ("started", "ended"))
    span = max(float(line[ended]) for line in tries[1:]) - min(float(line[started]) for line in tries[1:])
    loads = len(lines_of(project / "LOADS"))
    print(f"inference, 2,000 texts of 20 ms, a load of 5 s, two workers: {span:.1f} s, {span / 25:.3f} x the ideal "
          f"({whole:.1f} s with the start and end of run.py, {whole / 25:.3f} x); {loads} loads")  # fmt: skip
    anew()
    command = ["bash", "-c", "source activate.sh && exec python run.py --mode local"]
    first = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, start_new_session=True)
    while len(lines_of(results / "results.csv")) < 1000:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    recorded = [line.split(",")[0] for line in lines_of(results / "results.csv")[1:]]
    time.sleep(3)  # what workers had in hand ends, and nobody hears of it
    run()
    texts = [text for line in lines_of(project / "TEXTS") for text in line.split()]
    again = sum(texts.count(text) - 1 for text in recorded)
    loads = len(lines_of(project / "LOADS")) - loads
    print(f"killed after {len(recorded)} were recorded, and run again: {loads} more loads, texts computed twice: "
          f"{len(texts) - len(set(texts))}, of those recorded: {again}; results: "
          f"{len(lines_of(results / 'results.csv')) - 1}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help="rows, steering, inference")
    parser.add_argument("--old", help="a revision of this template to compare rows with")
    args = parser.parse_args()
    parts = args.parts or ["steering", "inference", "rows"]
    project = ready()
    if "steering" in parts:
        steering(project)
    if "inference" in parts:
        inference(project)
    if "rows" in parts:
        rows(project, args.old)
