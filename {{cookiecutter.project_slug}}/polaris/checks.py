"""What is wrong with the settings: every rule, in one list. Standard library only.

The template's hook calls `check` on the answers, `run.py` calls it on `config.py` and on the #PBS
lines of `driver.pbs`, since both are edited afterwards. A new rule is a small function in
options.py, queues.py or kinds.py, and its name here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from . import facts, kinds, options, queues
from .rules import Case, Problem, Settings

NUMBERS = (  # of Settings, that are whole
    "nodes_per_block",
    "workers_per_gpu",
    "cpu_workers",
    "cores_per_cpu_worker",
    "rows_per_task",
    "nodes_per_task",
    "ranks_per_node",
    "threads_per_rank",
    "max_blocks",
    "idle_time",
    "retries",
    "margin",
    "jobs",
)
TEXTS = (
    "account",
    "queue",
    "walltime",
    "filesystems",
    "conda_version",
    "own_environment",
)
EXAMPLES = {
    "margin": str(facts.SHORTEST_MARGIN),
    "rows_per_task": "None",
    "idle_time": "600",
}

TAKEN_BY_PBS = (  # what PBS took is not refused afterwards
    queues.walltime_is_a_duration,
    queues.at_least_one_node,
    queues.queue_is_there,
    queues.nodes_fit_the_queue,
    queues.walltime_fits_the_queue,
    queues.prod_has_room,
    queues.jobs_fit_the_queue,
    queues.at_least_one_block,
    queues.blocks_fit_the_queue,
    options.filesystems_are_known,
    options.folders_can_be_read,
    kinds.kinds_have_jobs,
)
RULES = (
    options.slug_is_a_name,
    options.account_is_a_project,
    *TAKEN_BY_PBS,
    queues.margin_leaves_time,
    kinds.kinds_are_known,
    kinds.nodes_of_kinds_are_numbers,
    kinds.kinds_do_not_mix,
    kinds.every_kind_has_nodes,
    options.workers_fit_a_gpu,
    kinds.cores_are_some,
    kinds.cpu_workers_fit_a_node,
    options.rows_fit_a_task,
    options.retries_are_few,
    options.idle_time_is_some,
    options.nodes_of_a_task_fit_a_job,
    options.ranks_fit_a_node,
    options.threads_fit_a_gpu,
    queues.every_worker_has_a_row,
    queues.rows_come_fast_enough,
    options.folders_suit_parsl,
    options.conda_version_is_there,
    options.environment_is_on_every_node,
    options.packages_are_there,
    options.local_environment_is_a_flag,
    options.local_environment_can_be_packed,
    options.monitoring_is_a_flag,
    options.log_level_is_one,
    options.monitoring_is_installed,
)


def check(
    settings: Settings,
    *,
    submitting: bool = False,
    ask: Callable | None = None,
    typed: bool = False,
    running: bool = False,
) -> list[Problem]:
    """All problems of `settings`, in the order of its fields.

    submitting: whether PBS is about to be asked for nodes; only then is the placeholder account
    refused. ask: a function from a queue's name to `live_queue`'s answer, for queues that no page
    lists. typed: whether numbers must be numbers, as in config.py; answers and #PBS lines are text.
    running: whether they are of a job that runs: what PBS took is not refused afterwards.
    """
    settings, problems = _of_right_kind(settings, typed)
    case = Case(settings, submitting, ask or queues.live_queue)
    for rule in RULES:
        for problem in rule(case):
            if running and rule in TAKEN_BY_PBS:
                problem = problem._replace(fatal=False)
            problems.append(problem)
    fields = Settings._fields
    problems.sort(key=lambda problem: fields.index(problem.name))
    return [_without_idle_mend(problem) for problem in problems]


def _without_idle_mend(problem):
    """A problem whose mend is not what was given already."""
    if problem.mend == str(problem.given):
        return problem._replace(mend="")
    return problem


def _of_right_kind(settings, typed):
    """(the settings with numbers as int, what is of a wrong kind left out; that as problems)."""
    problems = []
    right = {}
    for name in NUMBERS:
        given = getattr(settings, name)
        if given is None:
            continue
        if _is_whole(given, typed):
            right[name] = int(given)
            continue
        right[name] = None
        mend = EXAMPLES.get(name, "1")
        problems.append(Problem(name, given, "is not a whole number from 0 to 999999", mend))
    for name in TEXTS:
        given = getattr(settings, name)
        if given is not None and not isinstance(given, str):
            right[name] = None
            problems.append(Problem(name, given, "is not text: put it in quotes"))
    return settings._replace(**right), problems


def _is_whole(given, typed):
    if isinstance(given, bool) or (typed and isinstance(given, str)):
        return False
    return re.fullmatch(r"0|[1-9][0-9]{0,5}", str(given)) is not None
