"""Yours to edit: your options, then the Parsl configuration made of them.

`python run.py --check` says what is wrong with them. Importing this file does nothing else.
"""

import logging
import os
from pathlib import Path

from polaris import facts, machine

project_dir = Path(__file__).resolve().parent

# --- your options --------------------------------------------------------------------------------
# One block is one PBS job. The first five concern blocks alone: `qsub driver.pbs` asks for its own nodes.
account = {{ cookiecutter.account | jsonify }}  # ALCF project that is charged
queue = {{ cookiecutter.queue | jsonify }}
nodes_per_block = {{ cookiecutter.nodes }}  # nodes
walltime = {{ cookiecutter.walltime | jsonify }}  # H:MM:SS, of one block
filesystems = {{ cookiecutter.filesystems | jsonify }}  # that a block needs; it does not start while one of them is down
max_blocks = 1  # jobs at a time, at most

{% if cookiecutter.workload == "mpi" %}
nodes_per_task = 1  # of an MPI program; a task may ask for another number, see run.py
ranks_per_node = facts.GPUS_PER_NODE  # MPI ranks on each node; local rank i has GPU 3 - i
threads_per_rank = facts.threads_per_rank(ranks_per_node)  # hardware threads of each, next to its GPU
{% else %}
workers_per_gpu = {{ cookiecutter.workers_per_gpu }}  # tasks that share a GPU
cpu_affinity = facts.cpu_affinity(workers_per_gpu)  # hardware threads of each worker, next to its GPU
rows_per_task = None  # rows in one Parsl task, 500 at most; None: learnt, short ones for about a second
{% endif %}
longest_first = None  # an input column, in quotes, that grows with a task's time: the largest go first
retries = 2  # further tries of a task that failed
margin = None  # seconds before the end of a walltime in which no task starts; None: learnt, 120 or more
run_dir = project_dir / "runinfo"  # Parsl's logs and checkpoints; under /eagle for a large run
local_environment = False  # True: packed once, then each node of a job starts it from its own SSD
log_level = "WARNING"  # of Parsl's logs; "DEBUG" helps to find a failure, and writes several lines a task
monitoring = False  # True: Parsl's own, into runinfo/monitoring.db for parsl-visualize; it slows short tasks


# --- the Parsl configuration ---------------------------------------------------------------------
def fresh_config(mode="auto"):
    """A new parsl.config.Config, for `parsl.load(fresh_config())` or `parsl-perf --config config.py`.

    mode: "local" (this machine), "job" (the nodes of the PBS job that runs this), "blocks" (PBS jobs
    that Parsl submits), or "auto": "job" inside a job, "blocks" where there is a qsub, else "local".
    The settings are those of ALCF's page on Parsl, its faults mended:
    https://docs.alcf.anl.gov/polaris/workflows/parsl/
    """
    from parsl.config import Config
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
{% if cookiecutter.workload == "mpi" %}
    from parsl.launchers import SimpleLauncher
    from parsl.logconfigs.file import FileLogging
{% else %}
    from parsl.launchers import MpiExecLauncher, SingleNodeLauncher
    from parsl.logconfigs.file import FileLogging
{% endif %}
    from parsl.providers import LocalProvider

{% if cookiecutter.workload == "mpi" %}
    # Parsl's PBSProProvider and MPIExecutor, with what Polaris does to blocks and nodes taken into account.
    from polaris.blocks import PolarisProvider, blocks_that_never_work, drain_period, retry_cost
    from polaris.memo import Memoizer
    from polaris.mpi import Executor
{% else %}
    # Parsl's HighThroughputExecutor and PBSProProvider, with what Polaris does to blocks taken into account.
    from polaris.blocks import (
        Executor,
        PolarisProvider,
        blocks_that_never_work,
        drain_period,
        retry_cost,
    )
    from polaris.memo import Memoizer
{% endif %}

    mode = machine.choose_mode(mode)
    drain = None
    # The launcher's own files, such as $JOBNAME.nodes, go there; it must be there before a block starts.
    os.makedirs(run_dir, exist_ok=True)
    os.chmod(run_dir, 0o700)  # with the certificates in it one could send tasks to the workers
    # Every block loads the same environment as you do, modules included: MPI and CUDA are found.
    worker_init = f"source {project_dir}/activate.sh || exit 1; command cd {run_dir} >/dev/null || exit 1"
    if local_environment and mode != "local":
        worker_init += machine.packed_environment()
    # It starts the worker pool in the project's folder: tasks find their files there, in every mode.
    launch_cmd = f"bash {project_dir}/polaris/start_workers.sh {DEFAULT_LAUNCH_CMD}"
{% if cookiecutter.workload == "mpi" %}
    # One manager a block, on its first node; its workers start the ranks of their tasks on the block's nodes.
    launcher = SimpleLauncher()

    if mode == "local":
        worker_init = machine.local_node(run_dir)
        provider = LocalProvider(worker_init=worker_init, launcher=launcher, max_blocks=1)
    elif mode == "job":
{% else %}
    worker_init += f"; {machine.threads(facts.threads_of(cpu_affinity))}"
    # One manager a node; it starts the node's workers and binds each by the affinity list.
    launcher = MpiExecLauncher(bind_cmd="--cpu-bind", overrides=f"--depth={facts.THREADS_PER_NODE} --ppn 1")
    workers = facts.GPUS_PER_NODE * workers_per_gpu
    pinning = {
        "available_accelerators": workers,
        "max_workers_per_node": workers,
        "cpu_affinity": cpu_affinity,
    }
    if workers_per_gpu > 1:
        # Under CUDA MPS tasks that share a GPU compute at the same time; without it they take turns.
        fraction = f"{1 / workers_per_gpu:.3f}"  # a task's part of the memory
        worker_init += f"; export WITH_MPS=1 GPU_FRACTION={fraction}"

    if mode == "local":
        pinning, worker_init = machine.local_workers(workers_per_gpu)
        provider = LocalProvider(worker_init=worker_init, launcher=SingleNodeLauncher(), max_blocks=1)
    elif mode == "job":
{% endif %}
        provider = LocalProvider(
            worker_init=worker_init,
            launcher=launcher,
            nodes_per_block=len(machine.nodes_of_job()),
            max_blocks=1,
        )
    else:
        # A block takes no task that it could not end in its walltime; the next block goes on.
        drain = drain_period(walltime, facts.SHORTEST_MARGIN if margin is None else margin)
        provider = PolarisProvider(
            account=account,
            queue=queue,
            walltime=walltime,
            nodes_per_block=nodes_per_block,
            cpus_per_node=facts.THREADS_PER_NODE,
            select_options=f"system=polaris:ngpus={facts.GPUS_PER_NODE}",
            # -r n: a block that PBS lost is not started again behind Parsl's back; Parsl asks for a new one.
            scheduler_options=f"#PBS -l filesystems={filesystems}\n#PBS -l place=scatter\n#PBS -r n",
            worker_init=worker_init,
            launcher=launcher,
            init_blocks=1,
            min_blocks=0,
            max_blocks=max_blocks,
        )

    executor = Executor(
        label="htex",
        provider=provider,
        address=machine.address(mode),
        launch_cmd=launch_cmd,
        interchange_launch_cmd=machine.interchange_command(),
        heartbeat_period=15,  # seconds
        heartbeat_threshold=120,  # seconds
        prefetch_capacity=0,  # a task waits for {{ "free nodes" if cookiecutter.workload == "mpi" else "a free GPU" }}, not behind what is busy
        drain_period=drain,  # seconds
        block_error_handler=blocks_that_never_work,
{% if cookiecutter.workload == "mpi" %}
        nodes_per_task=nodes_per_task,
        ranks_per_node=ranks_per_node,
        threads_per_rank=threads_per_rank,
{% else %}
        **pinning,
{% endif %}
    )
    return Config(
        executors=[executor],
        monitoring=machine.monitoring() if monitoring else None,
        # Since Parsl 2025.12.08 checkpoints and the app cache are settings of the memoizer.
        memoizer=Memoizer(
            memoize=True, checkpoint_mode="task_exit", checkpoint_files=machine.checkpoints(run_dir)
        ),
        retries=retries,
        retry_handler=retry_cost,  # a lost node costs none of them, a program error is not tried again
        run_dir=str(run_dir),
        strategy_period=1,  # seconds; PBS itself is asked once a minute at most
        initialize_logging=FileLogging(level=getattr(logging, log_level)),
    )
