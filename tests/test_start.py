"""How the workers of a node start: of one process that has all imported; and what a dying one takes along."""

import json
import os
import re
import textwrap

import pytest
from conftest import edit, run, user

pytestmark = pytest.mark.slow

HEAD = """
import json, os, signal, sys, time
import parsl
from parsl import python_app
from config import fresh_config

def config(workers=4, heartbeat=1):
    made = fresh_config("local")
    executor = made.executors[0]
    executor.max_workers_per_node = workers
    executor.cores_per_worker = 1e-3
    executor.heartbeat_period = heartbeat
    return made

@python_app
def seen(wait=0.3):
    import os, random, sys, time
    import numpy
    time.sleep(wait)
    drawn = [random.random(), float(numpy.random.random())]
    with open(f"/proc/{os.getppid()}/cmdline") as file:
        parent = "server" if "forkserver" in file.read() else "pool"
    threads = os.environ["OMP_NUM_THREADS"]
    return os.environ["PARSL_WORKER_RANK"], os.getpid(), os.getppid(), parent, threads, drawn

def every(number=4):
    found = {}
    while len(found) < number:
        for future in [seen() for _ in range(number)]:
            rank, *rest = future.result()
            found.setdefault(rank, rest)
    return found
"""


def script(project, text, timeout=120, **extra):
    """What a script of the user's shows as JSON, a list of lines; and all it printed."""
    (project / "mine.py").write_text(HEAD + textwrap.dedent(text))
    done = user(project, "python mine.py", timeout=timeout, **extra)
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", "{"))], done.stdout


def test_workers_come_from_one_process_and_draw_numbers_of_their_own(project):
    """numpy is imported before the fork, its global generator with it; what apps.py makes is each worker's own."""
    with open(project / "apps.py", "a") as file:
        file.write(
            "\nimport colorsys\nimport numpy as np\n\nRNG = np.random.default_rng()\nMADE_BY = __import__('os').getpid()\n"
        )
    (found, own), _ = script(
        project,
        """
        @python_app
        def of_apps():
            import os, sys, time
            had = "colorsys" in sys.modules, "apps" in sys.modules
            import apps
            time.sleep(0.3)
            return os.getpid() == apps.MADE_BY, float(apps.RNG.random()), had
        if __name__ == "__main__":
            with parsl.load(config(8)):
                print(json.dumps(every(8)))
                print(json.dumps([future.result() for future in [of_apps() for _ in range(8)]]))
        """,
    )
    assert len({server for _, server, *_ in found.values()}) == 1
    assert {parent for _, _, parent, *_ in found.values()} == {"server"}
    assert len({threads for *_, threads, _ in found.values()}) == 1
    drawn = [number for *_, numbers in found.values() for number in numbers]
    assert len(set(drawn)) == 16, drawn
    assert all(mine for mine, _, _ in own) and len({number for _, number, _ in own}) == 8, own
    assert all(had == [True, False] for _, _, had in own), own


UNSAFE = {
    "a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='poller').start()",
        "poller runs as a thread",
    ),
    "a generator": (
        "import random\nRNG = random.Random()",
        "a package keeps a random generator, random.Random,",
    ),
    "MPI": ("import sys\nsys.modules['mpi4py.MPI'] = sys", "mpi4py.MPI was imported: MPI starts once"),
    "a GPU": ("FILE = open(__file__.replace('.py', '.txt'))", "a GPU was used"),
    "its end": ("import os\nos._exit(3)", "the process that imports for all has ended"),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_what_no_worker_may_share_has_each_start_by_itself_and_is_said(project, what):
    code, said = UNSAFE[what]
    packages = next(project.glob(".venv/plain/lib/python3*/site-packages"))
    (packages / "mine_shared.py").write_text(code + "\n")
    (packages / "mine_shared.txt").write_text("")
    if what == "a GPU":  # as CUDA has a device open: no such file can be made here
        edit(
            project,
            "polaris/imported.py",
            'DEVICES = "/dev/nvidia"',
            f'DEVICES = "{packages.resolve()}/mine_shared.txt"',
        )
    with open(project / "apps.py", "a") as file:
        file.write("\nif 'polaris.fork_server' in __import__('sys').modules:\n    import mine_shared\n")
    try:
        done = user(project, "python run.py --mode local --only 2", timeout=120)
        assert done.returncode == 0 and "2 of 2 tasks done" in done.stdout, done.stdout
        assert f"workers start one by one: {said}" in done.stdout, done.stdout
        (found,), _ = script(
            project,
            "if __name__ == '__main__':\n    with parsl.load(config()):\n        print(json.dumps(every()))\n",
        )
        assert {parent for _, _, parent, *_ in found.values()} == {"pool"}
        assert len({number for *_, numbers in found.values() for number in numbers}) == 8
    finally:
        (packages / "mine_shared.py").unlink()


@pytest.mark.parametrize("binding", ["GOMP_CPU_AFFINITY=0", "OMP_PROC_BIND=close"])
def test_bindings_that_libraries_read_as_they_load_keep_workers_apart(project, binding):
    with open(project / "activate.sh", "a") as file:
        file.write(f"\nexport {binding}\n")
    done = user(project, "python run.py --mode local --only 2", timeout=120)
    name = binding.partition("=")[0]
    assert done.returncode == 0 and f"workers start one by one: {name} is set" in done.stdout, done.stdout


def test_idle_workers_that_are_killed_take_no_lock_along(project):
    """Out of memory, say. One of them always waited for the next task with the queue's lock held."""
    (before, after), _ = script(
        project,
        """
        if __name__ == "__main__":
            with parsl.load(config()):
                found = every()
                print(json.dumps(found))
                for round in range(3):
                    for pid, *_ in found.values():
                        os.kill(pid, signal.SIGKILL)
                    found = every()
                print(json.dumps(found))
        """,
    )
    assert not {pid for pid, *_ in before.values()} & {pid for pid, *_ in after.values()}
    assert len({number for *_, numbers in after.values() for number in numbers}) == 8, after


def test_workers_end_with_the_process_they_came_from_and_are_replaced(project):
    """Else two would have the same GPU. What they had in hand is run again."""
    (before, after, results), said = script(
        project,
        """
        if __name__ == "__main__":
            with parsl.load(config()):
                found = every()
                print(json.dumps(found))
                slow = [seen(2) for _ in range(4)]
                time.sleep(1)
                os.kill(next(iter(found.values()))[1], signal.SIGKILL)
                print(json.dumps(every()))
                print(json.dumps([future.result()[1] for future in slow]))
                gone = [pid for pid, *_ in found.values() if os.path.exists(f"/proc/{pid}")]
                assert not gone, gone
        """,
    )
    servers = [{server for _, server, *_ in found.values()} for found in (before, after)]
    assert len(servers[0]) == len(servers[1]) == 1 and servers[0] != servers[1], said
    assert set(results) <= {pid for pid, *_ in after.values()}, said


def test_tasks_and_results_of_any_size_go_through(project):
    sizes = [1, 30_000, 40_000, 1_000_000, 60_000_000]
    (found,), _ = script(
        project,
        f"""
        @python_app
        def turned(data):
            return data[::-1]
        if __name__ == "__main__":
            with parsl.load(config(2)):
                given = [os.urandom({max(sizes)})[:size] for size in {sizes} * 3]
                came = [future.result() for future in [turned(data) for data in given]]
                print(json.dumps([a == b[::-1] for a, b in zip(given, came)]))
        """,
    )
    assert found == [True] * len(sizes) * 3


def test_what_the_modules_of_the_project_import_is_found_without_loading_them(project):
    (project / "apps.py").write_text(
        "import math, os.path as path\nfrom typing import TYPE_CHECKING\nimport other\nfrom . import none\n"
        "if TYPE_CHECKING:\n    import never\ntry:\n    import torch\nexcept ImportError:\n    import numpy\n"
        "class A:\n    import json\ndef f():\n    import later\nif __name__ == '__main__':\n    import neither\n1 / 0\n"
    )
    (project / "other.py").write_text("import apps\nfrom matplotlib.figure import Figure\n")
    show = "from polaris import imported, machine; print(*imported.packages_of(machine.PROJECT / 'apps.py'))"
    said = run([os.path.join(project, ".venv/plain/bin/python"), "-c", show], project)
    assert said.stdout.split() == [
        "math",
        "os.path",
        "typing",
        "matplotlib.figure",
        "torch",
        "numpy",
        "json",
    ], said.stdout


@pytest.mark.parametrize(
    "given, said",
    [
        ('["toch"]', "has 'toch': there is no such package in this environment (for example [])"),
        ('["numpy", "apps"]', "has 'apps': it is of this project"),
        ('["mpi4py"]', "has 'mpi4py': MPI starts once in each process"),
        ('["num py"]', "has 'num py': that is no name of a package"),
        ('"numpy"', "is no list of packages"),
        ("[1]", "is no list of packages"),
        ("None", "is no value of this option"),
    ],
)
def test_a_wrong_preload_is_refused_before_anything_starts(project, given, said):
    edit(project, "config.py", 'preload = ["numpy"]', f"preload = {given}")
    for command in ("--check", "--mode local"):
        done = user(project, f"python run.py {command}")
        assert done.returncode in (1, 2) and re.search(r"config.py line \d+: preload", done.stdout), (
            done.stdout
        )
        assert said in done.stdout and "Traceback" not in done.stdout, done.stdout
