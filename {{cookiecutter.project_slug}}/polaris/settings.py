"""config.py and driver.pbs as given: what is wrong with them, each value with its file and line.

The rules are in checks.py; here is where each value comes from, and what a start of Parsl needs.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import traceback
from collections.abc import Iterable
from pathlib import Path

from . import checks, driver, environment, facts, layout, machine, options, prefix
from .errors import Refused
from .machine import PROJECT
from .rules import Problem, Settings
from .wanted import refuse_unknown

OPTIONS = (  # of config.py, that are checked
    "kinds",
    "nodes_of_kind",
    "account",
    "queue",
    "nodes_per_block",
    "walltime",
    "filesystems",
    "max_blocks",
    "idle_time",
    "rows_per_task",
    "retries",
    "margin",
    "preload",
    "local_environment",
    "log_level",
    "monitoring",
)
OF_KIND = {  # and those of each kind of workers
    "gpu": ("workers_per_gpu",),
    "cpu": ("cpu_workers", "cores_per_cpu_worker"),
    "node": (),
    "mpi": ("nodes_per_task", "ranks_per_node", "threads_per_rank"),
}
# Said of config.py already, where a job of driver.pbs runs with the same.
SHARED = ("nodes_of_kind",)  # but of a job alone where its kinds share the nodes: not in blocks
SAME_IN_JOB = ("kinds", *SHARED, "rows_per_task", *OF_KIND["gpu"], *OF_KIND["cpu"])
MAY_BE_NONE = ("margin", "rows_per_task")  # those that are learnt then
NAMES = {  # of a setting, in driver.pbs
    "account": "#PBS -A",
    "queue": "#PBS -q",
    "nodes_per_block": "#PBS -l select",
    "walltime": "#PBS -l walltime",
    "filesystems": "#PBS -l filesystems",
}
AFFINITIES = ("none", "block", "block-reverse", "alternating")  # that Parsl makes itself
OF_ACTIVATION = ("conda_version", "own_environment")  # and those in activate.sh

Line = tuple[bool, str]  # whether it refuses, and what is said


# --- config.py ------------------------------------------------------------------------------------
def kinds_of(config) -> tuple[str, ...]:
    """The kinds of workers in config.py, as far as they can be read."""
    kinds = getattr(config, "kinds", ())
    if not isinstance(kinds, list | tuple):
        return ()
    return tuple(kind for kind in kinds if kind in list(layout.KINDS))


def options_of(config) -> tuple[str, ...]:
    """The names of the options in config.py that are checked."""
    of_kinds = [name for kind in kinds_of(config) for name in OF_KIND[kind]]
    return (*OPTIONS, *of_kinds)


def refuse_incomplete(config) -> None:
    """Refused where config.py lacks an option, with the misspelt one that may be meant."""
    names = options_of(config)
    there = [name for name in vars(config) if not name.startswith("_")]
    lines = []
    for name in (*names, "run_dir"):
        if hasattr(config, name):
            if getattr(config, name) is None and name not in MAY_BE_NONE:
                lines.append(f"{in_config(name)} = None: is no value of this option")
            continue
        line = f"config.py: the option {name} is missing"
        for close in difflib.get_close_matches(name, there, 1):
            line += f"; is {close} meant for it? It is no option"
        lines.append(line)
    if lines:
        raise Refused("\n".join(lines))


def in_config(name: str) -> str:
    """Where config.py (activate.sh, for one) sets an option."""
    file = "activate.sh" if name in OF_ACTIVATION else "config.py"
    text = (PROJECT / file).read_text(encoding="utf-8")
    shown = name.removeprefix("def ")
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"{name}\s*[=(]", line):
            return f"{file} line {number}: {shown}"
    return f"{file}: {shown}"


def _given(config, known):
    """The options of config.py, with what else is known, as Settings."""
    script = (PROJECT / "activate.sh").read_text(encoding="utf-8")
    version = re.search(r"^conda_version=\"?([^\"\s#]*)", script, re.MULTILINE)
    set_there = {name: getattr(config, name) for name in options_of(config)}
    return Settings(
        **set_there,
        **prefix.as_settings(),
        **known,
        conda_version=version and version[1],
        project_dir=str(PROJECT),
        run_dir=os.fspath(config.run_dir),
    )


# --- what is wrong --------------------------------------------------------------------------------
def found(config, mode, every_file=False, jobs: int | None = None, **known) -> list[Line]:
    """Each problem: of config.py, of the job that runs this, and of driver.pbs.

    every_file: whether driver.pbs is looked at, too, for a qsub that may follow. jobs: of a chain.
    known: fields of Settings that are not set but known, of rows and results.
    """
    given = _given(config, known)
    lines = _of_scripts(every_file) + _of_mpiexec(config, mode)
    of_job = _of_this_job()
    if mode == "job" and of_job:
        lines += _of_a_run_in_it(given, of_job)
        if not every_file:
            return lines
    of_config = checks.check(given, submitting=mode == "blocks", typed=True)
    for problem in of_config:
        place = f"{in_config(problem.name)} = {problem.given!r}"
        lines.append(_line(place, problem))
    if every_file:
        lines += _of_driver(given, jobs, known, of_config)
    if mode == "blocks" and "PBS_JOBID" in os.environ:
        lines += _of_blocks_from_it(given, of_job)
    return list(dict.fromkeys(lines))


def refuse(lines: Iterable[Line]) -> None:
    """Refused with those lines that refuse, where there are any."""
    fatal = [line for is_fatal, line in lines if is_fatal]
    if fatal:
        raise Refused("\n".join(fatal))


def _line(place: str, problem: Problem) -> Line:
    said = f"{place}: {problem.wrong}"
    if problem.mend:
        said += f" (for example {problem.mend})"
    return problem.fatal, said


def _of_scripts(every_file):
    """What keeps workers from starting: no program of Parsl's, line ends of Windows in scripts."""
    lines = [(True, line) for line in prefix.wrong()]
    missing = environment.lacks_worker_pool(prefix.is_ours())
    if missing and not lines:
        wrong = f"{missing} has no process_worker_pool.py, which starts workers"
        lines.append((True, f"{wrong}: {prefix.mend()}"))
    scripts = [*PROJECT.glob("*.sh"), *PROJECT.glob("polaris/*.sh")]
    scripts.sort()
    if every_file:
        scripts.insert(0, PROJECT / "driver.pbs")
    for path in scripts:
        with contextlib.suppress(OSError):
            lines += _of_line_ends(path)
    return lines


def _of_line_ends(path):
    name = path.relative_to(PROJECT)
    numbers = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if b"\r" in line:
            numbers.append(number)
    if not numbers:
        return []
    first, *others = numbers
    where = f"{name} line {first}"
    if others:
        where += f" and {len(others)} more"
    wrong = "ends with CR LF, as on Windows, and PBS and bash take the CR for a part of it"
    return [(True, f"{where}: {wrong}: sed -i 's/\\r$//' {name}")]


def _of_mpiexec(config, mode):
    """Whether what starts workers, or ranks, on the nodes is there, and the right one."""
    if mode != "local":
        foreign = environment.foreign_mpiexec()
        if foreign is None:
            return []
        wrong = f"mpiexec is {foreign}, not that of PALS"
        return [(True, f"{wrong}: uninstall what brought it (MPICH, Open MPI)")]
    if "mpi" in kinds_of(config) and not environment.has_mpiexec():
        wrong = "there is no mpiexec on this machine, which starts the ranks"
        return [(True, f"{wrong}: {'pip install mpich' if prefix.own() else prefix.mend()}")]
    return []


# --- the job that runs this -----------------------------------------------------------------------
def _of_this_job():
    """{option: value} of the job that runs this; {} outside of one."""
    if "PBS_JOBID" in os.environ and "PBS_NODEFILE" in os.environ:
        return machine.settings_of_job()
    return {}


def _of_a_run_in_it(given, of_job):
    """Its nodes, walltime, queue and account are those that qsub was told, not the files'."""
    job = given._replace(**of_job, max_blocks=None)
    if of_job.get("nodes_per_block") == 1:  # which may have it on its own disk
        job = job._replace(own_environment=None)
    lines = []
    for problem in checks.check(job, submitting=True, typed=True, running=True):
        place = _in_job(problem, of_job)
        lines.append(_line(place, problem))
    return lines


def _of_blocks_from_it(given, of_job):
    lines = []
    job = Settings(**of_job)
    for problem in driver.beside(job, given, from_driver=True):
        place = _in_job(problem, of_job)
        lines.append(_line(place, problem))
    return lines


def _in_job(problem, of_job):
    """Where a setting comes from that the job has: driver.pbs, if that says the same, or qsub."""
    name = problem.name
    if name not in of_job:
        return f"{in_config(name)} = {problem.given!r}"
    shown = f"{NAMES[name]} {problem.given}"
    with contextlib.suppress(OSError):
        text = (PROJECT / "driver.pbs").read_text(encoding="utf-8")
        written, numbers = driver.read(text)
        if str(getattr(written, name)) == str(of_job[name]):
            return f"driver.pbs line {numbers[name]}: {shown}"
    return f"this job: {shown.removeprefix('#PBS ')}"


# --- driver.pbs -----------------------------------------------------------------------------------
def _of_driver(given, jobs, known, said):
    """Those of driver.pbs, for the qsub that follows. said: problems of config.py."""
    try:
        text = (PROJECT / "driver.pbs").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return [(False, f"driver.pbs: {error.strerror}: nothing of it is checked")]
    written, numbers = driver.read(text)
    lines = []
    for problem in driver.lacking(written, text):
        what = f"driver.pbs {problem.given}:"
        if not problem.given:
            what = f"driver.pbs: {NAMES[problem.name]}"
        lines.append((problem.fatal, f"{what} {problem.wrong}"))
    for problem in _of_a_qsub(written, given, jobs, known, said):
        where = "driver.pbs"
        if problem.name in numbers:
            where += f" line {numbers[problem.name]}"
        option = NAMES.get(problem.name, problem.name)
        lines.append(_line(f"{where}: {option} {problem.given}", problem))
    return lines


def _of_a_qsub(written, given, jobs, known, said):
    """Problems of a job as driver.pbs asks for it, that runs with the options of config.py."""
    job = written._replace(
        **known,
        jobs=jobs,
        **prefix.as_settings(),
        margin=given.margin,
        kinds=given.kinds,
        nodes_of_kind=given.nodes_of_kind,
        nodes_per_task=given.nodes_per_task,
        workers_per_gpu=given.workers_per_gpu,
        rows_per_task=given.rows_per_task,
    )
    inside = "PBS_JOBID" in os.environ
    submitting = inside or jobs is not None or shutil.which("qsub") is not None
    for problem in checks.check(job, submitting=submitting):
        if problem.name not in SAME_IN_JOB or (problem.name in SHARED and problem not in said):
            yield problem
    yield from driver.beside(written, given, from_driver=False)


# --- Parsl ----------------------------------------------------------------------------------------
def of_a_start(config, mode: str) -> list[Line]:
    """What keeps Parsl from starting, tried: its configuration, and its program for workers."""
    there = os.path.exists(config.run_dir)
    try:
        parsl_config(config, mode)
    except Refused as refusal:
        return [(True, line) for line in str(refusal).splitlines()]
    except Exception as error:  # a mistake in config.py
        line, theirs = place_of(error, error.__traceback__)
        if not theirs:
            raise
        return [(True, line)]
    finally:
        if not there:
            with contextlib.suppress(OSError):
                os.rmdir(config.run_dir)
    wrong = environment.problem_of_start(mode)
    if wrong is None:
        return []
    mend = prefix.mend()
    if prefix.own() is None:
        mend += " makes the environment anew"
    return [(True, f"{wrong}; {mend}")]


def parsl_config(config, mode: str, run_dir: os.PathLike | None = None):
    """What config.py makes for Parsl; Refused where a session could not watch over it.

    run_dir: of Parsl's files; None: that of config.py.
    """
    refuse_unknown_parsl()
    folder = config.run_dir if run_dir is None else run_dir
    try:
        made = config.fresh_config(mode, folder)
    except OSError as error:
        place = f"{in_config('run_dir')} = {os.fspath(folder)!r}"
        raise Refused(f"{place}: {error.strerror}") from None
    _refuse_strangers(made.executors)
    for executor in made.executors:
        _refuse_label(executor)
        _refuse_affinity(executor)
    refuse_unknown([executor.label for executor in made.executors])
    return made


def refuse_unknown_parsl() -> None:
    """Refused where another Parsl than the tested one lacks what is used of its inside."""
    wrong = prefix.unknown_parsl()
    if wrong is None:
        return
    tested = ".".join(map(str, facts.PARSL_TESTED))
    mend = prefix.mend()
    if prefix.own() is None:
        mend += " installs it"
    raise Refused(f"{wrong}; this project was tested with {tested}: {mend}")


def _refuse_strangers(executors):
    """A session watches its own executors and awaits threads; others would go on without it."""
    from parsl.executors import ThreadPoolExecutor

    from .parsl_parts import Recording

    ours = [each for each in executors if isinstance(each, Recording)]
    strangers = []
    for executor in executors:
        if not isinstance(executor, Recording | ThreadPoolExecutor):
            strangers.append(_named(executor))
    where = f"{in_config('def fresh_config')}: its executors are"
    named = ", ".join(map(_named, executors))
    instead = "or load it in a script of your own: parsl.load(fresh_config())"
    if not ours:
        wrong = "run.py needs one that records where tasks run"
        raise Refused(f"{where} {named}: {wrong}: take Executor, as it was, {instead}")
    if strangers:
        wrong = f"run.py cannot watch or hold back {', '.join(strangers)}"
        wrong += ", and would leave behind what runs there"
        mend = "take Executor, or Parsl's ThreadPoolExecutor"
        raise Refused(f"{where} {named}: {wrong}: {mend}, {instead}")


def _named(executor):
    return f"{executor.label} ({type(executor).__name__})"


def _refuse_label(executor):
    if re.fullmatch(r"[A-Za-z0-9_.-]+", executor.label):
        return
    place = f"{in_config('def fresh_config')}: label={executor.label!r}"
    allowed = "letters, digits, '-', '_' and '.' are fine"
    raise Refused(f"{place} has signs that Parsl's scripts cannot take: {allowed}")


def _refuse_affinity(executor):
    """Refused where a list does not fit the workers of a node, which would die at their start."""
    given = getattr(executor, "cpu_affinity", "none")
    workers = getattr(executor, "max_workers_per_node", None)
    if given in AFFINITIES or not isinstance(workers, int):
        return
    place = f"{in_config('def fresh_config')}: cpu_affinity = {given!r} of {executor.label}"
    wrong = [f"{place}: {line}" for line in options.problems_of_affinity(given, workers)]
    if wrong:
        raise Refused("\n".join(wrong))


# --- where a mistake is ---------------------------------------------------------------------------
def place_of(error: BaseException, trace) -> tuple[str, bool]:
    """(a mistake in a line: file, line, what is wrong; whether it is in a file of the user's)."""
    place = ""
    in_config_py = False
    if isinstance(error, SyntaxError):
        place = f"{error.filename} line {error.lineno}: "
    for frame in traceback.extract_tb(trace):
        path = Path(frame.filename)
        if path.parent == PROJECT and not isinstance(error, SyntaxError):
            place = f"{path} line {frame.lineno}: "
            in_config_py = path.name == "config.py"
    hint = ""
    if isinstance(error, NameError) and in_config_py:
        hint = ": text goes in quotes; other values are numbers, True, False or None"
    if isinstance(error, ModuleNotFoundError) and error.name in prefix.NEEDED:
        hint = f"\n{prefix.in_want_of(error.name)}"
    said = getattr(error, "msg", error)
    return f"{place}{type(error).__name__}: {said}{hint}", place != ""
