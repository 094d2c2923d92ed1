"""The rules about kinds of workers, one small function each, as in rules.py.

Standard library only. What each kind has is in layout.py.
"""

from __future__ import annotations

from . import facts, layout, queues
from .rules import Case, Problem, Problems, Within

BY_JOB = "qsub driver.pbs, in whose job the kinds share the nodes"

cores_are_some = Within(
    name="cores_per_cpu_worker",
    least=1,
    most=facts.CORES_PER_NODE,
    wrong=f"is not within 1-{facts.CORES_PER_NODE}, the cores of a node",
)


# --- which kinds there are ------------------------------------------------------------------------
def kinds_are_known(case: Case) -> Problems:
    for wrong, mend in _wrong_kinds(case.settings.kinds):
        yield Problem("kinds", case.settings.kinds, wrong, mend)


def _wrong_kinds(kinds):
    known = list(layout.KINDS)
    listed = ", ".join(known)
    if kinds is None:
        return
    if not isinstance(kinds, list | tuple):
        mend = f'["{kinds}"]' if kinds in known else '["gpu"]'
        yield f"is no list of kinds of workers, of {listed}", mend
        return
    if not kinds:
        yield f"names no kind of workers: {listed}", '["gpu"]'
    strange = [kind for kind in kinds if kind not in known]
    if strange:
        yield f"has {strange[0]!r}; kinds of workers are {listed}", '["gpu"]'
        return
    twice = [kind for kind in dict.fromkeys(kinds) if list(kinds).count(kind) > 1]
    if twice:
        yield f"names {twice[0]!r} twice", ""


def nodes_of_kinds_are_numbers(case: Case) -> Problems:
    given = case.settings.nodes_of_kind
    kinds = case.settings.kinds
    if given is None:
        return
    example = '{"node": 1}'
    if not isinstance(given, dict):
        wrong = f"is no dict of kinds and numbers of nodes, such as {example}"
        yield Problem("nodes_of_kind", given, wrong)
        return
    for kind, nodes in given.items():
        if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
            wrong = f"has {nodes!r} for {kind!r}: that is no whole number from 1 on"
            yield Problem("nodes_of_kind", given, wrong)
        elif not any(_wrong_kinds(kinds)) and kind not in kinds:
            wrong = f"has {kind!r}, which is none of kinds: {', '.join(kinds)}"
            yield Problem("nodes_of_kind", given, wrong)


def _are_right(case):
    """Whether kinds and their nodes can be read; what is wrong with them was said before."""
    if case.settings.kinds is None or any(kinds_are_known(case)):
        return False
    return not any(nodes_of_kinds_are_numbers(case))


def _nodes_of_kind(case):
    return case.settings.nodes_of_kind or {}


# --- nodes of a job -------------------------------------------------------------------------------
def kinds_do_not_mix(case: Case) -> Problems:
    """Kinds that would share nodes of a job, and cannot; in blocks each has jobs of its own."""
    if not _are_right(case) or _in_blocks(case):
        return
    given = _nodes_of_kind(case)
    together = [kind for kind in case.settings.kinds if kind not in given]
    alone = [kind for kind in together if kind not in layout.SHARING]
    if len(together) < 2 or not alone:
        return
    kind = alone[-1]
    others = " and ".join(repr(other) for other in together if other != kind)
    wrong = f"leaves {kind!r} without nodes of its own, which it cannot share with {others}"
    mend = {**given, kind: 1}
    yield Problem("nodes_of_kind", given, wrong, str(mend).replace("'", '"'))


def every_kind_has_nodes(case: Case) -> Problems:
    """In a job, whose nodes the kinds share; in blocks each has jobs of its own."""
    if not _shared_out(case):
        return
    kinds, nodes = case.settings.kinds, case.nodes
    given = _nodes_of_kind(case)
    try:
        found = layout.shares(kinds, given, nodes)
    except layout.NoRoom as problem:
        fewest = layout.fewest_nodes(kinds, given)
        yield Problem("nodes_per_block", nodes, str(problem), str(fewest))
        return
    idle = nodes - found[-1].end
    if idle > 0:
        wrong = f"leaves {idle} of {nodes} nodes to no kind of workers, and they are charged"
        yield Problem("nodes_per_block", nodes, wrong, str(nodes - idle), fatal=False)


def _shared_out(case):
    """Whether it is a job whose nodes the kinds share, as far as that is known."""
    if not _are_right(case) or any(kinds_do_not_mix(case)):
        return False
    return case.nodes is not None and not _in_blocks(case)


def _in_blocks(case):
    return case.settings.max_blocks is not None


# --- cores of a node ------------------------------------------------------------------------------
def cpu_workers_fit_a_node(case: Case) -> Problems:
    """Beside the GPU workers, each of which keeps a core next to its GPU."""
    settings = case.settings
    workers, cores = settings.cpu_workers, settings.cores_per_cpu_worker
    if workers is None or not _are_right(case) or any(cores_are_some(case)):
        return
    if workers < 1:
        yield Problem("cpu_workers", workers, "is fewer than one worker", "1")
        return
    of_a_gpu = settings.workers_per_gpu
    together = layout.are_together(settings.kinds, _nodes_of_kind(case))
    if not together or cores is None or of_a_gpu is None:
        return
    if not 1 <= of_a_gpu <= facts.MAX_WORKERS_PER_GPU:
        return  # said already
    most = layout.most_cpu_workers(cores, of_a_gpu)
    if workers <= most:
        return
    left = facts.CORES_PER_GPU - of_a_gpu
    beside = f"of {cores} core{'s' * (cores != 1)} each beside the GPU workers of a node"
    wrong = f"is more than there is room for {beside}: {most}"
    if most:
        yield Problem("cpu_workers", workers, wrong, str(most))
    elif left:
        name, wrong = "cores_per_cpu_worker", f"{wrong}; {left} next to each GPU are not taken"
        yield Problem(name, cores, wrong, str(left))
    else:
        fewer = f"{wrong}: their {facts.MAX_WORKERS_PER_GPU} a GPU take all cores"
        yield Problem("cpu_workers", workers, f"{fewer}; fewer workers_per_gpu leave some")


# --- jobs of their own, in blocks -----------------------------------------------------------------
def kinds_have_jobs(case: Case) -> Problems:
    """In blocks each kind has jobs of its own, where the queue allows several."""
    queue = case.queue
    if not case.submitting or not _in_blocks(case) or queue is None or not _are_right(case):
        return
    kinds = case.settings.kinds
    name = case.settings.queue
    if len(kinds) > queue.running:
        has = f"in blocks each kind of workers has a job of its own, and {name} runs"
        wrong = f"{has} {queue.running} at a time for one {queue.per}: {BY_JOB}"
        yield Problem("kinds", kinds, wrong)
    for kind, nodes in _nodes_of_kind(case).items():
        wrong = _wrong_size(case, nodes)
        if wrong:
            which = f"in blocks {kind!r} has jobs of its own, of {nodes} node{'s' * (nodes != 1)}"
            wrong = f"{which}, and {wrong}: give it others, or {BY_JOB}"
            yield Problem("nodes_of_kind", case.settings.nodes_of_kind, wrong)


def _wrong_size(case, nodes):
    """What is wrong with jobs of so many nodes in the queue, in words; None where they fit."""
    settings = case.settings._replace(nodes_per_block=nodes)
    other = case._replace(settings=settings)
    for rule in (queues.nodes_fit_the_queue, queues.prod_has_room):
        for problem in rule(other):
            if problem.fatal:
                return problem.wrong
    return None
