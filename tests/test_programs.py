"""External programs, each in a folder of its own: what becomes of their numbers, failures and halves."""

import csv
import json
import os
import re
import signal
import textwrap
from collections import Counter

import pytest
from conftest import edit, results, user, with_environment
from faults import Project

pytestmark = pytest.mark.slow

LOCAL = "python run.py --mode local"
HEADER = "x,way\n"
# A program as there are many: an input file, a log, a checkpoint every step, a ledger of what it did.
MD = """#!/bin/bash
source "$1"
echo "start $x" >> LEDGER
step=$(cat md.restart 2>/dev/null || echo 0)
while [ "$step" -lt "$steps" ]; do
    sleep "$pause"
    step=$((step + 1))
    echo "step $x $step" >> LEDGER
    echo "$step" > md.restart.new && mv md.restart.new md.restart
done
[ "$way" != 1 ] || { echo "ERROR: lost atoms"; echo "Abort on rank 0: lost atoms" >&2; echo >&2; exit 3; }
[ "$way" != 2 ] || { echo "Step 50, half way"; exit 0; }
echo "energy = $((10 * x))"
echo "Total wall time: 0:00:01"
[ "$way" = 3 ] || echo "$x" > final.xyz
echo "end $x" >> LEDGER
"""
APPS = """
from pathlib import Path
from parsl import python_app
from polaris.programs import run_in_folder


@python_app
def simulate(x, way):
    return run_in_folder(
        {"x": x, "way": way},
        templates="templates",
        command=["./md", "in.md"],
        done=["Total wall time", Path("final.xyz")],
        parse=read_log,
        keep="*.restart",
    )


def read_log(log):
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("energy")]
    return {"energy": float(line.split()[-1])}
"""
INPUT = """# ${x} stays, and {x}
x=@x@
way=@way@
steps=1 pause=0
"""
RUN = """
import sys
from polaris import cli
from polaris.sources import table
import apps

inputs = table("inputs/sweep.csv", x=int, way=int)


def main(run):
    run.map(apps.simulate, inputs)


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
"""


def ensemble(project, rows, steps="steps=1 pause=0"):
    """Have a project run MD for rows of (x, way)."""
    (project / "templates").mkdir(exist_ok=True)
    (project / "templates" / "in.md").write_text(INPUT.replace("steps=1 pause=0", steps))
    (project / "md").write_text(MD.replace("LEDGER", str(project / "ledger")))
    (project / "md").chmod(0o755)
    (project / "apps.py").write_text(APPS)
    (project / "run.py").write_text(RUN)
    (project / "inputs" / "sweep.csv").write_text(HEADER + "".join(f"{x},{way}\n" for x, way in rows))
    edit(project, "config.py", "retries = 2", "retries = 0")


def ledger(project, what):
    """How often each row did something; one whose folder was taken away before it read its input, says no row."""
    lines = [line.split() for line in (project / "ledger").read_text().splitlines()]
    return Counter(int(words[1]) for words in lines if words[0] == what and len(words) > 1)


def mine(project, script, **options):
    """What a script of the user's own prints, without Parsl: an app calls run_in_folder as it does."""
    head = "from pathlib import Path\nfrom polaris.programs import run_in_folder\n"
    (project / "mine.py").write_text(head + textwrap.dedent(script))
    done = user(project, "python mine.py", **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


# --- the starting point --------------------------------------------------------------------------
def test_its_numbers_are_those_of_the_sweep(ready, bake):
    """The same physics and generator, once in the worker and once in a program of its own."""
    rows = {}
    for workload in ("sweep", "program"):
        project = with_environment(ready, bake(workload=workload).project_path)
        lines = "".join(f"{t},16,60,{seed}\n" for t in (1.8, 2.3) for seed in (1, 2))
        (project / "inputs" / "sweep.csv").write_text("temperature,size,sweeps,seed\n" + lines)
        done = user(project, LOCAL)
        assert done.returncode == 0 and "4 of 4 tasks done" in done.stdout, done.stdout
        rows[workload] = sorted(
            tuple(row[name] for name in ("temperature", "seed", "magnetization", "magnetization_error", "energy",
                                         "energy_error", "device"))
            for row in results(project)
        )  # fmt: skip
    assert rows["program"] == rows["sweep"] and len(set(rows["sweep"])) == 4


# --- what becomes of rows ------------------------------------------------------------------------
def test_of_24_rows_7_fail_in_three_ways_and_17_have_their_numbers(project):
    ways = {2: 1, 5: 1, 8: 2, 11: 2, 14: 3, 17: 3, 20: 3}
    ensemble(project, [(x, ways.get(x, 0)) for x in range(24)])
    done = user(project, LOCAL)
    assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
    assert {int(row["x"]): float(row["energy"]) for row in results(project)} == {
        x: 10.0 * x for x in range(24) if x not in ways
    }
    for row in results(project):
        folder = project / row["folder"]
        assert (folder / "in.md").read_text().startswith(f"# ${{x}} stays, and {{x}}\nx={row['x']}\n")
        assert sorted(path.name for path in folder.iterdir()) == [
            "err.txt", "final.xyz", "finished.json", "in.md", "md.restart", "out.txt",
        ]  # fmt: skip
    # The last telling line, the status or what is missing, and the folder, which is there.
    said = {
        1: r"ProgramFailed: Abort on rank 0: lost atoms \(status 3; (\S+)\)",
        2: r"ProgramFailed: Step 50, half way \(status 0, but no 'Total wall time' in out.txt; (\S+)\)",
        3: r"ProgramFailed: Total wall time: 0:00:01 \(status 0, but there is no final.xyz; (\S+)\)",
    }
    failures = {int(row["x"]): row["reason"] for row in results(project, "failures.csv")}
    assert failures.keys() == ways.keys()
    for x, reason in failures.items():
        folder = project / re.fullmatch(said[ways[x]], reason)[1]
        assert (folder / "out.txt").exists() and not (folder / "finished.json").exists()
    # A second run runs the failed ones alone; nor does --again, for an edited parser, run what is finished.
    assert user(project, LOCAL).returncode == 1
    assert ledger(project, "start") == {x: 1 + (x in ways) for x in range(24)}
    edit(project, "apps.py", '{"energy": float', '{"twice": 2 * float')
    done = user(project, f"{LOCAL} --again simulate")
    assert done.returncode == 1, done.stdout
    assert {int(row["x"]): row["twice"] for row in results(project)}.items() >= {3: "60.0", 4: "80.0"}.items()
    assert ledger(project, "start")[3] == 1
    # An edited template makes another folder, and it is said that the results are of earlier code.
    edit(project, "templates/in.md", "way=", "# new\nway=")
    assert "earlier code" in (done := user(project, LOCAL)).stdout, done.stdout
    before = {row["folder"] for row in results(project)}
    user(project, f"{LOCAL} --again simulate")
    assert before.isdisjoint({row["folder"] for row in results(project)}) and ledger(project, "start")[3] == 2


@pytest.mark.fault
def test_after_kill_9_nothing_finished_runs_again_and_halves_go_on_from_their_checkpoints(project):
    case = Project(project)
    ensemble(project, [(x, 0) for x in range(8)], "steps=6 pause=0.1")
    running = case.start(LOCAL)

    def finished():
        return [
            json.loads(path.read_text())["inputs"]["x"]
            for path in project.glob("results/runs/*/finished.json")
        ]

    case.until(lambda: len(finished()) >= 3 and len(ledger(project, "step")) % 6)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    for pid, words in case.processes().items():  # nor do its workers live on, to end what they have in hand
        if "python" in words:
            os.kill(int(pid), signal.SIGKILL)
    case.nothing_left()  # nor any program
    before = finished()
    assert 3 <= len(before) < 8
    done = user(project, LOCAL)
    assert done.returncode == 0 and "8 of 8" in done.stdout, done.stdout
    starts, steps = ledger(project, "start"), ledger(project, "step")
    assert all(starts[x] == 1 for x in before), "a finished program ran again"
    halves = {x for x, number in starts.items() if number == 2}
    assert 1 <= len(halves) <= 2
    for x in range(8):  # a step that was not in the checkpoint yet may be made twice
        assert steps[x] in ((6, 7) if x in halves else (6,)), (x, steps, starts)
    assert {row["energy"] for row in results(project)} == {f"{10.0 * x}" for x in range(8)}
    assert len(list((project / "results" / "runs").iterdir())) == 8, "no half is left"


def test_what_a_program_started_ends_with_its_limit_of_time_and_with_its_worker(project):
    """A helper in a session of its own that takes no SIGTERM; a program that kills its worker."""
    case = Project(project)
    ensemble(project, [(1, 0), (2, 0)])
    (project / "md").write_text(
        "#!/bin/bash\nsource $1\ncat helped 2>/dev/null && { echo Total wall time; touch final.xyz; echo energy = 3; exit; }\n"
        "setsid bash -c 'trap : TERM; while :; do sleep 0.2; done' &\necho 1 > helped; echo waiting\n"
        "[ $x = 1 ] || { pid=$PPID; sleep 0.3; kill -9 $pid; }\nsleep 100; sleep 100\n"
    )
    edit(project, "run.py", "inputs)\n\n\nif", "inputs, timeout=2)\n\n\nif")
    edit(project, "apps.py", '"*.restart"', '["help*"]')
    edit(project, "config.py", "retries = 0", "retries = 1")
    done = user(project, LOCAL)
    assert done.returncode == 0, done.stdout
    tries = [(row["line"], row["status"], row["cause"][:12]) for row in results(project, "tasks.csv")]
    assert ("2", "failed", "TimeoutError") in tries and ("3", "lost", "WorkerLost: ") in tries, tries
    case.nothing_left()


# --- folders -------------------------------------------------------------------------------------
def test_no_two_rows_have_the_same_folder_and_every_name_is_one_for_files(project):
    said = mine(
        project,
        """
        import json, pathlib
        import numpy
        from polaris.programs import Program

        values = [
            1, 1.0, True, "1", "1.0", "True", "01", 0, False, "", 0.0, -0.0, "-0.0", None, "None", b"1", 1 + 0j,
            " ", "  ", "a b", "a_b", "a/b", "a\\\\b", "../../a", "..", ".", "-rf", "~", "a\\nb", "a\\tb", "a\\0b", "A", "a", "é", "e\\u0301",
            "\\ud800", "*", "?", "$HOME", "`id`", "x" * 300, "x" * 301, 10**300, 1e300, 1e-5, 0.00001000001,
            float("inf"), float("-inf"), float("nan"), "nan", 0.1, 0.1 + 2**-56, [1], (1,), [1.0], ["1"], [[1]], [], {}, [1, 2], [12],
            {"a": 1}, {"a": "1"}, [("a", 1)], {"b": 1}, Path("1"), Path("a/b"), numpy.float64(1), numpy.float32(1), numpy.int64(1),
            numpy.bool_(True), numpy.array([1]), numpy.array([1.0]), numpy.array([[1]]),
        ]
        found = []
        for value in values:
            command = ["true"] if isinstance(value, (list, tuple, dict)) or type(value).__module__ == "numpy" else ["true", "@x@"]
            try:
                found.append(Program({"x": value}, command, None, False).name)
            except ValueError as error:
                assert "used nowhere" in str(error) or "is a " in str(error), error
                from polaris.programs import identity_of, readable
                found.append(readable({"x": value}) + "-" + json.dumps(identity_of({"x": value})))
        pairs = [{"a": 1, "b": 23}, {"a": 12, "b": 3}, {"a": "1_b-2", "b": 3}, {"a": 1, "b": "2_b-3"}, {"ab": 1, "b": 2}]
        for inputs in pairs:
            words = ["true", *(f"@{name}@" for name in inputs)]
            found.append(Program(inputs, words, None, False).name)
            turned = dict(reversed(inputs.items()))
            assert Program(turned, words, None, False).name == found[-1]
        for command in ("true @x@", ["true", "@x@"], ["true", "@x@", ""], ["true", "", "@x@"], "true  @x@"):
            found.append(Program({"x": 5}, command, None, False).name)
        print(json.dumps(found))
        """,
    )  # fmt: skip
    names = json.loads(said)
    twice = [name for name, number in Counter(names).items() if number > 1]
    assert not twice and len(names) > 80
    for name in names:
        if "[" not in name:
            assert re.fullmatch(r"[a-z][A-Za-z0-9._+-]{0,100}-[0-9a-f]{16}", name), name


def test_two_tasks_that_want_the_same_folder_do_not_write_into_each_other(project):
    """Both run, as neither can know of the other's end; the one that ends later takes what is there."""
    ensemble(project, [])
    said = mine(
        project,
        """
        import multiprocessing
        import apps

        def work(number):
            return apps.simulate.func(7, 0)

        with multiprocessing.get_context("spawn").Pool(3) as pool:
            print(pool.map(work, range(3)))
        """.replace("with multi", "if __name__ == '__main__':\n          with multi").replace(
            "    print(pool", "      print(pool"
        ),
    )
    assert len(set(re.findall(r"'folder': '([^']+)'", said))) == 1 and said.count("70.0") == 3
    (folder,) = (project / "results" / "runs").iterdir()
    assert (folder / "out.txt").read_text().count("energy") == 1
    assert 1 <= ledger(project, "end")[7] <= 3
    # A folder that somebody has spoilt is no finished one.
    (folder / "final.xyz").unlink()
    before = ledger(project, "end")[7]
    assert "70.0" in mine(project, "import apps\nprint(apps.simulate.func(7, 0))")
    assert ledger(project, "end")[7] == before + 1 and (folder / "final.xyz").exists()


def test_of_many_that_end_at_the_same_time_none_takes_a_finished_folder_away(project):
    ensemble(project, [])
    (project / "md").write_text('#!/bin/bash\ncp in.md result.txt\necho "Total wall time"\n')
    said = mine(
        project,
        """
        import multiprocessing
        from polaris.programs import run_in_folder

        def work(x):
            try:
                given = dict(inputs={"x": x, "way": 0}, templates="templates", command=["./md"])
                return run_in_folder(**given, done="Total wall time")["folder"]
            except BaseException as error:
                return repr(error)

        with multiprocessing.get_context("fork").Pool(6) as pool:
            found = [each for x in range(60) for each in pool.map(work, [x] * 6, chunksize=1)]
        print(len(set(found)), [each for each in found if not each.startswith("results/runs/")])
        """,
    )
    assert said == "60 []\n"
    assert len(list((project / "results" / "runs").glob("*/finished.json"))) == 60


def test_templates_keep_their_subfolders_binaries_modes_and_links(project):
    ensemble(project, [])
    templates = project / "templates"
    (templates / "tables").mkdir()
    (templates / "tables" / "eam.bin").write_bytes(b"\0@x@\xff\xfe")
    (templates / "tables" / "latin.txt").write_bytes(b"@x:05.1f@ \xe9 \r\n")
    (templates / "pre.sh").write_text("#!/bin/bash\necho $1 > pre.out\n")
    (templates / "pre.sh").chmod(0o755)
    (project / "large").mkdir()
    (templates / "large").symlink_to("../large")
    (templates / ".in.md.swp").write_text("@nothing@")
    said = mine(
        project,
        """
        print(run_in_folder({"x": 3, "way": 0}, "./pre.sh @x@ | cat && echo $PWD > pwd", templates="templates")["folder"])
        """,
    )
    folder = project / said.strip()
    assert (folder / "tables" / "eam.bin").read_bytes() == b"\0@x@\xff\xfe"
    assert (folder / "tables" / "latin.txt").read_bytes() == b"003.0 \xe9 \r\n"
    assert (folder / "pre.out").read_text() == "3\n" and os.access(folder / "pre.sh", os.X_OK)
    assert (folder / "large").resolve() == project / "large" and not (folder / ".in.md.swp").exists()


WRONG = {  # what a user gives: what is said
    'run({"x": 1, "way": 0, "tem": 2})': r"the input 'tem' is used nowhere, neither in templates nor in the command: write @tem@",
    'run({"x": 1, "ways": 0})': r"templates/in.md, line 3: @way@: no input has that name, is ways meant\? \(there are x, ways, project\)",
    'run({"x": 1})': r"templates/in.md, line 3: @way@: no input has that name \(",
    'run({"x": [1], "way": 0})': r"templates/in.md, line 2: @x@ is a list: give a number or a text",
    'run(good, templates="template")': r"templates='template': there is no such folder in /\S+",
    'run(good, ["mdd", "in.md"])': r"no program 'mdd' is on the PATH, on \S+: load its module in activate.sh",
    'run(good, ["md", "in.md"])': r"no program 'md' is on the PATH, on \S+: of the project: ./md",
    'run(good, ["./mdd", "in.md"])': r"./mdd: no such program, neither in the templates nor in /\S+",
    'run(good, ["./apps.py"])': r"apps.py cannot be executed: chmod \+x apps.py",
    'run(good, ["./in.md"])': r"./in.md of the templates cannot be executed: chmod \+x",
    'run(good, ["./md", "@size@"])': r"the command: @size@: no input has that name",
    'run(good, ["cat", "apps.py"])': r"the command: apps.py is a file of the project: write @project@/apps.py, or put it",
    "run(good, ['./broken'])": r"\S*broken: \S.*: is its first line, #!, right",
    "run(good, [])": r"command=\[\]: give a list of words, or a text for bash",
    "run(good, mpi=True)": r"mpi=True: needs workers of the kind 'mpi': have it in `kinds` of config.py",
    "run(good, done=3)": r"done=3: give a text in the log, a Path of a file, or a function of the folder",
    'run({"x": 1, "way": 0, "project": 1})': r"an input is called 'project': @project@ is the project's folder",
    'run({"my x": 1})': r"an input is called 'my x': a name has letters, digits and _",
    'run({"x": 1, "way": object()})': r"templates/in.md, line 3: @way@ is a object",
    "run(good, parse=lambda log: 3)": r"<lambda>, given results/runs/\S+/out.txt, returned a int: return a dict",
    'run(good, parse=lambda log: {}["volume"])': r"<lambda>, given results/runs/\S+/out.txt, raised KeyError: 'volume'",
    'run(good, parse=lambda log: {"folder": 1})': r"<lambda>, given \S+, returned a 'folder', which is the folder's path",
    'run({"x": 1, "way": 0, "y": 2}, templates="other")': r"the input 'y' is used .* \(other/in.md, line 2 has \$?\{\{ y \}\}, which stays as it is\)",
}  # fmt: skip


def test_what_a_user_types_wrong_is_said_by_name_and_not_tried_again(project):
    ensemble(project, [])
    (project / "other").mkdir()
    (project / "other" / "in.md").write_text("x=@x@ way=@way@\ny={{ y }} ${z}\n")
    (project / "broken").write_text("#!/no/such/interpreter\n")
    (project / "broken").chmod(0o755)
    said = mine(
        project,
        """
        from polaris.on_worker import worth_another_try

        good = {"x": 1, "way": 0}

        def run(inputs, command=("./md", "in.md"), templates="templates", **more):
            try:
                print("no error", run_in_folder(inputs, list(command), templates=templates, **more))
            except Exception as error:
                print(type(error).__name__, worth_another_try(error), error)
        """
        + "".join(f"\n        {call}" for call in WRONG)
        + """
        try:
            run_in_folder(good, "nothing_like_it @x@ @way@")
        except Exception as error:
            print(type(error).__name__, worth_another_try(error), error)
        """,
    ).splitlines()
    *lines, shell = said
    for (call, expected), line in zip(WRONG.items(), lines, strict=True):
        assert re.match(f"Unusable False {expected}", line), (call, line)
    assert re.match(
        r"ProgramFailed True .*nothing_like_it: command not found \(status 127; results/runs/unf", shell
    ), shell


# --- on Polaris ----------------------------------------------------------------------------------
ON_POLARIS = """
from parsl import python_app
from polaris.programs import run_in_folder


@python_app
def simulate(x, way):
    command = ["bash", "-c", "echo ${PMI_RANK-none} $CUDA_VISIBLE_DEVICES $POLARIS_ENDS", "@x@", "@way@"]
    return run_in_folder({"x": x, "way": way}, command, mpi=MPI, parse=read_log)


def read_log(log):
    return {"said": log.read_text().splitlines()}
"""


@pytest.mark.parametrize("mode, workload", [("blocks", "sweep"), ("job", "sweep"), ("blocks", "mpi")])
def test_a_program_knows_when_its_walltime_ends_and_has_the_gpus_of_its_task(polaris, pbs, mode, workload):
    project = polaris(workload=workload, queue="preemptable", walltime="0:10:00", nodes="1")
    ensemble(project, [(1, 0)])
    (project / "apps.py").write_text(ON_POLARIS.replace("MPI", str(workload == "mpi")))
    if mode == "job":
        job = user(project, "qsub -l walltime=0:20:00 driver.pbs", pbs).stdout.strip()
        assert pbs.wait(job, 90)["Exit_status"] == 0
    else:
        done = user(project, "python run.py --mode blocks", pbs)
        assert done.returncode == 0, done.stdout
    (job,) = pbs.jobs().values()
    (row,) = results(project)
    said = [line.split() for line in json.loads(row["said"])]
    ends = {float(words[-1]) for words in said}
    assert len(ends) == 1 and abs(ends.pop() - job["stime"] - (1200 if mode == "job" else 600)) <= 2
    if workload == "mpi":
        assert sorted(words[:2] for words in said) == [["0", "3"], ["1", "2"], ["2", "1"], ["3", "0"]]
    else:
        # No rank of the mpiexec that started its worker; the GPU of its worker.
        assert said[0][:2] == ["none", row["gpu"]]
    with open(project / "results" / "tasks.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"]
