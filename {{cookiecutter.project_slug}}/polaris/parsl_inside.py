"""What this project uses of Parsl that Parsl's documentation does not promise, in one list.

A later Parsl may have some of it no more; `gone` says what. run.py then starts nothing: what would come of it
is not known.
"""

import importlib
import inspect
import re

INSIDE = {  # "module:class", or "module:" -> names
    # calls.py sees what task() calls; engine.py and blocks.py, where a try ran and what it cost.
    "parsl.dataflow.dflow:DataFlowKernel": "submit executors run_dir",
    "parsl.dataflow.futures:AppFuture": "task_record",
    # on_worker.py: what an app raised, on its way.
    "parsl.app.errors:RemoteExceptionWrapper": "get_exception",
    # memo.py: keys with the code in them, checkpoints read again.
    "parsl.app.app:AppBase": "",
    "parsl.dataflow.memoization:": "id_for_memo",
    "parsl.dataflow.memoization:BasicMemoizer": "start check_memo update_memo_result update_memo_exception "
    "load_checkpoints memoize",
    # blocks.py, mpi.py: which workers and blocks there are, why not, and how they are held back.
    "parsl.executors.high_throughput.executor:HighThroughputExecutor": "_hold_manager blocks_to_job_id "
    "connected_blocks connected_managers executor_exception bad_state_is_set set_bad_state_and_fail_all "
    "interchange_proc job_ids_to_block launch_cmd logdir status_facade validate_resource_spec worker_logdir "
    "workers_per_node",
    "parsl.providers:PBSProProvider": "_status cancel execute_wait resources submit",
    "parsl.providers.torque.torque:": "translate_table",
    # interchange.py: forgets a block that PBS has ended.
    "parsl.executors.high_throughput.interchange:Interchange": "expire_bad_managers _ready_managers start",
    "parsl.utils:": "setproctitle",
    # config.py starts workers by a script of ours; cli.py, for --dry-run, makes a block without qsub.
    "parsl.executors.high_throughput.executor:": "DEFAULT_LAUNCH_CMD",
    "parsl.dataflow.rundirs:": "make_rundir",
    "parsl.executors:HighThroughputExecutor": "_launch_block log_config monitoring_messages run_id",
    "parsl.providers.cluster_provider:ClusterProvider": "script_dir",
}


def gone():
    """The names of INSIDE that this Parsl does not have, as "module:class.name"; [] where it has all."""
    missing = []
    for place, names in INSIDE.items():
        module, _, owner = place.partition(":")
        try:
            there = importlib.import_module(module)
            there = getattr(there, owner) if owner else there
        except (ImportError, AttributeError):
            missing.append(place)
            continue
        source = "\n".join(map(_source, inspect.getmro(there))) if owner else ""
        for name in names.split():
            # What __init__ or a method sets, no class has.
            if not hasattr(there, name) and not re.search(rf"\bself\.{name}\s*(:[^=\n]+)?=", source):
                missing.append(f"{place}.{name}" if owner else f"{place}{name}")
    return missing


def _source(owner):
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):  # of Python itself
        return ""
