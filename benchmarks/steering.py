"""A loop in which each result decides what runs next: as many evaluations in flight as there are workers."""

from ways import HEAD, OUR_CONFIG, PAGE_HERE, Way

WORK = """
def evaluate(x, seconds):
    import os, time
    began = time.time()
    time.sleep(seconds)
    return os.getpid(), began, time.time()
"""
LOOP = (
    HEAD
    + """
import statistics
from bench_work import evaluate

def loop(ask, next_ended, seconds, number):
    # ask(x, seconds) starts an evaluation; next_ended() is the result of one that has ended.
    ends, asked = [], 0
    while asked < WORKERS:
        ask(asked, seconds)
        asked += 1
    while len(ends) < number:
        ends.append(next_ended())
        if len(ends) == 1:
            first = time.perf_counter()
        if asked < number:
            ask(asked, seconds)
            asked += 1
    took = time.perf_counter() - first
    of_worker = {}
    for worker, began, ended in ends:
        of_worker.setdefault(worker, []).append((began, ended))
    if len(of_worker) != WORKERS:
        sys.exit(f"{len(of_worker)} workers took part, not {WORKERS}")
    gaps = []
    for spans in of_worker.values():
        spans.sort()
        gaps += [after[0] - before[1] for before, after in zip(spans, spans[1:])]
    # When the first has ended there is a length of an evaluation less to do.
    ideal = number * seconds / WORKERS - seconds
    return took / ideal, statistics.median(gaps) * 1000

def measure(ask, next_ended):
    figures = {}
    for seconds, number in GIVEN:
        if seconds < 0.1:  # once all workers are there
            loop(ask, next_ended, 0.2, 4 * WORKERS)
        ratio, gap = loop(ask, next_ended, seconds, number)
        figures |= {f"{seconds:g} s, to the ideal": ratio, f"{seconds:g} s, ms to the next": gap}
    told(**figures)

def by_futures(submit):
    from concurrent.futures import FIRST_COMPLETED, wait
    going, ended = set(), []
    def next_ended():
        if not ended:
            done, _ = wait(going, return_when=FIRST_COMPLETED)
            going.difference_update(done)
            ended.extend(done)
        return ended.pop().result()
    measure(lambda x, seconds: going.add(submit(x, seconds)), next_ended)
"""
)
OURS = """
import itertools
from parsl import python_app
from polaris.session import session
app = python_app(evaluate)
numbers = itertools.count()  # none is asked for twice
with session(name="steering", mode="local") as run:
    by_futures(lambda x, seconds: run.submit(app, x=next(numbers), seconds=seconds))
"""
PARSL = """
import parsl
app = parsl.python_app(evaluate)
with parsl.load(config):
    by_futures(app)
os._exit(0)
"""
DASK = """
from dask.distributed import Client, LocalCluster, as_completed
if __name__ == "__main__":
    with LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            ended = as_completed(with_results=True)
            measure(
                lambda x, seconds: ended.add(client.submit(evaluate, x, seconds, pure=False)),
                lambda: next(ended)[1],
            )
"""
COLMENA = """
from colmena.queue.python import PipeQueues
from colmena.task_server import ParslTaskServer
if __name__ == "__main__":
    queues = PipeQueues(keep_inputs=False)
    server = ParslTaskServer([evaluate], queues, config)
    server.start()
    def next_ended():
        result = queues.get_result()
        if not result.success:
            sys.exit(f"colmena: {result.failure_info}")
        return result.value
    measure(lambda x, seconds: queues.send_inputs(x, seconds, method="evaluate"), next_ended)
    queues.send_kill_signal()
    server.join()
"""
LIMIT = """
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    with ProcessPoolExecutor(WORKERS) as pool:
        by_futures(lambda x, seconds: pool.submit(evaluate, x, seconds))
"""
WAYS = {
    "ours": Way(LOOP + OURS),
    "page": Way(LOOP + PAGE_HERE + PARSL, pbs=True),
    "Parsl, our config": Way(LOOP + OUR_CONFIG + PARSL),
    "Dask": Way(LOOP + DASK),
    "Colmena, page": Way(LOOP + PAGE_HERE + COLMENA, venv="colmena", pbs=True, project=False),
    "processes": Way(LOOP + LIMIT),
}
