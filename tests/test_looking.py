"""Looking at a run: while it goes, from another terminal, and afterwards, in a real browser."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy
import pytest
from conftest import HEADER, ROOT, Terminal, edit, results, run, runs_an_executable, sweep, user, user_env
from pbs.server import PBS
from polaris import folder as folder_of_results
from polaris import history, machine, memory, runs, spent, tally, timeline, views
from polaris.advice import advice

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
NODES = ("x3001c0s1b0n0", "x3001c0s7b0n0", "x3001c0s13b0n0")
TRIES = "run,table,line,app,executor,try,submitted,started,ended,block,host,gpu,worker,cores,status,cause\n"


class Browser:
    """Headless Chromium; what pages say on their console and ask of the network."""

    def __enter__(self):
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        self.said, self.asked = [], []
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.playwright.stop()

    def page(self, width, height):
        page = self.chromium.new_page(viewport={"width": width, "height": height})
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        return page


def screen_of(seen, columns=100, lines=24):
    """What a terminal shows after these bytes, as a rich Text, and as plain lines."""
    import pyte
    from rich.text import Text

    screen = pyte.Screen(columns, lines)
    pyte.Stream(screen).feed(seen)
    text = Text()
    for y in range(lines):
        for x in range(columns):
            cell = screen.buffer[y][x]
            colour = "default" if cell.fg == "default" else cell.fg if cell.fg.isalpha() else f"#{cell.fg}"
            text.append(cell.data, {"brown": "yellow"}.get(colour, colour))
        text.append("\n")
    return text, [line.rstrip() for line in screen.display]


def as_html(text):
    from rich.console import Console
    from rich.terminal_theme import MONOKAI

    console = Console(record=True, width=100, file=open(os.devnull, "w"))
    console.print(text)
    page = console.export_html(inline_styles=True, theme=MONOKAI)
    return page.replace("<body", '<body style="font-size: 15px; margin: 14px"')


@pytest.fixture(scope="module")
def seen(ready, tmp_path_factory):
    """A run in blocks on 3 nodes x 4 workers, one node lost half way: (project, live screen, status)."""
    from cookiecutter.main import cookiecutter

    folder = tmp_path_factory.mktemp("seen")
    os.environ["COOKIECUTTER_CONFIG"] = os.devnull
    answers = {"account": "MyProj", "queue": "preemptable", "nodes": "3", "create_venv": "no"}
    cookiecutter(str(ROOT), no_input=True, output_dir=str(folder), extra_context=answers)
    project = folder / "ising-sweep"
    (project / ".venv").symlink_to(ready[0] / ".venv")
    edit(project, "config.py", "heartbeat_period=15", "heartbeat_period=2")
    edit(project, "config.py", "heartbeat_threshold=120", "heartbeat_threshold=6")
    edit(project, "config.py", "retries = 2", "retries = 0")
    # Twelve GPUs do not fit into this machine: most of a task's time is slept, as if one computed it.
    slept = "    import time\n    time.sleep(0.4 + seed % 7 / 5)\n    if size < 4"
    edit(project, "apps.py", "    if size < 4", slept)
    rows = [f"{1.5 + i % 40 / 20:.2f},32,200,{i}\n" for i in range(320)]
    rows.insert(60, "-1,64,300,1\n")  # no temperature
    (project / "inputs" / "sweep.csv").write_text(HEADER + "".join(rows))
    with PBS(folder, home=folder, nodes=3, kill_delay=2) as pbs:
        command = ["bash", "-c", "source activate.sh && stty cols 100 rows 24 && python run.py --mode blocks"]
        terminal = Terminal(command, project, pbs.env(TERM="xterm-256color"))
        terminal.until(r"done 1[0-9][0-9],", 120)
        status = user(project, "python run.py --status", pbs).stdout
        pbs.kill_node(NODES[1])
        terminal.until("tries lost", 60)
        # To the last line of a drawing: a read may end anywhere in it.
        shown = terminal.until(r"(?s)tries lost.*?workers 8 of 12.*?last failure: [^\x1b]*\x1b\[0m", 20)
        terminal.wait(120)
        asked = [argv for name, argv, _ in pbs.calls() if name == "qstat"]
    return project, shown, status, terminal.seen, asked


@pytest.mark.slow
def test_the_terminal_shows_tasks_workers_blocks_and_the_last_failure(seen):
    _, shown, status, all_of_it, asked = seen
    _, lines = screen_of(shown)
    view = "\n".join(lines)
    assert re.search(r"done \d+, failed \d, left \d+ of 321; [\d.]+ tasks/s, \d+ s to go", view), view
    assert re.search(r"workers 8 of 12, running \d+", view), view
    assert re.search(r"block 0 \(job \d+\) runs since \d\d:\d\d, 8 workers, ends in (\d+ min|1 h)", view), (
        view
    )
    assert "4 tries lost with a worker, node or block, and made again" in view
    assert "last failure: inputs/sweep.csv line 62: ValueError: temperature=-1.0" in view
    assert len(asked) <= 2, "PBS is asked once a minute at most, and once at the end"
    assert re.search(r"mode blocks, process \d+ on .*, since", status)
    assert re.search(r"done \d+, failed \d, left \d+ of 321", status) and "workers 12 of 12" in status
    assert "Traceback" not in all_of_it


@pytest.mark.slow
def test_every_try_of_every_task_is_recorded(seen):
    project, *_ = seen
    tries = results(project, "tasks.csv")
    assert sum(row["status"] == "done" for row in tries) == 320
    assert sorted(row["line"] for row in tries if row["status"] == "done") == sorted(
        str(line) for line in range(2, 323) if line != 62
    )
    failed = [row for row in tries if row["status"] == "failed"]
    assert [(row["line"], row["try"]) for row in failed] == [("62", "0")]
    lost = [row for row in tries if row["status"] == "lost"]
    assert (
        len(lost) == 4 and {row["host"] for row in lost} == {NODES[1]} and "ManagerLost" in lost[0]["cause"]
    )
    for row in tries:
        if row["status"] != "lost":
            assert float(row["submitted"]) <= float(row["started"]) <= float(row["ended"])
            assert (
                row["host"] in NODES and row["gpu"] == row["worker"] and row["cores"] and row["block"] == "0"
            )
    again = {row["line"] for row in lost}
    assert {row["try"] for row in tries if row["line"] in again and row["status"] == "done"} == {"1"}


@pytest.mark.slow
@needs_browser
def test_the_report_opens_in_a_browser_without_errors_or_requests(seen, tmp_path):
    project, shown, *_ = seen
    said = user(project, "python -m polaris.report")
    assert "results/report.html: opens in any browser" in said.stdout, said.stdout
    shutil.copy(project / "results" / "report.html", tmp_path / "copied.html")  # alone, on a laptop
    with Browser() as browser:
        page = browser.page(1180, 900)
        page.goto(f"file://{tmp_path}/copied.html")
        text = page.inner_text("body")
        images = page.evaluate("Array.from(document.images).map(i => i.complete && i.naturalWidth)")
        assert browser.said == [] and browser.asked == [f"file://{tmp_path}/copied.html"]
        assert len(images) == 4 and all(width > 500 for width in images)
        for words in (
            "320 of 321 in all", "node lost", "start-up", "ManagerLost", "results/traces/",
            "finished", "0.polaris-login-01", "workers_per_gpu", "2026.10.26",
        ):  # fmt: skip
            assert words in text, text
        whole = {"x": 0, "y": 0, "width": 1180, "height": 1900}
        page.screenshot(path=tmp_path / "report.png", full_page=True, clip=whole)
        terminal = browser.page(960, 300)
        terminal.set_content(as_html(screen_of(shown)[0]))
        terminal.screenshot(path=tmp_path / "live.png")
        assert browser.said == []
    for name in ("timeline", "shares", "seconds"):
        assert (project / "results" / f"report-{name}.png").read_bytes().startswith(b"\x89PNG")
    if os.environ.get("SCREENSHOTS"):
        for name in ("report", "live"):
            shutil.copy(tmp_path / f"{name}.png", ROOT / "docs" / f"{name}.png")


def test_what_is_left_counts_rows_and_calls_of_the_same_app_apart():
    left = tally.Tally()
    left.tables["work"] = tally.Count(8)
    for app in ("work", "total"):
        left.called(app)
    assert left.left_in_words() == "10 of 10 tasks left (work 8, work 1, total 1)"


# --- the views -----------------------------------------------------------------------------------
def test_a_log_gets_a_line_a_minute_and_one_at_once_where_the_run_stops(capsys):
    lines = views.Lines()
    first = views.Shown("done 1", ["workers 2 of 2"], "line 3: no", 1, None, False)
    lines.update(first)
    assert capsys.readouterr().out == "", "a minute has not passed"
    lines.update(first._replace(stopping=True))
    lines.update(first._replace(stopping=True))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d done 1; workers 2 of 2; last failure: line 3: no\n", capsys.readouterr().out
    )
    lines.update(first._replace(text="done 2", stopping=True), last=True)
    assert re.fullmatch(r"\d\d:\d\d:\d\d done 2\n", capsys.readouterr().out)


def test_a_notebook_and_a_log_get_lines_and_a_terminal_a_bar(monkeypatch):
    assert isinstance(views.progress(), views.Lines)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    bar = views.progress()
    assert isinstance(bar, views.Bar)
    bar.close()
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)  # as IPython has it, in a notebook, too
    assert isinstance(views.progress(), views.Lines)


# --- what the report says, of runs whose numbers are known ---------------------------------------
class Folder:
    """A folder of results made by hand: one block of `nodes` nodes from second 0 on, asked for at -10.

    more: {executor: its nodes}, beside gpu, whose blocks are called "0", too.
    """

    def __init__(self, path, nodes, workers, end, more=None, **ended):
        self.path = path / "results"
        self.path.mkdir()
        self.tries = []
        sizes = {"gpu": nodes, **(more or {})}
        executors = {
            label: {"nodes_per_block": number, "workers_per_node": workers, "workers": number * workers}
            for label, number in sizes.items()
        }
        start = {"event": "start", "time": -9, "began": -10, "executors": executors, "script": "run.py"}
        start |= {"mode": "blocks", "job_start": None, "job_nodes": [], "host": "login"}
        mapped = {"event": "map", "time": -9, "table": "results", "app": "app", "source": "inputs/sweep.csv"}
        self.events = [start, mapped | {"total": 20_000, "done": 0}]
        for i, (label, number) in enumerate(sizes.items()):
            block = {"event": "block", "executor": label, "block": "0", "job": f"{7 + i}.pbs"}
            block |= {"state": "RUNNING", "start": 0, "end": None, "time": 3}
            self.events.append({**block, "workers": number * workers})
        if end is not None:
            ends = {"stopped": None, "at_once": False, "done": 0, "failed": 0, "left": 0, **ended}
            self.events.append({"event": "end", "time": end, "apps": {}, "uncached": {}, **ends})

    def task(
        self, started, ended, host="a", worker="0", status="done", tried=0, cause="", app="app",
        executor="gpu", table="results",
    ):  # fmt: skip
        line = len(self.tries) + 2 if table else ""
        self.tries.append(
            f"1,{table},{line},{app},{executor},{tried},0,{started},{ended},0,{host},{worker},{worker},0-7,"
            f"{status},{cause}\n"
        )

    def lost(self, when, host="a", worker="", executor="gpu"):
        self.tries.append(
            f"1,results,99,app,{executor},0,0,,{when},,{host},,{worker},,lost,ManagerLost: gone\n"
        )

    def shares(self):
        """{part: seconds} of the last run."""
        lines = [json.dumps({"run": 1, **event}) + "\n" for event in self.events]
        (self.path / "runs.jsonl").write_text("".join(lines))
        (self.path / "tasks.csv").write_text(TRIES + "".join(self.tries))
        self.run = runs.read(self.path)[1]
        return self.parts(self.run.totals)

    def parts(self, seconds):
        """{part: seconds}, of those that are not 0."""
        return {part: round(float(s), 3) for part, s in zip(spent.PARTS, seconds, strict=True) if s}


def test_where_the_time_of_two_workers_went(tmp_path):
    folder = Folder(tmp_path, nodes=1, workers=2, end=100)
    folder.task(10, 40), folder.task(45, 60), folder.task(20, 50, worker="1")
    (
        folder.task(50, 52, worker="1", status="failed", cause="ValueError: no"),
        folder.task(52, 95, worker="1", tried=1),
    )
    # The last task was first started at 50: what was idle before is between tasks, after it the tail.
    assert folder.shares() == {
        "computing": 30 + 15 + 30 + 43, "failed work": 2, "start-up": 10 + 20, "between tasks": 5, "tail": 40 + 5,
    }  # fmt: skip
    assert folder.run.node_hours == pytest.approx(100 / 3600)


def test_a_lost_node_a_lost_worker_and_nodes_that_never_worked(tmp_path):
    folder = Folder(tmp_path, nodes=3, workers=1, end=100)
    folder.task(0, 30), folder.task(30, 100)
    folder.task(0, 20, host="b"), folder.lost(50, host="b")
    assert folder.shares() == {"computing": 120, "node lost": 80, "never a task": 100}
    (tmp_path / "again").mkdir()
    folder = Folder(tmp_path / "again", nodes=1, workers=1, end=100)
    folder.task(0, 30), folder.lost(50, worker="0"), folder.task(60, 100)
    assert folder.shares() == {"computing": 70, "failed work": 30}


def test_a_run_whose_tasks_were_all_refused_is_listed_and_breaks_nothing(tmp_path):
    folder = Folder(tmp_path, nodes=1, workers=1, end=100)
    folder.tries.append("1,results,2,app,gpu,0,,,,,,,,,failed,TypeError: no\n")
    assert folder.shares() == {"never a task": 100}
    assert folder.run.count(1) == 1 and folder.run.node_hours == pytest.approx(100 / 3600)


def test_a_run_that_was_killed_has_a_report_too(tmp_path):
    folder = Folder(tmp_path, nodes=1, workers=2, end=None)
    folder.task(0, 60), folder.task(0, 20, worker="1")
    folder.tries.append("1,results,4,app,gpu,0,0,20")  # half a line, as the kill left it
    assert folder.shares() == {"computing": 80, "unfinished": 40}
    assert folder.run.ended_how() == "was cut off"
    (tmp_path / "again").mkdir()
    folder = Folder(tmp_path / "again", nodes=1, workers=1, end=100, at_once=True, left=5, stopped="SIGTERM")
    folder.task(0, 60)
    assert folder.shares() == {"computing": 60, "unfinished": 40} and "SIGTERM" in folder.run.ended_how()


def test_two_executors_whose_blocks_have_the_same_name(tmp_path):
    folder = Folder(tmp_path, nodes=1, workers=1, end=100, more={"cpu": 2})
    folder.task(0, 100)
    folder.task(20, 30, executor="cpu", app="analyse", table="")
    folder.lost(50, executor="cpu")  # on the same host: gpu has lost nothing
    folder.task(60, 80, executor="cpu", host="b", app="analyse", table="")
    folder.shares()
    run = folder.run
    assert folder.parts(run.of["gpu"]) == {"computing": 100}
    assert folder.parts(run.of["cpu"]) == {
        "computing": 10 + 20, "start-up": 20 + 60, "node lost": 70, "tail": 20,
    }  # fmt: skip
    assert run.node_hours == pytest.approx(3 * 100 / 3600)
    assert [(gpu.executor, gpu.host) for gpu in run.busy()] == [("gpu", "a"), ("cpu", "a"), ("cpu", "b")]
    assert any(
        "The cpu workers waited 85.0 % of their time, those of gpu 0.0 %: give cpu fewer" in s
        for s in advice(run)
    )


def test_stages_are_counted_and_waiting_for_one_is_not_called_waste(tmp_path):
    apps = {"simulate": {"done": 2, "failed": 0, "known": 3}, "analyse": {"done": 1, "failed": 0, "known": 3}}
    folder = Folder(tmp_path, nodes=1, workers=2, end=100, apps=apps, uncached={"analyse": 1})
    del folder.events[1]  # no map: plain calls
    folder.task(0, 50, app="simulate", table="")
    folder.task(0, 10, app="simulate", worker="1", status="failed", cause="OSError: gone", table="")
    folder.task(10, 60, app="simulate", worker="1", tried=1, table="")
    folder.task(90, 100, app="analyse", table="")
    folder.shares()
    simulate, analyse = folder.run.stages()
    assert simulate == ("simulate", 2, 1, 0, 50, 100, apps["simulate"])
    assert analyse == ("analyse", 1, 0, 0, 10, 10, apps["analyse"])
    assert folder.run.in_stages
    (said,) = [sentence for sentence in advice(folder.run) if "free" in sentence]
    assert "where these waited for others" in said and "although tasks were left" not in said


def test_only_rows_that_were_all_known_are_a_sweep(tmp_path):
    for name, change in (("sweep", {}), ("generator", {"total": None}), ("asked for", {"total": 0})):
        (tmp_path / name).mkdir()
        folder = Folder(tmp_path / name, nodes=1, workers=1, end=100)
        folder.events[1] |= change
        folder.task(0, 10)
        folder.shares()
        assert folder.run.in_stages == (name != "sweep")
        assert folder.run.mapped()[0].done == 1


def test_the_end_of_each_block_is_asked_of_pbs_and_noted(tmp_path, monkeypatch):
    folder = Folder(tmp_path, nodes=1, workers=1, end=100, more={"cpu": 1})
    folder.task(0, 100), folder.task(0, 100, executor="cpu")
    folder.shares()
    asked = []

    def ends_of_jobs(jobs):
        asked.append(jobs)
        return {job: 130.0 for job in jobs if job == "8.pbs"}

    monkeypatch.setattr(machine, "ends_of_jobs", ends_of_jobs)
    history.note_ends(folder.path / "runs.jsonl")
    run = runs.read(folder.path)[1]
    assert asked == [["7.pbs", "8.pbs"]]
    assert {key: span.closed for key, span in run.spans.items()} == {("gpu", "0"): 100, ("cpu", "0"): 130}
    history.note_ends(folder.path / "runs.jsonl")
    assert asked[1:] == [["7.pbs"]], "what is noted is not asked again"


def reported(project, folder):
    """The report written from a folder made by hand, as text."""
    shutil.copytree(folder.path, project / "results", dirs_exist_ok=True)
    done = user(project, "python -m polaris.report")
    assert done.returncode == 0, done.stdout
    return (project / "results" / "report.html").read_text()


@pytest.mark.slow
def test_a_large_tail_becomes_advice(project, tmp_path):
    folder = Folder(tmp_path, nodes=1, workers=2, end=100)
    for i in range(9):
        folder.task(i, i + 1), folder.task(i, i + 1, worker="1")
    folder.task(9, 100)
    folder.shares()
    page = reported(project, folder)
    assert "workers had nothing left to start" in page and "longest_first of table()" in page
    assert "starting workers" not in page


@pytest.mark.slow
@pytest.mark.parametrize("nodes, workers, tasks", [(1, 1, 10), (500, 4, 20_000)])
def test_the_report_fits_one_gpu_and_two_thousand(project, tmp_path, nodes, workers, tasks):
    folder = Folder(tmp_path, nodes=nodes, workers=workers, end=tasks)
    lanes = [(f"x{3000 + n // 10}c0s{n % 10}b0n0", str(w)) for n in range(nodes) for w in range(workers)]
    for i in range(tasks):
        host, worker = lanes[i % len(lanes)]
        folder.task(i // len(lanes), i // len(lanes) + 0.9, host=host, worker=worker)
    folder.shares()
    page = reported(project, folder)
    assert f"{tasks:,}" in page and page.count("<h2>") >= 6
    assert 20_000 < (project / "results" / "report.html").stat().st_size < 1_000_000


def test_the_smallest_limit_of_the_memory_counts(tmp_path, monkeypatch):
    """Of the machine, of a control group of either kind, or of a group above it; and of a login node."""
    assert memory.limit(tmp_path) is None
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       527000000 kB\nMemFree: 1 kB\n")
    groups = tmp_path / "sys" / "fs" / "cgroup"
    (groups / "user.slice" / "session").mkdir(parents=True)
    (groups / "memory" / "job").mkdir(parents=True)
    (groups / "user.slice" / "session" / "memory.max").write_text("max\n")
    cgroup = tmp_path / "proc" / "self" / "cgroup"
    cgroup.write_text("12:cpu,cpuacct:/job\n4:memory:/job\n0::/user.slice/session\n")
    assert memory.limit(tmp_path) == ("this machine", 527_000_000 * 1024)
    (groups / "memory" / "job" / "memory.limit_in_bytes").write_text("16000000000\n")
    assert memory.limit(tmp_path).size == 16_000_000_000
    (groups / "user.slice" / "memory.max").write_text("12000000000\n")
    assert memory.limit(tmp_path).size == 12_000_000_000
    monkeypatch.setattr("socket.gethostname", lambda: "polaris-login-02")
    assert memory.limit(tmp_path) == ("a user on a login node", 8 * 2**30)


def test_busy_bins_hold_the_time_that_lies_in_them():
    got = timeline.busy(
        numpy.array([0, 0, 1]), numpy.array([0, 2.5, 1]), numpy.array([1.5, 2.75, 4]), 2, 4, 4
    )
    assert got.round(6).tolist() == [[1, 0.5, 0.25, 0], [0, 1, 1, 1]]


@pytest.mark.slow
def test_without_a_run_or_an_environment_the_report_says_so_in_one_line(project, tmp_path):
    none = user(project, "python -m polaris.report")
    assert (
        none.returncode == 1
        and none.stdout == "results/runs.jsonl: there is none: nothing was run here yet\n"
    )
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    without = run([bare / "bin" / "python", "-m", "polaris.report"], project, env=user_env(tmp_path))
    assert without.stdout.strip().endswith("has no numpy: source activate.sh") and without.returncode == 1


@pytest.mark.slow
def test_several_runs_are_told_apart_and_summed(project):
    sweep(project, 4)
    user(project, "python run.py --mode local")
    sweep(project, 6)
    user(project, "python run.py --mode local")
    assert [row["run"] for row in results(project, "tasks.csv")] == ["1"] * 4 + ["2"] * 2
    assert "run 2" in user(project, "python -m polaris.report && grep -o 'run 2' results/report.html").stdout
    assert (
        "run 1" in user(project, "python -m polaris.report 1 && grep -o 'run 1<' results/report.html").stdout
    )
    wrong = user(project, "python -m polaris.report 7")
    assert (
        wrong.returncode == 1
        and "run 7: there is no such run" in wrong.stdout
        and "Traceback" not in wrong.stdout
    )


@pytest.mark.slow
def test_an_executable_of_the_user_is_recorded_too(project):
    sweep(project, 2)
    runs_an_executable(project, "which_gpu")
    edit(
        project,
        "apps.py",
        'return f\'hostname; nvidia-smi -L | grep -e "^GPU {device}:" -e "UUID: {device}"\'',
        "return 'sleep 0.3; test -e once || ! touch once'",  # it fails the first time
    )
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0, done.stdout
    tries = results(project, "tasks.csv")
    assert {row["app"] for row in tries} == {"which_gpu"}
    tried = [(row["status"], row["try"], row["cause"].split(":")[0]) for row in tries]
    assert sorted(tried)[-1][0] == "failed" and {t for _, t, _ in tried} == {"0", "1"}, tried
    assert [t[2] for t in tried if t[0] == "failed"] == ["BashExitFailure"] * (len(tries) - 2)
    assert all(0.3 <= float(row["ended"]) - float(row["started"]) < 5 for row in tries)


@pytest.mark.slow
def test_parsls_own_monitoring_is_a_setting(project, tmp_path):
    sweep(project, 3)
    edit(project, "config.py", "monitoring = False", "monitoring = True")
    refused = user(project, "python run.py --mode local")
    assert refused.returncode == 2 and "pip install 'parsl[monitoring,visualization]'" in refused.stdout
    pip = f"python -m pip install -q --target {tmp_path}/more 'sqlalchemy>=2,<2.1'"
    done = user(project, f"{pip} && PYTHONPATH=$PYTHONPATH:{tmp_path}/more python run.py --mode local")
    assert done.returncode == 0, done.stdout
    import sqlite3

    with sqlite3.connect(project / "runinfo" / "monitoring.db") as database:
        assert database.execute('select count(*) from "try"').fetchone() == (3,)
    time.sleep(1)
    left = run(["pgrep", "-f", str(project)], project).stdout
    assert left == "", "no process of the monitoring stays"


def test_the_columns_of_the_record_are_these():
    assert next(csv.reader([TRIES])) == list(folder_of_results.RECORD)
