"""What is wrong before a run, each problem a line that names its place: settings, job, scripts, environment.

The rules about values are in checks.py; here is where each value comes from, and what a start of Parsl needs.
"""

import contextlib
import difflib
import importlib.metadata
import os
import re
import shutil
import sys
import traceback
from pathlib import Path

from . import checks, facts, machine, parsl_inside
from .errors import Refused

PROJECT = Path(__file__).resolve().parent.parent

OPTIONS = (  # of config.py, that are checked
    "account", "queue", "nodes_per_block", "walltime", "filesystems", "max_blocks", "retries", "margin",
    "local_environment", "log_level", "monitoring",
)  # fmt: skip
OF_GPU = ("workers_per_gpu", "cpu_affinity", "rows_per_task")  # and those of each workload
OF_MPI = ("nodes_per_task", "ranks_per_node", "threads_per_rank")
NAMES = {  # of a setting, in driver.pbs
    "account": "#PBS -A",
    "queue": "#PBS -q",
    "nodes_per_block": "#PBS -l select",
    "walltime": "#PBS -l walltime",
    "filesystems": "#PBS -l filesystems",
}


def found(config, mode, every_file=False, jobs=None, **more):
    """Each problem as (fatal, line): of config.py, of the job that runs this, and of driver.pbs.

    more: fields of checks.Settings that are not set but known, of rows and results.
    """
    settings = _settings(config, **more)
    inside = "PBS_JOBID" in os.environ
    of_job = machine.settings_of_job() if inside and "PBS_NODEFILE" in os.environ else {}
    lines = _of_files(every_file) + _of_mpiexec(config, mode)
    if mode == "job" and of_job:
        # Its nodes, walltime, queue and account are those that qsub was told, whatever the files say.
        job = settings._replace(**of_job, max_blocks=None)
        wrong = checks.check(job, submitting=True, typed=True, running=True)
        lines += [(p.fatal, f"{_in_job(p, of_job)}: {_said(p)}") for p in wrong]
        if not every_file:
            return lines
    wrong = checks.check(settings, submitting=mode == "blocks", typed=True)
    lines += [(p.fatal, f"{in_config(p.name)} = {p.given!r}: {_said(p)}") for p in wrong]
    if every_file:
        lines += _of_driver(settings, jobs, inside, more)
    if inside and mode == "blocks":
        job = checks.Settings(**of_job)
        for p in checks.check_driver(job, settings, from_driver=True):
            lines.append((p.fatal, f"{_in_job(p, of_job)}: {_said(p)}"))
    return list(dict.fromkeys(lines))


def _of_files(every_file):
    """What keeps workers from starting: no program of Parsl's, scripts with line ends of Windows."""
    lines = []
    missing = machine.lacks_worker_pool(is_ours())
    if missing:
        wrong = f"{missing} has no process_worker_pool.py, which starts workers"
        lines.append((True, f"{wrong}: bash setup_env.sh"))
    scripts = sorted([*PROJECT.glob("*.sh"), *PROJECT.glob("polaris/*.sh")])
    for path in [PROJECT / "driver.pbs", *scripts] if every_file else scripts:
        with contextlib.suppress(OSError):
            found = [n for n, line in enumerate(path.read_bytes().split(b"\n"), 1) if b"\r" in line]
            if found:
                name = path.relative_to(PROJECT)
                more = f" and {len(found) - 1} more" if len(found) > 1 else ""
                wrong = "ends with CR LF, as on Windows, and PBS and bash take the CR for a part of it"
                lines.append((True, f"{name} line {found[0]}{more}: {wrong}: sed -i 's/\\r$//' {name}"))
    return lines


def _of_driver(settings, jobs, inside, more):
    """Those of driver.pbs, for the qsub that follows."""
    try:
        text = (PROJECT / "driver.pbs").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return [(False, f"driver.pbs: {error.strerror}: nothing of it is checked")]
    driver, numbers = checks.read_driver(text)
    ours = ("workers_per_gpu", "rows_per_task")  # checked in config.py
    job = driver._replace(jobs=jobs, nodes_per_task=settings.nodes_per_task, margin=settings.margin)
    job = job._replace(**{name: getattr(settings, name) for name in ours}, **more)
    submitting = inside or jobs is not None or shutil.which("qsub") is not None
    found = [p for p in checks.check(job, submitting=submitting) if p.name not in ours]
    found += checks.check_driver(driver, settings, from_driver=False)
    lines = []
    for p in checks.lacking_in_driver(driver, text):
        what = f"driver.pbs {p.given}:" if p.given else f"driver.pbs: {NAMES[p.name]}"
        lines.append((p.fatal, f"{what} {p.wrong}"))
    for p in found:
        where = f"driver.pbs line {numbers[p.name]}: " if p.name in numbers else "driver.pbs: "
        lines.append((p.fatal, f"{where}{NAMES.get(p.name, p.name)} {p.given}: {_said(p)}"))
    return lines


def of_a_start(config, mode):
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
    wrong = machine.problem_of_environment(mode, PROJECT)
    return [(True, f"{wrong}; bash setup_env.sh makes the environment anew")] if wrong else []


def parsl_config(config, mode):
    """What config.py makes for Parsl; Refused where run.py could not watch over it."""
    refuse_unknown_parsl()
    try:
        made = config.fresh_config(mode)
    except OSError as error:
        raise Refused(f"{in_config('run_dir')} = {os.fspath(config.run_dir)!r}: {error.strerror}") from None
    from .blocks import Recording

    where = f"{in_config('def fresh_config')}: its executors are"
    named = [f"{executor.label} ({type(executor).__name__})" for executor in made.executors]
    instead = "or load it in a script of your own: parsl.load(fresh_config())"
    if len(made.executors) != 1:
        wrong = "run.py watches, counts and holds back one alone, and would leave behind what runs on others"
        raise Refused(f"{where} {', '.join(named)}: {wrong}: leave one, {instead}")
    if not isinstance(made.executors[0], Recording):
        wrong = "run.py needs one that records where tasks run"
        raise Refused(f"{where} {named[0]}: {wrong}: take Executor, as it was, {instead}")
    label = made.executors[0].label
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", label):
        wrong = "has signs that Parsl's scripts cannot take: letters, digits, '-', '_' and '.' are fine"
        raise Refused(f"{in_config('def fresh_config')}: label={label!r} {wrong}")
    return made


def refuse_unknown_parsl():
    """Refused where another Parsl than the one that was tested lacks what is used of its inside."""
    version = importlib.metadata.version("parsl")
    if version == ".".join(map(str, facts.PARSL_TESTED)):
        return
    missing = parsl_inside.gone()
    if missing:
        tested = f"this project was tested with {'.'.join(map(str, facts.PARSL_TESTED))}"
        raise Refused(f"Parsl {version} lacks {', '.join(missing)}; {tested}: bash setup_env.sh installs it")


def refuse_incomplete(config):
    """Refused where config.py lacks an option, with the misspelt one that may be meant."""
    lines = []
    for name in (*options_of(config), "run_dir", "longest_first"):
        if not hasattr(config, name):
            close = difflib.get_close_matches(name, [n for n in vars(config) if not n.startswith("_")], 1)
            meant = f"; is {close[0]} meant for it? It is no option" if close else ""
            lines.append(f"config.py: the option {name} is missing{meant}")
    if lines:
        raise Refused("\n".join(lines))


def place_of(error, trace):
    """(a mistake in a line: file, line, what is wrong; whether it is in a file of the user's)."""
    ours = [frame for frame in traceback.extract_tb(trace) if Path(frame.filename).parent == PROJECT]
    if isinstance(error, SyntaxError):
        place = f"{error.filename} line {error.lineno}: "
    else:
        place = f"{ours[-1].filename} line {ours[-1].lineno}: " if ours else ""
    hint = ""
    if isinstance(error, NameError) and place.startswith(str(PROJECT / "config.py")):
        hint = ": text goes in quotes; other values are numbers, True, False or None"
    if isinstance(error, ModuleNotFoundError) and error.name in ("parsl", "numpy", "matplotlib"):
        hint = f"\n{sys.executable} has no {error.name}: source activate.sh (made by: bash setup_env.sh)"
    said = f"{place}{type(error).__name__}: {getattr(error, 'msg', error)}{hint}"
    return said, bool(ours) or isinstance(error, SyntaxError)


def _settings(config, **more):
    """The options of config.py as checks.Settings; a missing one is a mistake that names itself."""
    given = {name: getattr(config, name) for name in options_of(config)}
    script = (PROJECT / "activate.sh").read_text(encoding="utf-8")
    version = re.search(r"^conda_version=\"?([^\"\s#]*)", script, re.MULTILINE)
    return checks.Settings(
        **given,
        conda_version=version and version.group(1),
        **more,
        project_dir=str(PROJECT),
        run_dir=os.fspath(config.run_dir),
    )


def is_mpi(config):
    """Whether the tasks are MPI programs; else each has a GPU, or a part of one."""
    return any(hasattr(config, name) for name in OF_MPI)


def options_of(config):
    """The names of the options in config.py that are checked."""
    return (*OPTIONS, *(OF_MPI if is_mpi(config) else OF_GPU))


def _of_mpiexec(config, mode):
    """Whether what starts workers, or ranks, on the nodes is there, and the right one."""
    foreign = None if mode == "local" else machine.foreign_mpiexec()
    if foreign:
        return [
            (True, f"mpiexec is {foreign}, not that of PALS: uninstall what brought it (MPICH, Open MPI)")
        ]
    if mode == "local" and is_mpi(config) and not machine.has_mpiexec():
        return [(True, "there is no mpiexec on this machine, which starts the ranks: bash setup_env.sh")]
    return []


def is_ours():
    """Whether this Python is of the project's environment."""
    return Path(sys.prefix).resolve().is_relative_to((PROJECT / ".venv").resolve())


def _in_job(problem, of_job):
    """Where a setting comes from that the job has: driver.pbs, where that says the same, or qsub's own."""
    name = problem.name
    if name not in of_job:
        return f"{in_config(name)} = {problem.given!r}"
    with contextlib.suppress(OSError):
        driver, numbers = checks.read_driver((PROJECT / "driver.pbs").read_text(encoding="utf-8"))
        if name in numbers and str(getattr(driver, name)) == str(of_job[name]):
            return f"driver.pbs line {numbers[name]}: {NAMES[name]} {problem.given}"
    return f"this job: {NAMES[name].removeprefix('#PBS ')} {problem.given}"


def in_config(name):
    """Where config.py (activate.sh, for one) sets an option."""
    file = "activate.sh" if name == "conda_version" else "config.py"
    for number, line in enumerate((PROJECT / file).read_text(encoding="utf-8").splitlines(), 1):
        if re.match(rf"{name}\s*[=(]", line):
            return f"{file} line {number}: {name.removeprefix('def ')}"
    return f"{file}: {name.removeprefix('def ')}"


def _said(problem):
    mend = f" (for example {problem.mend})" if problem.mend else ""
    return f"{problem.wrong}{mend}"
