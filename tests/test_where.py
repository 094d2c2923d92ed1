"""A run does the same wherever its user is: in any mode, shell, home and queue, on any of the machine's GPUs."""

import json
import os
import re
import shutil
import stat
import time
from pathlib import Path

import pytest
from conftest import ROOT, Terminal, edit, program, results, run, summary, sweep, tool, user, user_env

pytestmark = pytest.mark.slow

TABLE = "x\n" + "".join(f"{i}\n" for i in range(1, 9))


def log_of(project, job):
    return next(project.glob(f"*.o{job.split('.')[0]}")).read_text()


# --- where tasks run -----------------------------------------------------------------------------
READS = """
from parsl import bash_app, python_app

@python_app
def work(x):
    import os
    with open("inputs/field.txt") as file:
        field = file.read()
    return {"value": x * float(field), "where": os.getcwd()}

@bash_app
def program(x, stdout=None, stderr=None):
    return f"cp inputs/field.txt made/{x}.txt"
"""


@pytest.mark.parametrize(
    "mode, workload", [("local", "sweep"), ("job", "sweep"), ("blocks", "sweep"), ("job", "mpi")]
)
def test_tasks_find_their_files_in_the_projects_folder_in_every_mode(polaris, pbs, mode, workload):
    project = polaris(workload=workload)
    both = "apps.program(**row, stdout=(f'made/{row[\"x\"]}.out', 'w'))\nreturn apps.work(**row)"
    program(project, READS, TABLE, '{"x": int}', ("value", "where"), task=both)
    (project / "inputs" / "field.txt").write_text("0.5")
    (project / "made").mkdir()
    before = {path.name for path in project.iterdir()}
    if mode == "job":
        assert pbs.wait(user(project, "qsub driver.pbs", pbs).stdout.strip(), 90)["Exit_status"] == 0
    else:
        done = user(project, f"python run.py --mode {mode}", pbs)
        assert done.returncode == 0, done.stdout
    rows = summary(project)
    assert {row["where"] for row in rows} == {str(project)} and sum(row["value"] for row in rows) == 18
    assert sorted(path.name for path in (project / "made").glob("*.txt")) == [f"{i}.txt" for i in range(1, 9)]
    new = {path.name for path in project.iterdir()} - before - {"results", "runinfo", "__pycache__"}
    assert not [name for name in new if not name.startswith("ising-sweep.o")], "files of the launcher"


GOES = """
from parsl import bash_app, python_app

@python_app
def work(x):
    import os
    with open("inputs/field.txt") as file:
        field = file.read()
    os.makedirs(f"made/{x}/inputs", exist_ok=True)
    os.chdir(f"made/{x}")
    with open("inputs/field.txt", "w") as file:
        file.write("1000")
    return {"value": x * float(field)}
"""


@pytest.mark.parametrize("rows_per_task", ["None", "4"])
def test_a_task_that_changes_the_folder_changes_it_for_itself(project, rows_per_task):
    program(project, GOES, TABLE, '{"x": int}')
    edit(project, "config.py", "rows_per_task = None", f"rows_per_task = {rows_per_task}")
    (project / "inputs" / "field.txt").write_text("0.5")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0, done.stdout
    assert {row["x"]: row["value"] for row in summary(project)} == {x: x / 2 for x in range(1, 9)}
    assert sorted(path.name for path in (project / "made").iterdir()) == [f"{x}" for x in range(1, 9)]


HAS = """
from parsl import python_app

@python_app
def work(x):
    import os, stat, tempfile
    with tempfile.NamedTemporaryFile() as file:
        made = file.name
    folder = os.stat(os.environ["TMPDIR"])
    open(f"results/made-{x}.txt", "w").close()
    return {"made": made, "mode": stat.S_IMODE(folder.st_mode), "tmpdir": os.environ["TMPDIR"]}
"""


def has(project):
    program(project, HAS, TABLE, '{"x": int}', ("made", "mode", "tmpdir"))


@pytest.mark.parametrize(
    "scratch", ["there is an SSD", "there is none", "a long path", "another user's folder"]
)
def test_temporary_files_lie_on_the_nodes_ssd_where_there_is_one(polaris, pbs, tmp_path, scratch):
    """Each node makes the folder: here all nodes are this machine, and it is taken away before the workers start."""
    project = polaris()
    has(project)
    folder = Path(f"/tmp/s{os.getpid()}")
    if scratch == "a long path":
        folder = tmp_path / ("long-" * 20)
    if scratch != "there is none":
        folder.mkdir()
    mine = folder / f"tmp-{os.getuid()}"
    try:
        if scratch == "another user's folder":
            mine.mkdir()
            if os.getuid():
                pytest.skip("only root can make a folder another user's")
            os.chown(mine, 12345, 12345)
        edit(project, "activate.sh", "/local/scratch", str(folder))
        edit(project, "polaris/start_workers.sh", "# As in", f"rmdir {mine} 2>/dev/null\n# As in")
        job = user(project, "qsub driver.pbs", pbs).stdout.strip()
        assert pbs.wait(job, 90)["Exit_status"] == 0, log_of(project, job)
        rows = summary(project)
        expected = str(mine) if scratch == "there is an SSD" else "/tmp"
        assert {row["tmpdir"] for row in rows} == {expected}
        assert {os.path.dirname(row["made"]) for row in rows} == {expected}
        if scratch == "there is an SSD":
            assert {row["mode"] for row in rows} == {0o700}
            assert len(f"{mine}/pymp-xxxxxxxx/listener-xxxxxxxx") < 108, "the path of a socket"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_files_are_as_readable_as_the_users_umask_says_in_a_job_too(polaris, pbs, ready, mask):
    project = polaris()
    has(project)
    noted = ready[0] / ".venv" / "plain" / "ready"
    before = noted.read_text()
    assert int(before, 8) == os.umask(os.umask(0o022)), (
        "setup_env.sh notes the umask that it was started with"
    )
    try:
        noted.write_text(f"{mask:04o}\n")
        job = user(project, "qsub driver.pbs", pbs).stdout.strip()
        assert pbs.wait(job, 90)["Exit_status"] == 0, log_of(project, job)
    finally:
        noted.write_text(before)
    made = [*(project / "results").glob("*.csv"), *(project / "results").glob("made-*")]
    assert len(made) == 11
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {oct(0o666 & ~mask)}


# --- the GPUs of this machine --------------------------------------------------------------------
NAMES = [f"GPU-00000bb9-0001-4000-8000-{gpu:012x}" for gpu in range(4)]  # as the stand-in lists them
PARTS = [f"MIG-00000bb9-0001-5000-8000-{part:012x}" for part in range(2)]  # of GPU 0


@pytest.mark.parametrize(
    "given, each, mig, used",
    [
        (None, "1", False, ["0", "1", "2", "3"]),
        ("2,3", "1", False, ["2", "3"]),
        ("3", "2", False, ["3"]),
        ("1,3", "4", False, ["1", "3"]),
        (f"{NAMES[1]},{NAMES[2][:-1]}", "1", False, [NAMES[1]]),  # the first letters of the second fit four
        ("1,-1,2", "1", False, ["1"]),  # as CUDA reads it: nothing behind what does not exist
        ("7", "1", False, [""]),
        ("", "1", False, [""]),
        (PARTS[1], "1", True, [PARTS[1]]),
        (None, "1", True, [*PARTS, *NAMES[1:]]),
    ],
)
def test_mode_local_uses_the_gpus_that_cuda_visible_devices_leaves(polaris, pbs, given, each, mig, used):
    project = polaris(workers_per_gpu=each)
    apps = """
    from parsl import python_app

    @python_app
    def work(x):
        import os, time
        time.sleep(0.3)
        return {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    """
    program(project, apps, "x\n" + "".join(f"{i}\n" for i in range(24)), '{"x": int}', ("gpu",))
    here = {"STAND_IN_HOST": "x3001c0s1b0n0"} | ({"STAND_IN_MIG": "2"} if mig else {})
    here |= {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    done = user(project, "python run.py --mode local && python run.py --mode local --check", pbs, **here)
    assert done.returncode == 0, done.stdout
    expected = set(used)
    assert {row["gpu"] for row in summary(project)} <= expected, done.stdout
    assert {row["gpu"] for row in results(project)} == expected
    workers = len(used) * int(each) if used != [""] else min(4, os.cpu_count())
    assert f"{workers} worker{'s' * (workers > 1)} on this machine" in done.stdout
    assert ("machine (GPUs: 4 x NVIDIA A100-SXM4-40GB" in done.stdout) == (given is not None)
    said = re.search(r"^GPUs: +4 x NVIDIA A100-SXM4-40GB(.*)$", done.stdout, re.MULTILINE)[1]
    assert ("CUDA_VISIBLE_DEVICES=" in said) == (given is not None) and ("2 parts (MIG)" in said) == mig
    assert ("none: tasks here run on the CPU" in said) == (used == [""])


def test_ranks_on_this_machine_share_the_gpus_that_are_left(bake, pbs):
    project = bake(workload="mpi").project_path
    ranks = 'for i in 0 1 2; do PMI_LOCAL_RANK=$i bash polaris/gpu_affinity.sh bash -c "echo $CUDA; env" | grep ^CUDA_V; done'
    for given, seen in ((None, "3 2 1"), ("2,3", "3 2 3"), (NAMES[0], f"{NAMES[0]} " * 3), ("", "")):
        env = pbs.env(
            STAND_IN_HOST="x3001c0s1b0n0", **({} if given is None else {"CUDA_VISIBLE_DEVICES": given})
        )
        said = run(["bash", "-c", ranks], project, env=env).stdout
        assert said.replace("CUDA_VISIBLE_DEVICES=", "").split() == seen.split(), given


# --- terminals and shells ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "how", ["nohup python run.py --mode local", "set -m; python run.py --mode local & disown; wait"]
)
def test_a_run_that_is_to_survive_the_terminal_does(project, how):
    sweep(project, 60, sweeps=3000)
    shell = Terminal(["bash", "-c", f"source activate.sh && {how}"], project, user_env(project.parent))
    shell.until(r"done ([3-9]|[1-9]\d+)," if "nohup" not in how else r"nohup: \S+", 30)
    deadline = time.monotonic() + 60
    while not (project / "results" / "results.csv").exists() or len(results(project)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shell.hang_up()
    while (project / "results" / "running.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(results(project)) == 60


@pytest.mark.parametrize("odd", ["cd prints", "CDPATH", "pwd prints more"])
def test_whatever_a_users_shell_makes_of_cd(polaris, pbs, odd):
    project = polaris()
    sweep(project, 8)
    (project.parent / "elsewhere" / project.name).mkdir(parents=True)
    (project.parent / "elsewhere" / "polaris").mkdir()
    start = {
        "cd prints": 'cd() { builtin cd "$@" && echo "now in $PWD" && ls; }; export -f cd',
        "CDPATH": f"export CDPATH={project.parent}/elsewhere:.",
        "pwd prints more": 'pwd() { echo "you are in $(builtin pwd)"; }; export -f pwd',
    }[odd]
    there = (
        f"builtin cd {project.parent}; {start}; source {project.name}/activate.sh && builtin cd {project} && "
    )
    env = pbs.env()
    done = run(["bash", "-c", there + "python run.py --mode local"], project, env=env)
    assert done.returncode == 0 and "8 of 8 tasks done" in done.stdout, done.stdout
    sweep(project, 16)
    done = run(["bash", "-c", there + "qsub -V driver.pbs"], project, env=env)
    job = done.stdout.split()[-1]
    assert pbs.wait(job, 90)["Exit_status"] == 0, log_of(project, job)
    sweep(project, 24)
    done = run(["bash", "-c", there + "python run.py --mode blocks"], project, env=env)
    assert done.returncode == 0 and "24 of 24 tasks done" in done.stdout, done.stdout
    again = run(
        ["bash", "-c", f"builtin cd {project.parent}; {start}; bash {project.name}/chain.sh 1"],
        project,
        env=env,
    )
    assert again.returncode == 0, again.stdout
    pbs.wait(again.stdout.split()[-1], 60)


def test_another_shell_than_bash_is_named(bake):
    project = bake().project_path
    for shell in filter(shutil.which, ("dash", "zsh", "ksh")):
        done = run([shell, "-c", ". ./activate.sh; echo status $?"], project, env=user_env(project.parent))
        assert "activate.sh: this shell is not bash; start one, then again: bash" in done.stdout
        assert "status 1" in done.stdout


def test_a_clone_by_a_windows_git_has_the_line_ends_of_unix(tmp_path, bake):
    env = user_env(tmp_path)

    def clone(repository, to):
        run(["git", "-c", "core.autocrlf=true", "clone", "--quiet", repository, to], tmp_path, env=env)
        files = [
            path for path in to.rglob("*") if path.is_file() and ".git" not in path.relative_to(to).parts
        ]
        assert len(files) > 20 and not [p for p in files if p.suffix != ".png" and b"\r" in p.read_bytes()]

    clone(ROOT, tmp_path / "template")
    baked = run(
        [tool("cookiecutter"), str(tmp_path / "template"), "--no-input", "create_venv=no"], tmp_path, env=env
    )
    assert baked.returncode == 0, baked.stdout
    project = tmp_path / "ising-sweep"
    who = ["-c", "user.name=Me", "-c", "user.email=me@here"]
    for command in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "mine"]):
        assert run(["git", *command], project, env=env).returncode == 0
    clone(project, tmp_path / "mine")


def test_windows_line_ends_are_said_before_anything_is_submitted(polaris, pbs):
    project = polaris()
    path = project / "driver.pbs"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    check = user(project, "python run.py --check", pbs)
    more = len(path.read_bytes().splitlines()) - 1
    said = f"WRONG:  driver.pbs line 1 and {more} more: ends with CR LF, as on Windows"
    assert check.returncode == 2 and said in check.stdout and "1 to mend" in check.stdout, check.stdout
    assert user(project, "./chain.sh 1", pbs).returncode == 2 and pbs.submissions == []
    mend = re.search(r"(sed -i \S+ driver.pbs)$", check.stdout, re.MULTILINE)[1]
    assert user(project, f"{mend} && python run.py --check", pbs).returncode == 0
    script = project / "polaris" / "start_workers.sh"
    script.write_bytes(script.read_bytes().replace(b"exec", b"exec\r"))
    refused = user(project, "python run.py --mode local", pbs)
    assert refused.returncode == 2 and "polaris/start_workers.sh line 1" in refused.stdout, refused.stdout


# --- the user's own modules ----------------------------------------------------------------------
WORKS = """
from parsl import python_app

@python_app
def work(x):
    return {"value": 2 * x}
"""


@pytest.mark.parametrize("where", ["apps/__init__.py", "physics.py", "models/gpu/apps.py"])
def test_apps_may_lie_in_any_module_of_the_project(project, where):
    module = where.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    program(project, WORKS, TABLE, '{"x": int}')
    (project / "apps.py").unlink()
    (project / where).parent.mkdir(parents=True, exist_ok=True)
    (project / where).write_text(WORKS)
    edit(project, "run.py", "import apps\n", f"import {module}\n")
    edit(project, "run.py", "run.map(apps.work,", f"run.map({module}.work,")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "8 of 8 tasks done" in done.stdout, done.stdout
    edit(project, where, "2 * x", "3 * x")
    again = user(project, "python run.py --mode local")
    assert (
        "work, or code that it uses, was edited since: 8 of its 8 results are of earlier code" in again.stdout
    )
    edit(project, where, "3 * x", "2 * x")
    taken_back = user(project, "python run.py --mode local")
    assert "nothing to do" in taken_back.stdout and "edited" not in taken_back.stdout, taken_back.stdout


@pytest.mark.parametrize("where", ["physics.py", "models/gpu/apps.py"])
def test_a_function_of_a_row_may_call_apps_of_any_module(project, where):
    module = where.removesuffix(".py").replace("/", ".")
    program(project, WORKS, TABLE, '{"x": int}', task=f"return {module}.work(**row)")
    (project / where).parent.mkdir(parents=True, exist_ok=True)
    (project / "apps.py").rename(project / where)
    edit(project, "run.py", "import apps\n", f"import {module}\n")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "8 of 8 tasks done" in done.stdout, done.stdout
    edit(project, where, "2 * x", "3 * x")
    again = user(project, "python run.py --mode local")
    assert "was edited since: 8 of its 8 results are of earlier code" in again.stdout, again.stdout


def test_an_edit_is_noticed_of_what_an_app_imports_itself_and_of_the_program_it_names(project):
    inside = WORKS.replace(
        "    return", "    import physics, models.gpu as gpu\n    name = 'program.py'\n    return"
    )
    program(project, inside, TABLE, '{"x": int}')
    (project / "models").mkdir()
    files = ["models/gpu.py", "physics.py", "program.py"]
    for file in files:
        (project / file).write_text("import json\n")
    assert user(project, "python run.py --mode local").returncode == 0
    for file in files:
        with open(project / file, "a") as text:
            text.write("SCALE = 5\n")
        said = user(project, "python run.py --mode local").stdout
        assert "was edited since: 8 of its 8 results are of earlier code, and kept" in said, said
        said = user(project, "python run.py --mode local --again work").stdout
        assert "8 results will be computed anew" in said and "8 of 8 tasks done" in said, said
        said = user(project, "python run.py --mode local").stdout
        assert "nothing to do" in said and "edited" not in said, said


@pytest.mark.parametrize(
    "in_run, in_apps, said",
    [
        ("def double(x): return 2 * x", "return {'value': double(x)}", "name 'double' is not defined: it is in run.py, which workers do not load: it and the app belong into apps.py"),
        ("FACTOR = 2", "return {'value': FACTOR * x}", "name 'FACTOR' is not defined: it is in run.py"),
        ("import math", "return {'value': math.sqrt(x)}", "name 'math' is not defined: run.py imports it, and workers do not load run.py: import it in the app"),
        ("", "return {'value': nowhere(x)}", "name 'nowhere' is not defined"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("work", ["apps.work", "task"])
def test_what_an_app_uses_of_run_py_is_told_where_it_belongs(project, in_run, in_apps, said, work):
    body = f"from parsl import python_app\n\n@python_app\ndef work(x):\n    {in_apps}\n"
    program(project, body, TABLE, '{"x": int}')
    edit(project, "run.py", "import apps\n", f"import apps\n{in_run}\n")
    edit(project, "run.py", "run.map(apps.work,", f"run.map({work},")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 1 and "8 of 8 tasks failed" in done.stdout, done.stdout
    reasons = {row["reason"] for row in results(project, "failures.csv")}
    (reason,) = reasons
    assert reason.removeprefix("work: ").startswith(f"NameError: {said}"), reason
    assert reason.endswith("is not defined") == (not in_run), reason


@pytest.mark.parametrize(
    "in_run, in_app",
    [
        ("def double(x): return 2 * x", "return {'value': double(x)}"),
        ("FACTOR = 2", "return {'value': FACTOR * x}"),
        ("import math", "return {'value': 2 * math.floor(x + 0.5)}"),
        ("import physics", "return {'value': physics.double(x)}"),
    ],
)
@pytest.mark.parametrize("work", ["here", "task"])
def test_an_app_in_run_py_works_with_its_helpers_and_imports(project, in_run, in_app, work):
    program(project, WORKS, TABLE, '{"x": int}')
    (project / "physics.py").write_text("def double(x): return 2 * x\n")
    here = f"from parsl import python_app\n{in_run}\n\n@python_app\ndef here(x):\n    {in_app}\n"
    edit(project, "run.py", "import apps\n", f"import apps\n{here}")
    edit(project, "run.py", "return apps.work(**row)", "return here(**row)")
    edit(project, "run.py", "run.map(apps.work,", f"run.map({work},")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "8 of 8 tasks done" in done.stdout, done.stdout
    assert {row["x"]: row["value"] for row in summary(project)} == {x: 2 * x for x in range(1, 9)}
    edit(project, "run.py", in_app, f"{in_app}  # edited")
    again = user(project, "python run.py --mode local")
    assert "nothing to do" in again.stdout, again.stdout


# --- config.py -----------------------------------------------------------------------------------
THREADS = "__import__('parsl').ThreadPoolExecutor(label='cpu', max_threads=3)"


@pytest.mark.parametrize("mode", ["local", "blocks"])
def test_threads_as_a_second_executor_take_the_apps_that_name_them(polaris, pbs, mode):
    project = polaris()
    both = """
    from parsl import python_app

    @python_app
    def work(x):
        return {"value": 2 * x}

    @python_app(executors=["cpu"])
    def where(x):
        import threading, time
        time.sleep(0.2)
        return threading.current_thread().name
    """
    program(project, both, TABLE, '{"x": int}')
    text = (project / "run.py").read_text()
    plain = "    print('threads', len({each.result() for each in list(map(apps.where, range(6)))}))\n"
    (project / "run.py").write_text(text.replace("    with open", f"{plain}    with open"))
    edit(project, "config.py", "executors=executors", f"executors=[*executors, {THREADS}]")
    done = user(project, f"python run.py --mode {mode}", pbs)
    assert done.returncode == 0 and "8 of 8 tasks done" in done.stdout, done.stdout
    assert "threads 3" in done.stdout and "; cpu: 3 threads of this process" in done.stdout, done.stdout
    tries = results(project, "tasks.csv")
    assert {(row["app"], row["executor"]) for row in tries} == {("work", "gpu"), ("where", "cpu")}
    assert len(tries) == 14


def test_an_executor_that_cannot_be_watched_is_refused_by_name(polaris, pbs):
    """Parsl's own would leave blocks behind, and not say where its tasks ran."""
    project = polaris()
    sweep(project, 4)
    plain = "__import__('parsl').HighThroughputExecutor(label='cpu')"
    edit(project, "config.py", "executors=executors", f"executors=[*executors, {plain}]")
    for command in ("--mode local", "--mode blocks", "--check", "--dry-run"):
        done = user(project, f"python run.py {command}", pbs)
        assert done.returncode == 2 and "Traceback" not in done.stdout, done.stdout
        assert re.search(
            r"config.py line \d+: fresh_config: .*cpu \(HighThroughputExecutor\)", done.stdout
        ), done.stdout
    assert pbs.submissions == [] and not (project / "results" / "results.csv").exists()


def test_an_app_for_an_executor_that_is_not_there_is_one_line(polaris, pbs):
    project = polaris()
    program(project, WORKS.replace("@python_app", '@python_app(executors=["gpus"])'), TABLE, '{"x": int}')
    done = user(project, "python run.py --mode local", pbs)
    assert done.returncode == 2 and "Traceback" not in done.stdout, done.stdout
    assert "apps.py: work: executors=['gpus']: config.py makes no gpus; it makes gpu" in done.stdout, (
        done.stdout
    )


def test_another_label_of_the_executor_is_fine(project):
    sweep(project, 4)
    edit(project, "config.py", "label=kind", 'label="workers"')
    assert "4 of 4 tasks done" in user(project, "python run.py --mode local").stdout


@pytest.mark.parametrize(
    "file, old, new, said",
    [
        ("config.py", "retries = 2", "retires = 2", "config.py: the option retries is missing; is retires meant for it?"),
        ("config.py", 'queue = "debug"', "queue = None", "queue = None: is no value of this option"),
        ("config.py", 'run_dir = project_dir / "runinfo"', 'run_dir = "~/runs"', "run_dir = '~/runs': is a folder of the name ~ in the project"),
        ("config.py", "label=kind", 'label="my gpus"', "label='my gpus' has signs that Parsl's scripts cannot take"),
        ("driver.pbs", "system=polaris", "system=polars", "driver.pbs line 5, system=polars: is no system here, and the job would wait for ever: system=polaris"),
        ("driver.pbs", "-l walltime", "-l waltime", "driver.pbs line 7, -l waltime: is no resource: is walltime meant?"),
        ("driver.pbs", "#PBS -l select", "# PBS -l select", "driver.pbs line 5, '# PBS -l select=2:system=polaris': is a comment to PBS"),
    ],
)  # fmt: skip
def test_what_would_go_wrong_later_is_said_at_once(polaris, pbs, file, old, new, said):
    project = polaris()
    edit(project, file, old, new)
    check = user(project, "python run.py --check", pbs)
    assert check.returncode == 2 and said in check.stdout and "Traceback" not in check.stdout, check.stdout
    if file == "config.py":
        done = user(project, "python run.py --mode local", pbs)
        assert done.returncode == 2 and said in done.stdout, done.stdout
        assert not (project / "~").exists()


def test_what_qsub_will_ask_for_is_a_note(polaris, pbs):
    project = polaris()
    edit(project, "driver.pbs", "#PBS -l filesystems=home:eagle\n", "")
    check = user(project, "python run.py --check", pbs)
    said = "note:  driver.pbs: #PBS -l filesystems is nowhere in its #PBS lines: qsub must be told, or refuses the job"
    assert check.returncode == 0 and said in check.stdout, check.stdout


def test_an_mpiexec_that_is_not_that_of_pals_is_said(polaris, pbs, tmp_path):
    project = polaris()
    bin = tmp_path / "package" / "bin"
    bin.mkdir(parents=True)
    (bin / "mpiexec").write_text("#!/bin/sh\n")
    (bin / "mpiexec").chmod(0o755)
    with open(project / "activate.sh", "a") as file:  # as if a package had brought it
        file.write(f"export CONDA_PREFIX={tmp_path}/package PATH={bin}:$PATH\n")
    check = user(project, "python run.py --check", pbs)
    assert check.returncode == 2 and f"mpiexec is {bin}/mpiexec, not that of PALS" in check.stdout, (
        check.stdout
    )
    assert user(project, "python run.py --check --mode local", pbs).returncode == 0
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, 60)["Exit_status"] == 2 and "not that of PALS" in log_of(project, job)


def test_what_a_task_prints_is_kept(polaris, pbs):
    project = polaris(nodes="1")
    prints = "from parsl import python_app\n\n@python_app\ndef work(x):\n    print('row', x)\n    return {'value': x}\n"
    program(project, prints, TABLE, '{"x": int}')
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, 60)["Exit_status"] == 0, log_of(project, job)
    said = "".join(path.read_text() for path in project.glob("runinfo/*/submit_scripts/*"))
    assert sorted(re.findall(r"^row \d", said, re.MULTILINE)) == [f"row {x}" for x in range(1, 9)], said


def test_check_tries_what_config_py_makes_for_parsl(polaris, pbs):
    project = polaris()
    edit(project, "config.py", "heartbeat_period=15", "heartbeat_perid=15")
    check = user(project, "python run.py --check", pbs)
    assert check.returncode == 2 and "Traceback" not in check.stdout
    assert re.search(r"WRONG: .*config.py line \d+: TypeError: .*heartbeat_perid", check.stdout)
    assert not (project / "runinfo").exists()


# --- accounts, queues and what is said -----------------------------------------------------------
@pytest.mark.parametrize("account", ["MyProject::sub1", "6555", "005"])
def test_an_account_may_be_a_suballocation_or_a_number(polaris, pbs, account):
    project = polaris(account=account)
    sweep(project, 8)
    check = user(project, "python run.py --check", pbs)
    assert check.returncode == 0 and "account =" not in check.stdout, check.stdout
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    ended = pbs.wait(job, 60)
    assert ended["Exit_status"] == 0 and ended["Account_Name"] == account, log_of(project, job)
    sweep(project, 16)
    done = user(project, "python run.py", pbs)
    assert done.returncode == 0, done.stdout
    assert {job["Account_Name"] for job in pbs.jobs().values()} == {account} and len(pbs.jobs()) == 2


@pytest.mark.parametrize(
    "queue, jobs, said",
    [
        ("debug", 5, "5: is more than debug lets one user queue: 1; held jobs count"),
        ("debug-scaling", 2, "2: is more than debug-scaling lets one user queue: 1; held jobs count"),
        ("capacity", 3, "3: is more than capacity lets one project queue: 2; held jobs count"),
        ("capacity", 2, None),
        ("debug", 1, None),
    ],
)
def test_a_chain_is_as_long_as_its_queue_takes(polaris, pbs, queue, jobs, said):
    project = polaris(queue=queue)
    sweep(project, 2)
    done = user(project, f"./chain.sh {jobs}", pbs)
    assert done.returncode == (2 if said else 0), done.stdout
    if said:
        assert said in done.stdout and pbs.submissions == []
    else:
        ended = [pbs.wait(line.split()[0], 60) for line in done.stdout.splitlines()]
        assert [job.get("Exit_status") for job in ended] == [0, None][:jobs]


def test_a_refused_chain_says_which_of_its_jobs_stay(polaris, pbs):
    project = polaris(queue="preemptable")
    pbs.refuse("qsub: would exceed queue generic's per-user limit", 38)
    none = user(project, "./chain.sh 3", pbs)
    assert none.returncode == 2 and none.stdout.endswith("chain.sh: job 1 of 3 was refused\n"), none.stdout
    pbs.hold_jobs = True
    there = [user(project, "qsub driver.pbs", pbs).stdout.strip() for _ in range(19)]  # the queue takes 20
    some = user(project, "./chain.sh 3", pbs)
    assert "job 2 of 3 was refused; those before it stay: qstat -u" in some.stdout, some.stdout
    assert len(pbs.jobs()) == len(there) + 1 and pbs.run("qdel", *pbs.jobs()).returncode == 0


def test_the_command_to_go_on_is_the_one_that_submitted_the_job(polaris, pbs):
    project = polaris(nodes="1")
    edit(project, "config.py", 'queue = "debug"', 'queue = "preemptable"')
    sweep(project, 400, sweeps=4000)
    submit = "qsub -v MODE=blocks -l walltime=0:30:00 driver.pbs"
    job = user(project, submit, pbs).stdout.strip()
    deadline = time.monotonic() + 60
    while not (project / "results" / "results.csv").exists() or len(results(project)) < 2:
        assert time.monotonic() < deadline, log_of(project, job)
        time.sleep(0.1)
    assert pbs.run("qdel", job).returncode == 0
    pbs.wait(job, 60)
    said = log_of(project, job)
    by_itself = "after preemption or qrerun PBS starts this job again by itself, and it goes on; else "
    assert f"tasks left; {by_itself}{submit} goes on from here" in said, said


def test_no_advice_is_the_value_that_was_given(polaris, pbs):
    project = polaris(nodes="1")
    sweep(project, 2)
    check = user(project, "python run.py --check", pbs).stdout
    assert "nothing to do" not in check and "for example 1)" not in check, check
    edit(project, "config.py", 'queue = "debug"', 'queue = "preemptable"')
    edit(project, "config.py", "max_blocks = 1", "max_blocks = 3")
    check = user(project, "python run.py --check", pbs).stdout
    assert re.search(r"max_blocks = 3: makes 12 workers for 2 rows: 10 of them .*\(for example 1\)", check), (
        check
    )


def test_the_report_ends_a_returned_block_when_pbs_does(polaris, tmp_path):
    from pbs.server import PBS

    project = polaris()
    sweep(project, 8)
    with PBS(tmp_path, home=tmp_path, kill_delay=4) as pbs:
        # A task that ignores SIGTERM keeps its block for the whole of PBS's patience.
        edit(project, "polaris/start_workers.sh", 'exec "$@"', '{ (trap "" TERM; sleep 30) & "$@"; }')
        done = user(project, "python run.py --mode blocks", pbs)
        assert done.returncode == 0, done.stdout
        ended = time.time()
        (job,) = pbs.jobs()
        block = pbs.wait(job, 30)
        assert block["obittime"] > ended + 1, "it outlived run.py"
        said = user(project, "python -m polaris.report", pbs)
        assert said.returncode == 0, said.stdout
    events = [json.loads(line) for line in (project / "results" / "runs.jsonl").read_text().splitlines()]
    (end,) = {event["end"] for event in events if event["event"] == "block" and event["end"]}
    assert abs(end - block["obittime"]) < 1.1
    shown = time.strftime("%H:%M:%S", time.localtime(end))
    assert shown in (project / "results" / "report.html").read_text()


# --- another Parsl -------------------------------------------------------------------------------
def test_all_that_is_used_of_parsls_inside_is_there(project):
    """With the Parsl that requirements.txt names, and with a newer one in the scheduled run of the tests."""
    done = user(project, "python -c 'from polaris import parsl_inside; print(parsl_inside.gone())'")
    assert done.stdout == "[]\n"


def test_a_parsl_that_lacks_what_is_used_of_it_starts_nothing(polaris, pbs, tmp_path):
    """As after `pip install -U parsl`: the names that are gone are told, and the mend."""
    project = polaris()
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nreal = m.version\n"
        "m.version = lambda name: '2027.01.05' if name == 'parsl' else real(name)\n"
    )
    env = {"PYTHONPATH": str(tmp_path / "newer")}
    sweep(project, 2)
    assert user(project, "python run.py --check", pbs, **env).returncode == 0, "a newer one that has all"
    edit(project, "polaris/parsl_inside.py", "_hold_manager ", "_hold_the_manager ")
    for command in ("--check", "--mode local", "--mode blocks", "--dry-run"):
        done = user(project, f"python run.py {command}", pbs, **env)
        assert done.returncode == 2 and "Traceback" not in done.stdout
        said = "Parsl 2027.01.05 lacks parsl.executors.high_throughput.executor:HighThroughputExecutor._hold_the_manager; "
        assert (
            f"{said}this project was tested with 2026.10.26: bash setup_env.sh installs it" in done.stdout
        ), done.stdout
    assert pbs.submissions == [] and not (project / "results" / "results.csv").exists()
