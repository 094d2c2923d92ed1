"""What goes wrong in a user's hands is said in a line that names the mend, before anything is spent."""

import re
import time

import pytest
from conftest import HEADER, Terminal, edit, results, run, sweep, user, user_env

pytestmark = pytest.mark.slow


def refused(done, *said):
    """Status 2, the words, no traceback."""
    assert done.returncode == 2, done.stdout
    for words in said:
        assert words in done.stdout
    assert "Traceback" not in done.stdout


# --- settings ------------------------------------------------------------------------------------
def test_the_placeholder_account_runs_on_a_laptop_and_is_refused_by_every_way_to_pbs(project, pbs):
    sweep(project, 2)
    assert user(project, "python run.py --mode local").returncode == 0
    sweep(project, 3)
    blocks = user(project, "python run.py --mode blocks", pbs)
    refused(blocks, "config.py line 16: account = 'YOURPROJECT': is a placeholder")
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job)["Exit_status"] == 2
    log = (project / "ising-sweep.o0").read_text()
    assert "driver.pbs line 3: #PBS -A YOURPROJECT: is a placeholder" in log
    assert len(pbs.submissions) == 1


def test_all_problems_of_an_edited_config_are_said_at_once(polaris, pbs):
    project = polaris(nodes="1")
    edit(project, "config.py", 'queue = "debug"', 'queue = "prod"')
    edit(project, "config.py", 'walltime = "1:00:00"', 'walltime = "1:00"')
    edit(project, "config.py", "idle_time = 600", "idle_time = 0")
    done = user(project, "python run.py", pbs)
    refused(done, "nodes_per_block = 1: prod takes 10-24 nodes", "walltime = '1:00'", "idle_time = 0: is less than a second")  # fmt: skip
    assert len(re.findall(r"^config.py line \d+: ", done.stdout, re.MULTILINE)) == 3
    assert pbs.submissions == []


def test_check_holds_driver_pbs_to_the_same_rules_and_says_where_it_differs(polaris, pbs):
    project = polaris()
    edit(project, "driver.pbs", "select=2", "select=3")
    edit(project, "driver.pbs", "filesystems=home:eagle", "filesystems=home:grand")
    done = user(project, "python run.py --check", pbs)
    refused(
        done,
        "driver.pbs line 5: #PBS -l select 3: debug takes 1-2 nodes",
        "grand is retired",
        "which has 2",
        "2 to mend",
    )


def test_check_warns_where_rows_are_too_short_for_so_many_workers(polaris, pbs):
    project = polaris(queue="prod", nodes="100")
    quiet = user(project, "python run.py --check", pbs)
    assert quiet.returncode == 0 and "would wait" not in quiet.stdout  # nothing was measured yet
    few = "config.py line 18: nodes_per_block = 100: makes 400 workers for 44 rows: 356 of them would have nothing"
    assert few in quiet.stdout and "(for example 11)" in quiet.stdout and "nothing to mend, " in quiet.stdout
    sweep(project, 500)
    (project / "results").mkdir()
    header = "temperature,size,sweeps,seed,magnetization,magnetization_error,energy,energy_error,device,"
    header += "host,gpu,cores,seconds,status,code,kinds\n"
    kinds = "float float float float str"
    rows = "".join(f"{i},16,9,1,0,0,0,0,CPU,here,,0-1,0.03,done,0a1b2c3d,{kinds}\n" for i in range(5))
    (project / "results" / "results.csv").write_text(header + rows)
    said = user(project, "python run.py --check", pbs)
    assert said.returncode == 0 and "nothing to mend" in said.stdout
    short = "workers would wait for rows: at 0.03 s a row, as measured so far, 100 node(s) could do 13,333 rows a second"
    for where in ("config.py line 18: nodes_per_block = 100: ", "driver.pbs line 5: #PBS -l select 100: "):
        assert f"note:  {where}{short}, and one run.py hands out 10,000" in said.stdout, said.stdout
    assert "(for example 75)" in said.stdout and "rows_per_task" not in said.stdout
    edit(project, "config.py", "rows_per_task = None", "rows_per_task = 2")
    fixed = user(project, "python run.py --check", pbs)
    assert "hands out 2,000" in fixed.stdout and "or set rows_per_task = None" in fixed.stdout
    edit(project, "config.py", "rows_per_task = 2", "rows_per_task = 501")
    refused(
        user(project, "python run.py --check", pbs), "is not within 1-500; None: learnt (for example None)"
    )
    edit(project, "config.py", "rows_per_task = 501", "rows_per_task = None")
    # Programs and cached apps are tasks of their own, as the last run noted.
    noted = '{"run": 1, "time": 1, "event": "map", "table": "results", "grouped": false}\n'
    (project / "results" / "runs.jsonl").write_text(noted)
    programs = user(project, "python run.py --check", pbs).stdout
    assert (
        "hands out 1,000 where each is a task of its own: give" in programs
        and "rows_per_task" not in programs
    )
    edit(project, "config.py", "local_environment = False", 'local_environment = "yes"')
    refused(
        user(project, "python run.py --check", pbs), "local_environment = 'yes': is neither True nor False"
    )


def test_a_queue_that_only_the_server_knows(polaris, pbs):
    project = polaris()
    edit(project, "config.py", 'queue = "debug"', 'queue = "R1819640"')
    sweep(project, 2)
    assert user(project, "python run.py", pbs).returncode == 0
    assert pbs.submissions[0]["queue"] == "R1819640"
    edit(project, "config.py", 'queue = "R1819640"', 'queue = "R9999999"')
    sweep(project, 3)
    refused(user(project, "python run.py", pbs), "queue = 'R9999999': is not on this PBS server")


def test_a_driver_cannot_submit_blocks_to_its_own_queue_of_one_job(polaris, pbs):
    project = polaris(queue="debug-scaling")
    job = user(project, "qsub -v MODE=blocks driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job)["Exit_status"] == 2
    assert (
        "blocks of a driver job in debug-scaling would never start"
        in (project / "ising-sweep.o0").read_text()
    )
    assert len(pbs.submissions) == 1


def job_log(project, pbs, *options):
    """qsub driver.pbs with options of qsub's own: (exit status, log)."""
    job = user(project, f"qsub {' '.join(options)} driver.pbs", pbs).stdout.strip()
    status = pbs.wait(job, 90)["Exit_status"]
    return status, next(project.glob(f"*.o{job.split('.')[0]}")).read_text()


def test_a_job_is_what_qsub_was_told_whatever_the_files_say(polaris, pbs):
    """Nodes, walltime, queue and account; either way round."""
    project = polaris(queue="prod", nodes="10", walltime="3:00:00")
    sweep(project, 8)
    small = ("-q debug", "-l select=1:system=polaris", "-l walltime=0:10:00", "-A Other")
    status, log = job_log(project, pbs, *small)
    assert status == 0 and "8 of 8 tasks done" in log and "4 workers on 1 node(s)" in log, log
    project.joinpath("driver.pbs").write_text(
        project.joinpath("driver.pbs")
        .read_text()
        .replace("-q prod", "-q debug")
        .replace("3:00:00", "9:00:00")
    )
    sweep(project, 12)
    status, log = job_log(project, pbs, "-q preemptable", "-l select=2:system=polaris", "-l walltime=2:00:00")
    assert status == 0 and "8 workers on 2 node(s)" in log, log
    check = user(project, "python run.py --check", pbs)
    assert (
        check.returncode == 2 and "driver.pbs line 7: #PBS -l walltime 9:00:00: debug takes" in check.stdout
    )


def test_run_py_in_a_job_of_ones_own_needs_no_driver(polaris, pbs):
    project = polaris(queue="prod", nodes="10", walltime="3:00:00")
    sweep(project, 4)
    (project / "driver.pbs").rename(project / "unused")
    (project / "own.pbs").write_text(
        "#!/bin/bash\n#PBS -A MyProj -q debug -l select=1:system=polaris -l walltime=0:20:00 -l filesystems=home -j oe\n"
        "cd $PBS_O_WORKDIR; source activate.sh; python run.py --check; python run.py\n"
    )
    job = user(project, "qsub own.pbs", pbs).stdout.strip()
    ended = pbs.wait(job, 60)
    log = (project / f"own.pbs.o{job.split('.')[0]}").read_text()
    assert ended["Exit_status"] == 0 and "4 of 4 tasks done" in log, log
    assert "note:  driver.pbs: No such file or directory" in log and "nothing to mend" in log


def test_a_mistake_in_a_file_of_the_users_is_one_line(project):
    edit(project, "apps.py", "import os\n", "import os)\n")
    refused(user(project, "python run.py"), f"{project}/apps.py line ", "SyntaxError: unmatched ')'")
    edit(project, "apps.py", "import os)\n", "import os\n")
    edit(project, "config.py", "max_blocks = 1", "max_block = 1")
    done = user(project, "python run.py")
    assert done.returncode == 2 and "max_blocks" in done.stdout


def test_outside_the_environment_it_says_to_source_activate(bake):
    project = bake().project_path
    done = run(["python3", "-I", "-c", "import runpy, sys; sys.path.insert(0, ''); runpy.run_path('run.py', run_name='__main__')"],
               project, env=user_env(project.parent))  # fmt: skip
    assert done.returncode == 2 and "source activate.sh" in done.stdout


def test_modes_where_they_cannot_work(project):
    refused(user(project, "python run.py --mode job"), "inside a PBS job alone")
    refused(user(project, "python run.py --mode blocks --check"), "needs qsub")
    refused(user(project, "python run.py --mode grid"), "invalid choice: 'grid'")


# --- input ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, said",
    [
        ("temperature,size,sweeps\n1,2,3\n", "line 1: column seed is missing"),
        (HEADER.replace("seed", "size") + "1,2,3,4\n", "line 1: column size appears twice"),
        (HEADER + "1.8,16,100,1\nhot,16,100,2\n", "line 3: column temperature: 'hot' is not a number"),
        (HEADER + "1.8,16.5,100,1\n", "line 2: column size: '16.5' is not a whole number"),
        (HEADER + "inf,16,100,1\n", "column temperature: 'inf' is not a number"),
        (HEADER + "1.8,\u0661\u0666,100,1\n", "column size: "),
        (HEADER + "1.8,16,100\n", "line 2: 3 fields; line 1 has 4"),
        (HEADER + "1.8,16,100,1\n2.0,16,100,1\n1.80,16,100,1\n", "line 4: repeats line 2"),
        (HEADER + '1.8,"16,100,1\n', "line 2: unexpected end of data"),
        (HEADER, "no rows"),
        ("", "line 1: column temperature is missing"),
        (HEADER.encode() + b"1.8,\xff,100,1\n", "line 2: not UTF-8 text"),
        (HEADER.encode() + b"1.8,16,100,1\n1.9,16,100,1\n2.0,\xe9,100,1\n", "line 4: not UTF-8 text"),
    ],
)
def test_malformed_input_names_file_line_and_column(project, text, said):
    (project / "inputs" / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(user(project, "python run.py --mode local inputs/mine.csv"), "inputs/mine.csv", said)
    assert not (project / "results").exists() and not (project / "runinfo").exists()


def test_a_missing_input_is_named(project):
    refused(user(project, "python run.py nowhere.csv"), "nowhere.csv: No such file or directory")


# --- tasks and blocks ----------------------------------------------------------------------------
def test_a_failed_task_has_its_reason_in_a_line_and_its_trace_in_a_file(project):
    (project / "inputs" / "sweep.csv").write_text(HEADER + "1.8,7,100,1\n2.0,16,100,1\n")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 1, done.stdout
    assert "1 of 2 tasks failed and will be tried again by the next run: results/failures.csv" in done.stdout
    (failure,) = results(project, "failures.csv")
    assert failure["line"] == "2" and "size=7, sweeps=100: needed are size even" in failure["reason"]
    assert "in ising" in (project / failure["trace"]).read_text()
    edit(project, "apps.py", "size % 2 or", "False or")  # mended: the failed row alone is computed
    again = user(project, "python run.py --mode local")
    assert again.returncode == 0 and "1 of them done before" in again.stdout
    assert results(project, "failures.csv") == [] and len(results(project)) == 2


def test_a_result_that_lacks_an_output_is_no_result(project):
    """Recorded as done, it would never be computed again."""
    sweep(project, 30)
    short = "run.map(apps.ising, inputs, outputs=('magnetization', 'enthalpy'))"
    edit(project, "run.py", "run.map(apps.ising, inputs)", short)
    lacks = "its result lacks enthalpy, of the columns of results/results.csv; it has magnetization, "
    refused(user(project, "python run.py --mode local"), lacks)
    assert not (project / "results" / "results.csv").exists()
    edit(project, "run.py", short, "run.map(task, inputs)")
    edit(project, "run.py", "def main(run):", "def task(row):\n    apps.ising(**row)\n\n\ndef main(run):")
    must = "task must return what an app returns, not None"
    refused(user(project, "python run.py --mode local"), must)


def test_a_program_that_fails_takes_nothing_from_the_results(project):
    sweep(project, 2)
    edit(project, "analysis.py", 'row["temperature"], []', 'row["pressure"], []')
    done = user(project, "python run.py --mode local")
    refused(
        done,
        "what is finished is kept, but the program failed: ",
        "analysis.py line ",
        "KeyError: 'pressure'",
        "2 of 2 tasks done",
    )
    assert len(results(project)) == 2


def test_a_column_that_no_task_is_given_is_said(project):
    (project / "inputs" / "sweep.csv").write_text("note,seed,sweeps,size, temperature\nodd,1,20,4,1.8\n")
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "no task is given the columns note" in done.stdout


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_on_a_terminal(project, presses):
    """Once: what runs is waited for. Twice: not. Nothing finished is lost either way."""
    sweep(project, 200, sweeps=3000)
    terminal = Terminal(
        ["bash", "-c", "source activate.sh && python run.py --mode local"], project, user_env(project.parent)
    )
    terminal.until(r"done ([3-9]|[1-9]\d+),")
    for _ in range(presses):
        terminal.type("\x03")
        time.sleep(0.2)
    assert terminal.wait(30) == 130
    again = "python run.py --mode local goes on from here"
    assert "stopped by Ctrl-C" in terminal.seen and again in terminal.seen
    assert "Traceback" not in terminal.seen
    done = len(results(project))
    assert done >= 3
    sweep(
        project, done, sweeps=3000
    )  # the rows done so far are not the first ones, but the second run knows them
    again = user(project, "python run.py --mode local")
    assert f"{done} tasks, " in again.stdout and again.returncode == 0
