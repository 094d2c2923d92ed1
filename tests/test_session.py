"""A session: what a program of any shape gets, in run.py, in scripts of the user's own and line by line."""

import collections
import re
import shutil
import signal
import subprocess
import textwrap
import time

import pytest
from conftest import NOTE, Terminal, edit, results, user, user_env

pytestmark = pytest.mark.slow

LOCAL = "python run.py --mode local"
APPS = (
    textwrap.indent(NOTE, "    ")
    + """
    import os
    import time
    from parsl import File, bash_app, join_app, python_app

    @python_app
    def square(x, plus=0):
        note("square", x)
        return x * x + plus

    @python_app
    def wait(seconds, name):
        time.sleep(seconds)
        note("wait", name)
        return {"slept": seconds, "twice": 2 * name}

    @python_app
    def risky(x):
        if x == 2:
            raise ValueError("bad luck")
        return x

    @python_app(cache=True)
    def simulate(x, seconds=0.0):
        time.sleep(seconds)
        note("simulate", x)
        return {"x": x}

    @python_app
    def analyse(state, seconds=0.0):
        time.sleep(seconds)
        note("analyse", state["x"])
        return 10 * state["x"]

    @python_app(cache=True)
    def total(inputs=()):
        note("total")
        return sum(inputs)

    @join_app
    def chain(x):
        return analyse(simulate(x))
"""
)
RUN = """
import sys
from polaris import cli
from polaris.sources import table
import apps

{top}

def main(run):
{body}


if __name__ == "__main__":
    sys.exit(cli.main(main))
"""


def write(project, body, top="", apps=APPS):
    """apps.py, and a run.py whose main(run) has that body."""
    text = textwrap.dedent(apps).replace("LEDGER", str(project / "ledger"))
    (project / "apps.py").write_text(text)
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    (project / "run.py").write_text(RUN.format(top=textwrap.dedent(top), body=body))


def script(project, text, name="mine.py", apps=APPS):
    """apps.py, and a script of the user's own beside run.py."""
    write(project, "pass", apps=apps)
    (project / name).write_text(textwrap.dedent(text))


def done(project, command=LOCAL, status=0, **extra):
    """Run to the end; returns what it said."""
    ended = user(project, command, **extra)
    assert ended.returncode == status, ended.stdout
    assert "Traceback" not in ended.stdout, ended.stdout
    return ended.stdout


def said(text, word):
    """What a program printed behind a word, at the start of a line."""
    return re.findall(rf"^{word} (.*)$", text, re.MULTILINE)


def computed(project):
    """How often each thing was computed, as the apps themselves noted it."""
    path = project / "ledger"
    return collections.Counter(path.read_text().split() if path.exists() else [])


def nothing_twice(project, but=()):
    """Each thing was computed once, but for those that a kill cut off."""
    twice = {name for name, times in computed(project).items() if times > 1}
    assert twice <= set(but), twice


def on_a_terminal(project, command=LOCAL):
    words = ["bash", "-c", f"source activate.sh && {command}"]
    return Terminal(words, project, user_env(project.parent))


# --- memory ----------------------------------------------------------------------------------------
def test_calls_that_will_not_fit_the_memory_are_said_once_before_it_is_full(project):
    """A graph of plain calls on a login node, here of 40 MB; the same as rows says nothing."""
    little = """
        import polaris.memory as memory
        memory.limit = lambda: memory.Limit("a user on a login node", 40_000_000)
    """
    apps = APPS + """
    @python_app
    def nothing(x, before=None):
        return x
    """  # fmt: skip
    graph = """
        first = apps.wait(3, "a")
        calls = [apps.nothing(x, first) for x in range(2000)]
        print("sum", sum(call.result() for call in calls))
    """
    write(project, graph, little, apps)
    ended = done(project)
    assert said(ended, "sum") == ["1999000"]
    (line,) = re.findall("^.*calls wait or run.*$", ended, re.MULTILINE)
    assert "2,001 calls" in line and "of the 40 MB of a user on a login node" in line and "run.map" in line
    write(
        project,
        'print("rows", len(list(run.map(apps.nothing, [dict(x=x) for x in range(2000)]))))',
        little,
        apps,
    )
    ended = done(project)
    assert said(ended, "rows") == ["2000"] and "calls wait or run" not in ended


@pytest.mark.parametrize("mine", ["", "gc.set_threshold(50_000)", "gc.disable()", "gc.set_threshold(0)"])
def test_garbage_is_looked_for_less_often_only_while_many_calls_wait(project, mine):
    """Each look goes through Parsl's records of them all. What the program has set itself, it keeps."""
    apps = APPS + """
    @python_app
    def nothing(x, before=None):
        return x
    """  # fmt: skip
    program = f"""
        import gc, time
        {mine or "pass"}
        def looks():
            return gc.get_threshold()[0] if gc.isenabled() else 0
        usual = looks()
        first = apps.wait(2, "a")
        calls = [apps.nothing(x, first) for x in range(2000)]
        time.sleep(1.2)
        waiting = looks()
        print("sum", sum(call.result() for call in calls))
        last = apps.wait(3, "b").result()
        print("looks", usual, waiting, looks())
    """
    write(project, program, apps=apps)
    ended = done(project)
    assert said(ended, "sum") == ["1999000"]
    (looks,) = said(ended, "looks")
    usual, waiting, afterwards = map(int, looks.split())
    assert usual == afterwards and waiting == (usual if mine else 10_000), looks
    record = (project / "results" / "tasks.csv").read_text().splitlines()
    assert len(record) == 1 + 2002, "each call has its line"


def test_large_results_of_short_rows_come_in_small_groups_and_are_said(project):
    """A group that becomes too large gives back what it has not begun: all the same each row once."""
    little = """
        import polaris.memory as memory
        memory.limit = lambda: memory.Limit("a user on a login node", 7_000_000)
    """
    apps = APPS + """
    @python_app
    def lattice(x):
        import numpy
        note("lattice", x)
        return numpy.full(125_000, float(x))
    """  # fmt: skip
    body = """
        results = run.map(apps.lattice, [dict(x=x) for x in range(200)])
        print("right", all((row["result"] == row["x"]).all() for row in results), len(results))
    """
    write(project, body, little, apps)
    ended = done(project)
    assert said(ended, "right") == ["True 200"], ended
    nothing_twice(project)
    assert len(computed(project)) == 200
    (line,) = re.findall("^.*came through run.py.*$", ended, re.MULTILINE)
    assert line.startswith("a result of 1 MB") and "2 workers takes 2 MB of the 7 MB" in line, line


# --- run.map ---------------------------------------------------------------------------------------
def test_rows_come_in_their_order_or_as_they_end(project):
    write(project, """
        rows = [{"seconds": 2.0, "name": "a"}, {"seconds": 0.1, "name": "b"}, {"seconds": 0.1, "name": "c"}]
        results = run.map(apps.wait, rows)
        print("ended", *[row["name"] for row in results.as_completed()])
        print("order", *[row["name"] for row in results])
        print("sizes", len(results), results.total, results.failed)
        print("last", list(results)[2])
        try:
            results.frame()
        except Exception as error:
            print("frame", error)
    """)  # fmt: skip
    first = done(project)
    assert said(first, "ended")[0].split()[-1] == "a", first
    assert said(first, "order") == ["a b c"] and said(first, "sizes") == ["3 3 0"]
    assert said(first, "last") == ["{'seconds': 0.1, 'name': 'c', 'slept': 0.1, 'twice': 'cc'}"]
    assert "pip install pandas" in said(first, "frame")[0]
    # A stand-in for pandas: what it is given.
    (project / "pandas.py").write_text(
        "class DataFrame(list):\n    def __init__(self, rows, columns):\n        super().__init__(rows)\n"
        "        print('columns', *columns)\n"
    )
    again = done(project)
    assert "nothing to do" in again and sorted(said(again, "ended")[0].split()) == ["a", "b", "c"]
    assert said(again, "order") == ["a b c"] and said(again, "last") == said(first, "last")
    assert said(again, "columns") == ["seconds name slept twice"]
    nothing_twice(project)


VALUES = """
    import numpy

    def rows(last):
        for x in range(last):
            yield {"x": x, "grid": numpy.arange(x + 1.0), "many": list(range(2000)), "pair": (x, [None, 2.5])}

    def is_right(row):
        x = row["x"]
        grid = numpy.arange(x + 1.0)
        return (
            type(x) is int
            and row["grid"].dtype == row["half"].dtype == "float64"
            and numpy.array_equal(row["grid"], grid)
            and row["many"] == list(range(2000))
            and row["pair"] == (x, [None, 2.5])
            and numpy.array_equal(row["half"], grid / 2)
            and row["long"] == ["y" * 9000, x]
            and type(row["mean"]) is numpy.float64
            and row["mean"] == grid.mean()
        )
"""


def test_values_too_large_for_a_cell_are_the_same_in_every_run(project):
    """Inputs and outputs, of a list and of a generator, whose rows know each other's results."""
    apps = APPS + """
    @python_app
    def measure(x, grid, many, pair):
        note("measure", x)
        assert many == list(range(2000)) and pair == (x, [None, 2.5])
        return {"half": grid / 2, "long": ["y" * 9000, x], "mean": grid.mean()}
    """  # fmt: skip
    for given, rows in (("rows(20)", 20), ("list(rows(20))", 20), ("list(rows(22))", 22), ("rows(25)", 25)):
        body = f"""
            results = run.map(apps.measure, {given}, table="measured")
            print("ended", sorted(row["x"] for row in results.as_completed()) == list(range({rows})))
            print("order", [row["x"] for row in results] == list(range({rows})))
            print("right", all(map(is_right, results)), len(results), results.total)
        """
        write(project, body, VALUES, apps)
        before = len(computed(project))
        ended = done(project)
        assert said(ended, "ended") == said(ended, "order") == ["True"], ended
        assert said(ended, "right") == [f"True {rows} {rows}"], ended
        assert ("mode local" in ended) == (len(computed(project)) > before), "nothing to do costs nothing"
    assert len(computed(project)) == 25
    nothing_twice(project)
    table = results(project, "measured.csv")
    assert all(row["half"].startswith("results/values/measured-") for row in table)


def test_a_result_that_is_no_dict_is_a_column_of_its_own(project):
    body = """
        results = run.map(apps.square, [{"x": x} for x in range(3)], table="squares")
        print("rows", list(results))
    """
    write(project, body)
    rows = ["[{'x': 0, 'result': 0}, {'x': 1, 'result': 1}, {'x': 2, 'result': 4}]"]
    assert said(done(project), "rows") == said(done(project), "rows") == rows
    nothing_twice(project)


def test_rows_that_fail_are_left_out_and_named_by_their_table(project):
    body = """
        good = run.map(apps.square, [{"x": x} for x in range(4)], table="squares")
        bad = run.map(apps.risky, [{"x": x} for x in range(4)], table="risks")
        print("good", [row["result"] for row in good], good.failed)
        print("bad", [row["x"] for row in bad], len(bad), bad.failed, bad.total)
    """
    write(project, body)
    ended = done(project, status=1)
    assert said(ended, "good") == ["[0, 1, 4, 9] 0"] and said(ended, "bad") == ["[0, 1, 3] 3 1 4"]
    assert (
        "risks: 1 of 4 tasks failed and will be tried again by the next run: results/risks-failures.csv"
        in ended
    )
    assert "last one: row 3 of risks: ValueError: bad luck" in ended
    (failure,) = results(project, "risks-failures.csv")
    assert failure["x"] == "2" and failure["reason"] == "ValueError: bad luck"
    assert results(project, "squares-failures.csv") == []
    tries = {(row["table"], row["app"]) for row in results(project, "tasks.csv")}
    assert tries == {("squares", "square"), ("risks", "risky")}
    status = done(project, "python run.py --status")
    assert "results/squares.csv: 4 done" in status and "results/risks.csv: 3 done" in status
    edit(project, "apps.py", "x == 2", "x == 99")
    assert "4 of 4 tasks done" in done(project)
    nothing_twice(project)


def test_rows_of_an_app_share_tasks_where_they_are_short(project):
    body = """
        results = run.map(apps.square, [{"x": x, "plus": 1} for x in range(600)])
        print("right", all(row["result"] == row["x"] ** 2 + 1 for row in results), len(results))
    """
    write(project, body)
    assert said(done(project), "right") == ["True 600"]
    tries = results(project, "tasks.csv")
    assert len(tries) == 600 and len({row["submitted"] for row in tries}) < 400
    assert sorted(int(row["line"]) for row in tries) == list(range(1, 601))
    nothing_twice(project)


def test_a_limit_of_time_ends_what_never_returns_to_python_and_keeps_what_it_printed(project):
    apps = APPS + """
    @python_app
    def stuck(x):
        print("about to hang with", x)
        if x == 2:
            sum(range(10**15))
        return x
    """  # fmt: skip
    body = """
        results = run.map(apps.stuck, [{"x": x} for x in range(4)], timeout=2)
        print("rows", [row["result"] for row in results])
        try:
            run.submit(apps.wait, timeout=1, seconds=600, name="long").result()
        except Exception as error:
            print("late", type(error).__name__, error)
    """
    write(project, body, apps=apps)
    edit(project, "config.py", "retries = 2", "retries = 0")
    start = time.monotonic()
    ended = done(project, status=1)
    assert time.monotonic() - start < 60
    assert said(ended, "rows") == ["[0, 1, 3]"]
    assert re.search("2 s", results(project, "failures.csv")[0]["reason"]), ended
    (failure,) = results(project, "failures.csv")
    assert failure["x"] == "2" and "about to hang with 2" in (project / failure["trace"]).read_text()
    assert "1 s" in said(ended, "late")[0], ended


def test_two_maps_over_one_table_and_whoever_else_reads_it(project):
    """At the same time, each from its first row on; the file may be edited meanwhile."""
    write(project, """
        doubled = run.map(lambda row: apps.square(**row), rows, table="one")
        squared = run.map(apps.square, rows, table="two")
        direct = [row["x"] for row in rows]
        open("rows.csv", "w").close()
        pairs = [(a["x"], b["x"]) for a, b in zip(squared, squared)]
        print("right", pairs == [(x, x) for x in range(3000)] and direct == list(range(3000)))
        print("rows", [row["x"] for row in doubled] == list(range(3000)), len(squared))
    """, "rows = table('rows.csv', x=int, plus=int)")  # fmt: skip
    edit(project, "run.py", "cli.main(main)", "cli.main(main, rows)")
    (project / "rows.csv").write_text("x,plus\n" + "".join(f"{x},{x % 2}\n" for x in range(3000)))
    ended = done(project)
    assert said(ended, "right") == ["True"] and said(ended, "rows") == ["True 3000"]


# --- run.submit ------------------------------------------------------------------------------------
def test_a_submitted_call_is_answered_from_its_table_ever_after(project):
    apps = APPS + """
    @python_app
    def line(n, kind="float64"):
        import numpy
        note("line", n, kind)
        return {"array": numpy.arange(n, dtype=kind), "about": (n, [kind])}
    """  # fmt: skip
    body = """
        import concurrent.futures

        futures = [run.submit(apps.square, x=x) for x in (3, 1, 2, 3)]
        print("futures", all(isinstance(future, concurrent.futures.Future) for future in futures))
        print("squares", [future.result() for future in futures])
        print("default", run.submit(apps.square, x=3, plus=0).result(), run.submit(apps.square, plus=1, x=3).result())
        line = run.submit(apps.line, n=4).result()
        print("line", line["array"].tolist(), line["array"].dtype, line["about"])
        other = run.submit(apps.line, n=4, kind="int8").result()["array"]
        print("other", other.tolist(), other.dtype)
        concurrent.futures.wait(futures)
    """
    write(project, body, apps=apps)
    for number in range(3):
        ended = done(project)
        assert said(ended, "futures") == ["True"] and said(ended, "squares") == ["[9, 1, 4, 9]"]
        assert said(ended, "default") == ["9 10"]
        assert said(ended, "line") == ["[0.0, 1.0, 2.0, 3.0] float64 (4, ['float64'])"]
        assert said(ended, "other") == ["[0, 1, 2, 3] int8"]
        assert ("mode local" in ended) == (number == 0), "where nothing is computed, Parsl does not start"
    assert computed(project) == {
        "square-3": 2, "square-1": 1, "square-2": 1, "line-4-float64": 1, "line-4-int8": 1,
    }  # fmt: skip
    assert [row["x"] for row in results(project, "square.csv")].count("3") == 2


def test_a_submitted_call_that_fails_raises_what_it_raised_and_is_made_again(project):
    body = """
        futures = [run.submit(apps.risky, x=x) for x in range(4)]
        for future in futures:
            try:
                print("value", future.result())
            except ValueError as error:
                print("failed", error)
    """
    write(project, body)
    ended = done(project, status=1)
    assert said(ended, "value") == ["0", "1", "3"] and said(ended, "failed") == ["bad luck"]
    assert results(project, "risky-failures.csv")[0]["x"] == "2"
    edit(project, "apps.py", "x == 2", "x == 99")
    assert said(done(project), "value") == ["0", "1", "2", "3"]
    # A value that no file can keep is that call's failure; the program goes on.
    write(project, """
        try:
            run.submit(apps.odd, x=1).result()
        except ValueError as error:
            print("odd", error)
        print("even", run.submit(apps.odd, x=2).result())
    """, apps=APPS + """
    @python_app
    def odd(x):
        return {1, 2} if x == 1 else [1, 2]
    """)  # fmt: skip
    ended = done(project, status=1)
    assert said(ended, "even") == ["[1, 2]"]
    assert said(ended, "odd") == [
        "call 1 of odd: its result is a set: return numbers, text, lists, dicts or numpy arrays"
    ]


def test_a_loop_that_decides_what_runs_next_goes_on_where_it_was_stopped(project):
    body = """
        x, way = 1.0, []
        for step in range(12):
            found = run.submit(apps.wait, seconds=0.3, name=f"{x:.3f}").result()
            way.append(found["twice"])
            x = x / 2 + len(way)
        print("way", len(way), way[-1])
    """
    write(project, body)
    terminal = on_a_terminal(project)
    terminal.until(r"done [2-6],")
    terminal.type("\x03")
    assert terminal.wait(30) == 130, terminal.seen
    assert "stopped by Ctrl-C" in terminal.seen and "Traceback" not in terminal.seen
    before = len(results(project, "wait.csv"))
    assert 2 <= before < 12
    ended = done(project)
    assert said(ended, "way")[0].startswith("12 "), ended
    assert len(results(project, "wait.csv")) == 12
    nothing_twice(project)


# --- plain calls -----------------------------------------------------------------------------------
STAGES = """
    states = [apps.simulate(x, 0.1) for x in range(12)]
    numbers = [apps.analyse(state, 0.6) for state in states]
    joined = [apps.chain(100 + x) for x in range(2)]
    print("total", apps.total(inputs=numbers).result())
    print("joined", [future.result() for future in joined])
"""


def test_stages_of_plain_calls_are_resumed_where_they_are_cached(project):
    write(project, STAGES)
    terminal = on_a_terminal(project)
    terminal.until(r"simulate 1\d of 14, analyse [2-8] of 14")
    terminal.type("\x03")
    assert terminal.wait(30) == 130, terminal.seen
    assert "Traceback" not in terminal.seen
    lost = sum(times for name, times in computed(project).items() if name.startswith("analyse"))
    seen = re.search(r"makes again, for want of cache=True: (\d+) finished calls? of analyse", terminal.seen)
    assert seen and int(seen[1]) == lost, terminal.seen
    ended = done(project)
    assert said(ended, "total") == ["660"] and said(ended, "joined") == ["[1000, 1010]"]
    assert re.search(r"simulate 14 of 14, analyse 14 of 14, chain 2 of 2, total 1 of 1", ended), ended
    again = done(project)
    assert said(again, "total") == ["660"]
    nothing_twice(project, but=[name for name in computed(project) if name.startswith("analyse")])
    tries = results(project, "tasks.csv")
    assert {row["table"] for row in tries} == {""} and {row["executor"] for row in tries} == {"gpu"}
    status = done(project, "python run.py --status")
    assert "no run goes on here" in status
    assert done(project, "python -m polaris.report")


def test_a_cached_bash_app_with_files_is_resumed_as_long_as_these_are_as_they_were(project):
    apps = APPS + """
    @bash_app(cache=True)
    def make(x, inputs=(), outputs=()):
        note("make", x)
        return f"echo {x} > {outputs[0]}; cat {' '.join(map(str, inputs))} >> {outputs[0]}"

    @python_app(cache=True)
    def read(inputs=()):
        note("read")
        return open(inputs[0].filepath).read().split()
    """  # fmt: skip
    body = """
        from parsl import File

        first = apps.make(1, inputs=[File("given.txt")], outputs=[File("one.txt")])
        second = apps.make(2, inputs=[first.outputs[0]], outputs=[File("two.txt")])
        print("lines", apps.read(inputs=[second.outputs[0]]).result())
    """
    write(project, body, apps=apps)
    (project / "given.txt").write_text("0\n")
    runs = collections.Counter()
    for changed, again in (
        (None, ["make-1", "make-2", "read"]),
        (None, []),
        ("two.txt", ["make-2"]),
        ("given.txt", ["make-1"]),
    ):
        if changed:
            (project / changed).write_text("5\n")
        before = computed(project)
        ended = done(project)
        runs = computed(project) - before
        assert set(again) <= set(runs) and (again or not runs), (changed, runs)
        wanted = "['2', '1', '5']" if changed == "given.txt" else "['2', '1', '0']"
        assert said(ended, "lines") == [wanted], ended
    (project / "one.txt").unlink()
    assert said(done(project), "lines") == ["['2', '1', '5']"] and (project / "one.txt").exists()


def test_an_app_gets_what_its_arguments_were_at_the_call(project):
    """Parsl looks at them a moment later, when a loop may have filled them anew or changed them in place."""
    apps = APPS + """
    @python_app
    def seen(array, table, inputs=(), first=None):
        return array.tolist(), table["i"], len(inputs), first
    """  # fmt: skip
    body = """
        import numpy

        array, table, numbers, futures = numpy.zeros(2), {}, [], []
        first = apps.square(2)
        for i in range(100):
            array += 1
            table["i"] = i
            numbers.append(first)
            futures.append(apps.seen(array, table, inputs=numbers, first=first))
        array += 1
        wanted = [([i + 1.0, i + 1.0], i, i + 1, 4) for i in range(100)]
        print("right", [future.result() for future in futures] == wanted)
        rows = [{"x": x, "plus": 0} for x in range(50)]
        results = run.map(apps.square, rows)
        rows.clear()
        print("rows", len(list(results)))
    """
    write(project, body, apps=apps)
    ended = done(project)
    assert said(ended, "right") == ["True"] and said(ended, "rows") == ["50"], ended


def test_a_failed_stage_is_named_and_what_main_makes_of_it_counts(project):
    write(project, """
        print("kept", apps.square(3).result())
        apps.analyse(apps.risky(2)).result()
    """)  # fmt: skip
    ended = done(project, status=1)
    assert said(ended, "kept") == ["9"] and "its task risky failed: ValueError: bad luck" in ended
    write(project, """
        try:
            apps.risky(2).result()
        except ValueError as error:
            print("caught", error)
    """)  # fmt: skip
    caught = done(project, status=1)
    assert said(caught, "caught") == ["bad luck"]
    assert "1 of 1 call of risky failed: results/tasks.csv" in caught


def test_an_executor_for_libraries_that_take_one(project):
    top = """
        OFFSET = 5

        def shifted(x):
            apps.note("shifted", x)
            return x + OFFSET
    """
    body = """
        import concurrent.futures

        with run.executor() as pool:
            print("executor", isinstance(pool, concurrent.futures.Executor))
            print("shifted", list(pool.map(shifted, range(6))))
            futures = [pool.submit(pow, 2, x) for x in range(4)]
            print("powers", sorted(future.result() for future in concurrent.futures.as_completed(futures)))
            try:
                pool.submit(int, "x").result()
            except ValueError as error:
                print("failed", error)
    """
    write(project, body, top)
    for _ in range(2):
        ended = user(project, LOCAL).stdout
        assert said(ended, "executor") == ["True"] and said(ended, "shifted") == ["[5, 6, 7, 8, 9, 10]"], (
            ended
        )
        assert said(ended, "powers") == ["[1, 2, 4, 8]"] and "invalid literal" in said(ended, "failed")[0]
    assert len(computed(project)) == 6
    nothing_twice(project)


def test_a_second_executor_of_threads_is_counted_and_awaited(project):
    edit(project, "config.py", "executors=executors", "executors=[*executors, ThreadPoolExecutor(label='here', max_threads=2)]")  # fmt: skip
    edit(project, "config.py", "    from parsl.config import Config\n", "    from parsl.config import Config\n    from parsl.executors import ThreadPoolExecutor\n")  # fmt: skip
    apps = APPS + """
    @python_app(executors=["here"])
    def beside(x):
        note("beside", x)
        return os.getpid()
    """  # fmt: skip
    body = """
        import os
        from parsl import python_app

        @python_app(executors=["gpus"])  # no module has it, before it is called
        def nowhere():
            pass

        mine = apps.beside(1).result() == os.getpid()
        print("value", mine, apps.square(3).result())
        print("mapped", len(list(run.map(apps.beside, [{"x": x} for x in range(3)]))))
        try:
            nowhere()
        except Exception as error:
            print("refused", error)
    """
    write(project, body, apps=apps)
    ended = done(project)
    assert said(ended, "value") == ["True 9"] and said(ended, "mapped") == ["3"]
    refused = said(ended, "refused")[0]
    assert "executors=['gpus']" in refused and "gpu, here" in refused
    tries = {(row["app"], row["executor"]) for row in results(project, "tasks.csv")}
    assert tries == {("beside", "here"), ("square", "gpu")}


# --- apps anywhere ---------------------------------------------------------------------------------
def test_apps_of_run_py_go_by_value_with_their_helpers_and_imports(project):
    top = """
        import math
        from parsl import bash_app, join_app, python_app

        SCALE = 3

        class Point:
            def __init__(self, x):
                self.x = x

        def helper(x):
            return math.floor(x) * SCALE

        @python_app
        def scaled(x):
            return helper(x)

        @join_app
        def joined(x):
            return scaled(x + 1)

        @bash_app
        def shell(x, stdout=None):
            return f"echo {helper(x)}"

        @python_app
        def made(x):
            return Point(x)
    """
    body = """
        print("scaled", scaled(2.5).result(), joined(2.5).result())
        print("mapped", [row["result"] for row in run.map(scaled, [{"x": 1.5}, {"x": 4.5}])])
        print("shell", shell(1.5, stdout="out.txt").result(), open("out.txt").read())
        try:
            print("point", made(2).result().x)
        except Exception as error:
            print("point", error)
    """
    write(project, body, top)
    ended = user(project, LOCAL).stdout
    assert said(ended, "scaled") == ["6 9"] and said(ended, "mapped") == ["[3, 12]"], ended
    assert said(ended, "shell") == ["0 3"]
    (point,) = said(ended, "point")
    assert point == "2" or ("Point" in point and "apps.py" in point), point


# --- the end ---------------------------------------------------------------------------------------
ENDS = """
    import threading
    import time

    kept = []
    future = apps.wait(60, "long")

    def other():
        try:
            future.result()
        except Exception as error:
            print("thread", type(error).__name__, flush=True)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        while True:
            try:
                print("waiting", flush=True)
                WAIT
            except Exception as error:
                print("swallowed", type(error).__name__, flush=True)
                time.sleep(1)
    finally:
        with open("kept.txt", "w") as file:
            file.write("kept")
        print("finally", flush=True)
"""


@pytest.mark.parametrize("waits", ["future.result()", "time.sleep(60)", "list(run.map(apps.wait, [{'seconds': 60, 'name': 'row'}]))"])  # fmt: skip
def test_ctrl_c_leaves_a_program_that_swallows_every_exception(project, waits):
    write(project, ENDS.replace("WAIT", waits))
    terminal = on_a_terminal(project)
    terminal.until(r"running [1-9]|wait 0 of 1")
    time.sleep(2)
    terminal.type("\x03")
    terminal.until("finally", 5)
    terminal.type("\x03")
    assert terminal.wait(20) == 130, terminal.seen
    assert "thread Unfinished" in terminal.seen and "swallowed" not in terminal.seen
    assert "stopped by Ctrl-C" in terminal.seen and f"{LOCAL} goes on from here" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert (project / "kept.txt").read_text() == "kept"
    assert not (project / "results" / "running.json").exists()


def test_ctrl_c_before_any_app_was_called(project):
    """In the program's own lines, and while a long input is read."""
    write(project, """
        import time

        print("first", flush=True)
        try:
            time.sleep(60)
        except Exception:
            pass
        print("went on")
    """)  # fmt: skip
    terminal = on_a_terminal(project)
    terminal.until("first")
    terminal.type("\x03")
    assert terminal.wait(10) == 130, terminal.seen
    assert "stopped by Ctrl-C" in terminal.seen and "went on" not in terminal.seen
    write(project, """
        print("second", flush=True)
        try:
            run.map(apps.square, [{"x": x} for x in range(600_000)])
        except Exception as error:
            print("swallowed", error)
        print("went on")
    """)  # fmt: skip
    terminal = on_a_terminal(project)
    terminal.until("second")
    time.sleep(0.5)
    terminal.type("\x03")
    assert terminal.wait(20) == 130, terminal.seen
    assert (
        "swallowed" not in terminal.seen
        and "went on" not in terminal.seen
        and "Traceback" not in terminal.seen
    )
    assert not list((project / "runinfo").glob("0*")), "Parsl has not started"


@pytest.mark.parametrize("name", ["run.py", "mine.py"])
def test_sigterm_ends_a_program_within_pbss_ten_seconds(project, name):
    if name == "run.py":
        write(project, ENDS.replace("WAIT", "future.result()"))
    else:
        body = textwrap.indent(textwrap.dedent(ENDS.replace("WAIT", "future.result()")), "    ")
        script(project, f"import apps\nfrom polaris.session import session\nwith session() as run:\n{body}")
    command = ["bash", "-c", f"source activate.sh && exec python {name}"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=project, env=user_env(project.parent), **options)
    lines = []
    while not any("mode local" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    time.sleep(5)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    took = time.monotonic() - start
    assert process.returncode == 75 and took < 10, (took, rest)
    assert "stopped by SIGTERM" in rest and f"python {name} goes on from here" in rest
    assert "finally" in rest and "thread Unfinished" in rest and "swallowed" not in rest
    assert (project / "kept.txt").exists()


def test_threads_and_processes_of_the_program_come_and_go(project):
    """Parsl may be started by a thread that ends; what the program started itself is not Parsl's."""
    write(project, """
        import multiprocessing
        import threading
        import time

        pool = multiprocessing.Pool(1)
        found = []
        thread = threading.Thread(target=lambda: found.append(apps.square(3).result()))
        beside = threading.Thread(target=time.sleep, args=(2,))
        thread.start()
        beside.start()
        thread.join()
        pool.terminate()
        pool.join()
        beside.join()
        time.sleep(3)
        print("value", found, apps.square(4).result())
    """)  # fmt: skip
    assert said(done(project), "value") == ["[9] 16"]


# --- what goes wrong in main -----------------------------------------------------------------------
def test_a_mistake_in_main_is_one_line_and_what_is_finished_is_kept(project):
    write(project, """
        results = run.map(apps.square, [{"x": x} for x in range(5)])
        first = next(iter(results))
        raise KeyError(f"no {first['result']}")
    """)  # fmt: skip
    ended = done(project, status=2)
    assert re.search(
        r"what is finished is kept, but the program failed: .*run.py line \d+: KeyError: 'no 0'", ended
    )
    assert "5 of 5 tasks done" in ended and len(results(project)) == 5
    # While tasks run: these are awaited, no further one starts.
    write(project, """
        run.map(apps.wait, [{"seconds": 1, "name": str(x)} for x in range(100)], table="waits")
        apps.square(33).result()
        raise RuntimeError("enough")
    """)  # fmt: skip
    ended = done(project, status=2)
    assert "RuntimeError: enough" in ended
    assert 0 < len(results(project, "waits.csv")) < 50
    nothing_twice(project)


def test_a_generator_that_raises_half_way_keeps_what_was_handed_out(project):
    top = f"""
        import os

        def rows():
            for x in range(5):
                yield dict(x=x)
            while "square-4" not in (open("{project}/ledger").read() if os.path.exists("{project}/ledger") else ""):
                pass
            raise OSError("the list ended early")
    """
    body = """
        results = run.map(apps.square, rows())
        print("rows", [row["x"] for row in results])
    """
    write(project, body, top)
    ended = done(project, status=2)
    assert "the generator of the rows raised OSError: the list ended early" in ended
    assert sorted(row["x"] for row in results(project)) == list("01234")
    write(project, body, top.replace("raise OSError", "return; raise OSError"))
    assert said(done(project), "rows") == ["[0, 1, 2, 3, 4]"]
    nothing_twice(project)


MISUSE = """
    import parsl
    import apps
    import config
    from polaris.session import session

    def attempt(word, what):
        try:
            what()
        except BaseException as error:
            lines = str(error).splitlines()
            print(word, len(lines), type(error).__name__, *lines)
        else:
            print(word, "went through")

    def later():
        yield {"x": 1}
        yield {"y": 1}

    def exhausted():
        yield from ()

    with session("misuse", mode="local") as run:
        attempt("columns", lambda: run.map(apps.square, [{"z": 1}]))
        attempt("generated", lambda: run.map(apps.square, ({"z": x} for x in range(3))))
        attempt("inputs", lambda: run.submit(apps.square, y=1))
        attempt("rows", lambda: run.map(apps.square, {"x": 1}))
        attempt("file", lambda: run.map(apps.square, "inputs/sweep.csv"))
        attempt("item", lambda: run.map(apps.square, [1, 2]))
        attempt("value", lambda: run.map(apps.square, [{"x": {1, 2}}]))
        attempt("empty", lambda: run.map(apps.square, exhausted(), table="nothing"))
        attempt("repeated", lambda: run.map(apps.square, [{"x": 1}, {"x": 1}]))
        attempt("app", lambda: run.map(3, [{"x": 1}]))
        attempt("limit", lambda: run.map(apps.square, [{"x": 1}], timeout="10"))
        attempt("name", lambda: run.map(apps.square, [{"x": 1}], table="../x"))
        attempt("taken", lambda: run.map(apps.square, [{"x": 1}], table="tasks"))
        attempt("load", lambda: parsl.load(config.fresh_config("local")))
        attempt("inner", lambda: session("other", mode="local").__enter__())
        print("started", run.running is not None)
        run.map(apps.square, [{"x": 1}])
        attempt("again", lambda: run.map(apps.square, [{"x": 2}]))
        attempt("loaded", lambda: parsl.load(config.fresh_config("local")))
        old = apps.square(5)
        print("worked", old.result())
    attempt("after", lambda: apps.square(1))
    attempt("mapped", lambda: run.map(apps.square, [{"x": 1}], table="more"))
    attempt("submitted", lambda: run.submit(apps.square, x=1))
    with session("second", mode="local") as run:
        attempt("other", lambda: apps.square(old))
        attempt("listed", lambda: apps.total(inputs=[old]))
        print("works", apps.square(6).result())
"""


def test_each_misuse_is_one_line_before_anything_is_spent(project):
    script(project, MISUSE)
    ended = done(project, "python mine.py 2>&1")
    one = {
        "columns": "square(x, plus) cannot be called with the inputs z",
        "generated": "square(x, plus) cannot be called with the inputs z",
        "inputs": "square(x, plus) cannot be called with the inputs y",
        "rows": "rows is of the kind dict: give a table(...), or a list or generator of dicts",
        "file": "rows='inputs/sweep.csv': is a name; for the rows of a CSV file give table(",
        "item": "row 1 is no dict but int: give dicts",
        "value": "row 1: x is of the kind set: give numbers, text, lists, dicts or numpy arrays",
        "repeated": "row 2: repeats row 1",
        "app": "the app is of the kind int: give a python_app",
        "limit": "timeout='10': is no number of seconds above 0",
        "name": "table='../x'): is no name of a table",
        "taken": "table='tasks'): is the name of another file",
        "again": "two maps into one table, results/misuse/results.csv: give the second one a name",
        "mapped": "run.map: the session has ended",
        "submitted": "run.submit: the session has ended",
        "other": "square: it is given a future of square of another session: give it its result()",
        "listed": "total: it is given a future of square of another session: give it its result()",
    }
    for word, words in one.items():
        (line,) = said(ended, word)
        assert line.startswith("1 Refused ") and words in line, (word, line)
    assert said(ended, "empty") == ["went through"], "a loop may have nothing to do"
    assert said(ended, "started") == ["False"], "Parsl has not started for any of them"
    assert said(ended, "worked") == ["25"] and said(ended, "works") == ["36"]
    for word in ("load", "loaded", "inner", "after"):
        (line,) = said(ended, word)
        assert line.startswith("1 "), (word, line)
    assert "a session is open in this program already" in ended
    assert [row["x"] for row in results(project, "misuse/results.csv")] == ["1"]


def test_mistakes_that_leave_a_script_are_said_and_its_lock_goes(project):
    script(project, """
        import apps
        from polaris.session import session
        with session() as run:
            print("kept", run.submit(apps.square, x=3).result())
            run.map(apps.square, [{"z": 1}])
    """)  # fmt: skip
    ended = done(project, "python mine.py", status=2)
    assert said(ended, "kept") == ["9"] and "square(x, plus) cannot be called with the inputs z" in ended
    script(project, """
        import apps
        from polaris.session import session
        with session() as run:
            print("kept", run.submit(apps.square, x=3).result())
        apps.square(2)
    """)  # fmt: skip
    ended = done(project, "python mine.py", status=2)
    assert re.search(r"mine.py line 6: .*an app was called outside of the session", ended), ended
    script(project, """
        import apps
        from polaris.session import session
        with session() as run:
            print("kept", run.submit(apps.square, x=3).result())
            raise KeyError("mine")
    """)  # fmt: skip
    ended = user(project, "python mine.py")
    assert (
        ended.returncode == 1 and "KeyError: 'mine'" in ended.stdout and said(ended.stdout, "kept") == ["9"]
    )
    script(project, """
        from parsl import python_app
        from polaris.session import session

        @python_app
        def tasks(x):
            return x

        with session() as run:
            run.submit(tasks, x=1)
    """)  # fmt: skip
    ended = done(project, "python mine.py", status=2)
    assert "run.submit(tasks): is the name of another file: take another one" in ended
    assert not (project / "results" / "mine" / "running.json").exists()
    nothing_twice(project)


def test_parsl_loaded_before_a_session_is_said(project):
    script(project, """
        import parsl
        import config
        from polaris.session import session
        parsl.load(config.fresh_config("local"))
        with session() as run:
            print("went on")
    """)  # fmt: skip
    ended = user(project, "python mine.py 2>&1")
    assert (
        ended.returncode == 2 and "Parsl is loaded already, by parsl.load() in this program" in ended.stdout
    )
    assert "went on" not in ended.stdout and "Traceback" not in ended.stdout


# --- steering a run from the command line ----------------------------------------------------------
def test_results_of_edited_code_are_named_and_computed_anew_when_asked(project):
    body = """
        results = run.map(apps.square, [{"x": x} for x in range(6)])
        print("rows", [row["result"] for row in results])
        print("state", [apps.simulate(x).result()["x"] for x in range(3)])
    """
    write(project, body)
    assert said(done(project), "rows") == ["[0, 1, 4, 9, 16, 25]"]
    edit(project, "apps.py", "return x * x + plus", "return x * x + plus + 1")
    stale = "square, or code that it uses, was edited since: 6 of its 6 results are of earlier code, and kept"
    kept = done(project)
    assert stale in kept and "python run.py --again square" in kept
    assert said(kept, "rows") == ["[0, 1, 4, 9, 16, 25]"]
    ended = done(project, f"{LOCAL} --again x=2")
    assert (
        said(ended, "rows") == ["[0, 1, 5, 9, 16, 25]"] and stale.replace("6 of its 6", "5 of its 5") in ended
    )
    assert "results/results-before.csv" in ended and len(results(project, "results-before.csv")) == 1
    ended = done(project, f"{LOCAL} --again square")
    assert said(ended, "rows") == ["[1, 2, 5, 10, 17, 26]"] and "edited" not in ended
    assert computed(project)["square-2"] == 3 and computed(project)["square-3"] == 2
    before = computed(project)
    done(project, f"{LOCAL} --again simulate")
    assert computed(project) - before == {"simulate-0": 1, "simulate-1": 1, "simulate-2": 1}
    for wrong in ("nobody", "x=77", "x"):
        refused = done(project, f"{LOCAL} --again {wrong}", status=2)
        assert f"--again {wrong}: " in refused
    assert "edited" not in done(project) and sum((computed(project) - before).values()) == 3


def test_only_some_rows_run_first_and_the_others_later(project):
    write(project, """
        results = run.map(apps.square, rows)
        print("rows", sorted(row["x"] for row in results), results.total)
    """, "rows = table('rows.csv', x=int, plus=int)")  # fmt: skip
    edit(project, "run.py", "cli.main(main)", "cli.main(main, rows)")
    (project / "rows.csv").write_text("x,plus\n" + "".join(f"{x},{x % 2}\n" for x in range(10)))
    assert said(done(project, f"{LOCAL} --only 3"), "rows") == ["[0, 1, 2] 3"]
    assert said(done(project, f"{LOCAL} --only plus=1"), "rows") == ["[1, 3, 5, 7, 9] 5"]
    assert len(computed(project)) == 7
    refused = done(project, f"{LOCAL} --only size=3", status=2)
    assert "--only size=3: no input has a column size; there are plus, x" in refused
    assert "no row is chosen by --only" in done(project, f"{LOCAL} --only x=77", status=2)
    whole = done(project)
    assert "10 tasks, 7 of them done before" in whole and said(whole, "rows")[0].endswith("10")
    nothing_twice(project)


# --- scripts of one's own, and line by line ----------------------------------------------------------
OWN = """
    import sys
    import time
    from parsl import python_app
    from polaris.session import session

    WORD = sys.argv[1]

    @python_app(cache=True)
    def doubled(x, word):
        with open("LEDGER", "a") as file:
            file.write(f"{word}-{x} ")
        return 2 * x

    with session(WORD if len(sys.argv) > 2 else None) as run:
        print("value", doubled(4, WORD).result(), flush=True)
        print("mapped", len(list(run.map(doubled, [{"x": x, "word": WORD} for x in range(3)]))), flush=True)
        while len(sys.argv) > 2 and not __import__("os").path.exists(sys.argv[2]):
            time.sleep(0.1)
"""


def test_scripts_have_results_of_their_own_and_run_side_by_side(project):
    script(project, OWN.replace("LEDGER", str(project / "ledger")))
    ended = done(project, "python mine.py alone")
    assert said(ended, "value") == ["8"] and len(results(project, "mine/results.csv")) == 3
    assert list((project / "runinfo" / "mine").glob("000/parsl.log"))
    assert "python -m polaris.report --session mine" in ended or "report" in ended
    # Two of other names at once, and one more of the same name, which is refused.
    go = project / "go"
    command = ["bash", "-c", "source activate.sh && exec python mine.py $0 go"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = user_env(project.parent)
    running = [subprocess.Popen([*command, name], cwd=project, env=env, **options) for name in ("one", "two")]
    deadline = time.monotonic() + 90
    while not all((project / "results" / name / "results.csv").exists() for name in ("one", "two")):
        assert time.monotonic() < deadline and not any(process.poll() for process in running)
        time.sleep(0.2)
    status = done(project, "python run.py --status")
    assert "results/one:" in status and "results/two:" in status and "was killed" not in status, status
    third = user(project, "python mine.py one go 2>&1")
    assert third.returncode == 2 and "another run holds" in third.stdout, third.stdout
    go.write_text("")
    for process in running:
        seen, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and said(seen, "mapped") == ["3"], seen
    assert done(project, "python mine.py alone")
    nothing_twice(project, but=["alone-4"])
    assert set(computed(project)) == {f"{word}-{x}" for word in ("alone", "one", "two") for x in (0, 1, 2, 4)}


def test_a_script_that_was_killed_goes_on(project):
    text = OWN.replace("LEDGER", str(project / "ledger"))
    script(
        project,
        text.replace("        while", "        import os\n        os.kill(os.getpid(), 9)\n        while"),
    )
    killed = user(project, "python mine.py once")
    assert killed.returncode == -9 and (project / "results" / "mine" / "running.json").exists()
    script(project, text)
    ended = done(project, "python mine.py once")
    assert said(ended, "mapped") == ["3"] and "nothing to do" in ended
    assert not (project / "results" / "mine" / "running.json").exists()
    assert not computed(project) - collections.Counter({f"once-{x}": 1 for x in (0, 1, 2, 4)})


def test_a_program_from_stdin_and_one_typed_line_by_line(project):
    write(project, "pass")
    text = """
        from parsl import python_app
        from polaris.session import session
        import apps

        FACTOR = 3

        def times(x):
            return FACTOR * x

        @python_app
        def tripled(x):
            return times(x)

        with session() as run:
            print("value", tripled(4).result(), run.submit(apps.square, x=5).result())
    """
    (project / "typed.txt").write_text(textwrap.dedent(text))
    ended = done(project, "python < typed.txt")
    assert said(ended, "value") == ["12 25"]
    assert [row["x"] for row in results(project, "interactive/square.csv")] == ["5"]
    terminal = on_a_terminal(project, "python -q")
    terminal.until(">>> ")
    for line in text.splitlines():
        terminal.type(line.removeprefix("        ") + "\n")
    terminal.type("\n")
    terminal.until(r"\nvalue 12 25")
    # Ctrl-C ends the session, and not the shell.
    terminal.type("with session() as run:\n    apps.wait(1, 'w').result(); print('went ' + 'on'); import time; time.sleep(60)\n\n")  # fmt: skip
    terminal.until("went on")
    terminal.type("\x03")
    terminal.until("stopped by Ctrl-C", 20)
    terminal.type("print('still', 6 * 7)\n")
    assert "still 42" in terminal.until("still 42", 20), terminal.seen
    assert "the same program goes on from here" in terminal.seen
    terminal.type("exit()\n")
    terminal.wait(20)
    nothing_twice(project)
    assert not (project / "results" / "interactive" / "running.json").exists()


def test_a_program_without_a_table_has_every_option(project):
    write(project, "print('value', apps.square(2).result())")
    check = done(project, "python run.py --check --mode local")
    assert "nothing to mend" in check and "mode:           local" in check
    assert "no run goes on here" in done(project, "python run.py --status")
    assert said(done(project), "value") == ["4"]
    assert "submits nothing" in done(project, "python run.py --dry-run --mode local")
    refused = done(project, "python run.py some.csv", status=2)
    assert "run.py reads 0 tables" in refused
    shutil.rmtree(project / "results")
    write(project, "pass")
    done(project)
    assert not (project / "results").exists() and len(list((project / "runinfo").glob("[0-9]*"))) == 1
