"""Every rule about the settings, written once. Standard library only.

The template's hook calls `check` on the answers, `run.py` calls it on `config.py` and on the #PBS lines
of `driver.pbs`, since both are edited afterwards.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from pathlib import Path
from typing import NamedTuple

from . import facts, machine

RESOURCES = ("select", "place", "walltime", "filesystems")  # of a job, that this project asks for


class Settings(NamedTuple):
    """What is checked, as given: strings from the questions, numbers from config.py. None: not given."""

    project_slug: str | None = None
    account: str | None = None
    queue: str | None = None
    nodes_per_block: int | str | None = None
    walltime: str | None = None  # H:MM:SS
    filesystems: str | None = None  # names joined by ":"
    conda_version: str | None = None
    workers_per_gpu: int | str | None = None
    cpu_affinity: str | None = None  # "list:24-31,56-63:...", one entry a worker
    rows_per_task: int | str | None = None
    rows_alone: bool | None = None  # whether the last run had rows that cannot go into groups
    rows: int | None = None  # of the input, that have no result yet
    nodes_per_task: int | str | None = None  # of an MPI program, as the next two
    ranks_per_node: int | str | None = None
    threads_per_rank: int | str | None = None  # hardware threads
    max_blocks: int | str | None = None
    retries: int | str | None = None
    margin: int | str | None = None  # seconds
    seconds_per_row: float | None = None  # as measured in runs so far
    jobs: int | str | None = None  # of driver.pbs, that are about to be submitted as a chain
    project_dir: str | None = None
    run_dir: str | None = None
    local_environment: bool | None = None
    log_level: str | None = None
    monitoring: bool | None = None


NUMBERS = (  # of Settings, that are whole
    "nodes_per_block", "workers_per_gpu", "rows_per_task", "nodes_per_task", "ranks_per_node",
    "threads_per_rank", "max_blocks", "retries", "margin", "jobs",
)  # fmt: skip


class Problem(NamedTuple):
    """One broken rule. `mend` is a value that would do, "" where only the user can know it."""

    name: str  # the field of Settings
    given: object
    wrong: str  # what is wrong, and what is allowed
    mend: str = ""
    fatal: bool = True  # False: said, but nothing is refused


def check(settings, *, submitting=False, ask=None, typed=False, running=False):
    """All problems of `settings`, in the order of its fields.

    typed: whether numbers must be numbers, as in config.py; answers and #PBS lines are text.
    submitting: whether PBS is about to be asked for nodes; the placeholder account is refused only then.
    running: whether they are of a job that runs: what PBS took is not refused afterwards.
    ask: a function from a queue's name to `live_queue`'s answer; it is called for unlisted queues only.
    """
    problems = []
    for name in NUMBERS:
        given = getattr(settings, name)
        if given is not None:
            text = isinstance(given, bool) or (typed and isinstance(given, str))
            if not re.fullmatch(r"0|[1-9][0-9]{0,5}", str(given)) or text:
                mend = {"margin": str(facts.SHORTEST_MARGIN), "rows_per_task": "None"}.get(name, "1")
                problems.append(Problem(name, given, "is not a whole number from 0 to 999999", mend))
                given = None
            settings = settings._replace(**{name: given if given is None else int(given)})
    for name in ("account", "queue", "walltime", "filesystems", "conda_version", "cpu_affinity"):
        given = getattr(settings, name)
        if given is not None and not isinstance(given, str):
            problems.append(Problem(name, given, "is not text: put it in quotes"))
            settings = settings._replace(**{name: None})
    slug = settings.project_slug
    if slug is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", slug):
        allowed = "names the folder and the PBS job: a letter, then letters, digits, '-', '_', 63 at most"
        mend = re.sub(r"[^A-Za-z0-9_]+", "-", slug).strip("-")
        mend = mend if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", mend) else "my-project"
        problems.append(Problem("project_slug", slug, allowed, mend))
    problems += _account(settings, submitting)
    of_queue = list(_queue(settings, ask or live_queue))
    problems += [p._replace(fatal=False) for p in of_queue] if running else of_queue
    problems += _margin(settings)
    of_files = list(_filesystems(settings))
    problems += [p._replace(fatal=False) for p in of_files] if running else of_files
    problems += _workers(settings)
    problems += _ranks(settings)
    problems += _submit_side(settings)
    for name in ("project_dir", "run_dir"):
        # Parsl's scripts do not quote their own paths.
        folder = getattr(settings, name)
        if folder is not None and folder.startswith("~"):
            wrong = "is a folder of the name ~ in the project: write f'{Path.home()}/...'"
            problems.append(Problem(name, folder, wrong))
        elif folder is not None and not re.fullmatch(r"[\w./@%+=,~-]+", folder):
            wrong = "is a path with spaces or signs that Parsl's scripts cannot take: use another folder"
            problems.append(Problem(name, folder, wrong))
    if settings.conda_version is not None and settings.conda_version not in facts.CONDA_VERSIONS:
        dated = re.fullmatch(r"20[0-9]{2}-[01][0-9]-[0-3][0-9](-[A-Za-z0-9_.-]+)?", settings.conda_version)
        listed = ", ".join(facts.CONDA_VERSIONS)
        allowed = f"is no version of the conda module: {listed}"
        if dated and settings.conda_version < facts.CONDA_VERSIONS[1]:
            allowed = f"was deleted, as all old conda modules; in October 2026 there were {listed}"
        elif dated:
            allowed = f"is none of the conda modules of October 2026 ({listed}); see: module avail conda"
        problems.append(Problem("conda_version", settings.conda_version, allowed, "default", fatal=not dated))
    for name in ("local_environment", "monitoring"):
        if getattr(settings, name) not in (None, True, False):
            problems.append(Problem(name, getattr(settings, name), "is neither True nor False", "False"))
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    if settings.log_level is not None and settings.log_level not in levels:
        wrong = f"is no level of logs: {', '.join(levels)}"
        problems.append(Problem("log_level", settings.log_level, wrong, "WARNING"))
    if settings.monitoring is True and importlib.util.find_spec("sqlalchemy") is None:
        wrong = "needs more of Parsl: pip install 'parsl[monitoring,visualization]', or set it to False"
        problems.append(Problem("monitoring", settings.monitoring, wrong))
    order = {name: i for i, name in enumerate(Settings._fields)}
    problems = [p._replace(mend="") if p.mend == str(p.given) else p for p in problems]
    return sorted(problems, key=lambda problem: order[problem.name])


def _account(settings, submitting):
    account = settings.account
    if account is None:
        return
    if not re.fullmatch(facts.ACCOUNT, account):
        allowed = "is no ALCF project (letters, digits, '-', '_'; a number; PROJECT::NAME, a sub-allocation)"
        yield Problem("account", account, allowed, facts.PLACEHOLDER)
    elif account.upper().partition("::")[0] == facts.PLACEHOLDER:
        allowed = "is a placeholder: PBS needs the name of your ALCF project"
        yield Problem("account", account, allowed, fatal=submitting)


def _queue(settings, ask):
    name, nodes, walltime = settings.queue, settings.nodes_per_block, settings.walltime
    duration = None
    if walltime is not None:
        duration = facts.seconds(walltime)
        if duration is None:
            yield Problem("walltime", walltime, "is not H:MM:SS, such as 1:00:00 or 0:30:00", "1:00:00")
    if nodes is not None and nodes < 1:
        yield Problem("nodes_per_block", nodes, "is fewer than one node", "1")
        nodes = None
    if name is None:
        return
    if name not in facts.QUEUES:
        yield from _unlisted_queue(name, nodes, duration, ask)
        return
    queue = facts.QUEUES[name]
    fits = f"{name} takes {facts.what_fits(name)}"
    (fewest, most), (shortest, longest) = queue.nodes, queue.walltime
    if nodes is not None and not fewest <= nodes <= most:
        yield Problem("nodes_per_block", nodes, fits, str(min(max(nodes, fewest), most)))
        nodes = None
    elif nodes is not None and queue.routes and nodes > facts.LARGE_JOBS_WAIT:
        wrong = f"may never start: about {facts.LARGE_JOBS_WAIT} nodes work at once"
        yield Problem("nodes_per_block", nodes, wrong, str(facts.LARGE_JOBS_WAIT), fatal=False)
    if duration is not None and not shortest <= duration <= longest:
        yield Problem("walltime", walltime, fits, facts.hms(min(max(duration, shortest), longest)))
    elif duration is not None and nodes is not None and queue.routes:
        # PBS may take such a job, give it an ID and lose it: no queue behind prod has room for it.
        limit = next(most for a, b, most in queue.routes if a <= nodes <= b)
        if duration > limit:
            enough = min(a for a, b, most in queue.routes if most >= duration)
            wrong = (
                f"with {nodes} nodes fits no queue behind prod, and PBS would lose the job: {fits}; "
                f"so {nodes} nodes for {facts.hms(limit)} at most, or {enough} nodes or more for {walltime}"
            )
            yield Problem("walltime", walltime, wrong, facts.hms(limit))
    takes = f"{name} lets one {queue.per} queue: {queue.queued}"
    jobs = settings.jobs
    if jobs is not None and jobs > queue.queued:
        yield Problem("jobs", jobs, f"is more than {takes}; held jobs count", str(queue.queued))
    blocks = settings.max_blocks
    if blocks is not None and blocks < 1:
        yield Problem("max_blocks", blocks, "is fewer than one block", "1")
    elif blocks is not None and blocks > queue.queued:
        yield Problem("max_blocks", blocks, f"is more jobs than {takes}", str(queue.queued))
    elif blocks is not None and blocks > queue.running:
        wrong = f"is more jobs than {name} runs at a time for one {queue.per}, {queue.running}: others wait"
        yield Problem("max_blocks", blocks, wrong, str(queue.running), fatal=False)


def _margin(settings):
    """Whether the end of the walltime, in which no task starts, leaves time for tasks."""
    margin, walltime = settings.margin, settings.walltime
    duration = None if walltime is None else facts.seconds(walltime)
    listed = facts.QUEUES.get(settings.queue)
    if not duration or (listed and duration < listed.walltime[0]):
        return  # said already
    mend = str(max(1, int(duration / 10)))
    if margin is not None and margin > duration / 2:
        yield Problem("margin", margin, f"seconds is more than half of the walltime, {walltime}", mend)
    elif margin is None and duration <= facts.SHORTEST_MARGIN:
        last = f"none starts in the last {facts.SHORTEST_MARGIN} s of a walltime, and that is {walltime}"
        yield Problem("margin", margin, f"leaves no time for tasks: {last}; set it in config.py, in s", mend)


def _unlisted_queue(name, nodes, duration, ask):
    listed = f"it is none of {', '.join(facts.QUEUES)}"
    if facts.NOT_FOR_USERS.fullmatch(name):
        yield Problem("queue", name, "takes no direct submission: prod routes jobs into it", "prod")
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        yield Problem("queue", name, f"is no name of a queue; {listed}", "debug")
        return
    live = ask(name)
    if live is None:
        wrong = f"is not known here, and there is no qstat to ask: {listed}, so its limits are not checked"
        yield Problem("queue", name, wrong, fatal=False)
    elif not live:
        yield Problem("queue", name, f"is not on this PBS server; {listed}", "debug")
    else:
        yield from _live_limits(name, live, nodes, duration)


def _live_limits(name, live, nodes, duration):
    """The limits that the server itself states for a queue, such as a reservation's."""
    if live.get("enabled") == "False" or live.get("started") == "False":
        yield Problem("queue", name, "is closed on this PBS server for now (qstat -Q)", fatal=False)
    for name, value, key in (("nodes_per_block", nodes, "nodect"), ("walltime", duration, "walltime")):
        for bound, word in (("min", "less"), ("max", "more")):
            limit = live.get(f"resources_{bound}.{key}")
            if value is None or limit is None:
                continue
            number = facts.seconds(limit) if key == "walltime" else int(limit)
            if number is not None and (value < number if bound == "min" else value > number):
                given = facts.hms(value) if key == "walltime" else value
                yield Problem(name, given, f"is {word} than {live['name']} takes: {limit}", limit)


def live_queue(name):
    """What PBS says of a queue: None without a server, {} without such a queue, else its limits."""
    listing = machine.output("qstat", "-Q")
    if listing is None:
        return None
    if not any(line.split()[:1] == [name] for line in listing.splitlines()[2:]):
        return {}
    pairs = re.findall(r"^ {4}(\S+) = (.*)$", machine.output("qstat", "-Qf", name) or "", re.MULTILINE)
    return {"name": name, **dict(pairs)}


def _filesystems(settings):
    given = settings.filesystems
    if given is None:
        return
    names = given.split(":")
    known = "known are " + " and ".join(facts.FILESYSTEMS)
    good = [name for name in names if name in facts.FILESYSTEMS]
    mend = ":".join(dict.fromkeys(good)) or "home:eagle"
    for name in names:
        if name in facts.NOT_ON_POLARIS:
            yield Problem("filesystems", given, f"{facts.NOT_ON_POLARIS[name]}; {known}", mend)
        elif name not in facts.FILESYSTEMS:
            yield Problem("filesystems", given, f"has {name!r}; {known}, joined by ':'", mend)
    for what, folder in (("project", settings.project_dir), ("run directory", settings.run_dir)):
        for name, roots in facts.FILESYSTEMS.items():
            if folder is not None and name not in names and folder_is_under(folder, roots):
                wrong = f"leaves out {name}, where the {what} lies ({folder}): a job could not read it"
                yield Problem("filesystems", given, wrong, ":".join(dict.fromkeys([*good, name])))


def folder_is_under(folder, roots):
    """Whether a folder lies below one of the roots, by its name or, behind links, by its place."""
    places = {Path(os.path.abspath(folder)), Path(os.path.realpath(folder))}
    return any(place.is_relative_to(root) for place in places for root in roots)


def _workers(settings):
    workers = settings.workers_per_gpu
    most = facts.MAX_WORKERS_PER_GPU
    if workers is not None and not 1 <= workers <= most:
        yield Problem("workers_per_gpu", workers, f"is not within 1-{most}", str(min(max(workers, 1), most)))
        workers = None
    rows, most_rows = settings.rows_per_task, facts.ROWS_PER_TASK
    if rows is not None and not 1 <= rows <= most_rows:
        yield Problem("rows_per_task", rows, f"is not within 1-{most_rows}; None: learnt", "None")
    if settings.retries is not None and settings.retries > 100:
        yield Problem("retries", settings.retries, "is more than 100 tries of one task", "2")
    if settings.cpu_affinity is None or workers is None:
        return
    # A list of another length makes every worker die while the run waits and the nodes are charged.
    given, right = settings.cpu_affinity, facts.cpu_affinity(workers)
    entries = given.split(":")
    entry = r"[0-9]{1,3}(-[0-9]{1,3})?"
    if entries[0] != "list" or not all(re.fullmatch(f"{entry}(,{entry})*", e) for e in entries[1:]):
        yield Problem("cpu_affinity", given, "is not list:A-B,C-D:..., threads of each worker", right)
        return
    if len(entries) - 1 != facts.GPUS_PER_NODE * workers:
        needed = facts.GPUS_PER_NODE * workers
        wrong = (
            f"has {len(entries) - 1} entries; {facts.GPUS_PER_NODE} GPUs x {workers} workers need {needed}"
        )
        yield Problem("cpu_affinity", given, wrong, right)
    threads = [n for e in entries[1:] for n in _threads(e)]
    beyond = [n for n in threads if n >= facts.THREADS_PER_NODE]
    twice = sorted({n for n in threads if threads.count(n) > 1})
    backwards = [e for e in entries[1:] if not _threads(e)]
    if beyond:
        wrong = f"names hardware thread {beyond[0]}; a node has 0-{facts.THREADS_PER_NODE - 1}"
        yield Problem("cpu_affinity", given, wrong, right)
    if twice:
        yield Problem("cpu_affinity", given, f"gives hardware thread {twice[0]} to two workers", right)
    if backwards:
        yield Problem("cpu_affinity", given, f"has the empty range {backwards[0]}", right)


def _ranks(settings):
    nodes, each, ranks = settings.nodes_per_task, settings.nodes_per_block, settings.ranks_per_node
    if nodes is not None and nodes < 1:
        wrong = "is less than a node: tasks that share nodes are the workload gpu, a project of its own"
        yield Problem("nodes_per_task", nodes, wrong, "1")
    elif None not in (nodes, each) and nodes > each:
        wrong = f"is more nodes than there are for it: {each}"
        yield Problem("nodes_per_task", nodes, wrong, str(each))
    elif None not in (nodes, each) and each % nodes:
        idle = f"leaves {each % nodes} of {each} nodes idle, and they are charged"
        yield Problem("nodes_per_task", nodes, idle, fatal=False)
    most = sum(map(len, facts.CORES_OF_GPU))
    if ranks is not None and not 1 <= ranks <= most:
        yield Problem("ranks_per_node", ranks, f"is not within 1-{most}", str(facts.GPUS_PER_NODE))
    elif None not in (ranks, settings.threads_per_rank):
        most = facts.threads_per_rank(ranks)
        if not 1 <= settings.threads_per_rank <= most:
            wrong = f"is not within 1-{most}, the hardware threads next to a GPU, for {ranks} ranks a node"
            yield Problem("threads_per_rank", settings.threads_per_rank, wrong, str(most))


def _submit_side(settings):
    """Whether workers would wait: for rows, where these are few, or for the next, where they are short."""
    nodes, took, each = settings.nodes_per_block, settings.seconds_per_row, settings.workers_per_gpu
    if None in (nodes, each) or nodes < 1:
        return
    blocks, per_node = settings.max_blocks or 1, facts.GPUS_PER_NODE * each
    workers, rows = nodes * blocks * per_node, settings.rows
    if rows and rows < workers:
        wrong = f"makes {workers} workers for {rows} rows: {workers - rows} of them would have nothing to do"
        listed = facts.QUEUES.get(settings.queue)
        fewest = listed.nodes[0] if listed else 1
        enough = max(fewest, -(-rows // (blocks * per_node)))
        few = max(1, -(-rows // (nodes * per_node)))
        if enough < nodes or nodes == fewest > 1:
            yield Problem("nodes_per_block", nodes, wrong, str(enough), fatal=False)
        elif few < blocks:
            yield Problem("max_blocks", blocks, wrong, str(few), fatal=False)
    if not took or took < 0:
        return
    grouped = 1 if settings.rows_alone else settings.rows_per_task
    most = min(facts.ROWS_PER_SECOND, (grouped or facts.ROWS_PER_SECOND) * facts.TASKS_PER_SECOND)
    if workers / took > most:
        busy = max(1, int(most * took / per_node / blocks))
        could = f"{nodes * blocks} node(s) could do {workers / took:,.0f} rows a second"
        wrong = f"workers would wait for rows: at {took:.2g} s a row, as measured so far, {could}"
        wrong += f", and one run.py hands out {most:,}"
        wrong += " where each is a task of its own" if grouped == 1 else ""
        wrong += ": give each row more to do"
        wrong += ", or set rows_per_task = None" if settings.rows_per_task and not settings.rows_alone else ""
        yield Problem("nodes_per_block", nodes, f"{wrong}, or take fewer nodes", str(busy), fatal=False)


def _threads(entry):
    """ "24-26,56" -> [24, 25, 26, 56]."""
    threads = []
    for part in entry.split(","):
        first, _, last = part.partition("-")
        threads += range(int(first), int(last or first) + 1)
    return threads


def check_driver(driver, blocks, *, from_driver):
    """Problems between the job of driver.pbs and the blocks of config.py.

    from_driver: whether blocks are about to be submitted from within that job; else they are only said.
    """
    queue = facts.QUEUES.get(blocks.queue)
    if queue is not None and driver.queue == blocks.queue and queue.running == 1:
        wrong = f"runs one job of a {queue.per} at a time: "
        wrong += f"blocks of a driver job in {blocks.queue} would never start"
        advice = "for MODE=blocks, give driver.pbs or config.py another queue"
        yield Problem("queue", driver.queue, f"{wrong}; {advice}", fatal=from_driver)
    for name in ("account", "queue", "nodes_per_block", "walltime", "filesystems"):
        ours, theirs = getattr(driver, name), getattr(blocks, name)
        if None not in (ours, theirs) and str(ours) != str(theirs):
            yield Problem(name, ours, f"differs from config.py, which has {theirs}", fatal=False)


def lacking_in_driver(driver, text):
    """Problems: what qsub asks for and no #PBS line of a driver script says, and lines that are none."""
    for number, line in _head_of(text):
        if re.match(r"#\s+PBS\s+-|#(pbs|Pbs)\s+-", line):
            wrong = "is a comment to PBS, which would do without it: write #PBS"
            yield Problem("directive", f"line {number}, {line.strip()!r}", wrong)
        for given in re.findall(r"-l\s*(\S+)", line) if line.startswith("#PBS") else ():
            yield from _resources(number, given)
    for name in ("account", "queue", "nodes_per_block", "walltime", "filesystems"):
        if not getattr(driver, name):
            wrong = "is nowhere in its #PBS lines: qsub must be told, or refuses the job"
            yield Problem(name, "", wrong, fatal=False)


def _head_of(text):
    """Yield (number, line) of a script up to its first command, where PBS stops too."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            return
        yield number, line


def _resources(number, given):
    """Problems of one -l of a driver script: a misspelt name, or nodes of another system."""
    for name, _, value in (part.partition("=") for part in given.split(",")):
        meant = difflib.get_close_matches(name, RESOURCES, 1, 0.75)
        if meant and name not in RESOURCES:
            yield Problem("directive", f"line {number}, -l {name}", f"is no resource: is {meant[0]} meant?")
        system = re.search(r"\bsystem=([^:+]*)", value) if name == "select" else None
        if system and system[1] != "polaris":
            wrong = "is no system here, and the job would wait for ever: system=polaris"
            yield Problem("directive", f"line {number}, system={system[1]}", wrong)


def read_driver(text):
    """The Settings in the #PBS lines of a driver script, and each one's line number."""
    found, lines = {}, {}
    for number, line in _head_of(text):
        for option, value in re.findall(r"-([Aql])\s*(\S+)", line) if line.startswith("#PBS") else ():
            pairs = {"A": [("account", value)], "q": [("queue", value)]}.get(option)
            for name, given in pairs or [part.partition("=")[::2] for part in value.split(",")]:
                name = {"select": "nodes_per_block"}.get(name, name)
                if name == "nodes_per_block":
                    given = given.split(":")[0]
                if name in Settings._fields:
                    found[name], lines[name] = given, number
    return Settings(**found), lines
