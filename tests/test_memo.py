"""Apps with cache=True: what is found again in a later run, what runs again, and what is refused by name."""

import json
import re
import textwrap

import pytest
from conftest import edit, user

pytestmark = pytest.mark.slow

LOCAL = """
import parsl
from config import fresh_config

if __name__ == "__main__":
    with parsl.load(fresh_config("local")) as kernel:
{body}
"""
# Threads start at once: for what does not depend on where a task runs.
THREADS = """
import parsl
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
from polaris.memo import Memoizer

if __name__ == "__main__":
    config = Config(
        executors=[ThreadPoolExecutor(max_threads=1, working_dir=".")], memoizer=Memoizer(),
        run_dir="runinfo", initialize_logging=False, exit_mode="wait",
    )
    with parsl.load(config) as kernel:
        memo = kernel.memoizer
{body}
"""


class Script:
    """A user's script and modules in a project; each run says what it printed and which calls ran."""

    def __init__(self, project, frame):
        self.project, self.frame, self.ledger = project, frame, project / "ledger"

    def module(self, text, name="mine.py"):
        """A module of the user's; in it, ran(NAME) notes that a call ran."""
        head = f"def ran(name):\n    open({str(self.ledger)!r}, 'a').write(f'{{name}} ')\n"
        (self.project / name).write_text(head + textwrap.dedent(text))

    def run(self, body=None, before=""):
        """(what it printed, [the calls that ran])"""
        if body is not None:
            body = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
            (self.project / "go.py").write_text(self.frame.format(body=body))
        self.ledger.write_text("")
        done = user(self.project, f"{before}python go.py 2>&1")
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout, sorted(self.ledger.read_text().split())


@pytest.fixture
def local(project):
    return Script(project, LOCAL)


@pytest.fixture
def threads(project):
    return Script(project, THREADS)


# --- files ---------------------------------------------------------------------------------------
def test_apps_that_read_and_write_files_are_resumed(local):
    """bash_app and python_app, outputs=, inputs=, a File as an argument, stdout=; paths of any kind."""
    project = local.project
    local.module(f"""
        from parsl import bash_app, python_app

        @bash_app(cache=True)
        def simulate(n, start, outputs=(), stdout=None):
            out = outputs[0]
            note = f'echo -n "simulate{{n}} " >> {local.ledger}; echo ran'
            return f"{{note}}; cat {{start}} > {{out}}; echo {{n}} >> {{out}}"

        @python_app(cache=True)
        def analyse(inputs=(), outputs=()):
            n = open(inputs[0]).read().split()[-1]
            ran("analyse" + n)
            open(outputs[0], "w").write("analysed " + n)
            return int(n)

        @python_app(cache=True)
        def total(inputs=()):
            ran("total")
            return sum(inputs)
    """)
    (project / "start.txt").write_text("0\n")
    (project / "work").mkdir()
    body = f"""
        from parsl.data_provider.files import File
        from mine import simulate, analyse, total
        start, logs = File("start.txt"), "{project}/work"
        runs = [
            simulate(n, start, outputs=[File(f"work/{{n}}.out")], stdout=(f"{{logs}}/{{n}}.log", "w"))
            for n in range(3)
        ]
        seen = [
            analyse(inputs=[run.outputs[0]], outputs=[File(f"{project}/work/{{n}}.seen")])
            for n, run in enumerate(runs)
        ]
        print("total", total(inputs=seen).result(), [run.result() for run in runs])
        (output,) = seen[2].outputs
        print("output", output.result().filepath, output.done(), open(output.filepath).read())
        print("memo_done", sum(run.task_record["from_memo"] for run in (*runs, *seen)))
    """
    every = ["analyse0", "analyse1", "analyse2", "simulate0", "simulate1", "simulate2", "total"]
    same = f"total 3 [0, 0, 0]\noutput {project}/work/2.seen True analysed 2\n"
    assert local.run(body) == (same + "memo_done 0\n", every)
    assert local.run() == (same + "memo_done 6\n", [])

    (project / "work" / "1.out").unlink()
    said, ran = local.run()
    assert ran == ["analyse1", "simulate1"] and same in said  # analyse1 gives the same number: total stands
    why = (
        "mine.simulate(cache=True): work/1.out is gone: a call runs again whose files are not as it left them"
    )
    assert said.count(why) == 1, said

    (project / "work" / "0.seen").write_text("edited by hand")
    (project / "work" / "2.log").write_text("and this")
    said, ran = local.run()
    assert ran == ["analyse0", "analyse2", "simulate2"] and same in said
    assert f"mine.analyse(cache=True): {project}/work/0.seen was changed" in said
    assert local.run() == (same + "memo_done 6\n", [])

    (project / "start.txt").write_text("1\n")  # the same size, another time
    assert local.run()[1] == every[:-1]
    assert local.run() == (same + "memo_done 6\n", [])


def test_calls_whose_files_cannot_be_relied_on_are_not_kept_and_it_is_said(threads):
    """An input that is not there, one that changes while the call runs, an output that was not written."""
    threads.module("""
        import os
        from parsl import bash_app, python_app

        @python_app(cache=True)
        def read(file, inputs=()):
            ran("read")
            return os.path.exists(file)

        @python_app(cache=True)
        def sort(inputs=()):
            ran("sort")
            open(inputs[0], "a").write("sorted")

        @python_app(cache=True)
        def write(outputs=()):
            ran("write")

        @python_app(cache=True)
        def folder(inputs=()):
            ran("folder")
    """)
    (threads.project / "in.txt").write_text("text")
    (threads.project / "many" / "deep").mkdir(parents=True)
    body = """
        from parsl.data_provider.files import File
        from mine import read, sort, write, folder
        print(read(File("none.txt")).result())
        sort(inputs=[File("in.txt")]).result()
        write(outputs=[File("out.txt")]).result()
        folder(inputs=[File("many")]).result()
    """
    said, ran = threads.run(body)
    assert ran == ["folder", "read", "sort", "write"] and "False" in said
    assert "mine.read(cache=True): none.txt is not there: a call whose input is not there is not kept" in said
    assert (
        "mine.sort(cache=True): an input file was changed while a call ran: such a call is not kept" in said
    )
    assert "mine.write(cache=True): out.txt, an output, is not there: such a call is not kept" in said
    assert threads.run()[1] == ["read", "sort", "write"]
    (threads.project / "many" / "deep" / "new").write_text("")
    assert threads.run()[1] == ["folder", "read", "sort", "write"], "a folder is what is in it"


def test_what_nothing_can_be_found_by_is_refused_by_the_name_of_app_and_argument(threads):
    threads.module("""
        import threading
        from parsl import python_app

        LOCK = threading.Lock()

        @python_app(cache=True)
        def work(x=None, inputs=(), outputs=()):
            ran("work")

        class Model:
            def __init__(self):
                self.lock = threading.Lock()
            def __call__(self):
                pass

        def around(value):
            @python_app(cache=True)
            def kept(x):
                return value
            return kept
    """)
    body = """
        from parsl.data_provider.files import File
        import mine
        for call in (
            lambda: mine.work(outputs=[File("zip:a.zip/out.txt")]),
            lambda: mine.work([mine.work()]),
            lambda: mine.work(mine.Model()),
            lambda: mine.work(x=lambda: mine.LOCK.acquire, inputs=[mine.Model().__call__]),
            lambda: mine.around(mine.LOCK)(1),
        ):
            error = call().exception()
            print(type(error).__name__, error)
    """
    said, ran = threads.run(body)
    assert ran == ["work"], "the one within the list"
    lines = said.splitlines()
    assert [line.split(" is a ")[0] for line in lines[:4]] == [
        "NoKey work(cache=True): argument 'outputs'", "NoKey work(cache=True): argument 1",
        "NoKey work(cache=True): argument 1", "NoKey work(cache=True): argument 'inputs'",
    ]  # fmt: skip
    assert "list (zip:a.zip/out.txt is no file of this machine); no cached result can be found by" in lines[0]
    assert "a future within something else: give it as an argument of its own, or in inputs=" in lines[1]
    assert "mine.Model (TypeError: cannot pickle '_thread.lock' object)" in lines[2]
    assert (
        "kept(cache=True): mine.around.<locals>.kept uses a _thread.lock from around it, by which no"
        in lines[4]
    )
    assert len(lines) == 5


# --- functions and objects -----------------------------------------------------------------------
def test_functions_and_objects_are_known_by_their_code_and_state(threads):
    """As a library passes them on: wrappers like scipy's, partials, methods, lambdas, functions in C."""
    threads.module("""
        import functools
        from parsl import python_app

        @python_app(cache=True)
        def call(f, x):
            ran("call")
            return f(x)

        class Wrapper:
            def __init__(self, f, args):
                self.f, self.args = f, args
            def __call__(self, x):
                return self.f(x, *self.args)

        class Model:
            __slots__ = ("scale", "__dict__")
            def __init__(self, scale):
                self.scale, self.shift = scale, 0
            def predict(self, x):
                return helped(self.scale * x) + self.shift

        def helped(x):
            return x

        def power(x, n=2):
            return x**n
    """)
    body = """
        import functools, math, mine
        from mine import call
        add, double = lambda x: x + 1, lambda x: 2 * x
        given = [
            mine.power, mine.Wrapper(mine.power, (2,)), mine.Wrapper(mine.power, (3,)),
            mine.Wrapper(mine.helped, ()),
            functools.partial(mine.power, n=2), functools.partial(mine.power, n=3), add, double,
            mine.Model(2).predict, mine.Model(3).predict, math.sqrt, math.floor,
        ]
        for _ in range(2):
            values = [call(f, 4.0).result() for f in given]
        print(values)
    """
    values = "[16.0, 16.0, 64.0, 4.0, 16.0, 64.0, 5.0, 8.0, 8.0, 12.0, 2.0, 4]\n"
    said, ran = threads.run(body)
    assert said == values and len(ran) == 12, said
    assert threads.run() == (values, [])
    edit(threads.project, "mine.py", "return x\n", "return x + 1\n")  # what Model's method calls, too
    said, ran = threads.run()
    assert values.replace(" 4.0, 16", " 5.0, 16").replace("8.0, 12.0, 2", "9.0, 13.0, 2") in said, said
    assert len(ran) == 3 and threads.run()[1] == []
    edit(threads.project, "mine.py", "+ self.shift", "- self.shift")
    assert len(threads.run()[1]) == 2, "the class itself was edited: two models"
    edit(threads.project, "go.py", "x + 1, lambda", "x + 2, lambda")
    said, ran = threads.run()
    assert len(ran) == 1 and " 6.0, 8.0" in said, "of two lambdas in one line"


def test_a_notebook_that_defines_a_helper_anew_gets_new_results(threads):
    body = """
        from parsl import python_app
        scale = {"by": 2}
        def helper(x):
            return x + 1
        @python_app(cache=True)
        def work(x):
            return helper(x) * scale["by"]
        print(work(1).result(), end=" ")
        def helper(x):
            return x + 2
        print(work(1).result(), end=" ")
        scale["by"] = 3
        print(work(1).result(), end=" ")
        again = work(1)
        print(again.result(), again.task_record["from_memo"])
    """
    assert threads.run(body)[0] == "4 6 9 9 True\n"
    assert threads.run()[0] == "4 6 9 9 True\n"


# --- programs ------------------------------------------------------------------------------------
def test_a_program_that_an_app_names_is_part_of_its_code(threads):
    """Found in lists, command lines and settings; what a program itself imports or starts, too."""
    project = threads.project
    threads.module(f"""
        import sys
        from parsl import bash_app, python_app
        SCRIPT = "tools/run.sh"

        @python_app(cache=True)
        def listed(x):
            'Not of notes.py.'
            ran("listed")
            return [sys.executable, "ising2.py", x][1]

        @bash_app(cache=True)
        def line(x):
            return f"echo -n 'line ' >> {threads.ledger}; ./tools/md < in.{{x}}"

        @python_app(cache=True)
        def named(x):
            ran("named")
            return SCRIPT
    """)
    (project / "tools").mkdir()
    (project / "tools" / "md").write_text("#!/bin/bash\ncat\n")
    (project / "tools" / "md").chmod(0o755)
    (project / "tools" / "run.sh").write_text("python inner.py\n")
    for name in ("ising2.py", "inner.py", "notes.py", "beside.py", "in.1"):
        (project / name).write_text("import beside\n" if name == "inner.py" else "1\n")
    body = """
        from mine import listed, line, named
        from polaris.code import short_code
        listed(1).result(), line(1).result(), named(1).result()
        print("codes", *[short_code(app) for app in (listed, line, named)])
    """

    def now():
        said, ran = threads.run(body)
        codes = re.search("codes ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})", said)
        return ran, codes.groups()

    ran, codes = now()
    assert ran == ["line", "listed", "named"]
    for file, again in (
        ("notes.py", None),
        ("ising2.py", 0),
        ("tools/md", 1),
        ("tools/run.sh", 2),
        ("inner.py", 2),
        ("beside.py", 2),
    ):
        with open(project / file, "a") as program:
            program.write("# edited\n")
        ran, new = now()
        assert ran == ([] if again is None else [("listed", "line", "named")[again]]), file
        assert [old == new for old, new in zip(codes, new, strict=True)] == [i != again for i in range(3)]
        codes = new
    assert now() == ([], codes)


# --- results that are given up -------------------------------------------------------------------
def test_results_are_counted_and_given_up_by_the_name_of_their_app(threads):
    threads.module("""
        from parsl import python_app

        @python_app(cache=True)
        def one(x):
            ran("one")
            return x

        @python_app(cache=True)
        def two(x):
            ran("two")
            return x

        @python_app
        def three(x):
            ran("three")
            return x
    """)
    body = """
        from mine import one, two, three
        print("before", memo.counts())
        for app in (one, one, two, three):
            [app(x).result() for x in range(2)]
        print("after", memo.counts())
    """
    said, ran = threads.run(body)
    assert said == "before {}\nafter {'mine.one': 2, 'mine.two': 2}\n"
    assert ran == sorted(2 * ["one", "two", "three"]), "found again in the same run"
    assert threads.run()[1] == ["three", "three"]
    notes = threads.project / "runinfo" / "cached_apps.json"
    assert not notes.exists(), "nothing is written without need"

    edit(
        threads.project,
        "go.py",
        'print("before',
        'print(memo.forget("one"), memo.forget("nine"))\n        print("before',
    )
    said, ran = threads.run()
    assert said == "2 0\nbefore {'mine.two': 2}\nafter {'mine.two': 2, 'mine.one': 2}\n"
    assert ran == ["one", "one", "three", "three"]
    edit(threads.project, "go.py", 'memo.forget("one"), ', "")
    assert threads.run()[1] == ["three", "three"], "new ones count"
    edit(threads.project, "go.py", 'memo.forget("nine")', 'memo.forget("mine.one"), memo.forget("two")')
    assert threads.run()[0].startswith("2 2\n")
    assert json.loads(notes.read_text()) == {"mine.one": 2, "mine.two": 1}
    edit(threads.project, "go.py", 'memo.forget("mine.one"), memo.forget("two")', "")
    edit(threads.project, "mine.py", 'ran("one")\n    return x', 'ran("one")\n    return -x')
    said, ran = threads.run()
    assert "mine.one or code that it uses was edited since: 2 results of it so far are not used\n" in said
    assert ran == ["one", "one", "three", "three"] and "two or code" not in said
    said, ran = threads.run()
    assert "edited" not in said and ran == ["three", "three"]
    edit(threads.project, "mine.py", 'ran("one")\n    return -x', 'ran("one")\n    return x')
    said, ran = threads.run()
    assert "edited" not in said and ran == ["three", "three"], "as it was: its results are found again"


def test_a_result_that_cannot_be_written_down_is_one_of_its_run_and_ends_nothing(threads):
    """No room on the disk; and a kind that pickle does not take. What was written is found."""
    threads.module("""
        from parsl import python_app

        @python_app(cache=True)
        def work(x):
            ran(x)
            return (lambda: x) if x == 1 else 1000 * x * "-"
    """)
    body = """
        from mine import work
        for _ in range(2):
            print([type(work(x).result()).__name__ for x in (0, 1, 2, 30, 3)], memo.unkept)
    """
    said, ran = threads.run(body, before="ulimit -f 8; ")  # KiB
    assert said.splitlines()[-2:] == 2 * ["['str', 'function', 'str', 'str', 'str'] 2"], said
    assert ran == ["0", "1", "2", "3", "30"]
    why = r"mine.work\(cache=True\): a result cannot be kept \(.*\): its call runs again in the next run"
    assert len(re.findall(why, said)) == 1, said
    said, ran = threads.run()
    assert ran == ["1", "30"] and "cannot be read" not in said


def test_calls_that_failed_are_made_again(threads):
    threads.module("""
        import os
        from parsl import python_app

        @python_app(cache=True)
        def work(x):
            ran("work")
            if not os.path.exists("ready"):
                raise ValueError("not ready")
            return x
    """)
    body = """
        import pathlib
        from mine import work
        print(work(1).exception())
        pathlib.Path("ready").touch()
        print(work(1).result(), work(1).result())
    """
    assert threads.run(body) == ("not ready\n1 1\n", ["work", "work"])
