"""Stages of empty tasks that feed each other: map, reduce, diamonds, sequences; each by itself, and all at once."""

from ways import HEAD, OUR_CONFIG, PAGE_HERE, Way

WORK = """
def given(x):
    return x

def both(x, y):
    return x + y

def total(inputs=()):
    return sum(inputs)
"""
# The sizes make 10,000 tasks in all, times a scale.
SHAPES = (
    HEAD
    + """
import bench_work

def a_map(call, number):
    return [call("given", i) for i in range(number)], number, sum(range(number))

def a_reduce(call, number):
    # A tree: ten of one stage go into one of the next.
    left = [call("given", i) for i in range(number)]
    tasks = number
    while len(left) > 1:
        left = [call("total", inputs=left[i : i + 10]) for i in range(0, len(left), 10)]
        tasks += len(left)
    return left, tasks, sum(range(number))

def diamonds(call, number):
    ends = []
    for i in range(number):
        top = call("given", i)
        ends.append(call("both", call("given", top), call("given", top)))
    return ends, 4 * number, sum(range(number)) * 2

def sequences(call, number, steps=100):
    ends = []
    for i in range(number):
        end = call("given", i)
        for _ in range(steps - 1):
            end = call("given", end)
        ends.append(end)
    return ends, number * steps, sum(range(number))

def measure(call, results):
    # call(name, ...) -> future; results([futures]) -> list
    results([call("given", 0)])
    first = time.perf_counter() - begun
    results([call("given", i) for i in range(100)])  # until every worker is there
    scale = GIVEN
    shapes = {
        "map": (a_map, int(2778 * scale)),
        "reduce": (a_reduce, int(2000 * scale)),
        "diamonds": (diamonds, int(625 * scale)),
        "sequences": (sequences, int(25 * scale)),
    }
    def ran(parts):
        start, ends, tasks, right = time.perf_counter(), [], 0, 0
        for shape, number in parts:
            futures, made, value = shape(call, number)
            ends += futures
            tasks, right = tasks + made, right + value
        if sum(results(ends)) != right:
            sys.exit("wrong results")
        return tasks / (time.perf_counter() - start)
    figures = {"first result, s": first}
    for name, part in shapes.items():
        figures[f"{name}, a second"] = ran([part])
    figures["all at once, a second"] = ran(shapes.values())
    start = time.perf_counter()
    results(sequences(call, 1, 200)[0])
    figures["one sequence, ms a step"] = (time.perf_counter() - start) / 200 * 1000
    told(**figures)
"""
)
APPS = """
import parsl
apps = {name: parsl.python_app(getattr(bench_work, name)) for name in ("given", "both", "total")}

def by_parsl():
    measure(lambda name, *a, **k: apps[name](*a, **k), lambda futures: [f.result() for f in futures])
"""
OURS = """
from polaris.session import session
with session(name="graph", mode="local"):
    by_parsl()
"""
PARSL = """
with parsl.load(config):
    by_parsl()
os._exit(0)
"""
DASK = """
from dask.distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            measure(
                lambda name, *a, **k: client.submit(getattr(bench_work, name), *a, pure=False, **k),
                client.gather,
            )
"""
WAYS = {
    "ours": Way(SHAPES + APPS + OURS),
    "Parsl, our config": Way(SHAPES + APPS + OUR_CONFIG + PARSL),
    "page": Way(SHAPES + APPS + PAGE_HERE + PARSL, pbs=True),
    "Dask": Way(SHAPES + DASK),
}
