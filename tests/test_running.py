"""A run to its end: on a laptop, in a job, in blocks; and once more, when nothing is left to do."""

import json
import os
import re
import shlex
import shutil
import time

import pytest
from conftest import Terminal, edit, results, run, starts_locally, sweep, user

pytestmark = pytest.mark.slow

TABLE = {  # GPU -> hardware threads next to it, from the user guide
    "0": "24-31,56-63",
    "1": "16-23,48-55",
    "2": "8-15,40-47",
    "3": "0-7,32-39",
}


def test_the_default_sweep_on_a_laptop_agrees_with_the_exact_curve(project):
    done = user(project, "python run.py")
    assert done.returncode == 0, done.stdout
    assert "mode local: " in done.stdout and "44 of 44 tasks done" in done.stdout
    rows = results(project, "magnetization.csv")
    assert len(rows) == 11 and {row["seeds"] for row in rows} == {"4"}
    for row in rows:
        if row["temperature"] in ("1.8", "2.0"):
            assert abs(float(row["magnetization"]) - float(row["exact"])) < 0.02
            assert (
                abs(float(row["magnetization"]) - float(row["exact"]))
                < 10 * float(row["magnetization_error"]) + 1e-3
            )
        if float(row["temperature"]) >= 2.8:
            assert float(row["magnetization"]) < 0.05
    assert (project / "results" / "magnetization.png").read_bytes().startswith(b"\x89PNG")
    first = results(project)
    assert {row["status"] for row in first} == {"done"} and {row["device"] for row in first} == {
        "CPU (numpy)"
    }
    again = user(project, "python run.py")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert results(project) == first


def test_the_projects_own_tests_pass(project):
    done = user(project, "python -m pip install -q pytest 2>&1 && python -m pytest -q")
    assert re.search(r"\d+ passed", done.stdout) and done.returncode == 0, done.stdout


def test_only_what_is_missing_is_computed(project):
    sweep(project, 6)
    user(project, "python run.py --mode local")
    lines = (project / "results" / "results.csv").read_text().splitlines(keepends=True)
    (project / "results" / "results.csv").write_text(
        "".join(lines[:3]) + lines[3][:20]
    )  # half a row at the end
    sweep(project, 8)
    done = user(project, "python run.py --mode local")
    assert "8 tasks, 2 of them done before" in done.stdout and "8 of 8 tasks done" in done.stdout
    assert (
        sorted(float(row["temperature"]) for row in results(project)) == [1.5 + 0.01 * i for i in range(8)]
        or len({row["temperature"] for row in results(project)}) == 8
    )
    assert len(results(project)) == 8


def placed_as_the_table_says(project, nodes):
    """Every worker of every node worked, each on the GPU and the hardware threads of the table."""
    rows = results(project)
    assert {(row["gpu"], row["cores"]) for row in rows} == set(TABLE.items())
    assert {(row["host"], row["gpu"]) for row in rows} == {(host, gpu) for host in nodes for gpu in TABLE}


def test_qsub_runs_the_ensemble_on_the_nodes_of_the_job(polaris, pbs):
    project = polaris()
    sweep(project, 48, sweeps=2000)
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    ended = pbs.wait(job, timeout=90)
    log = (project / f"ising-sweep.o{job.split('.')[0]}").read_text()
    assert ended["Exit_status"] == 0, log
    assert "mode job: 8 workers on 2 node(s)" in log and "48 of 48 tasks done" in log
    placed_as_the_table_says(project, ended["nodes"])
    assert [rank["host"] for rank in pbs.ranks()] == ended["nodes"]
    assert not list(project.glob("*.e*")), "one log a job"
    # Once more: the job ends by itself, without a worker.
    second = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(second, timeout=30)["Exit_status"] == 0
    assert "nothing to do" in (project / f"ising-sweep.o{second.split('.')[0]}").read_text()
    assert len(pbs.ranks()) == 2 and len(results(project)) == 48


def test_blocks_finish_the_ensemble_from_a_login_node(polaris, pbs):
    project = polaris()
    sweep(project, 48, sweeps=2000)
    done = user(project, "python run.py --mode blocks", pbs)
    assert done.returncode == 0, done.stdout
    assert "up to 1 job(s) of 2 node(s) in queue debug" in done.stdout
    (block,) = pbs.jobs().values()
    assert block["job_state"] == "F" and block["Account_Name"] == "MyProj" and block["queue"] == "debug"
    wanted = {
        "select": "2:ncpus=64:system=polaris:ngpus=4",
        "place": "scatter",
        "filesystems": "home:eagle",
        "walltime": "01:00:00",
    }
    assert {name: block["Resource_List"][name] for name in wanted} == wanted
    assert block["Rerunable"] == "False"
    placed_as_the_table_says(project, block["nodes"])
    again = user(project, "python run.py --mode blocks", pbs)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert len(pbs.submissions) == 1


def test_a_driver_job_submits_blocks_to_another_queue(polaris, pbs):
    project = polaris(nodes="1")
    sweep(project, 8)
    text = (project / "config.py").read_text()
    (project / "config.py").write_text(text.replace('queue = "debug"', 'queue = "preemptable"'))
    job = user(project, "qsub -v MODE=blocks driver.pbs", pbs).stdout.strip()
    ended = pbs.wait(job, timeout=90)
    assert ended["Exit_status"] == 0, (project / "ising-sweep.o0").read_text()
    assert [s["queue"] for s in pbs.submissions] == ["debug", "preemptable"]
    assert len(results(project)) == 8


def test_each_node_starts_from_its_own_copy_of_the_environment(polaris, pbs, tmp_path, ready):
    project, scratch = polaris(), tmp_path / "scratch"
    scratch.mkdir()
    starts_locally(project, scratch, "apps.py")
    sweep(project, 16, sweeps=600)
    done = user(project, "python run.py --mode blocks", pbs)
    assert done.returncode == 0 and "packing the environment, once" in done.stdout, done.stdout
    (copy,) = scratch.iterdir()  # whole, and nothing half unpacked beside it
    assert {row["device"] for row in results(project)} == {str(copy)}
    (block,) = pbs.jobs().values()
    unpacked = [rank["host"] for rank in pbs.ranks() if "local_environment.sh" in " ".join(rank["argv"])]
    assert sorted(unpacked) == sorted(block["nodes"])
    again = user(project, "python run.py --mode blocks --dry-run", pbs)
    assert "local_environment.sh" in again.stdout and "packing" not in again.stdout
    (site,) = (ready[0] / ".venv" / "plain").glob("lib/python*/site-packages")
    os.utime(site)  # as pip install does
    assert "packing" in user(project, "python run.py --mode blocks --dry-run", pbs).stdout


def test_a_node_that_cannot_unpack_the_environment_costs_nothing_but_time(polaris, pbs, tmp_path, ready):
    project = polaris()
    starts_locally(project, tmp_path / "no-such-disk", "apps.py")
    sweep(project, 8)
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, timeout=90)["Exit_status"] == 0
    assert {row["device"] for row in results(project)} == {str(ready[0] / ".venv" / "plain")}
    said = "".join(path.read_text() for path in project.glob("runinfo/*/submit_scripts/*err"))
    assert "could not be unpacked" in said and "is used instead" in said, said


SHARED = {  # the table's threads of each GPU, divided: two cores and their second threads are 2 x 2
    "2": {"0": ["24-27,56-59", "28-31,60-63"], "1": ["16-19,48-51", "20-23,52-55"],
          "2": ["8-11,40-43", "12-15,44-47"], "3": ["0-3,32-35", "4-7,36-39"]},
    "4": {"0": ["24-25,56-57", "26-27,58-59", "28-29,60-61", "30-31,62-63"],
          "1": ["16-17,48-49", "18-19,50-51", "20-21,52-53", "22-23,54-55"],
          "2": ["8-9,40-41", "10-11,42-43", "12-13,44-45", "14-15,46-47"],
          "3": ["0-1,32-33", "2-3,34-35", "4-5,36-37", "6-7,38-39"]},
}  # fmt: skip


@pytest.mark.parametrize("workers, nodes", [("2", "2"), ("4", "1")])
def test_several_workers_share_a_gpu_its_threads_and_its_memory(polaris, pbs, workers, nodes):
    project = polaris(nodes=nodes, workers_per_gpu=workers)
    seen = "'|'.join(os.environ.get(n, '-') for n in ('GPU_FRACTION', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', "
    seen += "'OPENBLAS_NUM_THREADS', 'NUMEXPR_NUM_THREADS', 'CUDA_MPS_PIPE_DIRECTORY'))"
    edit(project, "apps.py", '"device": device,', f'"device": {seen},')
    sweep(project, 24 * int(workers), sweeps=1500)
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, timeout=90)["Exit_status"] == 0, (project / "ising-sweep.o0").read_text()
    # Worker i has GPU i // N, and part i % N of the threads next to it.
    placed = {row["worker"]: (row["gpu"], row["cores"]) for row in results(project, "tasks.csv")}
    n = int(workers)
    assert placed == {str(i): (str(i // n), SHARED[workers][str(i // n)][i % n]) for i in range(4 * n)}
    threads = str(16 // n)
    fraction = {"2": "0.500", "4": "0.250"}[workers]
    (said,) = {row["device"] for row in results(project)}
    assert said == "|".join([fraction, *[threads] * 4, f"/tmp/mps-{os.getuid()}-0"])
    # CUDA MPS was started and stopped on each node.
    asked = [argv[0] for name, argv, _ in pbs.calls() if name == "nvidia-cuda-mps-control"]
    assert asked.count("-d") == asked.count("quit") == int(nodes), asked


def test_a_stale_mps_daemon_or_none_at_all_is_no_failure(polaris, pbs):
    project = polaris(nodes="1", workers_per_gpu="2")
    stale = f"STAND_IN_HOST=x3001c0s1b0n0 CUDA_MPS_PIPE_DIRECTORY={project} nvidia-cuda-mps-control -d"
    sweep(project, 8)
    assert user(project, stale, pbs).returncode == 0  # it lives, left by an earlier job
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, timeout=90)["Exit_status"] == 0
    assert "no CUDA MPS" not in (project / "ising-sweep.o0").read_text()
    edit(project, "polaris/start_workers.sh", "nvidia-cuda-mps-control -d", "false")
    sweep(project, 16)
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, timeout=90)["Exit_status"] == 0
    said = "".join(path.read_text() for path in project.glob("runinfo/001/submit_scripts/*err"))
    assert "no CUDA MPS on x3001c0s1b0n0: tasks that share a GPU take turns" in said
    assert len(results(project)) == 16


def test_the_settings_of_the_page_are_kept_and_its_faults_mended(polaris, pbs):
    """ALCF's page on Parsl, setting by setting, in the configuration and in the script that PBS gets."""
    project = polaris()
    shown = user(project, """python -c "
import config, json
c = config.fresh_config('blocks'); e = c.executors[0]; p = e.provider
print(json.dumps([e.available_accelerators, e.max_workers_per_node, e.cpu_affinity, e.prefetch_capacity,
    e.heartbeat_period, e.heartbeat_threshold, c.retries, c.memoizer.checkpoint_mode, c.memoizer.memoize,
    e.worker_debug, e.encrypted, p.cpus_per_node, p.min_blocks, p.max_blocks]))" """, pbs)  # fmt: skip
    page = ["0", "1", "2", "3"], 4, "list:" + ":".join(TABLE.values()), 0, 15, 120, 2, "task_exit", True
    mended = False, True, 64, 0, 1
    assert json.loads(shown.stdout) == [*page, *mended]
    script = user(project, "python run.py --dry-run", pbs).stdout
    assert "mpiexec --cpu-bind none --depth=64 --ppn 1 -n $WORKERCOUNT --hostfile $HOSTFILE" in script
    assert (
        f"source {project}/activate.sh || exit 1; command cd {project}/runinfo >/dev/null || exit 1" in script
    )
    assert (
        f"bash {project}/polaris/start_workers.sh python3 -m polaris.worker_pool numpy process_worker_pool.py"
        in script
    )
    assert "#PBS -l place=scatter" in script and ":system=polaris:" in script and "--debug" not in script
    assert pbs.submissions == [], "a dry run submits nothing"


def test_the_script_of_a_dry_run_is_the_one_that_is_submitted(polaris, pbs):
    project = polaris()
    sweep(project, 2)
    shown = user(project, "python run.py --dry-run 2>/dev/null", pbs).stdout
    user(project, "python run.py", pbs)
    (submitted,) = pbs.submissions

    def same(text):  # all but the moment: the job's name ends in the time, the port is a free one
        return re.sub(r"--port=\d+|-a [\d.,]+", "", re.sub(r"block-0\.[\d.]+\d", "block-0", text)).strip()

    assert same(shown) == same(submitted["script"])


def test_parsl_perf_and_a_script_of_ones_own_take_the_configuration(project):
    perf = user(project, "parsl-perf --config config.py --time 1 --iterate 10,20")
    assert perf.returncode == 0 and "Tasks per second" in perf.stdout, perf.stdout
    script = project / "mine.py"
    (project / "mine_apps.py").write_text("""
from parsl import python_app

@python_app(cache=True)
def half(x):
    return x / 2
""")
    script.write_text("""
import config, parsl
from mine_apps import half
with parsl.load(config.fresh_config("local")) as dfk:
    print(half(1.2).result())
    states = {state.name: n for state, n in dfk.task_state_counts.items() if n}
    print(states)
""")
    first, second = (user(project, "python mine.py").stdout for _ in range(2))
    assert "0.6" in first and "exec_done" in first
    assert "0.6" in second and "memo_done" in second, "the app cache and the checkpoint are at work"


def test_an_executable_on_each_gpu_writes_into_files_of_its_own(polaris, pbs):
    project = polaris(nodes="1")
    sweep(project, 12)
    text = (project / "run.py").read_text()
    text = text.replace("# def task", "def task").replace("#     ", "    ")
    text = re.sub(
        r"    results = run\.map\(apps\.ising, inputs\).*?\n\n",
        "    run.map(task, inputs, outputs=())\n\n",
        text,
        flags=re.DOTALL,
    )
    (project / "run.py").write_text(text)
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    ended = pbs.wait(job, timeout=60)
    assert ended["Exit_status"] == 0, (project / "ising-sweep.o0").read_text()
    outputs = sorted((project / "results" / "output").glob("*.out"))
    assert len(outputs) == 12
    for output in outputs:
        host, gpu = output.read_text().splitlines()
        assert host == ended["nodes"][0] and re.match(r"GPU [0-3]: NVIDIA A100", gpu)
    assert {row["status"] for row in results(project)} == {"done"}
    for row in results(project):  # an executable's row, too, says where it ran and how long
        assert (
            TABLE[row["gpu"]] == row["cores"]
            and row["host"] == ended["nodes"][0]
            and float(row["seconds"]) > 0
        )


def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_file(project):
    sweep(project, 4)
    lines = user(project, "python run.py --mode local").stdout
    assert (
        re.search(r"^\d\d:\d\d:\d\d done 4, failed 0, left 0 of 4$", lines, re.MULTILINE)
        and "\x1b" not in lines
    )
    shutil.rmtree(project / "results")
    if shutil.which("script"):
        seen = user(project, "script -qec 'python run.py --mode local' /dev/null").stdout
        assert "\x1b[" in seen and "done 4, failed 0" in seen


def test_status_from_another_terminal(polaris, pbs):
    """While blocks wait, while they work, and afterwards; asked as often as one likes, PBS hears nothing of it."""
    project = polaris(nodes="1")
    sweep(project, 60, sweeps=3000)
    pbs.hold_jobs = True
    terminal = Terminal(["bash", "-c", "source activate.sh && python run.py"], project, pbs.env())
    terminal.until(r"block 0 \(job 0\) waits since \d\d:\d\d")
    asked = len(pbs.calls())
    deadline = time.monotonic() + 30
    while "block 0 (job 0) waits" not in (said := user(project, "python run.py --status", pbs).stdout):
        assert time.monotonic() < deadline, said
        time.sleep(1)
    assert (
        "mode blocks, process " in said
        and "done 0, failed 0, left 60 of 60" in said
        and "workers 0 of 4" in said
    )
    pbs.hold_jobs = False
    terminal.until("workers 4 of 4")
    assert terminal.wait(90) == 0
    assert len([c for c in pbs.calls()[asked:] if c[0] == "qstat"]) <= 3, "PBS is asked once a minute"
    said = user(project, "python run.py --status", pbs).stdout
    assert "no run goes on here" in said and "done 60, left 0 of 60" in said


def test_memory_does_not_grow_with_the_number_of_rows(project):
    """Of the submit side alone, with tasks that are done at once: 200,000 rows against 2,000."""
    (project / "run.py").write_text("""
import resource
import sys
from concurrent.futures import Future
from polaris import cli
from polaris.sources import table

inputs = table("2000.csv", x=int)

def task(row):
    future = Future()
    future.set_result({"y": row["x"]})
    return future

def main(run):
    results = run.map(task, inputs)
    print("sum", sum(row["y"] for row in results), len(results))
    print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
""")
    used = []
    for rows in (2_000, 200_000):
        path = project / f"{rows}.csv"
        path.write_text("x\n" + "".join(f"{i}\n" for i in range(rows)))
        done = user(project, f"python run.py --mode local {path.name}")
        assert done.returncode == 0, done.stdout
        assert f"sum {rows * (rows - 1) // 2} {rows}\n" in done.stdout, done.stdout
        used.append(int(re.search(r"^memory (\d+)$", done.stdout, re.MULTILINE)[1]))
        shutil.rmtree(project / "results")
    assert used[1] < used[0] * 1.5, used


def test_check_shows_what_the_machine_has(polaris, pbs, project, tmp_path):
    on_login = user(polaris(), "python run.py --check", pbs)
    assert on_login.returncode == 0, on_login.stdout
    for line in (
        "mode:           blocks",
        "Parsl:          2026.10.26",
        "GPUs:           none",
        "rows in inputs/sweep.csv",
    ):
        assert line in on_login.stdout
    assert "nothing to mend" in on_login.stdout
    on_laptop = user(project, "python run.py --check")
    assert on_laptop.returncode == 0 and "mode:           local" in on_laptop.stdout
    assert "qsub:           none" in on_laptop.stdout
    assert "account = 'YOURPROJECT': is a placeholder" in on_laptop.stdout
    assert run(["bash", "-c", "ls"], project).stdout.split() == sorted(
        "README.md activate.sh analysis.py apps.py chain.sh config.py driver.pbs inputs polaris pyproject.toml "
        "requirements-laptop.txt requirements.txt run.py setup_env.sh tests".split()
    ), "a check leaves nothing behind"


def test_the_longest_tasks_go_first_where_a_column_tells(project):
    """In classes by that column: the tail is the shortest ones."""
    rows = [f"{1.5 + i / 100:.2f},16,{100 + 100 * (i % 16)},{i}\n" for i in range(64)]
    (project / "inputs" / "sweep.csv").write_text("temperature,size,sweeps,seed\n" + "".join(rows))
    edit(project, "run.py", "seed=int)", "seed=int, longest_first='sweeps')")
    edit(project, "config.py", "rows_per_task = None", "rows_per_task = 1")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0, done.stdout
    tries = sorted(results(project, "tasks.csv"), key=lambda row: float(row["started"]))
    sweeps = [100 + 100 * ((int(row["line"]) - 2) % 16) for row in tries]
    assert set(sweeps[:30]) == set(range(900, 1700, 100)) and set(sweeps[-3:]) <= {100, 200}, sweeps
    # A long row among many equal ones, at the end of the input: it is among the first.
    rows = [f"{2 + i / 100:.2f},16,{30 if i < 40 else 3000},7\n" for i in range(41)]
    (project / "inputs" / "sweep.csv").write_text("temperature,size,sweeps,seed\n" + "".join(rows))
    assert user(project, "python run.py --mode local").returncode == 0
    second = [row for row in results(project, "tasks.csv") if row["run"] == "2"]
    second.sort(key=lambda row: float(row["started"]))
    assert "42" in [row["line"] for row in second[:4]]
    edit(project, "run.py", "longest_first='sweeps'", "longest_first='cost'")
    wrong = user(project, "python run.py --check")
    assert wrong.returncode == 2
    assert (
        "longest_first = 'cost': is no column of numbers; there are temperature, size, sweeps, seed; None: in"
        in wrong.stdout
    )


def test_the_input_may_be_edited_while_a_run_goes_on(project):
    """The run has a copy; the edit is for the next one."""
    sweep(project, 2000, sweeps=20)
    mapped = "results = run.map(apps.ising, inputs)"
    edit(project, "run.py", mapped, f"{mapped}\n    open('inputs/sweep.csv', 'w').close()")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "2000 of 2000 tasks done" in done.stdout, done.stdout
    assert (project / "inputs" / "sweep.csv").read_text() == ""
    assert len(results(project, "magnetization.csv")) == 2000, "and it is what results are read by"


def test_how_many_rows_go_into_a_task(project):
    """Learnt from the first ones; larger where more workers ask for tasks; smaller where few rows are left."""
    script = """
from polaris.groups import Sizes
def size(seconds, workers=8, waiting=10**6, fixed=None, known=20, bytes=100):
    sizes = Sizes(workers, fixed)
    for _ in range(known): sizes.learn(seconds, bytes)
    return sizes.size(waiting)
print([size(0.001), size(0.05), size(0.2), size(0.001, known=5), size(0.001, waiting=320), size(9, fixed=7),
       size(1.5, workers=1984), size(2.5, workers=1984), size(0)])
print([size(0.001, bytes=10**6), size(0.001, bytes=10**8), size(0.001, workers=1984, bytes=10**5)])
sizes = Sizes(8)
for _ in range(20): sizes.learn(0.001, 10**6)
print([sizes.room(4), Sizes(8).room(1)])  # rows with Parsl: few, where their results are large
"""
    done = user(project, f"python -c {shlex.quote(script)}")
    first, large, room = map(json.loads, done.stdout.splitlines())
    assert first == [500, 20, 1, 1, 20, 7, 2, 1, 500] and large == [4, 1, 1] and room == [64, 40], done.stdout
