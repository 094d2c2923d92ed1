"""What this project uses of Parsl that Parsl's documentation does not promise, in one list.

A later Parsl may have some of it no more; `gone` says what. run.py then starts nothing: what would
come of it is not known.
"""

from __future__ import annotations

import importlib
import inspect
import re

INSIDE = {  # "module:class", or "module:" -> names
    # kernel.py: a session stands where Parsl looks for its kernel, and sees each call.
    "parsl.dataflow.dflow:DataFlowKernel": "submit cleanup run_dir memoizer",
    "parsl.dataflow.dflow:DataFlowKernelLoader": "_dfk clear",
    "parsl.dataflow.futures:AppFuture": "task_record",
    # writing.py, jobs.py, parsl_parts.py: where a try ran, what it cost, and whose it is.
    "parsl.dataflow.taskrecord:TaskRecord": "args dfk exec_fu executor fail_cost from_memo func "
    "func_name hashsum id ignore_for_cache join kwargs memoize try_id",
    # work.py: what may be called for a row, and whether rows may share a task.
    "parsl.app.app:AppBase": "executors func",
    "parsl.app.python:PythonApp": "cache join",
    # mistakes.py: Parsl's words for a mistake.
    "parsl.errors:": "ConfigurationError NoDataFlowKernelError",
    # on_worker.py: what an app raised, on its way.
    "parsl.app.errors:RemoteExceptionWrapper": "get_exception",
    # memo.py: keys with the code in them, checkpoints read again.
    "parsl.dataflow.memoization:": "Memoizer id_for_memo",
    "parsl.utils:": "get_all_checkpoints setproctitle",
    # parsl_parts.py, mpi.py, blocks.py: which workers and blocks there are, why not, and how they
    # are held back.
    "parsl.executors.high_throughput.executor:HighThroughputExecutor": "_hold_manager "
    "blocks_to_job_id connected_blocks connected_managers executor_exception bad_state_is_set "
    "set_bad_state_and_fail_all interchange_proc job_ids_to_block launch_cmd logdir status_facade "
    "tasks "
    "validate_resource_spec worker_logdir workers_per_node",
    "parsl.executors.errors:": "BadStateException",
    "parsl.executors.high_throughput.errors:ManagerLost": "hostname",
    "parsl.executors.high_throughput.errors:WorkerLost": "hostname worker_id",
    "parsl.providers:PBSProProvider": "_status cancel execute_wait resources submit",
    "parsl.providers.torque.torque:": "translate_table",
    # interchange.py: forgets a block that PBS has ended.
    "parsl.executors.high_throughput.interchange:Interchange": "expire_bad_managers "
    "_ready_managers start",
    # worker_pool.py: workers are forked, and share what no death can lock.
    "parsl.multiprocessing:": "SpawnContext",
    "parsl.executors.high_throughput.process_worker_pool:": "SpawnContext worker",
    "parsl.executors.high_throughput.process_worker_pool:Manager": "_start_worker start",
    # config.py starts workers by a script of ours; for --dry-run a block is made without qsub.
    "parsl.executors.high_throughput.executor:": "DEFAULT_LAUNCH_CMD",
    "parsl.dataflow.rundirs:": "make_rundir",
    "parsl.executors:HighThroughputExecutor": "_launch_block log_config monitoring_messages run_id",
    "parsl.providers.cluster_provider:ClusterProvider": "script_dir",
}


def gone() -> list[str]:
    """The names of INSIDE that this Parsl does not have, as "module:class.name"."""
    missing = []
    for place, names in INSIDE.items():
        there = _found(place)
        if there is None:
            missing.append(place)
            continue
        of_class = not place.endswith(":")
        for name in names.split():
            if not _has(there, name):
                missing.append(f"{place}.{name}" if of_class else f"{place}{name}")
    return missing


def _found(place):
    """The module or class of that place; None where it is gone."""
    module, _, owner = place.partition(":")
    try:
        there = importlib.import_module(module)
        return getattr(there, owner) if owner else there
    except (ImportError, AttributeError):
        return None


def _has(there, name):
    if hasattr(there, name):
        return True
    if inspect.ismodule(there):
        return False
    if name in getattr(there, "__annotations__", {}):
        return True
    # What __init__ or a method sets, no class has.
    sets = re.compile(rf"\bself\.{name}\s*(:[^=\n]+)?=")
    return any(sets.search(_source(each)) for each in inspect.getmro(there))


def _source(owner):
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):  # of Python itself
        return ""
