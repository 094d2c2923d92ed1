"""A finished program of cached plain calls, run again: nothing is left to do, and how long that takes."""

from ways import HEAD, OUR_CONFIG, PAGE_HERE, Way

WORK = """
def square(x):
    return x * x
"""
TWICE = (
    HEAD
    + """
import subprocess
from bench_work import square
TASKS, SECOND = GIVEN

def ran(app):
    if sum(future.result() for future in [app(i) for i in range(TASKS)]) != sum(i * i for i in range(TASKS)):
        sys.exit("wrong results")
    made = time.perf_counter() - begun
    if SECOND:
        print("AGAIN", made, flush=True)

def again():
    # the same program once more, in a process of its own, from its start to its end
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, str(WORKERS), json.dumps([TASKS, 1])],
                          capture_output=True, text=True)
    whole = time.perf_counter() - start
    if "AGAIN" not in done.stdout:
        sys.exit(done.stdout + done.stderr)
    told(**{"first run, calls a second": TASKS / took, "second run, whole program, s": whole})
"""
)
OURS = """
import parsl
from polaris.session import session
app = parsl.python_app(square, cache=True)
with session(name="cached", mode="local"):
    ran(app)
    took = time.perf_counter() - begun
if not SECOND:
    again()
"""
PARSL = """
import parsl
app = parsl.python_app(square, cache=True)
with parsl.load(config):
    ran(app)
    took = time.perf_counter() - begun
if not SECOND:
    again()
os._exit(0)
"""
WAYS = {
    "ours": Way(TWICE + OURS),
    "Parsl, our config": Way(TWICE + OUR_CONFIG + PARSL),
    "page": Way(TWICE + PAGE_HERE + PARSL, pbs=True),
}
