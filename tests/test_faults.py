"""What Polaris and users do to a run, one fault a test: inject it, let the run go on, then count.

Of every row: that it ends exactly once in results.csv or failures.csv. Of the executions: that there are as many
as rows, plus those that the fault itself killed. And that the message is one line which names the mend, and that
no process and no PBS job is left. `make faults` prints the sums.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from conftest import HEADER, ROOT, Terminal, edit, results, run, user_env
from faults import SUMS, SWEEPS, Case
from pbs.server import PBS

pytestmark = [pytest.mark.slow, pytest.mark.fault]


@pytest.fixture
def case(project):
    return Case(project)


@pytest.fixture
def on_pbs(polaris, pbs):
    def make(**answers):
        return Case(polaris(**{"walltime": "0:05:00", **answers}), pbs)

    return make


# --- 1, 2, 3: walltime and chains ----------------------------------------------------------------
def test_before_the_end_of_the_walltime_no_task_is_started(on_pbs):
    case = on_pbs(nodes="1").rows(120, 500)
    case.stops_after(9)
    job = case.qsub()
    assert case.pbs.wait(job, 60)["Exit_status"] == 75, case.said()
    left = 120 - len(case.recorded())
    assert f"unfinished: {left} of 120 tasks left; qsub driver.pbs goes on from here" in case.said()
    assert 0 < left < 120 and case.killed() == 0
    edit(case.project, "polaris/facts.py", "SHORTEST_MARGIN = 291", "SHORTEST_MARGIN = 120")
    assert case.pbs.wait(case.qsub(), 60)["Exit_status"] == 0, case.said()
    case.settled(killed=0, fault="the walltime, in a job")


def test_the_end_of_a_job_is_known_without_qstat(bake, tmp_path):
    """Where PBS does not answer: the walltime of driver.pbs, from when PBS wrote the node file."""
    project = bake(walltime="0:40:00").project_path
    nodefile = tmp_path / "nodes"
    nodefile.write_text("x3001c0s1b0n0\n")
    os.utime(nodefile, (1_000_000, 1_000_000))
    ask = [sys.executable, "-c", "from polaris import machine; print(machine.times_of_job()[1])"]
    env = user_env(tmp_path)
    assert run(ask, project, env=env).stdout == "None\n"
    inside = {**env, "PBS_JOBID": "1.polaris-pbs-01", "PBS_NODEFILE": str(nodefile)}
    assert run(ask, project, env=inside).stdout == f"{1_000_000 + 2400.0}\n"


def test_the_margin_is_learnt_from_the_tasks(on_pbs):
    """Tasks of 4 s: 1.5 x 4 s is more than the shortest margin, here 1 s."""
    case = on_pbs(nodes="1").rows(4, 4000)
    edit(case.project, "polaris/facts.py", "SHORTEST_MARGIN = 120", "SHORTEST_MARGIN = 1")
    with open(case.project / "polaris" / "running.py", "a") as file:
        file.write(
            "\n_close = Running.close\ndef _said(self):\n    print('margin', self.blocks[0].margin())\n"
        )
        file.write("    return _close(self)\nRunning.close = _said\n")
    case.pbs.wait(case.qsub(), 60)
    assert 6 <= float(re.search(r"margin ([\d.]+)", case.said()).group(1)) < 9
    case.settled(killed=0)


def test_the_walltime_kill_itself(polaris, tmp_path):
    """The run was not stopped in time: SIGTERM, and ten seconds until SIGKILL."""
    with PBS(tmp_path, home=tmp_path, kill_delay=10, walltime_scale=0.04) as pbs:
        case = Case(polaris(walltime="0:05:00", nodes="1"), pbs).rows(200, 500)
        job = case.qsub()
        started = time.monotonic()
        ended = pbs.wait(job, 60)
        assert ended["Exit_status"] in (75, -29) and time.monotonic() - started < 12 + 10
        assert "stopped by SIGTERM" in case.said() and "qsub driver.pbs goes on from here" in case.said()
        killed = case.killed()
        assert 0 < len(case.recorded()) < 200
        shorter = case.recorded()
        case.project.joinpath("inputs", "sweep.csv").write_text(  # the rest in one job
            HEADER + "".join(f"{t},4,500,1\n" for t in [*shorter, "900.0", "901.0"])
        )
        again = pbs.wait(case.qsub(), 60)
        assert again["Exit_status"] == 0, case.said()
        dropped = {line.split()[1] for line in case.ledger()} - {*shorter, "900.0", "901.0"}
        killed_of_ours = killed - len([line for line in case.ledger() if line.split()[1] in dropped])
        ledger = [
            line
            for line in (case.project / "ledger").read_text().splitlines()
            if line.split()[1] not in dropped
        ]
        (case.project / "ledger").write_text("\n".join(ledger) + "\n")
        case.settled(killed_of_ours, fault="SIGTERM")


def test_a_block_takes_no_task_before_its_end_and_the_next_one_goes_on(on_pbs):
    case = on_pbs(nodes="1").rows(72, 1000)
    case.stops_after(10)
    edit(case.project, "polaris/parsl_parts.py", "max(30, ", "max(10, ")  # seconds, the least there is
    done = case.user("python run.py --mode blocks", timeout=200)
    assert done.returncode == 0, done.stdout
    assert len(case.pbs.submissions) >= 2
    case.settled(killed=0, fault="the walltime, in blocks")


def test_a_chain_goes_on_until_all_is_done(on_pbs):
    case = on_pbs(nodes="1", queue="preemptable").rows(100, 500)
    case.stops_after(10)
    done = case.user("./chain.sh 7")  # two or three are enough, on a busy machine more
    assert done.returncode == 0, done.stdout
    jobs = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(jobs) == 7 and f"{jobs[1]} after {jobs[0]}" in done.stdout
    ended = [case.pbs.wait(job, 120) for job in jobs]
    status = [job.get("Exit_status") for job in ended]
    assert status[0] == 75 and 0 in status and status[-1] is None, (status, case.said())
    assert status == sorted(status, key=lambda s: {75: 0, 0: 1, None: 2}[s]), "75 ..., then 0, then never run"
    case.settled(killed=0)


def test_a_chain_ends_where_the_tasks_left_have_failed_for_good(on_pbs):
    case = on_pbs(nodes="1", queue="capacity").rows(6, 100, special={3: 7})
    jobs = [line.split()[0] for line in case.user("./chain.sh 2").stdout.splitlines()]
    assert [case.pbs.wait(job, 60).get("Exit_status") for job in jobs] == [0, None]
    assert "the chain ends here" in case.said() and "1 of 6 tasks failed" in case.said()
    case.settled(killed=0)


def test_a_chain_longer_than_the_queue_takes_is_refused(on_pbs):
    case = on_pbs(nodes="1", queue="debug-scaling")
    done = case.user("./chain.sh 3")
    assert (
        done.returncode == 2
        and "3: is more than debug-scaling lets one user queue: 1; held jobs count" in done.stdout
    )
    assert case.pbs.submissions == [] and case.user("./chain.sh x").returncode == 2


# --- 4: retries by cause -------------------------------------------------------------------------
def test_a_task_that_kills_its_worker_every_time_fails_after_three_and_the_others_go_on(case):
    case.rows(12, 200, special={2: 9})
    done = case.user("python run.py --mode local", timeout=120)
    assert done.returncode == 1, done.stdout
    (failure,) = results(case.project, "failures.csv")
    assert failure["temperature"] == "3.0" and failure["reason"].startswith("WorkerLost")
    case.settled(killed=2, faults=3)


def test_an_exception_is_retried_and_a_program_error_is_not(case):
    case.rows(6, 100, special={1: 8, 4: 7})
    done = case.user("python run.py --mode local")
    assert done.returncode == 1 and "2 of 6 tasks failed" in done.stdout
    starts = Counter(case.ledger())
    assert starts["start 2.0"] == 3 and starts["start 5.0"] == 1
    reasons = {row["temperature"]: row["reason"] for row in results(case.project, "failures.csv")}
    assert reasons["2.0"] == "ValueError: bad luck" and reasons["5.0"].startswith("TypeError: ")
    case.settled(killed=0, faults=2, retries=2)


def test_a_node_that_dies_costs_what_ran_on_it_and_nothing_else(on_pbs):
    case = on_pbs().rows(60, 1000)
    job = case.qsub()
    case.until(lambda: len(case.recorded()) >= 8)
    nodes = case.pbs.job(job)["nodes"]
    case.pbs.kill_node(nodes[1])
    ended = case.pbs.wait(job, 120)
    assert ended["Exit_status"] == 0, case.said()
    killed = len(case.ledger()) - len(case.ledger("end"))
    assert 1 <= killed <= 4 and f"{killed} tries lost with a worker, node or block" in case.said()
    case.settled(killed, fault="a lost node")


def test_a_preempted_block_is_replaced(on_pbs):
    case = on_pbs(nodes="1", queue="preemptable").rows(40, 700)
    running = case.start("python run.py --mode blocks")
    case.until(lambda: len(case.recorded()) >= 4)
    block = next(iter(case.pbs.jobs()))
    case.pbs.preempt(block)
    assert running.wait(120) == 0, case.said()
    assert len(case.pbs.submissions) == 2
    assert case.pbs.job(block)["run_count"] == 1, "-r n: PBS itself does not start a block again"
    killed = len(case.ledger()) - len(case.ledger("end"))
    case.settled(killed, fault="a lost block")


def test_a_preempted_driver_is_started_again_by_pbs_and_goes_on(on_pbs):
    case = on_pbs(nodes="1", queue="preemptable").rows(40, 500)
    job = case.qsub()
    case.until(lambda: len(case.recorded()) >= 6)
    case.pbs.preempt(job, delay=3)
    time.sleep(2)
    killed = case.killed()
    assert case.pbs.wait(job, 90)["Exit_status"] == 0, case.said()
    assert case.pbs.job(job)["run_count"] == 2
    case.settled(killed)


# --- 5: blocks that never work -------------------------------------------------------------------
def test_a_refused_qsub_is_one_line_and_nothing_else(on_pbs):
    case = on_pbs().rows(8)
    case.pbs.refuse("qsub: would exceed queue generic's per-user limit", 38)
    done = case.user("python run.py --mode blocks")
    told, started, *said = done.stdout.splitlines(
        keepends=True
    )  # what was to run, and nothing else before it
    assert told == "inputs/sweep.csv: 8 tasks\n" and started.startswith("mode blocks: "), done.stdout
    assert done.returncode == 2 and said == [
        "qsub: would exceed queue generic's per-user limit: 2 node(s) for 0:05:00 in queue debug; "
        "mend config.py or wait, then run again\n"
    ], done.stdout
    assert len(case.pbs.refusals) == 1 and case.ledger() == []
    case.nothing_left()
    assert case.user("python run.py --mode blocks").returncode == 0
    case.settled(killed=0, fault="a refused qsub")


def test_a_job_that_vanishes_from_pbs_is_noticed(on_pbs):
    case = on_pbs().rows(8)
    case.pbs.vanish_next()
    done = case.user("python run.py --mode blocks", timeout=60)
    assert done.returncode == 2 and "PBS took job 0.polaris-login-01 and lost it" in done.stdout
    assert case.user("python run.py --mode blocks").returncode == 0
    case.settled(killed=0)


@pytest.mark.parametrize("mode", ["blocks", "job"])
def test_a_block_that_ends_before_a_worker_connected_is_shown_by_its_last_words(on_pbs, mode):
    case = on_pbs().rows(8)
    edit(
        case.project,
        "config.py",
        "/activate.sh || exit 1",
        "/activate.sh; echo no such module >&2; exit 1",
    )
    if mode == "blocks":
        done = case.user("python run.py --mode blocks", timeout=60)
        status, said = done.returncode, done.stdout
    else:
        status, said = case.pbs.wait(case.qsub(), 60)["Exit_status"], case.said()
    assert status == 2 and "block 0: ended before a worker connected: no such module" in said
    edit(
        case.project,
        "config.py",
        "/activate.sh; echo no such module >&2; exit 1",
        "/activate.sh || exit 1",
    )
    assert case.user("python run.py --mode blocks").returncode == 0
    case.settled(killed=0)


def test_workers_that_die_at_their_start_end_the_run(on_pbs):
    """A node with fewer cores than the affinity list: every worker dies, its manager lives on."""
    case = on_pbs(nodes="1").rows(8)
    edit(
        case.project,
        "config.py",
        "/activate.sh || exit 1",
        "/activate.sh; export PARSL_CORES=2",
    )
    started = time.monotonic()
    job = case.qsub()
    assert case.pbs.wait(job, 90)["Exit_status"] == 2, case.said()
    assert time.monotonic() - started < 60
    assert "workers die at their start: " in case.said() and "wrong number of thread ranks" in case.said()
    edit(
        case.project,
        "config.py",
        "/activate.sh; export PARSL_CORES=2",
        "/activate.sh || exit 1",
    )
    assert case.pbs.wait(case.qsub(), 60)["Exit_status"] == 0
    case.settled(killed=0)


def test_an_interchange_that_is_killed_ends_the_run(case):
    """Parsl itself would wait for it forever."""
    case.rows(30, 300)
    running = case.start()
    case.until(lambda: len(case.recorded()) >= 3)
    (interchange,) = [pid for pid, words in case.processes().items() if "HTEX interchange" in words]
    os.kill(int(interchange), signal.SIGKILL)
    assert running.wait(30) == 75, case.said()
    again = "python run.py --mode local goes on from here"
    assert "Parsl's interchange ended (-9)" in case.said() and again in case.said()
    killed = case.killed()
    assert case.user("python run.py --mode local").returncode == 0
    case.settled(killed)


# --- 6: the user ---------------------------------------------------------------------------------
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_with_a_block_running_and_one_in_the_queue(on_pbs, presses):
    case = on_pbs(nodes="1", queue="preemptable").rows(60, 600)
    edit(case.project, "config.py", "max_blocks = 1", "max_blocks = 9")  # on four nodes: some wait
    terminal = Terminal(["bash", "-c", "source activate.sh && python run.py"], case.project, case.pbs.env())
    terminal.until("done ([3-9]|[1-5][0-9]),")
    for _ in range(presses):
        terminal.type("\x03")
        time.sleep(0.3)
    assert terminal.wait(40) == 130, terminal.seen
    assert "python run.py goes on from here" in terminal.seen and "Traceback" not in terminal.seen
    assert "may still be in PBS" not in terminal.seen
    killed = case.killed()
    assert killed == 0 or presses == 2
    case.nothing_left()
    assert case.user("python run.py").returncode == 0
    case.settled(killed, fault="Ctrl-C")


def test_results_that_are_moved_away_under_a_run(case):
    case.rows(200, 300)
    running = case.start()
    case.until(lambda: case.recorded())
    shutil.move(case.project / "results", case.project / "away")
    assert (
        running.wait(40) == 2 and "results/ was moved or deleted while this run wrote into it" in case.said()
    )
    SUMS[SWEEPS].update(faults=1)
    case.nothing_left()


def test_the_terminal_drops(on_pbs):
    case = on_pbs(nodes="1").rows(60, 600)
    terminal = Terminal(
        ["bash", "-c", "source activate.sh && exec python run.py"], case.project, case.pbs.env()
    )
    terminal.until("done ([3-9]|[1-5][0-9]),")
    terminal.hang_up()
    assert terminal.process.wait(40) == 130
    assert "stopped by the loss of the terminal" in (case.project / "results" / "hangup.log").read_text()
    assert case.killed() == 0
    case.nothing_left()
    assert case.user("python run.py").returncode == 0
    case.settled(killed=0)


def test_two_runs_in_one_folder(case):
    case.rows(20, 500)
    first = case.start()
    case.until(lambda: case.recorded())
    second = case.user("python run.py --mode local")
    assert second.returncode == 2 and re.fullmatch(
        rf"another run holds results: process {first.pid} on \S+, since [\d :-]+: wait for it, or end it\n",
        second.stdout,
    ), second.stdout
    assert first.wait(60) == 0
    case.settled(killed=0, fault="a second run at once")


ELSEWHERE = """
import os, socket, time
now, utime = time.time, os.utime
time.time = lambda: now() + {ahead}
os.utime = lambda path, times=None, **more: utime(path, times or (time.time(), time.time()), **more)
socket.gethostname = lambda: "polaris-login-02"
"""


def on_another_host(case, ahead):
    """The environment of a process there; its clock is so many seconds ahead of this host's."""
    folder = case.project.parent / "elsewhere"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(ELSEWHERE.format(ahead=ahead))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("ahead", [60, -60, 5000])
@pytest.mark.parametrize("there", ["the run", "the other run"])
def test_a_host_whose_clock_is_another_does_not_take_a_live_run_over(case, ahead, there):
    """Nor does --status say that it is dead."""
    case.rows(40, 600)
    edit(case.project, "polaris/lock.py", "BEAT = 10", "BEAT = 2")
    env = on_another_host(case, ahead)
    run_env, other_env = (env, {}) if there == "the run" else ({}, env)
    start = " ".join(f"{name}={value}" for name, value in run_env.items())
    first = case.start(f"env {start} python run.py --mode local")
    case.until(lambda: case.recorded())
    second = case.user("python run.py --mode local", **other_env)
    assert second.returncode == 2, second.stdout
    assert re.search(r"another run holds results: process \d+ on \S+, since", second.stdout), second.stdout
    status = case.user("python run.py --status", **other_env).stdout
    assert "it was killed" not in status and "that process is gone" not in status, status
    assert first.wait(60) == 0
    case.settled(killed=0)


def test_a_run_that_was_suspended_until_another_host_took_over_writes_nothing_more(case):
    case.rows(30, 400)
    edit(case.project, "polaris/lock.py", "BEAT = 10", "BEAT = 1")
    first = case.start("python run.py --mode local")
    case.until(lambda: len(case.recorded()) >= 3)
    os.kill(first.pid, signal.SIGSTOP)
    second = case.user("python run.py --mode local", **on_another_host(case, 0))
    assert second.returncode == 0 and "waiting to see if it lives" in second.stdout, second.stdout
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(30) == 2
    said = (
        "on polaris-login-02 took results over while this run gave no sign of life for 3 s: was it suspended?"
    )
    assert said in case.said() or "results/ was moved or deleted while this run wrote into it" in case.said()
    assert "Traceback" not in case.said()
    case.settled(len(case.ledger()) - 30)


def test_of_several_runs_that_start_at_once_one_holds_the_folder(bake, tmp_path):
    """Also where a killed run's lock lies in the way; 12 rounds of three."""
    project = bake().project_path
    script = """
import sys, time
from pathlib import Path
from polaris.errors import Refused
from polaris.folder import Folder
folder = Folder(Path(sys.argv[1]))
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    folder.hold("local")
    print("held", flush=True)
    time.sleep(1)
    folder.let_go()
except Refused as refusal:
    print(refusal)
"""
    (project / "run.py").write_text(script)  # by its name a process is known as a run
    dead = {
        "host": os.uname().nodename,
        "pid": 2**22 - 1,
        "job": None,
        "mode": "local",
        "since": "then",
        "blocks": [],
    }
    for round in range(12):
        folder = tmp_path / str(round)
        folder.mkdir()
        if round % 2:
            (folder / "running.json").write_text(json.dumps(dead))
        at = str(time.time() + 0.5)
        command = [sys.executable, "run.py", str(folder), at]
        runs = [subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = [each.communicate(timeout=30)[0] for each in runs]
        assert sorted(line.split()[0] for line in said) == ["another", "another", "held"], said
        assert not folder.exists() or not list(folder.iterdir())


# --- short rows in groups ------------------------------------------------------------------------
def test_rows_that_fail_in_a_group_are_tried_again_on_their_own(case):
    case.rows(400, 5, special={200: 8, 300: 7})
    done = case.user("python run.py --mode local")
    assert done.returncode == 1 and "2 of 400 tasks failed" in done.stdout, done.stdout
    starts = Counter(case.ledger())
    assert starts["start 201.0"] == 3 and starts["start 301.0"] == 1
    tries = results(case.project, "tasks.csv")
    assert len({row["submitted"] for row in tries}) < 150, "they went out in groups"
    assert [row["try"] for row in tries if row["line"] == "202"] == ["0", "1", "2"]
    done = [row for row in tries if row["status"] == "done"]
    assert len(done) == 398 and all(float(row["ended"]) - float(row["started"]) < 0.1 for row in done)
    case.settled(killed=0, faults=2, retries=2)


def test_a_row_that_kills_its_worker_takes_no_other_row_of_its_group_along(case):
    case.rows(400, 5, special={250: 9})
    done = case.user("python run.py --mode local", timeout=180)
    assert done.returncode == 1 and "399 of 400 tasks done" in done.stdout, done.stdout
    (failure,) = results(case.project, "failures.csv")
    assert failure["temperature"] == "251.0" and failure["reason"].startswith("WorkerLost")
    killed = len(case.ledger()) - 400
    assert 3 <= killed < 210, "its own tries, and what its group had done before it"
    case.settled(killed, faults=1)


def test_kill_9_between_groups_repeats_what_was_on_its_way_and_no_more(case):
    case.rows(3000, 5)
    killed = 0
    for goal in (300, 900, 1500):
        running = case.start()
        case.until(lambda goal=goal: len(case.recorded()) > goal)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        time.sleep(2.5)  # the groups that the workers had in hand end, and nobody hears of it
        before, killed = killed, case.killed()
        assert killed - before <= 2 * 2 * 200, "two groups of a second's worth on each of two workers"
    assert case.user("python run.py --mode local").returncode == 0
    case.settled(killed, faults=3)


# --- groups, broken results, dead parts of Parsl -------------------------------------------------
def test_long_rows_behind_short_ones_are_not_swallowed_by_groups(on_pbs):
    """100 rows of 1 ms, then rows of 2 s: a group gives back what it has not begun."""
    case = on_pbs(nodes="1").rows(140, 1)
    lines = (case.project / "inputs" / "sweep.csv").read_text().splitlines()
    lines[101:] = [line.replace(",1,1", ",2000,1") for line in lines[101:]]
    (case.project / "inputs" / "sweep.csv").write_text("\n".join([*lines, ""]))
    running = case.start("python run.py --mode blocks")
    case.until(lambda: len(case.ledger("end")) >= 112)
    # What is done is recorded within two seconds; each of the four workers may have one more in hand.
    time.sleep(2.2)
    assert len(case.recorded()) >= 112
    assert running.wait(120) == 0, case.said()
    ended = {row["line"]: float(row["ended"]) for row in results(case.project, "tasks.csv")}
    assert max(ended.values()) - min(ended.values()) < 40, "forty rows of 2 s on four workers"
    case.settled(killed=0)


def test_results_that_the_submit_side_cannot_read_fail_alone(case):
    """Neither ends Parsl's result thread; before, the run waited for ever."""
    case.rows(40, 50)
    apps = (case.project / "apps.py").read_text()
    odd = """
class OnlyThere:
    def __reduce__(self):
        return (exec, ("import os\\nif 'PARSL_WORKER_RANK' not in os.environ: raise SystemExit('no GPU here')",))


class Two(Exception):
    def __init__(self, a, b):
        super().__init__(a)


"""
    body = "    if temperature == 5:\n        import apps\n        return apps.OnlyThere()\n"
    body += "    if temperature == 9:\n        import apps\n        raise apps.Two('a', 'b')\n    return {"
    (case.project / "apps.py").write_text(odd + apps.replace("    return {", body))
    done = case.user("python run.py --mode local", timeout=60)
    assert done.returncode == 1 and "2 of 40 tasks failed" in done.stdout, done.stdout
    reasons = {row["temperature"]: row["reason"] for row in results(case.project, "failures.csv")}
    assert "cannot be read on" in reasons["5.0"] and "no GPU here" in reasons["5.0"]
    assert reasons["9.0"] == "Two: a"
    case.settled(killed=0, faults=2, retries=2)


def test_a_row_without_a_name_that_the_others_return_is_that_rows_failure(case):
    """Before, it stopped the run for all, in every run."""
    case.rows(40, 50, special={20: 6})
    edit(
        case.project,
        "apps.py",
        "    return {",
        "    if seed == 6:\n        return {'other': 1}\n    return {",
    )
    done = case.user("python run.py --mode local")
    assert done.returncode == 1 and "1 of 40 tasks failed" in done.stdout, done.stdout
    (failure,) = results(case.project, "failures.csv")
    lacks = "its result lacks value, of the columns of results/results.csv; it has other"
    assert lacks in failure["reason"], failure
    case.settled(killed=0)


@pytest.mark.parametrize("part", ["thread", "interchange"])
def test_a_dead_part_of_parsl_is_noticed_within_a_minute(case, part):
    """Whatever ends the thread that takes results; or the interchange that stops answering."""
    case.rows(60, 300)
    with open(case.project / "polaris" / "blocks.py", "a") as file:
        file.write("\n\nSILENCE = 12\n")
    if part == "thread":
        with open(case.project / "polaris" / "on_worker.py", "a") as file:
            file.write(
                "\n\n_opened = opened\ndef opened(told):\n    import os\n"
                "    if os.path.exists('end-it'):\n        raise SystemExit\n    return _opened(told)\n"
            )
    running = case.start()
    case.until(lambda: len(case.recorded()) >= 4)
    if part == "thread":
        (case.project / "end-it").touch()
    else:
        (interchange,) = [pid for pid, words in case.processes().items() if "interchange" in words]
        os.kill(int(interchange), signal.SIGSTOP)
    assert running.wait(60) == 75, case.said()
    wanted = {
        "thread": "Parsl's thread HTEX-Result-Queue-Thread ended",
        "interchange": "Parsl's interchange has not answered for ",
    }
    assert wanted[part] in case.said() and "run again to go on" in case.said()
    assert "Traceback" not in case.said()
    (case.project / "end-it").unlink(missing_ok=True)
    case.nothing_left()
    time.sleep(0.5)
    killed = case.killed()
    assert case.user("python run.py --mode local").returncode == 0
    case.settled(killed)


# --- blocks, as PBS has them ---------------------------------------------------------------------
def test_a_held_block_is_not_replaced(on_pbs):
    case = on_pbs(nodes="1", queue="preemptable").rows(20, 300)
    case.pbs.hold_jobs = True
    running = case.start("python run.py --mode blocks")
    case.until(lambda: case.pbs.jobs())
    (block,) = case.pbs.jobs()
    case.pbs.hold(block)
    case.until(lambda: "is held" in case.user("python run.py --status").stdout, 30)
    time.sleep(8)
    assert list(case.pbs.jobs()) == [block], "max_blocks is one"
    case.pbs.release(block)
    case.pbs.hold_jobs = False
    assert running.wait(60) == 0, case.said()
    assert len(case.pbs.submissions) == 1
    case.settled(killed=0)


def test_what_an_ended_block_had_in_hand_does_not_wait_for_a_heartbeat(on_pbs):
    case = on_pbs(nodes="1", queue="preemptable").rows(30, 1000)
    edit(case.project, "config.py", "heartbeat_threshold=10", "heartbeat_threshold=600")
    running = case.start("python run.py --mode blocks")
    case.until(lambda: len(case.recorded()) >= 4)
    case.pbs.preempt(next(iter(case.pbs.jobs())))
    shown = ""
    while running.poll() is None:
        shown += case.user("python run.py --status").stdout
        time.sleep(0.5)
        assert len(shown) < 10**6
    assert running.wait(1) == 0, case.said()
    workers = [int(n) for n in re.findall(r"workers (\d+) of 4", shown)]
    assert workers and max(workers) <= 4, "the workers of the ended block do not count"
    assert len(case.pbs.submissions) == 2
    case.settled(len(case.ledger()) - len(case.ledger("end")))


def test_a_walltime_that_the_margin_fills_is_refused(on_pbs):
    """In a reservation: no task would ever start, in job after job."""
    case = on_pbs(nodes="1").rows(8)
    edit(case.project, "config.py", 'queue = "debug"', 'queue = "R1819640"')
    edit(case.project, "config.py", 'walltime = "0:05:00"', 'walltime = "0:02:00"')
    done = case.user("python run.py --mode blocks")
    assert done.returncode == 2 and "Traceback" not in done.stdout
    assert (
        "margin = None: leaves no time for tasks: none starts in the last 120 s of a walltime" in done.stdout
    )
    assert case.pbs.submissions == []
    job = case.qsub("-q R1819640 -l walltime=0:01:30")
    assert case.pbs.wait(job, 60)["Exit_status"] == 2, case.said()
    assert "config.py line" in case.said() and "and that is 0:01:30; set it in config.py" in case.said()
    edit(case.project, "config.py", "margin = None", "margin = 10")
    assert case.user("python run.py --mode blocks").returncode == 0
    case.settled(killed=0, faults=2)


# --- what PBS prints -----------------------------------------------------------------------------
def odd_pbs(case):
    """A variable of the jobs by which `qstat -F json` is no JSON, and notices of the site's from qsub."""
    edit(case.project, "driver.pbs", "#PBS -r y", "#PBS -r y\n#PBS -v CASE=005")
    edit(case.project, "config.py", "#PBS -r n", "#PBS -r n\\n#PBS -v CASE=005")
    case.pbs.notice("NOTICE: Polaris is down for maintenance on Monday 30.11.")


def test_qstat_that_is_no_json_and_a_notice_of_qsubs(on_pbs):
    case = on_pbs(nodes="1").rows(160, 500)
    odd_pbs(case)
    running = case.start("python run.py --mode blocks")
    case.until(lambda: re.search(r"block 0 \(job \d+\) runs", case.user("python run.py --status").stdout), 40)
    status = case.user("python run.py --status").stdout
    assert "NOTICE" not in status and status.count("block ") == 1, status
    assert running.wait(60) == 0, case.said()
    (block,) = case.pbs.jobs()
    assert '"CASE":\t005' in case.pbs.run("qstat", "-x", "-f", "-F", "json", block).stdout
    case.settled(killed=0)


def test_a_block_that_dies_at_its_start_is_noticed_where_qstat_is_no_json(on_pbs):
    case = on_pbs(nodes="1").rows(4)
    odd_pbs(case)
    edit(
        case.project,
        "config.py",
        "/activate.sh || exit 1",
        "/activate.sh; echo no module >&2; exit 1",
    )
    done = case.user("python run.py --mode blocks", timeout=60)
    assert done.returncode == 2 and "ended before a worker connected: no module" in done.stdout, done.stdout
    SUMS[SWEEPS].update(faults=1)
    case.nothing_left()


def test_the_end_of_a_job_is_its_own_where_qstat_is_no_json(on_pbs):
    """qsub was told a longer walltime than the file has."""
    case = on_pbs(nodes="1").rows(8, 100)
    odd_pbs(case)
    job = case.qsub("-l walltime=0:40:00").splitlines()[-1]
    assert case.pbs.wait(job, 60)["Exit_status"] == 0, case.said()
    start = json.loads((case.project / "results" / "runs.jsonl").read_text().splitlines()[0])["job_start"]
    assert abs(start - time.time()) < 60
    (case.project / "results").rename(case.project / "before")
    ask = "from polaris import machine; a, b = machine.times_of_job(); print('seconds', b - a)"
    edit(case.project, "driver.pbs", "exec python run.py", f'python -c "{ask}"; exec python run.py')
    job = case.qsub("-l walltime=0:40:00").splitlines()[-1]
    assert case.pbs.wait(job, 60)["Exit_status"] == 0 and "seconds 2400.0" in case.said(), case.said()
    (case.project / "ledger").write_text("\n".join(case.ledger()[:8]) + "\n")
    case.settled(killed=0)


def test_chain_sh_where_qsub_prints_notices(on_pbs):
    case = on_pbs(nodes="1", queue="preemptable").rows(4, 100)
    odd_pbs(case)
    done = case.user("./chain.sh 2")
    assert done.returncode == 0, done.stdout
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"\d+\.polaris\S+", first) and second.endswith(f" after {first}")
    for job in (first, second.split()[0]):
        case.pbs.wait(job, 60)
    case.settled(killed=0)


# --- 7: kills, disks, files ----------------------------------------------------------------------
def test_kill_9_at_twenty_random_moments(case):
    case.rows(150, 110)  # not short: each is a task of its own
    moments = random.Random(20261124)
    killed = kills = 0
    while kills < 20:
        running = case.start()
        try:
            assert running.wait(moments.uniform(0.3, 4.0)) == 0, case.said()
            case.rows(len(case.recorded()) + 20, 110)  # all was done already: more work
        except subprocess.TimeoutExpired:
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
            kills += 1
            time.sleep(0.3)  # what the workers still had in hand ends, and nobody hears of it
            before, killed = killed, case.killed()
            assert killed - before <= 4, "more than what ran on two workers, and what had just ended there"
    done = case.user("python run.py --mode local")
    assert done.returncode == 0, done.stdout
    case.settled(killed, faults=kills, fault="kill -9")


def test_kill_9_of_a_run_with_blocks_leaves_a_block_that_the_next_run_deletes(on_pbs):
    case = on_pbs(nodes="1").rows(30, 600)
    running = case.start("python run.py --mode blocks")
    case.until(lambda: len(case.recorded()) >= 4)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    (block,) = case.pbs.jobs()
    killed = case.killed()
    again = case.user("python run.py --mode blocks")
    assert again.returncode == 0 and f"ended what a killed run had left: {block}" in again.stdout, (
        again.stdout
    )
    extra = len(case.ledger()) - 30 - killed  # begun on the old block between the count and its end
    assert 0 <= extra <= 4
    case.settled(killed + extra)


def test_a_driver_whose_node_died_holds_the_folder_no_longer(case):
    case.rows(4, 100)
    (case.project / "results").mkdir()
    held = {
        "host": "x3001c0s1b0n0",
        "pid": 1,
        "job": "7.polaris-pbs-01",
        "mode": "job",
        "since": "then",
        "blocks": [],
    }
    lock = case.project / "results" / "running.json"
    lock.write_text(json.dumps(held))
    os.utime(lock, (time.time() - 3600,) * 2)
    done = case.user("python run.py --mode local")
    assert done.returncode == 0, done.stdout
    case.settled(killed=0)


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_half_written_row(case, cut):
    case.rows(6, 50)
    case.user("python run.py --mode local")
    table = case.project / "results" / "results.csv"
    table.write_bytes(table.read_bytes()[:-cut])
    killed = case.killed()
    assert killed >= 1
    done = case.user("python run.py --mode local")
    assert done.returncode == 0 and "of them done before" in done.stdout
    case.settled(killed)


def test_a_truncated_checkpoint(case):
    """Parsl's own record, of apps with cache=True: half an entry at its end would keep Parsl from starting.

    So would a folder without the file, which a run that is killed can leave as well.
    """
    edit(case.project, "apps.py", "@python_app", "@python_app(cache=True)")
    case.rows(6, 50)
    case.user("python run.py --mode local")
    checkpoint = case.project / "runinfo" / "000" / "checkpoint" / "tasks.pkl"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    (case.project / "runinfo" / "001" / "checkpoint").mkdir(parents=True)
    case.rows(8, 50)
    done = case.user("python run.py --mode local")
    assert done.returncode == 0, done.stdout
    case.settled(killed=0)


def test_a_full_disk(case):
    """A file system of 60 KiB for the results; where only root may mount one, a limit on the size of files."""
    case.rows(900, 0)
    folder = case.project / "results"
    folder.mkdir()
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", folder], case.project).returncode == 0
    try:
        limit = "" if mounted else "ulimit -f 40; "
        done = case.user(f"{limit}python run.py --mode local")
        assert done.returncode == 2 and "Traceback" not in done.stdout, done.stdout
        assert re.search(
            r"results/(results|tasks).csv: (No space left on device|File too large): \d+ of 900 tasks left; make room there",
            done.stdout,
        )
        killed = case.killed()
        kept = case.project / "kept.csv"
        shutil.copy(folder / "results.csv", kept)
    finally:
        if mounted:
            run(["umount", "-l", folder], case.project)
    shutil.move(kept, folder / "results.csv")  # the user makes room
    assert case.user("python run.py --mode local").returncode == 0
    case.settled(killed, fault="a full disk")


def test_a_run_directory_that_cannot_be_written(case):
    case.rows(4, 50)
    edit(case.project, "config.py", 'run_dir = project_dir / "runinfo"', 'run_dir = Path("/proc/runs")')
    done = case.user("python run.py --mode local")
    assert (
        done.returncode == 2 and "run_dir = '/proc/runs': " in done.stdout and "Traceback" not in done.stdout
    )
    edit(case.project, "config.py", 'run_dir = Path("/proc/runs")', 'run_dir = project_dir / "runinfo"')
    shutil.rmtree(case.project / "results", ignore_errors=True)
    (case.project / "results").write_text("a file in the way")
    done = case.user("python run.py --mode local")
    assert done.returncode == 2 and "results: File exists: results cannot be written there" in done.stdout
    (case.project / "results").unlink()
    assert case.user("python run.py --mode local").returncode == 0
    case.settled(killed=0, faults=2)


def test_an_input_that_is_edited_between_runs(case):
    case.rows(6, 50)
    case.user("python run.py --mode local")
    text = (case.project / "inputs" / "sweep.csv").read_text().splitlines()
    text[1], text[2] = "77.0,4,50,1", "78.0,4,50,1"  # two changed
    (case.project / "inputs" / "sweep.csv").write_text(
        "\n".join([*text[:6], "79.0,4,50,1", ""])
    )  # one removed, one added
    done = case.user("python run.py --mode local")
    assert (
        done.returncode == 0
        and "results/results.csv has 3 rows that the input has no more: kept" in done.stdout
    )
    assert "6 tasks, 3 of them done before" in done.stdout
    assert sorted(Counter(case.ledger()).values()) == [1] * 9 and len(results(case.project)) == 9
    SUMS[SWEEPS].update(faults=1, rows=6)


def test_apps_that_are_edited_between_runs(case):
    case.rows(4, 50)
    case.user("python run.py --mode local")
    edit(case.project, "apps.py", "2 * temperature", "3 * temperature")
    case.rows(6, 50)
    done = case.user("python run.py --mode local")
    edited = (
        "ising, or code that it uses, was edited since: 4 of its {} results are of earlier code, and kept"
    )
    mend = "python run.py --again ising computes them anew"
    assert f"{edited.format(4)}; {mend}" in done.stdout, done.stdout
    values = {row["temperature"]: float(row["value"]) for row in results(case.project)}
    assert values["4.0"] == 8 and values["5.0"] == 15
    case.settled(killed=0)
    assert edited.format(6) in case.user("python run.py --mode local").stdout, "as long as it is so"
    done = case.user("python run.py --mode local --again ising")
    assert done.returncode == 0 and "6 of 6 tasks done" in done.stdout, done.stdout
    assert {row["value"] for row in results(case.project)} == {str(3.0 * t) for t in range(1, 7)}
    assert len(case.ledger()) == 12 and len(results(case.project, "results-before.csv")) == 6
    assert "edited" not in case.user("python run.py --mode local").stdout


# --- 8: security ---------------------------------------------------------------------------------
def test_the_ports_are_closed_to_other_users_and_the_run_directory_too(case):
    case.rows(40, 500)
    running = case.start()
    case.until(lambda: case.recorded())
    run_dir = case.project / "runinfo"
    assert run_dir.stat().st_mode & 0o077 == 0
    port = int(re.search(r"--port=(\d+)", next(run_dir.glob("000/submit_scripts/*.sh")).read_text()).group(1))
    probe = f"""
import pickle, sys, zmq
from parsl import curvezmq
for certificates in (None, {str(run_dir / "000" / "gpu" / "certificates")!r}):
    context = curvezmq.ClientContext(certificates)
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IDENTITY, b"probe")
    socket.connect("tcp://127.0.0.1:{port}")
    socket.send(pickle.dumps({{"type": "connection_probe"}}))
    print("answered" if socket.poll(3000) else "silence")
    socket.close()
"""
    (case.project / "probe.py").write_text(probe)
    assert case.user("python probe.py").stdout.split() == ["silence", "answered"]
    running.send_signal(signal.SIGINT)
    running.wait(60)
    SUMS[SWEEPS].update(faults=1)


def test_no_shell_runs_the_users_text():
    """Nothing in the generated project hands text to a shell from Python."""
    for path in (ROOT / "{{cookiecutter.project_slug}}").rglob("*.py"):
        text = path.read_text()
        assert "shell=True" not in text and "os.system" not in text and "os.popen" not in text, path
