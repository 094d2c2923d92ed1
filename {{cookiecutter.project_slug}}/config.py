"""Yours to edit: your options, then the Parsl configuration made of them.

`python run.py --check` says what is wrong with them. Importing this file does nothing else.
"""

import logging
from pathlib import Path

from polaris import environment, facts, layout, machine

project_dir = Path(__file__).resolve().parent

# --- your options --------------------------------------------------------------------------------
# One block is one PBS job. These options concern blocks alone: `qsub driver.pbs` asks for its own
# nodes, by its #PBS lines.
account = {{cookiecutter.account | jsonify}}  # ALCF project that is charged
queue = {{cookiecutter.queue | jsonify}}
nodes_per_block = {{cookiecutter.nodes}}  # nodes
walltime = {{cookiecutter.walltime | jsonify}}  # H:MM:SS, of one block
filesystems = {{cookiecutter.filesystems | jsonify}}  # a block waits while one of them is down
max_blocks = 1  # jobs at a time, at most, of the first kind of workers; each other kind has one
idle_time = 600  # seconds without a task after which a block is given back

# Kinds of workers. An app chooses by @python_app(executors=["cpu"]); without, it is for the first.
#   "gpu":  a worker on each GPU, or several that share one
#   "cpu":  workers of some cores each; beside "gpu", whose workers then leave these cores
#   "node": a worker on each node, with all its cores and GPUs
#   "mpi":  MPI programs on whole nodes
kinds = {{cookiecutter._kinds[cookiecutter.workload] | tojson}}
# Nodes of a job for a kind alone: {"node": 1, "mpi": 2}; the others share the rest. Each kind has
# blocks of its own, where the queue runs several jobs: of so many nodes, or of nodes_per_block.
nodes_of_kind = {{cookiecutter._nodes_of_kind[cookiecutter.workload] | tojson}}

# Of "gpu":
workers_per_gpu = {{cookiecutter.workers_per_gpu}}  # tasks that share a GPU
# Of "cpu":
cpu_workers = 16  # on each node, beside "gpu"; on nodes of their own as many as have cores
cores_per_cpu_worker = 1  # of 32 on a node; a core has two hardware threads
# Of "mpi":
nodes_per_task = 1  # of an MPI program; a task may ask for another number, see run.py
ranks_per_node = facts.GPUS_PER_NODE  # MPI ranks on each node; local rank i has GPU 3 - i
threads_per_rank = facts.threads_per_rank(ranks_per_node)  # hardware threads, next to its GPU

rows_per_task = None  # rows in one Parsl task, 500 at most; None: learnt, short ones for about 1 s
retries = 2  # further tries of a task that failed
margin = None  # seconds before the end of a walltime without new tasks; None: learnt, 120 or more
run_dir = project_dir / "runinfo"  # Parsl's logs and checkpoints; under /eagle for a large run
preload = ["numpy"]  # packages that tasks import: once a node, and all its workers have them
local_environment = False  # True: packed once, then each node of a job has it on its own SSD
log_level = "WARNING"  # of Parsl's logs; "DEBUG" helps to find a failure: several lines a task
monitoring = False  # True: Parsl's own, in runinfo/monitoring.db for parsl-visualize; costs time


# --- the Parsl configuration ---------------------------------------------------------------------
def fresh_config(mode="auto", run_dir=run_dir):
    """A new parsl.config.Config, for `parsl.load(fresh_config())`, or for parsl-perf.

    mode: "local" (this machine), "job" (the nodes of the PBS job that runs this), "blocks" (PBS
    jobs that Parsl submits), or "auto": "job" inside a job, "blocks" where there is a qsub, else
    "local". The settings are those of ALCF's page on Parsl, its faults mended:
    https://docs.alcf.anl.gov/polaris/workflows/parsl/
    """
    from parsl.config import Config
    from parsl.logconfigs.file import FileLogging

    from polaris.memo import Memoizer
    from polaris.parsl_parts import RetryPolicy

    mode = machine.choose_mode(mode)
    environment.make_private(run_dir)
    makers = {
        "gpu": gpu_executor,
        "cpu": cpu_executor,
        "node": node_executor,
        "mpi": mpi_executor,
    }
    executors = [makers[kind](mode, run_dir) for kind in kinds]
    return Config(
        # Others may stand beside them, such as ThreadPoolExecutor(label="here", max_threads=4).
        executors=executors,
        monitoring=environment.monitoring() if monitoring else None,
        # Since Parsl 2025.12.08 checkpoints and the app cache are settings of the memoizer.
        memoizer=Memoizer(
            memoize=True,
            checkpoint_mode="task_exit",
            checkpoint_files=environment.checkpoints(run_dir),
        ),
        retries=retries,
        retry_handler=RetryPolicy(),  # a lost node costs none of them, a program error all
        run_dir=str(run_dir),
        # Seconds between looks at what waits; PBS itself is asked once a minute at most.
        strategy_period=1 if mode == "blocks" else 0.2,
        max_idletime=idle_time if mode == "blocks" else float("inf"),
        initialize_logging=FileLogging(level=getattr(logging, log_level)),
    )


def gpu_executor(mode, run_dir):
    """A pool of workers on each node, each with a GPU or a part of one."""
    taken = [core for cores in cores_of_cpu_workers("gpu") for core in cores]
    number = facts.GPUS_PER_NODE * workers_per_gpu
    settings = dict(
        available_accelerators=number,
        max_workers_per_node=number,
        # Hardware threads, next to its GPU.
        cpu_affinity=facts.cpu_affinity(workers_per_gpu, taken),
    )
    worker_init = environment.threads(facts.threads_per_worker(workers_per_gpu, taken))
    if workers_per_gpu > 1:
        # Under CUDA MPS tasks that share a GPU compute at the same time; else they take turns.
        fraction = f"{1 / workers_per_gpu:.3f}"  # a task's part of the memory
        worker_init += f"; export WITH_MPS=1 GPU_FRACTION={fraction}"
    depth = facts.THREADS_PER_NODE - 2 * len(taken)
    return pool_executor("gpu", mode, run_dir, settings, worker_init, depth)


def cpu_executor(mode, run_dir):
    """A pool of workers on each node, each with cores of its own; beside those with GPUs."""
    of_each = cores_of_cpu_workers("cpu")
    settings = dict(
        max_workers_per_node=len(of_each),
        cpu_affinity=facts.affinity_list(of_each),
    )
    threads = 2 * cores_per_cpu_worker
    worker_init = f"{environment.threads(threads)}; {environment.NO_GPUS}"
    return pool_executor("cpu", mode, run_dir, settings, worker_init, threads * len(of_each))


def node_executor(mode, run_dir):
    """A worker on each node, with all its cores and GPUs."""
    settings = dict(max_workers_per_node=1)
    threads = facts.THREADS_PER_NODE
    return pool_executor("node", mode, run_dir, settings, environment.threads(threads), threads)


def pool_executor(kind, mode, run_dir, workers, worker_init, depth):
    """An executor of a kind, the pool of a node having so many workers.

    depth: hardware threads of a node that the pool has.
    """
    from parsl.launchers import MpiExecLauncher, SingleNodeLauncher

    # Parsl's HighThroughputExecutor, with what Polaris does to blocks taken into account.
    from polaris.parsl_parts import Executor

    if mode == "local":
        workers, worker_init = environment.local_workers(
            kind, workers_per_gpu, cpu_workers, cores_per_cpu_worker, kinds
        )
        launcher = SingleNodeLauncher()
    else:
        worker_init = f"{environment_of(run_dir, kind, mode)}; {worker_init}"
        # One manager a node; it starts the node's workers and binds each by the affinity list.
        launcher = MpiExecLauncher(
            bind_cmd="--cpu-bind",
            overrides=f"--depth={depth} --ppn 1",
        )
    return Executor(
        label=kind,
        provider=nodes_of(kind, mode, worker_init, launcher),
        **workers,
        **connection(mode),
    )


def mpi_executor(mode, run_dir):
    """One manager a block; its workers start the ranks on the block's nodes."""
    from parsl.launchers import SimpleLauncher

    # Parsl's MPIExecutor, with what Polaris does to blocks and nodes taken into account.
    from polaris.mpi import Executor

    if mode == "local":
        worker_init = environment.of_local_node(run_dir)
    else:
        worker_init = environment_of(run_dir, "mpi", mode)
    return Executor(
        label="mpi",
        provider=nodes_of("mpi", mode, worker_init, SimpleLauncher()),
        nodes_per_task=nodes_per_task,
        ranks_per_node=ranks_per_node,
        threads_per_rank=threads_per_rank,
        **connection(mode),
    )


def cores_of_cpu_workers(kind):
    """[cores of each CPU worker] of a node that has workers of that kind, in a job or block."""
    together = layout.are_together(kinds, nodes_of_kind)
    if kind != "cpu" and not together:
        return []
    return layout.cores_of_cpu_workers(cpu_workers, cores_per_cpu_worker, together)


def nodes_in_job(kind):
    """The nodes of the job that runs this which the kind has."""
    return layout.share_of(kind, kinds, nodes_of_kind, machine.nodes_of_job())


def nodes_of(kind, mode, worker_init, launcher):
    """A provider of Parsl's: this machine, nodes of the job that runs this, or PBS jobs.

    None is asked for before the first task of the kind comes.
    """
    from parsl.providers import LocalProvider

    # Parsl's PBSProProvider, which also sees jobs that PBS holds, refuses or loses.
    from polaris.parsl_parts import PolarisProvider

    if mode == "blocks":
        return PolarisProvider(
            account=account,
            queue=queue,
            walltime=walltime,
            nodes_per_block=nodes_of_kind.get(kind, nodes_per_block),
            cpus_per_node=facts.THREADS_PER_NODE,
            select_options=f"system=polaris:ngpus={facts.GPUS_PER_NODE}",
            # -r n: a block that PBS lost is not started again behind Parsl's back; Parsl asks anew.
            scheduler_options=f"#PBS -l filesystems={filesystems}\n"
            "#PBS -l place=scatter\n#PBS -r n",
            worker_init=worker_init,
            launcher=launcher,
            init_blocks=0,
            min_blocks=0,
            max_blocks=max_blocks if kind == kinds[0] else 1,
        )
    return LocalProvider(
        worker_init=worker_init,
        launcher=launcher,
        nodes_per_block=len(nodes_in_job(kind)) if mode == "job" else 1,
        init_blocks=0,
        max_blocks=1,
    )


def environment_of(run_dir, kind, mode):
    """The worker_init of a node: it has the environment that you have, modules included."""
    worker_init = f"source {project_dir}/activate.sh || exit 1"
    worker_init += f"; command cd {run_dir} >/dev/null || exit 1"
    worker_init += environment.when_it_ends(mode, walltime)
    if mode == "job":
        worker_init += environment.node_list(run_dir, kind, nodes_in_job(kind))
    if local_environment:
        worker_init += environment.packed_environment()
    return worker_init


def connection(mode):
    """Settings of any executor: how Parsl and its workers find and watch each other."""
    from polaris.parsl_parts import blocks_that_never_work, drain_period

    drain = None
    if mode == "blocks":
        # A block takes no task that it could not end in its walltime; the next block goes on.
        drain = drain_period(walltime, facts.SHORTEST_MARGIN if margin is None else margin)
    return dict(
        address=environment.address(mode),
        launch_cmd=environment.start_workers(preload),
        interchange_launch_cmd=environment.start_interchange(),
        heartbeat_period=15,  # seconds
        heartbeat_threshold=120,  # seconds
        prefetch_capacity=0,  # a task waits for what is free, not behind what is busy
        drain_period=drain,  # seconds
        block_error_handler=blocks_that_never_work,
    )
