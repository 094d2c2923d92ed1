"""The rules about a job and its queue, one small function each, as in rules.py.

And a queue as PBS itself describes it. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from . import facts, machine
from .rules import Case, Problem, Problems, Settings, nearest


# --- nodes and walltime ---------------------------------------------------------------------------
def walltime_is_a_duration(case: Case) -> Problems:
    walltime = case.settings.walltime
    if walltime is None:
        return
    if case.duration is None:
        wrong = "is not H:MM:SS, such as 1:00:00 or 0:30:00"
        yield Problem("walltime", walltime, wrong, "1:00:00")


def at_least_one_node(case: Case) -> Problems:
    nodes = case.settings.nodes_per_block
    if nodes == 0:
        yield Problem("nodes_per_block", nodes, "is fewer than one node", "1")


def nodes_fit_the_queue(case: Case) -> Problems:
    nodes = case.nodes
    queue = case.queue
    if queue is None or nodes is None:
        return
    mend = nearest(nodes, *queue.nodes)
    if nodes != mend:
        wrong = _takes(case.settings.queue)
        yield Problem("nodes_per_block", nodes, wrong, str(mend))
    elif queue.routes and nodes > facts.LARGE_JOBS_WAIT:
        most = facts.LARGE_JOBS_WAIT
        wrong = f"may never start: about {most} nodes work at once"
        yield Problem("nodes_per_block", nodes, wrong, str(most), fatal=False)


def walltime_fits_the_queue(case: Case) -> Problems:
    duration = case.duration
    queue = case.queue
    if queue is None or duration is None:
        return
    close = nearest(duration, *queue.walltime)
    if duration != close:
        wrong = _takes(case.settings.queue)
        mend = facts.hms(close)
        yield Problem("walltime", case.settings.walltime, wrong, mend)


def prod_has_room(case: Case) -> Problems:
    """PBS may take such a job, give it an ID and lose it: no queue behind prod has room for it."""
    if case.queue is None:
        return
    nodes = case.nodes
    duration = case.duration
    limit = _longest(case.queue, nodes)
    enough = _fewest(case.queue, duration)
    if limit is None or enough is None:
        return  # not known, or said already
    if duration > limit:
        walltime = case.settings.walltime
        longest = facts.hms(limit)
        fits = _takes(case.settings.queue)
        lost = f"with {nodes} nodes fits no queue behind prod, and PBS would lose the job"
        less = f"{nodes} nodes for {longest} at most"
        more = f"{enough} nodes or more for {walltime}"
        wrong = f"{lost}: {fits}; so {less}, or {more}"
        yield Problem("walltime", walltime, wrong, longest)


def _longest(queue, nodes):
    """Seconds that a job of so many nodes may take, by the routes of a queue; None: it has none."""
    if nodes is None:
        return None
    for fewest, most, longest in queue.routes:
        if fewest <= nodes <= most:
            return longest
    return None


def _fewest(queue, duration):
    """Nodes that a job of so many seconds has to have, by the routes of a queue; None: none do."""
    if duration is None:
        return None
    for fewest, _, longest in queue.routes:
        if duration <= longest:
            return fewest
    return None


def _takes(name):
    return f"{name} takes {facts.what_fits(name)}"


def margin_leaves_time(case: Case) -> Problems:
    """For tasks: in the margin, the end of the walltime, none starts."""
    margin = case.settings.margin
    walltime = case.settings.walltime
    duration = case.duration
    if not duration:
        return
    if case.queue is not None:
        shortest, _ = case.queue.walltime
        if duration < shortest:
            return  # said already
    tenth = int(duration / 10)
    mend = str(max(1, tenth))
    usual = facts.SHORTEST_MARGIN
    if margin is None and duration <= usual:
        last = f"none starts in the last {usual} s of a walltime, and that is {walltime}"
        wrong = f"leaves no time for tasks: {last}; set it in config.py, in s"
        yield Problem("margin", margin, wrong, mend)
    if margin is not None and margin > duration / 2:
        wrong = f"seconds is more than half of the walltime, {walltime}"
        yield Problem("margin", margin, wrong, mend)


# --- how many jobs --------------------------------------------------------------------------------
def jobs_fit_the_queue(case: Case) -> Problems:
    jobs = case.settings.jobs
    queue = case.queue
    if queue is None or jobs is None:
        return
    if jobs > queue.queued:
        wrong = f"is more than {_lets_queue(case)}; held jobs count"
        yield Problem("jobs", jobs, wrong, str(queue.queued))


def at_least_one_block(case: Case) -> Problems:
    blocks = case.settings.max_blocks
    if blocks == 0:
        yield Problem("max_blocks", blocks, "is fewer than one block", "1")


def blocks_fit_the_queue(case: Case) -> Problems:
    blocks = case.settings.max_blocks
    queue = case.queue
    if queue is None or blocks is None:
        return
    others = _jobs_of_other_kinds(case)
    if others >= queue.running:
        others = 0  # which the rules about kinds say
    more = f", with {others} of the other kinds of workers," if others else ""
    if blocks + others > queue.queued:
        wrong = f"is more jobs{more} than {_lets_queue(case)}"
        yield Problem("max_blocks", blocks, wrong, str(queue.queued - others))
    elif blocks + others > queue.running:
        at_a_time = f"{case.settings.queue} runs at a time for one {queue.per}"
        wrong = f"is more jobs{more} than {at_a_time}, {queue.running}: others wait"
        mend = str(queue.running - others)
        yield Problem("max_blocks", blocks, wrong, mend, fatal=False)


def _jobs_of_other_kinds(case):
    """How many blocks the kinds after the first have: one each."""
    kinds = case.settings.kinds
    return len(kinds) - 1 if isinstance(kinds, list | tuple) and kinds else 0


def _lets_queue(case):
    name = case.settings.queue
    queue = case.queue
    return f"{name} lets one {queue.per} queue: {queue.queued}"


# --- queues that no page lists --------------------------------------------------------------------
def queue_is_there(case: Case) -> Problems:
    """Such as a reservation's: PBS is asked, and its own limits hold."""
    name = case.settings.queue
    if name is None or case.queue is not None:
        return
    listed = ", ".join(facts.QUEUES)
    if facts.NOT_FOR_USERS.fullmatch(name):
        wrong = "takes no direct submission: prod routes jobs into it"
        yield Problem("queue", name, wrong, "prod")
        return
    if not re.fullmatch(facts.NAME, name):
        wrong = f"is no name of a queue; it is none of {listed}"
        yield Problem("queue", name, wrong, "debug")
        return
    live = case.ask(name)
    if live is None:
        unknown = "is not known here, and there is no qstat to ask"
        wrong = f"{unknown}: it is none of {listed}, so its limits are not checked"
        yield Problem("queue", name, wrong, fatal=False)
    elif not live:
        wrong = f"is not on this PBS server; it is none of {listed}"
        yield Problem("queue", name, wrong, "debug")
    else:
        yield from _of_live(case, live)


def _of_live(case, live):
    """Problems of the limits that the server itself states for a queue."""
    enabled = live.get("enabled")
    started = live.get("started")
    if "False" in (enabled, started):
        wrong = "is closed on this PBS server for now (qstat -Q)"
        yield Problem("queue", case.settings.queue, wrong, fatal=False)
    nodes = case.nodes
    if nodes is not None:
        for wrong, limit in _broken(live, "nodect", nodes, int):
            yield Problem("nodes_per_block", nodes, wrong, limit)
    duration = case.duration
    if duration is not None:
        walltime = facts.hms(duration)
        for wrong, limit in _broken(live, "walltime", duration, facts.seconds):
            yield Problem("walltime", walltime, wrong, limit)


def _broken(live: dict, key: str, value: int, read: Callable) -> Iterator[tuple[str, str]]:
    """(what is wrong, the limit) of each of a queue's own limits that a value breaks.

    read: a function from the text of a limit to a number, or to None where it is none.
    """
    name = live["name"]
    least = live.get(f"resources_min.{key}")
    most = live.get(f"resources_max.{key}")
    if least is not None:
        number = read(least)
        if number is not None and value < number:
            yield f"is less than {name} takes: {least}", least
    if most is not None:
        number = read(most)
        if number is not None and value > number:
            yield f"is more than {name} takes: {most}", most


def live_queue(name: str) -> dict | None:
    """What PBS says of a queue: None without a server, {} without such a queue, else its limits."""
    listing = machine.output("qstat", "-Q")
    if listing is None:
        return None
    rows = listing.splitlines()[2:]  # below the head of the table
    names = [row.strip().partition(" ")[0] for row in rows]
    if name not in names:
        return {}
    told = machine.output("qstat", "-Qf", name)
    pairs = re.findall(r"^ {4}(\S+) = (.*)$", told or "", re.MULTILINE)
    return {"name": name, **dict(pairs)}


# --- rows for so many workers ---------------------------------------------------------------------
def every_worker_has_a_row(case: Case) -> Problems:
    rows = case.settings.rows
    nodes = case.nodes
    blocks = _blocks(case)
    of_a_node = _workers_of_a_node(case)
    if not rows or nodes is None:
        return
    workers = nodes * blocks * of_a_node
    if rows >= workers:
        return
    idle = workers - rows
    wrong = f"makes {workers} workers for {rows} rows: {idle} of them would have nothing to do"
    fewest = 1
    if case.queue is not None:
        fewest, _ = case.queue.nodes
    needed = _ceiling(rows, blocks * of_a_node)
    enough = max(fewest, needed)
    few = _ceiling(rows, nodes * of_a_node)
    if enough < nodes or nodes == fewest > 1:
        yield Problem("nodes_per_block", nodes, wrong, str(enough), fatal=False)
    elif few < blocks:
        yield Problem("max_blocks", blocks, wrong, str(few), fatal=False)


def rows_come_fast_enough(case: Case) -> Problems:
    """Workers wait for rows that are shorter than the submit side needs to hand them out."""
    settings = case.settings
    took = settings.seconds_per_row
    of_a_node = _workers_of_a_node(case)
    if not took or took < 0:
        return
    if case.nodes is None or of_a_node == 0:
        return
    blocks = _blocks(case)
    nodes = case.nodes * blocks
    rate = nodes * of_a_node / took
    most = _rows_per_second(settings)
    if rate <= most:
        return
    could = f"{nodes} node(s) could do {rate:,.0f} rows a second"
    wrong = f"workers would wait for rows: at {took:.2g} s a row, as measured so far, {could}"
    wrong += f", and one run.py hands out {most:,}"
    if _rows_per_task(settings) == 1:
        wrong += " where each is a task of its own"
    wrong += ": give each row more to do"
    if settings.rows_per_task and not settings.rows_alone:
        wrong += ", or set rows_per_task = None"
    wrong += ", or take fewer nodes"
    busy = int(most * took / of_a_node / blocks)
    mend = str(max(1, busy))
    yield Problem("nodes_per_block", case.nodes, wrong, mend, fatal=False)


def _blocks(case):
    return case.settings.max_blocks or 1


def _workers_of_a_node(case):
    """0 where that is not known, where tasks have whole nodes, or of several kinds of workers."""
    kinds = case.settings.kinds
    if kinds not in (None, ["gpu"], ("gpu",)):
        return 0
    of_a_gpu = case.settings.workers_per_gpu or 0
    return facts.GPUS_PER_NODE * of_a_gpu


def _ceiling(number, by):
    return -(-number // by)


def _rows_per_task(settings: Settings) -> int | None:
    """How many rows a Parsl task gets; None: as many as it needs."""
    if settings.rows_alone:
        return 1
    return settings.rows_per_task


def _rows_per_second(settings: Settings) -> int:
    """The most rows that the submit side hands out."""
    most = facts.ROWS_PER_SECOND
    together = _rows_per_task(settings)
    if not together:
        return most
    return min(most, together * facts.TASKS_PER_SECOND)
