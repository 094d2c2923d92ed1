"""Empty Python tasks beside ALCF's ensemble_launcher: with its start, without, and the first result."""

from ways import HEAD, OUR_CONFIG, Way

WORK = """
def stamp(x):
    import time
    return time.time()
"""
TOLD = (
    HEAD
    + """
from bench_work import stamp
TASKS = GIVEN

def measured(stamps):
    # when each task ran, in seconds since 1970; all results are known now
    whole = time.perf_counter() - begun
    if len(stamps) != TASKS:
        sys.exit(f"{len(stamps)} results, not {TASKS}")
    told(**{
        "a second, with the start": TASKS / whole,
        "a second, without": TASKS / (max(stamps) - min(stamps)),
        "first task ran after, s": min(stamps) - begun_at,
    })
"""
)
# Its own choice for serial tasks on one node, workers as many as the node's CPUs.
LAUNCHER = """
import socket
from ensemble_launcher import EnsembleLauncher
from ensemble_launcher.config import LauncherConfig, PolicyConfig, SystemConfig
from ensemble_launcher.ensemble import Task
if __name__ == "__main__":
    tasks = {f"t{i}": Task(task_id=f"t{i}", nnodes=1, ppn=1, executable=stamp, args=(i,)) for i in range(TASKS)}
    found = EnsembleLauncher(
        tasks,
        SystemConfig(name="local", ncpus=WORKERS),
        LauncherConfig(task_executor_name="async_processpool", policy_config=PolicyConfig(nlevels=0)),
        Nodes=[socket.gethostname()],
        pin_resources=False,
    ).run()
    if not all(each.success for each in found.data):
        sys.exit("tasks failed")
    measured([each.data for each in found.data])
"""
CALLS = """
from parsl import python_app
from polaris.session import session
app = python_app(stamp)
with session(name="launcher", mode="local"):
    measured([future.result() for future in [app(i) for i in range(TASKS)]])
"""
ROWS = """
from parsl import python_app
from polaris.session import session
app = python_app(stamp)
with session(name="launcher", mode="local") as run:
    measured([row["result"] for row in run.map(app, ({"x": i} for i in range(TASKS)))])
"""
PARSL = """
import parsl
app = parsl.python_app(stamp)
with parsl.load(config):
    measured([future.result() for future in [app(i) for i in range(TASKS)]])
os._exit(0)
"""
# Without its start: from the first task to the last, by the workers' clocks.
WAYS = {
    "ensemble_launcher": Way(TOLD + LAUNCHER, venv="launcher", project=False),
    "ours, calls": Way(TOLD + CALLS),
    "ours, rows": Way(TOLD + ROWS),
    "Parsl, our config": Way(TOLD + OUR_CONFIG + PARSL),
}
