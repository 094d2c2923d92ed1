"""What workers do around a task: what is sent to them, limits of time, what tasks print. By plain Parsl scripts."""

import os
import subprocess
import textwrap

import pytest
from conftest import user

pytestmark = pytest.mark.slow

HEAD = """
import os, subprocess, sys, time
import parsl
from parsl import bash_app, python_app
from config import fresh_config
from polaris.on_worker import Limited, opened, packed_function, run_group

def show(name, future):
    try:
        print(name, "->", repr(future.result()), flush=True)
    except Exception as error:
        printed = getattr(error, "printed", "")
        print(name, "->", type(error).__name__ + ":", error, f"printed {printed!r}", flush=True)

def submit(function, *args, **kwargs):
    return parsl.dfk().submit(function, app_args=args, executors=["gpu"], cache=False, ignore_for_cache=None, app_kwargs=kwargs)

def limited(app, seconds, *args, **kwargs):
    function = getattr(app, "wrapped_remote_function", app.func)  # of a bash_app, a python_app
    return submit(Limited(function, seconds), *args, **kwargs)

def config(workers=2, heartbeat=2, retries=0):
    made = fresh_config("local")
    made.retries = retries
    made.executors[0].max_workers_per_node = workers
    made.executors[0].heartbeat_period = heartbeat
    return made
"""


def script(project, text, timeout=120, **extra):
    """Run a script of the user's; returns what it printed, a list of lines."""
    (project / "mine.py").write_text(HEAD + textwrap.dedent(text))
    done = user(project, "python mine.py", timeout=timeout, **extra)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


# --- what is sent --------------------------------------------------------------------------------
OF_A_SCRIPT = """
import abc, dataclasses, enum, functools, math, typing
import xml.etree.ElementTree
import numpy as np

FACTOR = 3
ORIGIN = None

def helper(x):
    return x * FACTOR
def even(n):
    return True if n == 0 else odd(n - 1)
def odd(n):
    return False if n == 0 else even(n - 1)
def plus(f):
    @functools.wraps(f)
    def inner(x):
        return f(x) + FACTOR
    return inner
@plus
def decorated(x):
    return x
def times(k):
    def inner(x):
        return 1 if x == 0 else k * inner(x - 1)
    return inner
power = times(2)
@functools.lru_cache
def kept(x):
    return helper(x)
class Point:
    made = 0
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x
    @classmethod
    def of(cls, x):
        return cls(x)
    @property
    def twice(self):
        return helper(self.x)
class Named(Point):
    def __init__(self, x):
        super().__init__(x)
@dataclasses.dataclass
class Options:
    size: int
    parts: list = dataclasses.field(default_factory=list)
class Colour(enum.Enum):
    RED = (1, "r")
    def __init__(self, number, letter):
        self.letter = letter
class Pair(typing.NamedTuple):
    a: int
    b: int = 2
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Square(Shape):
    def area(self):
        return 4
class Diverged(Exception):
    pass
ORIGIN = Point(0)

def all_of_it(x):
    assert isinstance(Named.of(1), Point) and Square().area() == 4 and ORIGIN == Point(0)
    assert dataclasses.asdict(Options(x)) == {"size": x, "parts": []} and Pair(1)._asdict() == {"a": 1, "b": 2}
    assert Colour["RED"] is Colour.RED and Colour.RED.letter == "r"
    return (helper(x), even(x), decorated(x), power(x), kept(x), Named.of(x).twice, float(np.sqrt(x)),
        math.hypot(x), (lambda y: helper(y))(x), xml.etree.ElementTree.fromstring("<a/>").tag)

@python_app
def app(x):
    return all_of_it(x)
@python_app
def moved(point):
    return Named(point.x + 1), isinstance(point, Point)
@python_app
def diverges(x):
    raise Diverged(helper(x))
@python_app
def in_a_pool(x):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(helper, range(x))
@bash_app
def says(x, stdout=None):
    return f"echo {helper(x)}"
"""


def test_functions_of_a_script_go_with_what_they_use(project):
    said = script(
        project,
        OF_A_SCRIPT
        + """
if __name__ == "__main__":
    with parsl.load(config()):
        print("same", app(4).result() == all_of_it(4))
        point, known = moved(Point(1)).result()
        print("classes", type(point) is Named, point == Named(2), known)
        try:
            diverges(2).result()
        except Diverged as error:
            print("caught", error)
        show("pool", in_a_pool(3))
        show("bash", says(5, stdout="said.txt"))
        print("file", open("said.txt").read().strip())
        calls = [((i,), {}) for i in range(3)]
        group = submit(run_group, packed_function(app.func), calls, 9)
        print("group", [opened(told)[0] for told, _, _ in group.result()] == [all_of_it(i) for i in range(3)])
""",
    )
    assert said == [
        "same True",
        "classes True True True",
        "caught 6",
        "pool -> [0, 3, 6]",
        "bash -> 0",
        "file 15",
        "group True",
    ]


def test_what_a_notebook_defines_again_is_used_as_it_is_now(project):
    """And a worker keeps what it has loaded, as long as no code changes."""
    said = script(
        project,
        """
FACTOR = 2
model = None
def load():
    global model
    if model is None:
        model = time.time_ns()
    return model
class Base:
    name = "one"
class Sub(Base):
    pass
def helper(x):
    return x * FACTOR
@python_app
def app(x):
    return helper(x), Sub.name, load()

if __name__ == "__main__":
    with parsl.load(config(workers=1)):
        *first, loaded = app(5).result()
        print(first, app(5).result()[2] == loaded)
        FACTOR = 3
        *again, now = app(5).result()
        print(again, now == loaded)
        def helper(x):
            return -x
        class Base:
            name = "two"
        print(app(5).result()[:2], "as here:", Sub.name)
        class Sub(Base):
            pass
        print(app(5).result()[:2])
""",
    )
    assert said == [
        "[10, 'one'] True",
        "[15, 'one'] True",
        "(-5, 'one') as here: one",
        "(-5, 'two')",
    ]


def test_what_cannot_be_sent_or_read_fails_alone_by_name(project):
    (project / "apps.py").write_text(
        "from parsl import python_app\n\n@python_app\ndef work(x):\n    return x\n"
    )
    said = script(
        project,
        """
import threading
import typing
import apps
lock = threading.Lock()
class Odd(typing.TypedDict):
    a: int
@python_app
def locked(x):
    with lock:
        return x
@python_app
def endless(n):
    return (i for i in range(n))
@python_app
def odd(n):
    return Odd(a=n)
@python_app
def plain(x, y=0):
    return x

if __name__ == "__main__":
    made = config(retries=2)
    with parsl.load(made):
        show("a", apps.work((i for i in range(3))))
        show("b", plain(1, y=(i for i in range(3))))
        show("c", locked(1))
        show("d", endless(3))
        show("e", odd(3))
        show("f", plain([plain(1).result()]))
        print("costs", [locked(1).exception() is not None, made.retry_handler.lost])
""",
    )
    a, b, c, d, e, f, costs = said
    assert "TypeError: work: argument 1 is a generator that cannot be sent to a worker: " in a
    assert "TypeError: plain: argument 'y' is a generator that cannot be sent to a worker: " in b
    assert "TypeError: locked uses lock of mine.py, a lock that cannot be sent to a worker: " in c
    assert c.split(" printed")[0].endswith("make it in the app, or move it into a file such as apps.py")
    assert "TypeError: its result, a generator, cannot be sent: " in d
    assert "TypeError: Odd of the program cannot be made on " in e and "apps.py" in e
    assert f == "f -> [1]" and costs == "costs [True, 0]"


# --- limits of time ------------------------------------------------------------------------------
LIMITS = """
import re

@python_app
def sleeps(seconds):
    print("going to sleep", flush=True)
    time.sleep(seconds)
    return "slept"
@python_app
def catches(seconds):
    try:
        time.sleep(seconds)
    except Exception:
        return "nothing happened"
@python_app
def backtracks():
    re.match("(a+)+$", "a" * 40 + "b")
@python_app
def leaves_programs(seconds):
    subprocess.run(f"setsid sleep {seconds} & (trap '' TERM; sleep {seconds}; sleep {seconds}) & sleep {seconds}", shell=True)
@python_app
def forks(seconds):
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(seconds,))
    child.start()
    child.join()
@bash_app
def program(seconds):
    return f"echo begun; sleep {seconds}; echo went on"
@python_app
def loops():
    print("looping", flush=True)
    return sum(range(10**12))  # in C, and no other thread's Python runs meanwhile
@python_app
def tries_again(seconds):
    while True:
        try:
            subprocess.run(["sleep", str(seconds)])
        except Exception:
            pass
@python_app
def who():
    time.sleep(0.05)
    return os.getpid()
"""
# Seconds, of the programs that must not be left; others than in the test that runs beside this one.
LONG = 4711 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def left():
    """Programs of these tests that are alive."""
    found = subprocess.run(["pgrep", "-fa", f"sleep {LONG}"], text=True, stdout=subprocess.PIPE)
    return found.stdout


def test_a_limit_ends_what_returns_to_python_and_its_programs(project):
    said = script(
        project,
        LIMITS
        + f"""
if __name__ == "__main__":
    made = config()
    with parsl.load(made):
        workers = {{who().result() for _ in range(20)}}
        for app in (sleeps, catches, leaves_programs, forks, program):
            show(app.__name__, limited(app, 0.7, {LONG}))
        show("backtracks", limited(backtracks, 0.7))
        show("in time", limited(sleeps, 5, 0.01))
        print("programs", subprocess.run(["pgrep", "-fc", "sleep {LONG}"], text=True, capture_output=True).stdout.strip())
        print("workers", {{who().result() for _ in range(20)}} <= workers, made.retry_handler.lost)
""",
    )
    late = "TimeoutError: not ended after 0.7 s: its time limit printed"
    assert said[:6] == [
        f"sleeps -> {late} 'going to sleep\\n'",
        f"catches -> {late} ''",
        f"leaves_programs -> {late} ''",
        f"forks -> {late} ''",
        f"program -> {late} 'begun\\n'",
        f"backtracks -> {late} ''",
    ]
    assert said[6:8] == ["in time -> 'slept'", "programs 0"]
    assert said[8] == "workers True 0" and left() == ""


def test_a_limit_ends_what_never_returns_to_python_with_its_worker(project):
    said = script(
        project,
        LIMITS
        + f"""
if __name__ == "__main__":
    made = config(retries=1)
    tried = []
    made.retry_handler.on_try = lambda task, about: tried.append(about)
    with parsl.load(made):
        other = sleeps(6)
        show("loops", limited(loops, 0.5))
        show("tries_again", limited(tries_again, 0.5, {LONG}))
        show("other", other)
        print("tries", [(t["app"], t["try"], t["status"], t["cause"][:40], t["worker"] != "") for t in tried])
        print("lost", made.retry_handler.lost, made.retry_handler.lost_workers)
""",
    )
    late = (
        "TimeoutError: not ended after 0.5 s: its time limit, and its worker was ended; where it was then: "
    )
    loops, tries_again, other, tries, lost = said
    assert loops.startswith(f"loops -> {late}") and loops.endswith("printed 'looping\\n'")
    stacks = loops.removeprefix(f"loops -> {late}").split(" printed ")[0]
    assert "mine.py" in open(stacks).read() and " in loops" in open(stacks).read()
    assert tries_again.startswith(f"tries_again -> {late}") and stacks not in tries_again
    assert other == "other -> 'slept'", "the worker beside it is untouched"
    cause = "TimeoutError: not ended after 0.5 s: its"
    tried = [(app, i, "failed", cause, True) for app in ("loops", "tries_again") for i in (0, 1)]
    assert tries == f"tries {tried}" and lost == "lost 0 0"
    assert left() == ""


def test_a_limit_at_the_very_end_hits_no_other_task(project):
    said = script(
        project,
        LIMITS
        + """
if __name__ == "__main__":
    made = config()
    with parsl.load(made):
        ends = []
        futures = []
        for i in range(90):
            futures.append(limited(sleeps, 0.05, 0.045 + 0.0001 * i))
            futures.append(who())
        errors = [f.exception() for f in futures]
        print("limited", {type(e).__name__ for e in errors[::2]})
        print("others", {type(e).__name__ for e in errors[1::2]})
        rows = [((s,), {}) for s in (0.01, 0.4, 0.01, 0.4, 0.01)]
        group = submit(run_group, packed_function(Limited(sleeps.func, 0.2)), rows, 9)
        print("rows", [(opened(told)[0], type(opened(told)[1]).__name__) for told, _, _ in group.result()])
        calls = [((), {}), ((), {})]
        show("group", submit(run_group, packed_function(Limited(loops.func, 0.2)), calls, 9))
        print("lost", made.retry_handler.lost)
""",
    )
    limited, others, rows, group, lost = said
    assert "TimeoutError" in limited and others == "others {'NoneType'}"
    done, late = ("slept", "NoneType"), (None, "TimeoutError")
    assert rows == f"rows {[done, late, done, late, done]}"
    assert group.startswith("group -> TimeoutError: not ended after 0.2 s") and lost == "lost 0"


def test_a_limit_leaves_signals_and_limits_around_it_as_they_were(project):
    said = script(
        project,
        """
import signal, threading

def rings(number, frame):
    print("rang")
def sleeps(seconds):
    time.sleep(seconds)
    return "slept"
def outer(inner, seconds):
    first = inner(seconds)
    time.sleep(0.6)
    return first

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, rings)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    print(Limited(sleeps, 0.3)(0.1), signal.getsignal(signal.SIGALRM) is rings, "POLARIS_TASK" in os.environ)
    time.sleep(1)
    def told(function, *args):
        try:
            return function(*args)
        except TimeoutError as error:
            return str(error)
    print(told(Limited(outer, 0.5), Limited(sleeps, 0.2), 0.1), "/", told(Limited(outer, 0.5), Limited(sleeps, 9), 0.8))
    print(told(Limited(outer, 9), Limited(sleeps, 0.2), 0.8))
    thread = threading.Thread(target=lambda: print(Limited(sleeps, 0.1)(0.2)))
    thread.start()
    thread.join()
    limit = Limited(sleeps, 1)
    print(limit.__name__, limit.__wrapped__ is sleeps)
""",
    )
    assert said == [
        "slept True False",
        "rang",
        "not ended after 0.5 s: its time limit / not ended after 0.5 s: its time limit",
        "not ended after 0.2 s: its time limit",
        "slept",
        "sleeps True",
    ]


# --- what tasks print ----------------------------------------------------------------------------
def test_what_a_failed_task_printed_is_kept(project):
    said = script(
        project,
        """
@python_app
def speaks(x):
    print("row", x)
    print("to stderr", file=sys.stderr)
    subprocess.run("echo a program", shell=True)
    if x % 2:
        raise ValueError(x)
    return x
@python_app
def speaks_long(x):
    print("a" * 99 + "\\n" + "b" * 100_000)
    raise ValueError(x)
@python_app
def dies(x):
    print("last words", flush=True)
    os._exit(3)
@bash_app
def program(x):
    return f"echo program {x}; exit {x}"

if __name__ == "__main__":
    made = config()
    made.retry_handler.lost_workers = 0
    with parsl.load(made):
        for i in range(4):
            show(f"row {i}", speaks(i))
        error = speaks_long(1).exception()
        print("long", len(error.printed), sorted(set(error.printed)))
        show("bash", program(7))
        rows = [((i,), {}) for i in range(4)]
        group = submit(run_group, packed_function(speaks.func), rows, 9)
        print("group", [getattr(opened(told)[1], "printed", None) for told, _, _ in group.result()])
        error = dies(1).exception()
        print("dead", type(error).__name__, repr(error.printed), made.retry_handler.lost_workers)
""",
    )
    spoken = "row {}\\nto stderr\\na program\\n"
    assert said[:4] == [
        "row 0 -> 0",
        f"row 1 -> ValueError: 1 printed '{spoken.format(1)}'",
        "row 2 -> 2",
        f"row 3 -> ValueError: 3 printed '{spoken.format(3)}'",
    ]
    assert said[4] == "long 65536 ['\\n', 'b']"
    assert "failed with unix exit code 7 printed 'program 7\\n'" in said[5]
    assert said[6] == f"group [None, '{spoken.format(1)}', None, '{spoken.format(3)}']"
    assert said[7] == "dead WorkerLost 'last words\\n' 3"
    block = "".join(path.read_text() for path in project.glob("runinfo/000/submit_scripts/*.out"))
    assert block.count("row 2\nto stderr\na program\n") == 2, "what was printed goes where it went before"


def test_with_parsls_own_monitoring(project, tmp_path):
    (project / "more.sh").write_text(
        f"python -m pip install -q --target {tmp_path}/more 'sqlalchemy>=2,<2.1'\n"
        f"PYTHONPATH=$PYTHONPATH:{tmp_path}/more exec python mine.py\n"
    )
    text = """
import config as options
FACTOR = 2
@python_app
def app(x):
    print("hello")
    if x < 0:
        raise ValueError(x * FACTOR)
    time.sleep(x)
    return x * FACTOR

if __name__ == "__main__":
    options.monitoring = True
    made = config()
    with parsl.load(made):
        show("value", app(0.1))
        show("error", app(-1))
        show("limit", limited(app, 0.5, 60))
"""
    (project / "mine.py").write_text(HEAD + text)
    done = user(project, "bash more.sh")
    said = [line for line in done.stdout.splitlines() if "->" in line]
    assert said == [
        "value -> 0.2",
        "error -> ValueError: -2 printed 'hello\\n'",
        "limit -> TimeoutError: not ended after 0.5 s: its time limit printed 'hello\\n'",
    ], done.stdout
