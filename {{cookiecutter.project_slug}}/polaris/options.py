"""The rules about single options of config.py and answers, one small thing each, see rules.py."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from . import facts, imported, prefix
from .rules import Case, OneOf, Problem, Problems, Within

SLUG = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
FOLDER = re.compile(r"[\w./@%+=,~-]+")
DATED = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9](-[A-Za-z0-9_.-]+)?")  # a conda module
SPAN = r"[0-9]{1,3}(-[0-9]{1,3})?"
SPANS = re.compile(f"{SPAN}(,{SPAN})*")  # of hardware threads
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MOST_RETRIES = 100
LARGEST = 999_999  # number that an option may be


# --- names and accounts ---------------------------------------------------------------------------
def slug_is_a_name(case: Case) -> Problems:
    slug = case.settings.project_slug
    if slug is None:
        return
    if SLUG.fullmatch(slug):
        return
    allowed = "a letter, then letters, digits, '-', '_', 63 at most"
    wrong = f"names the folder and the PBS job: {allowed}"
    joined = re.sub(r"[^A-Za-z0-9_]+", "-", slug)
    mend = joined.strip("-")
    if not SLUG.fullmatch(mend):
        mend = "my-project"
    yield Problem("project_slug", slug, wrong, mend)


def account_is_a_project(case: Case) -> Problems:
    account = case.settings.account
    if account is None:
        return
    if not re.fullmatch(facts.ACCOUNT, account):
        allowed = "letters, digits, '-', '_'; a number; PROJECT::NAME, a sub-allocation"
        wrong = f"is no ALCF project ({allowed})"
        yield Problem("account", account, wrong, facts.PLACEHOLDER)
        return
    project, _, _ = account.partition("::")
    if project.upper() == facts.PLACEHOLDER:
        wrong = "is a placeholder: PBS needs the name of your ALCF project"
        yield Problem("account", account, wrong, fatal=case.submitting)


# --- files ----------------------------------------------------------------------------------------
def filesystems_are_known(case: Case) -> Problems:
    given = case.settings.filesystems
    if given is None:
        return
    listed = " and ".join(facts.FILESYSTEMS)
    names = given.split(":")
    mend = _joined(names) or "home:eagle"
    for name in names:
        if name in facts.FILESYSTEMS:
            continue
        if name in facts.NOT_ON_POLARIS:
            why = facts.NOT_ON_POLARIS[name]
            wrong = f"{why}; known are {listed}"
        else:
            wrong = f"has {name!r}; known are {listed}, joined by ':'"
        yield Problem("filesystems", given, wrong, mend)


def folders_can_be_read(case: Case) -> Problems:
    settings = case.settings
    given = settings.filesystems
    if given is None:
        return
    if settings.project_dir is not None:
        yield from _left_out(given, "project", settings.project_dir)
    if settings.run_dir is not None:
        yield from _left_out(given, "run directory", settings.run_dir)
    own = settings.own_environment
    if own is not None:
        homes = facts.HOMES if case.submitting else ()
        yield from _left_out(given, "environment", own, settings.own_place, homes)


def _left_out(given, what, folder, place=None, homes=()):
    """Problems: file systems that a folder lies on, and that a job does not ask for.

    place: where the folder is set, unless it is clear. homes: folders of users' homes.
    """
    names = given.split(":")
    for name, roots in facts.FILESYSTEMS.items():
        if name in names:
            continue
        if name == "home":
            roots = (*roots, *homes, *map(os.path.realpath, homes))
        if _is_under(folder, roots):
            lies = f"where the {what} lies ({place or folder})"
            wrong = f"leaves out {name}, {lies}: a job could not read it"
            mend = _joined([*names, name])
            yield Problem("filesystems", given, wrong, mend)


def _joined(names):
    """The file systems of Polaris among the names, each once, as PBS takes them."""
    known = {}
    for name in names:
        if name in facts.FILESYSTEMS:
            known[name] = True
    return ":".join(known)


def _is_under(folder, roots):
    """Whether a folder lies below one of the roots, by its name or, behind links, by its place."""
    by_name = Path(os.path.abspath(folder))
    by_place = Path(os.path.realpath(folder))
    for root in roots:
        if by_name.is_relative_to(root):
            return True
        if by_place.is_relative_to(root):
            return True
    return False


def folders_suit_parsl(case: Case) -> Problems:
    """Parsl's scripts do not quote their own paths."""
    for name in ("project_dir", "run_dir", "own_environment"):
        folder = getattr(case.settings, name)
        if folder is None:
            continue
        if folder.startswith("~"):
            wrong = "is a folder of the name ~ in the project: write f'{Path.home()}/...'"
            yield Problem(name, folder, wrong)
        elif not FOLDER.fullmatch(folder):
            signs = "spaces or signs that Parsl's scripts cannot take"
            wrong = f"is a path with {signs}: use another folder"
            yield Problem(name, folder, wrong)


def environment_is_on_every_node(case: Case) -> Problems:
    settings = case.settings
    own = settings.own_environment
    project = settings.project_dir
    if own is None or project is None or not case.submitting:
        return
    for root in facts.OF_ONE_NODE:
        beside = _is_under(project, [root])
        if _is_under(own, [root]) and not beside:
            wrong = f"lies below {root}, which every node has for itself: no job could read it"
            yield Problem("own_environment", own, wrong, "a folder below /eagle")
            return


# --- workers, tries, rows in a task ---------------------------------------------------------------
workers_fit_a_gpu = Within(
    name="workers_per_gpu",
    least=1,
    most=facts.MAX_WORKERS_PER_GPU,
    wrong=f"is not within 1-{facts.MAX_WORKERS_PER_GPU}",
)
rows_fit_a_task = Within(
    name="rows_per_task",
    least=1,
    most=facts.ROWS_PER_TASK,
    wrong=f"is not within 1-{facts.ROWS_PER_TASK}; None: learnt",
    mend="None",
)
retries_are_few = Within(
    name="retries",
    least=0,
    most=MOST_RETRIES,
    wrong=f"is more than {MOST_RETRIES} tries of one task",
    mend="2",
)
idle_time_is_some = Within(
    name="idle_time",
    least=1,
    most=LARGEST,
    wrong="is less than a second: a block would be given back between two tasks",
    mend="600",
)


# --- MPI tasks ------------------------------------------------------------------------------------
ranks_fit_a_node = Within(
    name="ranks_per_node",
    least=1,
    most=facts.CORES_PER_NODE,
    wrong=f"is not within 1-{facts.CORES_PER_NODE}",
    mend=str(facts.GPUS_PER_NODE),
)


def nodes_of_a_task_fit_a_job(case: Case) -> Problems:
    nodes = case.settings.nodes_per_task
    there = case.nodes_of("mpi")
    if nodes is None:
        return
    if nodes < 1:
        wrong = "is less than a node: tasks that share nodes are those of the kind 'gpu'"
        yield Problem("nodes_per_task", nodes, wrong, "1")
        return
    if there is None:
        return
    if nodes > there:
        wrong = f"is more nodes than there are for it: {there}"
        yield Problem("nodes_per_task", nodes, wrong, str(there))
        return
    idle = there % nodes
    if idle:
        wrong = f"leaves {idle} of {there} nodes idle, and they are charged"
        yield Problem("nodes_per_task", nodes, wrong, fatal=False)


def threads_fit_a_gpu(case: Case) -> Problems:
    threads = case.settings.threads_per_rank
    ranks = case.settings.ranks_per_node
    if threads is None or ranks is None:
        return
    if any(ranks_fit_a_node(case)):
        return  # said already
    most = facts.threads_per_rank(ranks)
    if not 1 <= threads <= most:
        next_to = f"1-{most}, the hardware threads next to a GPU"
        wrong = f"is not within {next_to}, for {ranks} ranks a node"
        yield Problem("threads_per_rank", threads, wrong, str(most))


def problems_of_affinity(given: str, workers: int) -> Iterator[str]:
    """What is wrong with Parsl's list of the hardware threads of a node's workers, in words.

    With a list of another length every worker dies at its start, while nodes are charged.
    """
    first, *entries = given.split(":")
    good = [entry for entry in entries if SPANS.fullmatch(entry)]
    if first != "list" or good != entries:
        yield "is not list:A-B,C-D:..., threads of each worker"
        return
    number = len(entries)
    if number != workers:
        yield f"has {number} entries; {workers} workers of a node need {workers}"
    last = facts.THREADS_PER_NODE - 1
    taken = set()
    for entry in entries:
        threads = set(facts.numbers_in(entry))
        twice = taken & threads
        taken |= threads
        if not threads:
            yield f"has the empty range {entry}"
        elif max(threads) > last:
            yield f"names hardware thread {max(threads)}; a node has 0-{last}"
        if twice:
            yield f"gives hardware thread {min(twice)} to two workers"


# --- software -------------------------------------------------------------------------------------
def conda_version_is_there(case: Case) -> Problems:
    version = case.settings.conda_version
    if version is None:
        return
    if version in facts.CONDA_VERSIONS:
        return
    oldest = facts.CONDA_VERSIONS[1]
    listed = ", ".join(facts.CONDA_VERSIONS)
    dated = DATED.fullmatch(version) is not None
    if not dated:
        wrong = f"is no version of the conda module: {listed}"
    elif version < oldest:
        wrong = f"was deleted, as all old conda modules; in October 2026 there were {listed}"
    else:
        of_then = f"is none of the conda modules of October 2026 ({listed})"
        wrong = f"{of_then}; see: module avail conda"
    yield Problem("conda_version", version, wrong, "default", fatal=not dated)


def packages_are_there(case: Case) -> Problems:
    given = case.settings.preload
    if given is None:
        return
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        yield Problem("preload", given, "is no list of packages", '["numpy"]')
        return
    for name in given:
        wrong = _wrong_with_package(name, case.settings.project_dir)
        if wrong is not None:
            left = [other for other in given if other != name]
            yield Problem("preload", given, f"has {name!r}: {wrong}", f"{left}")


def _wrong_with_package(name, project):
    """Why a package is not one that is imported once for all workers of a node, or None."""
    first = name.partition(".")[0]
    if not all(part.isidentifier() for part in name.split(".")):
        return "that is no name of a package"
    why = imported.has_own_start(name)
    if why is not None:
        return f"{why}, so each worker imports it"
    if project and imported.own_module(name, Path(project)):
        return "it is of this project: each worker imports that itself, once what it uses is there"
    is_whole = all(map(importlib.util.find_spec, prefix.NEEDED))  # else that is said, and enough
    if is_whole and importlib.util.find_spec(first) is None:
        return "there is no such package in this environment"
    return None


local_environment_is_a_flag = OneOf(
    name="local_environment",
    allowed=(True, False),
    wrong="is neither True nor False",
    mend="False",
)


def local_environment_can_be_packed(case: Case) -> Problems:
    settings = case.settings
    if settings.local_environment is not True or settings.own_kind not in ("conda", "pixi"):
        return
    holds = "whose files hold the path that it was made at: it is used where it lies"
    wrong = f"packs what venv and uv make; {settings.own_place} is of {settings.own_kind}, {holds}"
    yield Problem("local_environment", True, wrong, "False")


monitoring_is_a_flag = OneOf(
    name="monitoring",
    allowed=(True, False),
    wrong="is neither True nor False",
    mend="False",
)
log_level_is_one = OneOf(
    name="log_level",
    allowed=LEVELS,
    wrong=f"is no level of logs: {', '.join(LEVELS)}",
    mend="WARNING",
)


def monitoring_is_installed(case: Case) -> Problems:
    given = case.settings.monitoring
    if given is not True:
        return
    if importlib.util.find_spec("sqlalchemy") is None:
        package = "pip install 'parsl[monitoring,visualization]'"
        wrong = f"needs more of Parsl: {package}, or set it to False"
        yield Problem("monitoring", given, wrong)
