"""Batches of rows for an app that takes a list, models that are loaded once per worker, and inputs of other kinds."""

import collections
import itertools
import re
import textwrap

import pytest
from conftest import edit, results, user

pytestmark = pytest.mark.slow

LOCAL = "python run.py --mode local"
APPS = """
    import functools
    import os
    import signal
    import time
    from parsl import bash_app, python_app

    def note(name, *words):
        with open(name, "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")

    @functools.cache
    def model():
        note("LOADS", os.getpid())
        time.sleep(1)
        return 10

    @python_app
    def embed(rows):
        note("CALLS", *[row["x"] for row in rows])
        for row in rows:
            time.sleep(row.get("seconds", 0))
            if row.get("does") == "raise":
                raise ValueError("bad luck")
            if row.get("does") == "die":
                os.kill(os.getpid(), signal.SIGKILL)
        return [{"y": 10 * row["x"]} for row in rows]

    @python_app(cache=True)
    def kept(rows):
        note("CALLS", *[row["x"] for row in rows])
        return [10 * row["x"] for row in rows]

    @python_app
    def loses_one(rows):
        note("CALLS", *[row["x"] for row in rows])
        return [row["x"] for row in rows if row["x"] != 5]

    @python_app
    def no_list(rows):
        return {"y": [10 * row["x"] for row in rows]}

    @python_app
    def of_a_row(x):
        return x

    @python_app
    def of_two(x, seconds):
        return x

    @bash_app
    def program(rows):
        return "true"

    @python_app
    def uses_model(rows):
        return [model() * row["x"] for row in rows]
"""
RUN = """
import sys
import time

from polaris import cli
from polaris.errors import Refused
from polaris.sources import table
import apps

inputs = table("inputs/sweep.csv", x=int, seconds=float, does=str)


def main(run):
{main}


if __name__ == "__main__":
    sys.exit(cli.main(main{inputs}))
"""
TABLE = ", inputs"


def program(project, main, inputs="", apps=APPS):
    """Write run.py with that main program, and apps.py."""
    (project / "apps.py").write_text(textwrap.dedent(apps))
    main = textwrap.indent(textwrap.dedent(main).strip(), "    ")
    (project / "run.py").write_text(RUN.format(main=main, inputs=inputs))
    return project


def rows(project, number, seconds=0.0, **special):
    """Write the input: x from 0 on; special: what is done at an x, raise_33=True."""
    does = {int(name.partition("_")[2]): name.partition("_")[0] for name in special}
    lines = [f"{x},{seconds},{does.get(x, '-')}\n" for x in range(number)]
    (project / "inputs" / "sweep.csv").write_text("x,seconds,does\n" + "".join(lines))


def calls(project):
    """The inputs of each call, in the order of their starts."""
    path = project / "CALLS"
    found = (
        [[int(x) for x in line.split()] for line in path.read_text().splitlines()] if path.exists() else []
    )
    path.unlink(missing_ok=True)
    return found


def done(project):
    return {int(row["x"]): int(row["y"]) for row in results(project)}


def test_a_bad_input_fails_alone_and_the_others_of_its_batch_are_kept(project):
    program(project, "run.map(apps.embed, inputs, batch=16)", TABLE)
    edit(project, "config.py", "heartbeat_period=15", "heartbeat_period=1")
    edit(project, "config.py", "heartbeat_threshold=120", "heartbeat_threshold=10")
    rows(project, 100, 0.002, raise_33=True, die_70=True)
    first = user(project, LOCAL)
    assert first.returncode == 1 and "2 of 100 tasks failed" in first.stdout, first.stdout
    assert done(project) == {x: 10 * x for x in range(100) if x not in (33, 70)}
    reasons = {int(row["x"]): row["reason"] for row in results(project, "failures.csv")}
    assert reasons[33] == "ValueError: bad luck" and reasons[70].startswith("WorkerLost"), reasons
    made = calls(project)
    assert [33] in made and [70] in made
    assert made.count([33]) == 3, "retries are those of config.py"
    again = collections.Counter(x for call in made for x in call)
    assert [x for x, times in again.items() if times > 1] and max(again.values()) <= 8
    # Every input has a line for each try, and the time of a batch is not counted once for each.
    tries = results(project, "tasks.csv")
    assert {int(row["line"]) for row in tries if row["status"] == "done"} == {x + 2 for x in done(project)}
    lanes = collections.defaultdict(list)
    for row in tries:
        if row["started"]:
            lanes[row["worker"]].append((float(row["started"]), float(row["ended"])))
    for spans in lanes.values():
        for (_, end), (start, _) in itertools.pairwise(sorted(spans)):
            assert start >= end - 0.002
    # What failed is tried again, and nothing else.
    rows(project, 100, 0.002, raise_33=True)
    second = user(project, LOCAL)
    assert second.returncode == 1 and {x for call in calls(project) for x in call} == {33, 70}, second.stdout
    assert done(project) == {x: 10 * x for x in range(100) if x != 33}


def test_what_no_batch_can_be_made_of_is_refused_before_anything_is_spent(project):
    main = """
    def function(row):
        return apps.of_a_row(row["x"])

    for app, batch in ((function, 4), (apps.of_two, 4), (apps.program, 4), (apps.embed, 0), (apps.embed, 2.0),
                       (apps.embed, True)):
        try:
            run.map(app, [{"x": 1}], batch=batch)
        except Refused as refusal:
            print("REFUSED", refusal)
    """
    said = user(program(project, main), LOCAL).stdout
    refused = re.findall("^REFUSED (.*)$", said, re.M)
    assert len(refused) == 6, said
    assert "a batch is for an app itself, and function is a function of a row" in refused[0]
    assert "of_two(x, seconds) cannot be called with a batch, one list of rows" in refused[1]
    assert "program is no python_app" in refused[2]
    for refusal, given in zip(refused[3:], ("0", "2.0", "True"), strict=True):
        assert f"batch={given}): is no whole number of rows" in refusal
    assert not (project / "runinfo").exists()


def test_a_result_that_is_no_list_of_the_same_length_is_refused_by_name_and_none_of_it_kept(project):
    main = """
    run.map(apps.loses_one, [{"x": x} for x in range(40)], batch=8).wait()
    run.map(apps.no_list, [{"x": x} for x in range(40)], batch=8, table="strange").wait()
    """
    run = user(program(project, main), LOCAL)
    assert run.returncode == 2 and "Traceback" not in run.stdout, run.stdout
    assert re.search(
        r"none of the first 20 rows has a result; row \d+ of strange: no_list was given \d rows and returned a dict",
        run.stdout,
    )
    (batch,) = [call for call in calls(project) if 5 in call]
    lost = {int(row["x"]): row["reason"] for row in results(project, "failures.csv")}
    assert sorted(lost) == sorted(batch)
    assert set(lost.values()) == {
        f"loses_one was given {len(batch)} rows and returned a list of {len(batch) - 1}; which is of which is not "
        "known: return a list with a result for each, in their order"
    }
    assert {int(row["x"]) for row in results(project)} == set(range(40)) - set(batch)


def test_rows_that_come_slowly_wait_for_no_others_and_no_more_are_read_than_workers_need(project):
    main = """
    import os

    def slow():
        for x in range(3):
            yield {"x": x}
            while not os.path.exists("CALLS") or open("CALLS").read().count("\\n") <= x:
                time.sleep(0.05)

    ahead = []

    def fast():
        for x in range(3, 3003):
            ahead.append(x - len(few) if few is not None else 0)
            yield {"x": x, "seconds": 0.0005}

    few = None
    run.map(apps.embed, slow(), batch=50).wait()
    few = run.map(apps.embed, fast(), batch=50, table="fast")
    few.wait()
    print("AHEAD", max(ahead))
    """
    run = user(program(project, main), LOCAL)
    assert run.returncode == 0, run.stdout
    made = calls(project)
    assert made[:3] == [[0], [1], [2]], "each came once the one before was at work"
    sizes = [len(call) for call in made[3:]]
    assert max(sizes) == 50 and sizes.count(50) > 40
    assert all(size < 50 for size in sizes[-2:]), "at the end all workers have work"
    assert int(re.search("AHEAD (.*)", run.stdout)[1]) < 600


def test_a_row_is_chosen_computed_anew_and_found_again_on_its_own_with_batches_on_any_executor(project):
    """--only, --again, --status, timeout=, cache=True, an executor of threads."""
    threads = 'executors=[*executors, __import__("parsl").ThreadPoolExecutor(label="here", max_threads=2)]'
    edit(project, "config.py", "executors=executors", threads)
    main = """
    run.map(apps.embed, inputs, batch=8, timeout=0.8).wait()
    for app in (apps.kept, apps.here):
        found = run.map(app, [{"x": x} for x in range(20)], batch=8, table=app.__name__)
        print(app.__name__, [row["result"] for row in found] == [10 * x for x in range(20)])
    """
    program(project, main, TABLE)
    with open(project / "apps.py", "a") as file:
        file.write('\n\n@python_app(executors=["here"])\ndef here(rows):\n')
        file.write('    return [10 * row["x"] for row in rows]\n')
    rows(project, 30)
    assert user(project, f"{LOCAL} --only 10").returncode == 0
    assert sorted(done(project)) == list(range(10))
    calls(project)
    text = (project / "inputs" / "sweep.csv").read_text().replace("21,0.0,", "21,60,")
    (project / "inputs" / "sweep.csv").write_text(text)
    run = user(project, LOCAL)
    assert run.returncode == 1 and "kept True\n" in run.stdout and "here True\n" in run.stdout, run.stdout
    assert sorted(done(project)) == [x for x in range(30) if x != 21]
    (slow,) = results(project, "failures.csv")
    assert slow["x"] == "21" and slow["reason"] == "TimeoutError: not ended after 0.8 s: its time limit"
    assert {x for call in calls(project) for x in call} == set(range(10, 30))
    assert "inputs/sweep.csv: done 29, left 1 of 30" in user(project, "python run.py --status").stdout
    (project / "inputs" / "sweep.csv").write_text(text.replace("21,60,", "21,0,"))
    again = user(project, f"{LOCAL} --again x=3")
    assert again.returncode == 0, again.stdout
    assert sorted(x for call in calls(project) for x in call) == [3, 3, 21], "of two tables, and the new one"


def test_a_model_is_loaded_once_per_worker_and_the_report_says_what_that_took(project):
    """By functools.cache, in a module and in run.py; the load is no task's usual time, in batches and without."""
    main = """
    import functools
    import os
    from parsl import python_app

    @functools.cache
    def own_model():
        apps.note("OWN", os.getpid())
        time.sleep(1)
        return 10

    globals().update(own_model=own_model)

    @python_app
    def own(x):
        time.sleep(0.02)
        return own_model() * x

    run.map(apps.uses_model, [{"x": x} for x in range(300)], batch=16).wait()
    run.map(own, [{"x": x} for x in range(30)], table="own").wait()
    """
    program(project, main)
    assert user(project, LOCAL).returncode == 0
    for name in ("LOADS", "OWN"):
        loaded = (project / name).read_text().split()
        assert len(loaded) == len(set(loaded)) == 2, "once in each of two workers"
    seen = user(project, "python -m polaris.report && python run.py --check")
    assert seen.returncode == 0 and "nothing to mend" in seen.stdout, seen.stdout
    page = (project / "results" / "report.html").read_text()
    assert re.search("uses_model: 2 loads of about 1.[0-2] s", page) and re.search(
        "own: 2 loads of about 1.[0-2] s", page
    )
    apps = page.partition("Tasks by app")[2].partition("</table>")[0]
    medians = re.findall("<td>([0-9.e-]+) s</td><td>2 s</td>", apps)
    assert len(medians) == 2 and max(map(float, medians)) < 0.1, apps
    assert "<td>loading</td>" in page and "longest_first" not in page


# --- inputs of other kinds ------------------------------------------------------------------------
KINDS = """
    from parsl import python_app

    @python_app
    def length(rows):
        with open("CALLS", "a") as file:
            file.write(" ".join("1" for _ in rows) + "\\n")
        return [len(row["text"]) for row in rows]

    @python_app
    def of_file(path):
        with open(path) as file:
            return len(file.read())

    @python_app
    def twice(x, more):
        return 2 * x
"""
OF_KINDS = """
    texts = run.map(apps.length, lines("inputs/*.txt"), batch=8)
    print("TEXTS", [(row["text"], row["result"]) for row in texts])
    print("FILES", [(row["path"], row["result"]) for row in run.map(apps.of_file, files("inputs/*.txt"), table="of_files")])
    print("JSON", [(row["x"], row["result"]) for row in run.map(apps.twice, json_lines("inputs/x.jsonl"), table="json")])
"""


def kinds(project):
    """A program of lines, files and JSON lines."""
    program(project, OF_KINDS, ', lines("inputs/*.txt"), json_lines("inputs/x.jsonl")', KINDS)
    edit(project, "run.py", "import table", "import files, json_lines, lines, table")
    (project / "inputs" / "a.txt").write_bytes(
        b"hello\n  blanks \n\nhello\n" + 'ümlaut, "q"\r\nlast'.encode()
    )
    (project / "inputs" / "b.txt").write_bytes(b"\xef\xbb\xbfbom\nhello\n")
    (project / "inputs" / "x.jsonl").write_text(
        '{"x": 1, "more": [1, {"a": null}]}\n{"more": "-", "x": 2.5}\n'
    )


def test_lines_files_and_json_lines_are_rows_and_what_was_edited_runs_again(project):
    kinds(project)
    checked = user(project, "python run.py --check").stdout
    assert "5 rows in inputs/*.txt" in checked and "2 rows in inputs/x.jsonl" in checked, checked
    first = user(project, LOCAL)
    assert first.returncode == 0, first.stdout
    assert "5 tasks; 2 lines repeat others: computed once; 1 empty line left out" in first.stdout
    texts = [
        ("hello", 5),
        ("  blanks ", 9),
        ("hello", 5),
        ('ümlaut, "q"', 11),
        ("last", 4),
        ("bom", 3),
        ("hello", 5),
    ]
    assert f"TEXTS {texts}\n" in first.stdout, "one that repeats another has its result, too"
    assert sum(map(len, calls(project))) == 5
    assert "JSON [(1, 2), (2.5, 5.0)]\n" in first.stdout
    (project / "inputs" / "b.txt").write_text("bom\nhello\nmore\n")
    second = user(project, LOCAL)
    assert second.returncode == 0, second.stdout
    assert "of_files.csv has 1 row of files that were edited since: these run again" in second.stdout
    assert "FILES [('inputs/a.txt', 39), ('inputs/b.txt', 15)]\n" in second.stdout, (
        "not the result of the old one"
    )
    assert sum(map(len, calls(project))) == 1, "of the lines the new one alone"


def test_what_is_wrong_with_lines_and_files_is_said_before_anything_is_spent(project):
    kinds(project)
    with open(project / "inputs" / "b.txt", "ab") as file:
        file.write(b"ab\xff\n")
    (project / "inputs" / "x.jsonl").write_text(
        '{"x": 1}\n{"y": 2}\n{"x": NaN}\n[1]\n{"x": 1, "x": 2}\n{"x":'
    )
    wrong = user(project, LOCAL)
    assert wrong.returncode == 2 and not (project / "runinfo").exists()
    expected = [
        "inputs/b.txt line 3: not UTF-8 text: invalid start byte",
        "inputs/x.jsonl line 2: has y; the first line that can be read has x: give all the same",
        "inputs/x.jsonl line 3: NaN is no number that JSON knows: leave it out, or write null",
        'inputs/x.jsonl line 4: is no JSON object of inputs, such as {"text": "...", "number": 1}',
        "inputs/x.jsonl line 5: names 'x' twice",
        "inputs/x.jsonl line 6: is no JSON: Expecting value at character 6",
    ]
    assert wrong.stdout.splitlines() == expected
    for path in (project / "inputs").iterdir():
        path.unlink()
    gone = user(project, LOCAL).stdout.splitlines()
    assert gone == ["inputs/*.txt: no file matches", "inputs/x.jsonl: no such file"]


def test_the_results_of_a_batch_are_one_file_whole_or_not_there(project):
    apps = """
    import numpy
    from parsl import python_app
    from polaris.batch_files import batch_file

    @python_app
    def embed(rows):
        with batch_file("results/vectors", rows, ".npy") as path:
            numpy.save(path, numpy.array([[row["x"], 2 * row["x"]] for row in rows]))
            if any(row["x"] == 7 for row in rows):
                raise ValueError("bad luck")
        return path.places
    """
    main = """
    import numpy
    right = [(numpy.load(row["file"])[row["place"]] == [row["x"], 2 * row["x"]]).all()
             for row in run.map(apps.embed, [{"x": x} for x in range(30)], batch=8)]
    print("RIGHT", len(right), all(right))
    """
    first = user(program(project, main, apps=apps), LOCAL)
    assert first.returncode == 1 and "RIGHT 29 True" in first.stdout, first.stdout
    files = {path.name for path in (project / "results" / "vectors").iterdir()}
    named = {row["file"].rpartition("/")[2] for row in results(project) if row["file"]}
    assert files == named and len(files) > 3, "none is left of the batches that failed"
    gone = results(project)[0]["file"]
    (project / gone).unlink()
    second = user(project, LOCAL)
    assert second.returncode == 2 and f"the file {gone} is gone, with results of " in second.stdout, (
        second.stdout
    )
