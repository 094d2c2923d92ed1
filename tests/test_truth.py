"""Nothing wrong is ever called done: programs as scientists write them, each value asserted in every run."""

import csv
import math
import os
import pickle
import re
import textwrap

import numpy
import pytest
from conftest import edit, program, results, summary, user

pytestmark = pytest.mark.slow

LOCAL = "python run.py --mode local"


def done(project, command=LOCAL, **extra):
    """Run to the end, every row done; returns what it said."""
    ended = user(project, command, **extra)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def computed(project):
    """How often each input was computed, as the apps themselves noted it."""
    path = project / "ledger"
    return path.read_text().split() if path.exists() else []


# --- any number of apps in a function of a row -------------------------------------------------------
STAGES = """
    from parsl import File, bash_app, join_app, python_app

    @python_app
    def relax(x):
        return {"x": x + 1}

    @python_app
    def energy(state):
        return {"value": 10 * state["x"]}

    @python_app
    def plain(x):
        return {"value": 10 * x}

    @python_app
    def total(inputs=()):
        return {"value": sum(state["x"] for state in inputs)}

    @python_app
    def note(x):
        with open("LEDGER", "a") as file:
            file.write(f"{x} ")

    @join_app
    def both(x):
        return energy(relax(x))

    @bash_app
    def write(x, outputs=()):
        return f"echo {x} > {outputs[0]}"

    @python_app
    def read(inputs=()):
        return {"value": int(open(inputs[0].filepath).read())}

    @python_app
    def mean(states):
        return {"value": sum(states) / len(states)}
"""
WAYS = """
    import concurrent.futures
    import os
    from parsl import File

    x, way = row["x"], row["way"]
    if way == 0:
        return apps.energy(apps.relax(x))
    if way == 1:
        return apps.total(inputs=[apps.relax(x), apps.relax(x + 1)])
    if way == 2:
        apps.note(x)
        return apps.energy(state=apps.relax(x=x))
    if way == 3:
        return apps.energy(apps.relax(x).result())
    if way == 4:
        return apps.both(x)
    if way == 5:
        return apps.plain(apps.relax(x)["x"])
    if way == 6:
        first = apps.relax(x)
        concurrent.futures.wait([first])
        return apps.energy(first)
    if way == 7:
        file = apps.write(x, outputs=[File(os.path.abspath(f"file-{x}"))])
        return apps.read(inputs=[file.outputs[0]])
    if way == 8:
        shared = task.__dict__.setdefault("shared", [])
        shared.append(x)
        return apps.mean(shared)
    if way == 9:
        task.last = apps.energy(task.last if hasattr(task, "last") else {"x": 0})
        return apps.plain(x)
    return apps.plain(x)
"""
RIGHT = {
    0: lambda x: 10 * x + 10,
    1: lambda x: 2 * x + 3,
    2: lambda x: 10 * x + 10,
    3: lambda x: 10 * x + 10,
    4: lambda x: 10 * x + 10,
    5: lambda x: 10 * x + 10,
    6: lambda x: 10 * x + 10,
    7: lambda x: x,
    9: lambda x: 10 * x,
    10: lambda x: 10 * x,
}


def ways_of_passing_futures(project, rows=12):
    """Rows by each way, ways taking turns, after plain ones and before some more."""
    lines = [f"{x},10" for x in range(1000, 1060)] + [f"{x},{x % 8}" for x in range(8 * rows)]
    lines += [f"{x},10" for x in range(2000, 2200)]
    table = "x,way\n" + "".join(f"{line}\n" for line in lines)
    apps = STAGES.replace("LEDGER", str(project / "ledger"))
    program(project, apps, table, '{"x": int, "way": int}', task=WAYS)


def right(project, rows=12, plain=260):
    """Each row has the value that plain Parsl gives, and every app called has run."""
    rows_seen = summary(project)
    assert len(rows_seen) == plain + 8 * rows
    for row in rows_seen:
        assert row["value"] == RIGHT[row["way"]](row["x"]), row
    assert sorted(map(int, computed(project))) == [x for x in range(8 * rows) if x % 8 == 2]


def test_any_number_of_apps_in_any_of_parsls_ways(project):
    ways_of_passing_futures(project)
    done(project)
    right(project)
    assert "nothing to do" in done(project)
    right(project)
    # Every app that was called for a row is recorded, with the line of that row.
    tries = results(project, "tasks.csv")
    assert {row["status"] for row in tries} == {"done"}
    lines = {name: sorted(int(row["line"]) for row in tries if row["app"] == name and row["line"])
             for name in ("relax", "note", "plain")}  # fmt: skip
    number = {x: 62 + x for x in range(96)}  # of the line of a row that goes another way than the plain ones
    assert lines["note"] == [number[x] for x in range(96) if x % 8 == 2]
    relaxed = {0: 1, 1: 2, 2: 1, 3: 1, 5: 1, 6: 1}  # calls by way; those of a join app are no row's own
    assert lines["relax"] == sorted(number[x] for x in range(96) for _ in range(relaxed.get(x % 8, 0)))
    assert len(lines["plain"]) == 260 + 12
    assert user(project, "python -m polaris.report").returncode == 0


def test_what_task_changes_after_the_call_is_no_part_of_it(project):
    """A dict that is filled anew for each row: each app gets what was in it at its call."""
    apps = "from parsl import python_app\n@python_app\ndef work(given):\n    return {'value': given['x']}\n"
    table = "x\n" + "".join(f"{x}\n" for x in range(300))
    program(
        project,
        apps,
        table,
        '{"x": int}',
        task="same = task.__dict__\nsame['x'] = row['x']\nreturn apps.work(same)",
    )
    done(project)
    assert all(row["value"] == row["x"] for row in summary(project))


def test_a_future_of_an_earlier_row_may_be_an_argument(project):
    table = "x\n" + "".join(f"{x}\n" for x in range(200))
    task = """
        if row["x"] % 10 or not hasattr(task, "last"):
            task.last = apps.relax(row["x"])
            return task.last
        return apps.add(task.last, row["x"])
    """
    apps = STAGES + "\n    @python_app\n    def add(state, x):\n        return {'x': state['x'] + x}\n"
    program(project, apps, table.replace("x\n", "x\n", 1), '{"x": int}', '("x",)', task)
    done(project)
    for row in summary(project):
        x = row["input_x"]
        assert row["x"] == (x + x if x and x % 10 == 0 else x + 1), row


FAILING = """
    from parsl import python_app

    @python_app
    def relax(x):
        if x % 10 == 3:
            raise ValueError("bad luck")
        return {"x": x}

    @python_app
    def energy(state):
        return {"value": state["x"]}

    @python_app
    def note(x):
        if x % 10 == 5:
            raise OSError("no room")
"""


@pytest.mark.parametrize("way", ["apps.energy(apps.relax(x))", "apps.energy(apps.relax(x).result())"])
def test_a_stage_that_fails_is_named_with_its_reason(project, way):
    table = "x\n" + "".join(f"{x}\n" for x in range(20))
    program(project, FAILING, table, '{"x": int}', task=f"x = row['x']\napps.note(x)\nreturn {way}")
    ended = user(project, LOCAL)
    assert ended.returncode == 1 and "4 of 20 tasks failed" in ended.stdout, ended.stdout
    failed = {row["x"]: row for row in results(project, "failures.csv")}
    assert {x: row["reason"] for x, row in failed.items()} == {
        **dict.fromkeys(("3", "13"), "relax: ValueError: bad luck"),
        **dict.fromkeys(("5", "15"), "note: OSError: no room"),
    }
    assert "in relax" in (project / failed["3"]["trace"]).read_text()
    assert len(results(project)) == 16
    causes = {row["cause"] for row in results(project, "tasks.csv") if row["status"] == "failed"}
    assert causes == {"ValueError: bad luck", "OSError: no room"}


def test_ctrl_c_while_task_waits_for_a_result(project):
    from conftest import Terminal, user_env

    apps = """
        from parsl import python_app

        @python_app
        def work(x):
            import time
            time.sleep(60 if x == 3 else 0.1)
            return {"value": x}
    """
    table = "x\n" + "".join(f"{x}\n" for x in range(9))
    program(
        project, apps, table, '{"x": int}', task="apps.work(row['x']).result()\nreturn apps.work(row['x'])"
    )
    command = ["bash", "-c", f"source activate.sh && {LOCAL}"]
    terminal = Terminal(command, project, user_env(project.parent))
    terminal.until("results 3 of 9 rows")
    terminal.type("\x03")
    terminal.until("no further task")
    terminal.type("\x03")
    assert terminal.wait(20) == 130 and "goes on from here" in terminal.seen, terminal.seen
    assert len(results(project)) == 3


# --- names -----------------------------------------------------------------------------------------
def test_names_that_we_use_ourselves_are_the_users(project):
    """Inputs and outputs of the names that results.csv has of its own, and outputs that are inputs too."""
    apps = """
        from parsl import python_app

        @python_app
        def work(gpu, host, size, line):
            open("LEDGER", "a").write(f"{gpu} ")
            return {"seconds": 100.0 + gpu, "status": "odd", "size": 2 * size, "kinds": "two", "cores": gpu}
    """.replace("LEDGER", str(project / "ledger"))
    table = "gpu,size,host,line\n" + "".join(f"{i},{i},h{i},7\n" for i in range(6))
    inputs = '{"gpu": int, "size": int, "host": str, "line": int}'
    program(project, apps, table, inputs, '("seconds", "status", "size", "kinds", "cores")')
    assert "nothing to mend" in done(project, "python run.py --check")
    for run in range(3):
        said = done(project)
        assert ("nothing to do" in said) == (run > 0)
        rows = sorted(summary(project), key=lambda row: row["gpu"])
        for i, row in enumerate(rows):
            assert row == {
                "gpu": i, "input_size": i, "host": f"h{i}", "line": 7,
                "seconds": 100.0 + i, "status": "odd", "size": 2 * i, "kinds": "two", "cores": i,
            }  # fmt: skip
    assert sorted(computed(project)) == list("012345")
    with open(project / "results" / "results.csv", newline="") as file:
        header = next(csv.reader(file))
    assert len(set(header)) == len(header) and header[-7:] == [
        "task_host", "task_gpu", "task_cores", "task_seconds", "task_status", "code", "task_kinds",
    ]  # fmt: skip
    assert "done 6, left 0 of 6" in done(project, "python run.py --status")


@pytest.mark.parametrize(
    "inputs, outputs, said",
    [
        ('{"x": int, "walltime": int}', '("value",)', "an input is called 'walltime', which Parsl keeps for itself"),
        ('{"x": int, "inputs": int}', '("value",)', "an input is called 'inputs', which Parsl keeps for itself"),
        ('{"x": complex}', '("a",)', "x=<class 'complex'> of table(...): is none of int, float, str, bool"),
        ("{}", '("a",)', "run.py: table(...) names no columns"),
    ],
)  # fmt: skip
def test_names_and_kinds_that_cannot_work_are_refused_before_anything_is_spent(
    project, inputs, outputs, said
):
    program(
        project, STAGES, "x,walltime,inputs\n1,2,3\n", inputs, outputs, task="return apps.plain(row['x'])"
    )
    for command in ("python run.py --check", LOCAL):
        ended = user(project, command)
        assert ended.returncode == 2 and said in ended.stdout and "Traceback" not in ended.stdout, (
            ended.stdout
        )
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    "outputs, said",
    [
        ('("value")', "outputs='value'): is no tuple of names in quotes; one name needs a comma"),
        ('("a", "a")', "run.map(outputs=...) names 'a' twice"),
    ],
)
def test_outputs_that_cannot_work_are_refused_before_parsl_starts(project, outputs, said):
    program(project, STAGES, "x\n1\n", '{"x": int}', outputs, task="return apps.plain(row['x'])")
    ended = user(project, LOCAL)
    assert ended.returncode == 2 and said in ended.stdout and "Traceback" not in ended.stdout, ended.stdout
    assert not (project / "runinfo").exists() and not (project / "results").exists()


# --- values ----------------------------------------------------------------------------------------
VALUES = """
import math
import numpy
VALUES = [
    0, 2**63 + 1, -(2**200), 7**9000, 0.1, -0.0, 1e-320, math.nan, -math.inf, 1e22, complex(1, -2), True, False, None,
    "0012", "False", "None", "", " a  b ", "nan", "1e5", "one\\nline\\r\\nand another\\ttab", 'a,b "c" \\\\', "\\x00\\x1b[31m",
    "\\u00e9\\u4e2d\\U0001f600", "\\u2028\\ud800", "json:[1]", "x" * 200_000, "a\\n" * 90_000,
    numpy.float32(0.1), numpy.float64(0.1), numpy.float16(0.1), numpy.longdouble(1) / 3, numpy.int8(-3),
    numpy.uint64(2**64 - 1), numpy.bool_(False), numpy.complex64(1j), numpy.datetime64("2026-11-25"), numpy.str_("text"),
    numpy.arange(3000.0) / 7, numpy.zeros((0, 3)), numpy.array(3), numpy.eye(2, dtype=">f4"), numpy.array(["a", "bc"]),
    numpy.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")]),
    [], {}, (), [1, 2.5, "a\\nb", None, True, [numpy.float64(0.5)]], {"a": {"b": [1, math.inf]}}, (1, (2, [3])),
    {1: 2, (1, 2): "x"}, {"__tuple__": 1}, list(range(5000)), {"text": "y" * 5000},
]
"""
RETURNS = (
    "from parsl import python_app\n"
    + VALUES
    + """
@python_app
def work(i):
    import apps
    return {"value": apps.VALUES[i], "after": i}
"""
)


def same(a, b):
    """Whether two values are equal, kind and all."""
    if type(a) is not type(b):
        return False
    if isinstance(a, numpy.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    return a == b and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "de_DE.ISO-8859-1"])
def test_what_a_task_returns_is_what_the_program_gets_in_every_run(project, locale):
    known = {}
    exec(VALUES, known)
    wanted = known["VALUES"]
    table = "i\n" + "".join(f"{i}\n" for i in range(len(wanted)))
    program(project, RETURNS, table, '{"i": int}', '("value", "after")')
    where = {"LC_ALL": locale, "PYTHONIOENCODING": "ascii"} if locale != "C.UTF-8" else {"LC_ALL": locale}
    for run in range(2):
        said = done(project, **where)
        assert ("nothing to do" in said) == (run == 1)
        rows = {row["i"]: row for row in summary(project)}
        assert len(rows) == len(wanted)
        for i, value in enumerate(wanted):
            assert same(rows[i]["value"], value), (i, rows[i]["value"])
            assert rows[i]["after"] == i
    text = (project / "results" / "results.csv").read_bytes()
    assert text.count(b"\n") == len(wanted) + 1, "a row is a line, whatever is in it"
    assert f"done {len(wanted)}, left 0" in done(project, "python run.py --status", **where)


def test_plain_numbers_stand_in_results_csv_as_they_are(project):
    """As a spreadsheet or pandas reads them."""
    apps = """
        from parsl import python_app

        @python_app
        def work(i):
            import numpy
            return {"value": numpy.float64(i) / 4, "name": f"row {i}", "good": i > 1}
    """
    program(project, apps, "i\n1\n2\n", '{"i": int}', '("value", "name", "good")')
    done(project)
    rows = {row["i"]: row for row in results(project)}
    assert (rows["1"]["value"], rows["1"]["name"], rows["1"]["good"]) == ("0.25", "row 1", "False")
    assert rows["2"]["kinds"] == "numpy.float64 str bool"


def test_a_row_that_returns_what_cannot_be_kept_fails_alone_by_name(project):
    apps = """
        from parsl import python_app

        class Own:
            pass

        @python_app
        def work(i):
            import numpy, apps
            odd = {11: {1, 2}, 12: apps.Own(), 13: numpy.array([None]), 14: {"a": numpy.zeros(3)}, 15: (n for n in "ab"),
                   16: b"bytes", 17: numpy.ma.masked_array([1.0], [True])}
            return {"value": odd.get(i, i)}
    """
    program(project, apps, "i\n" + "".join(f"{i}\n" for i in range(30)), '{"i": int}')
    ended = user(project, LOCAL)
    assert ended.returncode == 1 and "7 of 30 tasks failed" in ended.stdout, ended.stdout
    reasons = {row["i"]: row["reason"] for row in results(project, "failures.csv")}
    for i, said in {
        "11": "its result has value, which is a set: return numbers, text, lists, dicts or numpy arrays",
        "12": "its result has value, which is a apps.Own: ",
        "13": "its result has value, which is an array of Python objects",
        "14": "its result has value, which has a numpy.ndarray in it: make that an output of its own",
        "15": "TypeError: its result, a dict, cannot be sent: ",
        "16": "its result has value, which is a bytes: ",
        "17": "its result has value, which is a numpy.ma.MaskedArray: ".replace("numpy.ma.", "numpy.ma."),
    }.items():
        assert said.split("numpy.ma.")[0] in reasons[i], reasons[i]
    assert len(results(project)) == 23


def test_inputs_are_what_the_file_says(project):
    """bool by its words, whole numbers of any length, texts with all that is in them."""
    apps = """
        from parsl import python_app

        @python_app
        def work(i, periodic, seed, text):
            return {"value": [periodic, seed, text]}
    """
    given = [
        ("False", False), ("true", True), ("0", False), ("1", True), ("no", False), (" YES ", True),
    ]  # fmt: skip
    texts = ["0012", " kept ", 'quo"ted', "two\nlines", "tab\there\r\n", "\u00e9", "json:1", ""]
    lines = []
    for i in range(24):
        text = texts[i % len(texts)].replace('"', '""')
        lines.append(f'{i},{given[i % 6][0]},{10**19 + i},"{text}"\n')
    table = "i,periodic,seed,text\n" + "".join(lines)
    program(project, apps, table, '{"i": int, "periodic": bool, "seed": int, "text": str}')
    for run in range(2):
        said = done(project)
        assert ("nothing to do" in said) == (run == 1)
        rows = summary(project)
        assert len(rows) == 24
        for row in rows:
            i = row["i"]
            wanted = [given[i % 6][1], 10**19 + i, texts[i % len(texts)]]
            assert row["value"] == wanted and [row["periodic"], row["seed"], row["text"]] == wanted
    (project / "inputs" / "sweep.csv").write_text("i,periodic,seed,text\n1,maybe,1,a\n")
    ended = user(project, LOCAL)
    assert ended.returncode == 2
    assert "line 2: column periodic: 'maybe' is neither True nor False (nor yes, no, 1, 0)" in ended.stdout


# --- files that are read -----------------------------------------------------------------------------
COUNTS = """
    from parsl import python_app

    @python_app
    def work(i, text):
        with open("LEDGER", "a") as file:
            file.write(f"{i} ")
        return {"value": text}
"""


def texts(project, rows, text):
    """Rows whose text is long or has line breaks, in and out."""
    lines = [f'{i},"{text(i)}"\n' for i in range(rows)]
    apps = COUNTS.replace("LEDGER", str(project / "ledger"))
    program(project, apps, "i,text\n" + "".join(lines), '{"i": int, "text": str}')


def test_a_long_text_in_one_row_hides_no_other(project):
    texts(project, 60, lambda i: "y" * 200_000 if i == 9 else f"row {i}")
    done(project)
    assert "done 60, left 0 of 60" in done(project, "python run.py --status")
    assert "nothing to do" in done(project)
    assert len(results_by_lines(project)) == 60 and len(summary(project)) == 60
    assert sorted(computed(project), key=int) == [str(i) for i in range(60)]


def results_by_lines(project):
    return (project / "results" / "results.csv").read_text(encoding="utf-8").splitlines()[1:]


def test_a_kill_within_a_text_of_many_lines_repeats_that_row_alone(project):
    """Where the kill cuts the file, byte by byte through the last row."""
    texts(project, 4, lambda i: f"first\nsecond {i}\nthird")
    done(project)
    table = project / "results" / "results.csv"
    whole = table.read_bytes()
    last = len(whole) - whole.rstrip(b"\n").rfind(b"\n") - 1
    for cut in sorted({1, 2, last // 3, last // 2, last - 1, last}):
        (project / "ledger").unlink()
        table.write_bytes(whole[:-cut])
        said = done(project)
        assert len(computed(project)) == 1 and "3 of them done before" in said, (cut, said)
        assert sorted(row["value"] for row in summary(project)) == [
            f"first\nsecond {i}\nthird" for i in range(4)
        ]
        whole = table.read_bytes()


def test_a_half_written_row_longer_than_any_buffer_is_cut_off(project):
    texts(project, 3, lambda i: "z" * 300_000 if i == 2 else "a")
    done(project)
    table = project / "results" / "results.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    lines.sort(key=len)
    table.write_bytes(b"".join([next(line for line in lines if line.startswith(b"i,")), *lines[:0]]))
    rows = [line for line in lines if not line.startswith(b"i,")]
    with open(table, "ab") as file:
        file.writelines([*rows[:2], rows[2][:-5]])
    (project / "ledger").unlink()
    done(project)
    assert computed(project) == ["2"] and len(results_by_lines(project)) == 3


def test_every_line_of_results_csv_counts_or_is_named(project):
    texts(project, 5, lambda i: f"row {i}")
    done(project)
    summary(project)
    table = project / "results" / "results.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    for broken in (b"3,row 3,\n", b'9,"row\n', b"\xff\xfe\n", lines[2].replace(b"str", b"")):
        table.write_bytes(b"".join([*lines[:3], broken, *lines[3:]]))
        for command in (LOCAL, "python run.py --check", "python run.py --status"):
            ended = user(project, command)
            assert (
                ended.returncode == 2 and "results/results.csv line 4: is no row of results" in ended.stdout
            )
            assert "Traceback" not in ended.stdout
    # One that stands there twice counts once, and it is said.
    table.write_bytes(b"".join([*lines, lines[1]]))
    assert "results/results.csv has 1 row more than once: the first of each counts" in done(project)
    assert len(summary(project)) == 5 and len(computed(project)) == 5


def test_state_files_that_a_crash_left_empty_or_half_written(project):
    texts(project, 3, lambda i: f"row {i}")
    done(project)
    assert sorted(computed(project)) == list("012")
    results_folder = project / "results"
    for half in (b"", b'{"host": "x300', b'{"pid": 7}', b"[]", b"\0\0\0\0"):
        for name in ("running.json", "runs.jsonl", "tasks.csv"):
            (results_folder / name).write_bytes(half if name == "running.json" else half + b"\n")
        os.utime(results_folder / "running.json", (1, 1))
        status = user(project, "python run.py --status")
        assert (
            "running.json cannot be read: a crash left it so" in status.stdout and "done 3" in status.stdout
        )
        texts(project, 3, lambda i: f"row {i}")
        said = user(project, LOCAL)
        assert said.returncode == 0 and "nothing to do" in said.stdout, said.stdout
        assert not (results_folder / "running.json").exists()
    texts(project, 4, lambda i: f"row {i}")
    (results_folder / "running.json").write_bytes(b"")
    os.utime(results_folder / "running.json", (1, 1))
    said = done(project)
    assert "what that run had in PBS, if anything, is not known" in said and len(computed(project)) == 4
    report = user(project, "python -m polaris.report")
    assert report.returncode == 0, report.stdout
    assert (
        "1 of the lines of results/tasks.csv cannot be read" in (results_folder / "report.html").read_text()
    )


def test_a_result_whose_file_is_gone_is_named(project):
    apps = "from parsl import python_app\n@python_app\ndef work(i):\n    import numpy\n    return {'value': numpy.ones(i)}\n"
    program(project, apps, "i\n1\n2\n", '{"i": int}')
    done(project)
    row = next(row for row in results(project) if row["i"] == "2")
    (project / row["value"]).unlink()
    ended = user(project, LOCAL)
    assert ended.returncode == 2 and "Traceback" not in ended.stdout
    lines = (project / "results" / "results.csv").read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith("2,"))
    named = rf"results/results\.csv line {number}: FileNotFoundError: .*: delete that line to have its row"
    assert re.search(named, ended.stdout), ended.stdout


# --- cached apps -----------------------------------------------------------------------------------
SCRIPT = """
import parsl
from config import fresh_config

if __name__ == "__main__":
    with parsl.load(fresh_config("local")):
{body}
"""


def script(project, name, body):
    """Run a script of the user's own with this project's config; returns what it said."""
    text = SCRIPT.format(body=textwrap.indent(textwrap.dedent(body).strip(), " " * 8))
    (project / name).write_text(text)
    ended = user(project, f"python {name} 2>&1")
    return ended.stdout


def test_cached_apps_of_one_name_in_two_modules_are_two(project):
    for module, factor in (("first", 2), ("second", 3)):
        (project / f"{module}.py").write_text(
            "from parsl import bash_app, python_app\n"
            f"@bash_app(cache=True)\ndef go(x, stdout=None):\n    return f'echo {{x}} {module} >> ledger; echo {module} > out-{module}'\n"
            f"@python_app(cache=True)\ndef value(x):\n    return {factor} * x\n"
        )
    body = f"""
        import first, second
        import os
        os.chdir({str(project)!r})
        print("codes", first.go(1).result(), second.go(1).result())
        print("values", first.value(1).result(), second.value(1).result())
    """
    for module in ("first", "second"):
        edit(project, f"{module}.py", "ledger;", f"{project}/ledger;")
        edit(project, f"{module}.py", "> out-", f"> {project}/out-")
    for _ in range(2):
        said = script(project, "two.py", body)
        assert "codes 0 0" in said and "values 2 3" in said, said
    assert (project / "ledger").read_text().splitlines() == ["1 first", "1 second"]
    assert (project / "out-first").exists() and (project / "out-second").exists()


def test_cached_code_that_was_edited_is_computed_again_and_it_is_said(project):
    """Its own, a helper's, a constant's, that of a module which the app imports itself."""
    (project / "helpers.py").write_text("def half(x):\n    return x / 2\n")
    source = (
        "from parsl import python_app\nSCALE = 10\ndef shift(x):\n    return x + 1\n"
        "@python_app(cache=True)\ndef work(x):\n    import helpers\n    open({ledger!r}, 'a').write('ran ')\n"
        "    return helpers.half(shift(x)) * SCALE\n"
    ).format(ledger=str(project / "ledger"))
    (project / "mine.py").write_text(source)
    body = "import mine\nprint('value', mine.work(3).result())"
    assert "value 20.0" in script(project, "go.py", body)
    again = script(project, "go.py", body)
    assert "value 20.0" in again and "edited" not in again and computed(project) == ["ran"]
    for n, (file, old, new, value) in enumerate(
        [
            ("mine.py", "x + 1", "x + 3", 30.0),
            ("mine.py", "SCALE = 10", "SCALE = 100", 300.0),
            ("helpers.py", "x / 2", "x / 3", 200.0),
            ("mine.py", "* SCALE", "* SCALE + 1", 201.0),
        ],
        2,
    ):
        edit(project, file, old, new)
        said = script(project, "go.py", body)
        assert f"value {value}" in said and "mine.work or code that it uses was edited" in said, said
        assert len(computed(project)) == n
        quiet = script(project, "go.py", body)
        assert f"value {value}" in quiet and "edited" not in quiet and len(computed(project)) == n


def test_apps_made_by_a_function_or_defined_again_are_told_apart(project):
    body = """
        from parsl import python_app

        def times(k):
            @python_app(cache=True)
            def app(x):
                return k * x
            return app

        print("made", times(2)(1).result(), times(3)(1).result(), times(2)(1).result())

        @python_app(cache=True)
        def cell(x):
            return x + 1
        first = cell(1).result()

        @python_app(cache=True)
        def cell(x):
            return x + 2
        print("cells", first, cell(1).result())
    """
    for name in ("one.py", "one.py"):
        said = script(project, name, body)
        assert "made 2 3 2" in said and "cells 2 3" in said, said
    other = script(project, "other.py", body.replace("x + 1", "x + 11"))
    assert "cells 12 3" in other, other


def test_common_scientific_values_are_keys_of_cached_apps_and_others_are_refused_by_name(project):
    (project / "mine.py").write_text(
        "from parsl import python_app\n@python_app(cache=True)\ndef work(value, extra=None):\n"
        f"    open({str(project / 'ledger')!r}, 'a').write('ran ')\n    return repr(value)[:40]\n"
    )
    body = """
        import datetime, numpy, pathlib, mine
        for value in (numpy.arange(6).reshape(2, 3), numpy.arange(6), numpy.float32(1), numpy.float64(1), 1, 1.0, True, 1j,
                      pathlib.Path("a"), "a", b"a", {"a"}, frozenset(["a"]), ["a"], ("a",), {"a": numpy.zeros(2)}, range(3),
                      datetime.date(2026, 11, 25), None, ["a", 1], {"a": 1}, {1: 2, "a": 3}):
            mine.work(value).result()
        for value in (mine, numpy.array([None]), open, numpy.ma.masked_array([1.0], [True])):
            try:
                print("took", mine.work(1, extra=value).result())
            except TypeError as error:
                print("refused", error)
    """
    first = script(project, "go.py", body)
    assert (
        len(computed(project)) == 22 and first.count("refused work(cache=True): argument 'extra' is a ") == 4
    ), first
    assert "no cached result can be found by that: pass numbers, text" in first and "Traceback" not in first
    script(project, "go.py", body)
    assert len(computed(project)) == 22, "each of them was a key"


def test_checkpoints_that_cannot_be_read_here_are_kept_and_said(project):
    """Results of a class that this host lacks, and a torn end; those behind and before are used."""
    (project / "gone.py").write_text("class Tensor:\n    pass\n")
    (project / "mine.py").write_text(
        "from parsl import python_app\n@python_app(cache=True)\ndef work(x):\n    import gone\n"
        f"    open({str(project / 'ledger')!r}, 'a').write(f'{{x}} ')\n"
        "    return gone.Tensor() if x == 2 else x\n"
    )
    body = """
        import mine
        for x in range(5):
            try:
                print("value", mine.work(x).result())
            except Exception as error:
                print("failed", type(error).__name__)
    """
    script(project, "go.py", body)
    assert computed(project) == list("01234")
    (project / "gone.py").write_text("class Other:\n    pass\n")
    checkpoint = project / "runinfo" / "000" / "checkpoint" / "tasks.pkl"
    with open(checkpoint, "ab") as file:
        file.write(pickle.dumps({"hash": "x", "exception": None, "result": list(range(99))})[:-7])
    before = checkpoint.read_bytes()
    said = script(project, "go.py", body)
    assert "tasks.pkl: 1 of its cached results cannot be read here (AttributeError: " in said, said
    assert checkpoint.read_bytes() == before, "nothing is cut off"


# --- what a task may do to its worker ----------------------------------------------------------------
ENDS = """
    from parsl import python_app

    class TwoArguments(Exception):
        def __init__(self, what, where):
            super().__init__(f"{what} at {where}")

    class OnlyThere:
        def __reduce__(self):
            return (__import__("apps").made_here, ())

    def made_here():
        import os
        if "PARSL_WORKER_RANK" not in os.environ:
            raise RuntimeError("Attempting to deserialize object on a CUDA device but no CUDA device is there")
        return OnlyThere()

    @python_app
    def work(i):
        import apps, os, sys, time
        time.sleep(0.02)
        def deeper(n):
            return deeper(n + 1)
        if i == 41:
            sys.exit(3)
        if i == 42:
            raise KeyboardInterrupt
        if i == 43:
            deeper(0)
        if i == 44:
            raise apps.TwoArguments("pressure", "wall")
        if i == 45:
            return apps.OnlyThere()
        if i == 46:
            return {"nothing": i}
        return {"value": i}
"""


@pytest.mark.parametrize("rows_per_task", ["None", "1"])
def test_a_row_fails_alone_with_its_own_name_whatever_it_does(project, rows_per_task):
    program(project, ENDS, "i\n" + "".join(f"{i}\n" for i in range(300)), '{"i": int}')
    edit(project, "config.py", "rows_per_task = None", f"rows_per_task = {rows_per_task}")
    ended = user(project, LOCAL, timeout=60)
    assert ended.returncode == 1 and "6 of 300 tasks failed" in ended.stdout, ended.stdout
    assert "tries lost" not in ended.stdout, "no worker died"
    reasons = {row["i"]: row["reason"] for row in results(project, "failures.csv")}
    assert reasons["41"] == "SystemExit: 3" and reasons["42"] == "KeyboardInterrupt"
    assert reasons["43"].startswith("RecursionError: maximum recursion depth exceeded")
    assert reasons["44"] == "TwoArguments: pressure at wall"
    assert "its result cannot be read on " in reasons["45"] and "no CUDA device is there" in reasons["45"]
    lacks = "its result lacks value, of the columns of results/results.csv; it has nothing"
    assert reasons["46"] == lacks
    tries = [row["line"] for row in results(project, "tasks.csv") if row["status"] == "failed"]
    assert {line: tries.count(line) for line in ("43", "44", "45", "46")} == {
        "43": 1,
        "44": 1,
        "45": 1,
        "46": 3,
    }
    assert len(results(project)) == 294


def test_run_py_is_stopped_where_none_of_the_first_rows_has_what_outputs_names(project):
    program(
        project, ENDS, "i\n" + "".join(f"{i}\n" for i in range(200)), '{"i": int}', '("value", "pressure")'
    )
    ended = user(project, LOCAL)
    assert ended.returncode == 2 and "Traceback" not in ended.stdout
    lacks = "its result lacks pressure, of the columns of results/results.csv; it has value"
    assert lacks in ended.stdout
    assert "none of the first 20 rows has a result; inputs/sweep.csv line " in ended.stdout


def test_a_mistake_of_task_itself_for_one_row_is_that_rows(project):
    task = "return apps.work({7: None, 8: 'x'}.get(row['i'], row['i']) + 0) if row['i'] != 9 else None"
    task = f"import sys\nif row['i'] == 5:\n    sys.exit(3)\n{task}"
    program(project, ENDS, "i\n" + "".join(f"{i}\n" for i in range(30)), '{"i": int}', task=task)
    ended = user(project, LOCAL)
    assert ended.returncode == 1 and "4 of 30 tasks failed" in ended.stdout, ended.stdout
    reasons = {row["i"]: row["reason"] for row in results(project, "failures.csv")}
    assert re.match(r"task of run.py line \d+ raised TypeError: unsupported operand", reasons["7"])
    assert reasons["9"] == "task must return what an app returns, not None"
    assert re.match(r"task of run.py line \d+ raised SystemExit: 3", reasons["5"])
    # In the next run these rows alone are left, and new ones: they end nothing for the others.
    program(project, ENDS, "i\n" + "".join(f"{i}\n" for i in range(33)), '{"i": int}', task=task)
    again = user(project, LOCAL)
    assert again.returncode == 1 and "4 of 33 tasks failed" in again.stdout and len(results(project)) == 29


def test_an_app_of_the_program_that_leaves_by_sys_exit_ends_nothing(project):
    apps = ENDS + "\n    @python_app\n    def leave():\n        import sys\n        sys.exit(4)\n"
    program(project, apps, "i\n1\n2\n", '{"i": int}')
    edit(
        project,
        "run.py",
        '    with open("summary.pkl"',
        '    apps.leave().result()\n    with open("summary.pkl"',
    )
    ended = user(project, LOCAL, timeout=60)
    assert ended.returncode == 1 and "its task leave failed: SystemExit: 4" in ended.stdout, ended.stdout
    assert "2 of 2 tasks done" in ended.stdout and "Traceback" not in ended.stdout
