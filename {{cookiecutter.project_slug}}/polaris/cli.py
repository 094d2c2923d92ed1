"""The command line of run.py: run the ensemble, check the settings, show what would be submitted."""

import argparse
import ast
import contextlib
import hashlib
import importlib
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from . import facts, machine, problems, tables, views
from .ensemble import WINDOW, Ensemble, in_words, note_ends
from .errors import Refused, one_line
from .lock import is_here, lives, read
from .problems import PROJECT
from .sources import unused_columns

DONE, TASKS_FAILED, REFUSED, UNFINISHED, INTERRUPTED = 0, 1, 2, 75, 130
BY_THE_USER = ("Ctrl-C", "the loss of the terminal")


def _mistake(kind, error, trace):
    """In place of a traceback: where a mistake in the user's files is, in one line, and leave with 2."""
    if issubclass(kind, KeyboardInterrupt | BrokenPipeError):
        os._exit(INTERRUPTED)
    line, theirs = problems.place_of(error, trace)
    print(line, file=sys.stderr, flush=True)
    if not theirs:
        traceback.print_exception(kind, error, trace)  # ours to mend, not the user's
    sys.stdout.flush()
    os._exit(REFUSED)


sys.excepthook = _mistake


def main(inputs_file, inputs, outputs, task, summarize, argv=None):
    """Do what the command line says; returns 0 all done, 1 some task failed, 2 wrong settings or usage."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Run the ensemble: one task for each row of the input that has no result yet.",
        epilog="status: 0 all done, 1 some task failed, 2 wrong settings or usage, 75 unfinished (walltime), "
        "130 stopped by Ctrl-C",
    )
    parser.add_argument("inputs_file", nargs="?", help=f"CSV file (default: {inputs_file})")
    parser.add_argument(
        "--mode",
        choices=["auto", *machine.MODES],
        default="auto",
        help="local: this machine; job: the nodes of the PBS job this runs in; blocks: submit PBS jobs; "
        "auto: job inside a job, blocks where there is a qsub, else local",
    )
    parser.add_argument("--check", action="store_true", help="say what is wrong with the settings")
    parser.add_argument("--status", action="store_true", help="say how far a run in this folder is")
    parser.add_argument("--dry-run", action="store_true", help="print the script that would be submitted")
    parser.add_argument("--jobs", type=int, help=argparse.SUPPRESS)  # chain.sh, before it submits so many
    args = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a name that the locale has no letters for is no reason to end
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    given = args.inputs_file and os.path.abspath(args.inputs_file)
    os.chdir(PROJECT)  # results, logs and the default input lie there, wherever this was called from
    config = importlib.import_module("config")
    inputs_file = _shown(given) if given else inputs_file
    try:
        problems.refuse_incomplete(config)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    ensemble = Ensemble(inputs_file, inputs, outputs, task, longest_first=config.longest_first)
    try:
        mode = machine.choose_mode(args.mode)
        if mode == "job":
            machine.nodes_of_job()
        if args.check:
            return _check(config, mode, ensemble, args.jobs)
        if args.status:
            if not given:
                ensemble.inputs_file = ensemble.last_run().get("input", inputs_file)
            return _status(ensemble)
        if args.dry_run:
            return _dry_run(config, args.mode)
        _refuse(problems.found(config, mode))
        status = _run(config, mode, ensemble, summarize)
    except (Refused, machine.WrongMode) as error:
        print(error, file=sys.stderr)
        status = REFUSED
    if os.environ.get("CHAIN") and status in (TASKS_FAILED, REFUSED):
        print(f"the chain ends here: no later job would mend what this one left (status {status})")
        status = DONE  # chain.sh's next job starts if this one fails
    if ensemble.at_once:
        # Threads of Parsl's may wait for what is gone by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _shown(path):
    """A path as it is shown: relative to the project where it lies in it."""
    near = os.path.relpath(path, PROJECT)
    return os.path.abspath(path) if near.startswith("..") else near


def _count(number, noun):
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- checks --------------------------------------------------------------------------------------
def _refuse(problems):
    fatal = [line for is_fatal, line in problems if is_fatal]
    if fatal:
        raise Refused("\n".join(fatal))


def _check(config, mode, ensemble, jobs):
    """Everything that this machine can show before a node hour is spent."""
    known = {"seconds_per_row": ensemble.seconds_per_row(), "rows_alone": ensemble.last_run().get("alone")}
    wrong_rows = []
    try:
        ensemble.plan()
        rows = f"{_count(ensemble.total, 'row')} in {ensemble.inputs_file}, {ensemble.done} of them done"
        known["rows"] = ensemble.left
    except Refused as error:
        wrong_rows = [(True, line) for line in str(error).splitlines()]
        rows = None
    wrong = problems.found(config, mode, every_file=True, jobs=jobs, **known) + wrong_rows
    run_dir = Path(config.run_dir)
    folder = next(p for p in (run_dir, *run_dir.absolute().parents) if p.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        place = problems.in_config("run_dir")
        wrong.append((True, f"{place} = {str(run_dir)!r}: {folder} cannot be written to"))
    try:
        parsl = importlib.metadata.version("parsl")
        if tuple(map(int, parsl.split(".")[:3])) < facts.PARSL_TESTED:
            needed = ".".join(map(str, facts.PARSL_TESTED))
            wrong.append((True, f"Parsl {parsl} is older than {needed}: bash setup_env.sh"))
    except importlib.metadata.PackageNotFoundError:
        parsl = "none"
        wrong.append((True, f"{sys.executable} has no Parsl: bash setup_env.sh; source activate.sh"))
    if not problems.is_ours():
        wrong.append((False, f"{sys.prefix} is not the project's environment: source activate.sh"))
    if mode == "blocks" and shutil.which("qsub") is None:
        wrong.append((True, "mode blocks needs qsub, which is not on PATH: use a login node"))
    if not any(fatal for fatal, _ in wrong):
        wrong += problems.of_a_start(config, mode)
    for what, seen in (
        ("mode", mode),
        ("environment", f"{sys.prefix} (Python {sys.version.split()[0]})"),
        ("Parsl", parsl),
        ("conda module", os.environ.get("CONDA_PREFIX") or "none loaded"),
        ("qsub", shutil.which("qsub") or "none: this is no login node"),
        ("GPUs", machine.gpus_in_words()),
        ("run directory", run_dir),
        ("input", rows),
    ):
        if seen is not None:
            print(f"{what + ':':15} {seen}")
    for fatal, line in wrong:
        print(f"{'WRONG' if fatal else 'note'}:  {line}")
    fatal = sum(is_fatal for is_fatal, _ in wrong)
    notes = len(wrong) - fatal
    said = f"{fatal} to mend" if fatal else "nothing to mend"
    print(f"{said}, {_count(notes, 'note')}" if notes else said)
    return REFUSED if fatal else DONE


def _status(ensemble):
    """What a run that goes on last wrote about itself, else what the results say; neither is disturbed."""
    file = ensemble.lock.file
    try:
        seen = file.stat().st_mtime
    except OSError:
        return _status_of_results(ensemble)
    run = read(file)
    if run is None:
        print(f"{file} cannot be read: a crash left it so, and the next run clears it away")
        return _status_of_results(ensemble)
    job = f", PBS job {run['job']}" if run["job"] else ""
    print(f"mode {run['mode']}, process {run['pid']} on {run['host']}{job}, since {run['since']}")
    print(f"as of {time.strftime('%H:%M:%S', time.localtime(seen))}:", *run.get("lines", []), sep="\n")
    if not lives(file):
        ensemble.plan()
        print(f"results: done {ensemble.done}, left {ensemble.left} of {ensemble.total}")
        gone = "that process is gone: it was killed" if is_here(run) else "none: it, or its node, was killed"
        print(f"{gone}; run again to go on")
    return DONE


def _status_of_results(ensemble):
    ensemble.plan()
    print("no run goes on here")
    counted = f"done {ensemble.done}, left {ensemble.left} of {ensemble.total}"
    with contextlib.suppress(OSError):
        failed = min(sum(1 for _ in tables.rows_of(ensemble.failures_file)), ensemble.left)
        if failed > 0:
            counted += f"; the last run failed in {failed} of those left: {ensemble.failures_file}"
    print(f"{ensemble.inputs_file}: {counted}")
    return DONE


# --- running -------------------------------------------------------------------------------------
def _run(config, mode, ensemble, summarize):
    """Hold the results, plan, run what is missing, sum up; returns the status."""
    start = time.monotonic()
    ensemble.hold(mode)
    try:
        ensemble.plan()
        unused = unused_columns(ensemble.inputs_file, ensemble.inputs)
        lines = [f"{ensemble.inputs_file}: {_count(ensemble.total, 'task')}"]
        lines[0] += f", {ensemble.done} of them done before" if ensemble.done else ""
        lines[0] += f"; no task is given the columns {', '.join(unused)}" if unused else ""
        if ensemble.strangers:
            rows = f"{ensemble.results_file} has {_count(ensemble.strangers, 'row')}"
            lines.append(f"{rows} that the input has no more: kept, and left out of the summary")
        if ensemble.repeated:
            rows = f"{ensemble.results_file} has {_count(len(ensemble.repeated), 'row')} more than once"
            lines.append(f"{rows}: the first of each counts, in the summary too")
        changed = ensemble.code_since(_users_code())
        if changed is None and ensemble.done:
            lines.append("whether the apps were edited is not known: a crash left the note of it unreadable")
        if changed and ensemble.done:
            so_far = f"{changed}: the {_count(ensemble.done, 'result')} so far are kept"
            lines.append(f"{so_far}; to have them computed again, move {ensemble.folder}/ away")
        status = DONE
        if ensemble.left:
            status = _run_what_is_missing(config, mode, ensemble, lines)
        else:
            print(*lines, "nothing to do: every row has its result", sep="\n", flush=True)
        if ensemble.left == 0:
            if ensemble.done:
                status = _summarize(ensemble, summarize)
            if ensemble.failed:
                status = status or TASKS_FAILED
                failed = f"{ensemble.failed} of {_count(ensemble.total, 'task')} failed"
                print(f"{failed} and will be tried again by the next run: {ensemble.failures_file}")
                print(f"the last one: {ensemble.last_failure}")
            seconds = in_words(time.monotonic() - start)
            print(f"{ensemble.done} of {ensemble.total} tasks done, in {seconds}: {ensemble.results_file}")
        if ensemble.ended:
            print("where the time went: python -m polaris.report")
        if mode == "blocks":
            note_ends(ensemble.runs_file)
    finally:
        ensemble.lock.let_go()
    return status


def _users_code():
    """{path: digest} of the user's code: modules of the project that run.py imports, and what these use."""
    found, files = {}, []
    for name, module in list(sys.modules.items()):
        if name not in ("__main__", "config"):
            files.append(getattr(module, "__file__", None))
    while files:
        with contextlib.suppress(OSError, SyntaxError, TypeError, ValueError):  # no file, or none of here
            path = Path(files.pop())
            near = path.resolve().relative_to(PROJECT)
            if near.parts[0] not in ("polaris", ".venv") and str(near) not in found:
                text = path.read_bytes()
                found[str(near)] = hashlib.sha256(text).hexdigest()
                files += _named_in(text)
    return found


def _named_in(code):
    """Files that a module imports, within its functions too, or names, such as the program of ranks."""
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = PROJECT / name.replace(".", "/")
            yield from (place.with_suffix(".py"), place / "__init__.py")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            yield PROJECT / node.value


def _run_what_is_missing(config, mode, ensemble, lines):
    """Load Parsl, run the missing tasks on it, and leave no block behind."""
    import parsl

    from .blocks import Blocks, clear_up, losses
    from .calls import Calls

    left = ensemble.lock.left
    if left and left["mode"] is None:
        lines.append(
            f"{ensemble.lock.file} could not be read, a crash left it so: what that run had in PBS, if "
            "anything, is not known: qstat -u $USER"
        )
    elif left:
        ended = clear_up(left["mode"], left["blocks"], os.path.abspath(config.run_dir))
        if ended:
            lines.append(f"ended what a killed run had left: {', '.join(ended)}")
    parsl_config = problems.parsl_config(config, mode)
    began = time.time()
    ensemble.on_signals()
    logging.raiseExceptions = False  # a full disk is said once, not by each log
    before = set(threading.enumerate())
    dfk = parsl.load(parsl_config)
    view, status, alone, calls = None, DONE, None, None
    try:
        blocks = Blocks(dfk, mode, config.margin, [t for t in threading.enumerate() if t not in before])
        while not (blocks.asked() or ensemble.stopping):  # a refused qsub is all that is said then
            time.sleep(0.1)
            blocks.look_for_dead_parts()
        ensemble.note(blocks.ids())
        if not blocks.broken():
            ensemble.log("start", began=began, **blocks.about(), **_about_run(config, mode, ensemble))
            lines.append(f"mode {mode}: {blocks.expected()}; Parsl's logs: {_shown(dfk.run_dir)}")
            print(*lines, sep="\n", flush=True)
            view = views.progress()
            groups = None
            if not problems.is_mpi(config):
                from .groups import Groups

                groups = Groups(blocks.workers, config.retries, config.rows_per_task)
            calls = Calls(dfk, ensemble.stops_while_waiting, hold_back=groups is not None)
            ensemble.run(view, max(WINDOW, 4 * blocks.workers), blocks, groups, calls)
            alone = groups is None or groups.alone
            view.close()
        if losses():
            print(losses())
        if calls and calls.waited:
            instead = "give the future to the next app instead"
            print(f"task() waited for results, so that rows ran one after the other: {instead}")
        if ensemble.stopping in (None, "no workers") and blocks.broken():
            status = UNFINISHED if ensemble.ended else REFUSED
            print(blocks.reason(), file=sys.stderr, flush=True)
        if ensemble.stopping and status != REFUSED and ensemble.left:
            status = INTERRUPTED if ensemble.stopping in BY_THE_USER else UNFINISHED
            tasks = f"{ensemble.left} of {ensemble.total} tasks left"
            print(f"stopped by {ensemble.stopping}", flush=True)
            print(f"unfinished: {tasks}; {_goes_on(ensemble, blocks)}", flush=True)
    finally:
        if calls:
            calls.close()
        if view:
            view.close()
        if not ensemble.at_once:
            with contextlib.suppress(Exception):
                blocks.last_look(ensemble)
                dfk.cleanup()
        warning = blocks.abandon() if ensemble.at_once else blocks.release()
        if warning:
            print(warning, file=sys.stderr)
        if ensemble.run_number is not None:
            ended = {"stopped": ensemble.stopping, "at_once": ensemble.at_once, "alone": alone}
            with contextlib.suppress(OSError, Refused):  # a full disk was said before
                ensemble.log("end", done=ensemble.done, failed=ensemble.failed, left=ensemble.left, **ended)
    return status


def _goes_on(ensemble, blocks):
    """What goes on from here, in words."""
    goes_on = f"{machine.again()} goes on from here"
    if ensemble.stopping == "SIGTERM" and machine.starts_again(blocks.end):
        by_itself = "after preemption or qrerun PBS starts this job again by itself, and it goes on"
        return f"{by_itself}; else {goes_on}"
    if os.environ.get("CHAIN"):
        return f"the next job of the chain goes on from here; without one, {goes_on}"
    return goes_on


def _about_run(config, mode, ensemble):
    """What the report tells of a run: where it ran, by which settings and versions."""
    where = {"mode": mode, "host": socket.gethostname(), "job": os.environ.get("PBS_JOBID")}
    settings = {name: getattr(config, name) for name in problems.options_of(config)}
    versions = {"Python": sys.version.split()[0], "Parsl": importlib.metadata.version("parsl")}
    versions["conda"] = os.environ.get("CONDA_PREFIX")
    rows = {"input": ensemble.inputs_file, "total": ensemble.total, "done": ensemble.done}
    return {**where, **rows, "settings": settings, "versions": versions}


def _summarize(ensemble, summarize):
    """Call the user's summarize; a mistake in it is said, and takes nothing from the results.

    Its apps run in this process: the nodes are given back by now, and a block need not be waited for.
    """
    import parsl

    from .here import Here

    def call(app, arguments):
        futures = [app(*each) for each in arguments]
        return [future.result() for future in futures]

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    here = {"executors": [Here(label="here")], "initialize_logging": False}
    try:
        with tempfile.TemporaryDirectory() as folder, parsl.load(parsl.Config(**here, run_dir=folder)):
            made = summarize(ensemble.results(), call, ensemble.folder)
    except Refused as error:
        print(f"the summary is not made: {error}", file=sys.stderr)
        return REFUSED
    except (Exception, SystemExit) as error:
        at = traceback.extract_tb(error.__traceback__)[1]
        place = f"{_shown(at.filename)} line {at.lineno}: {one_line(error)}"
        print(f"the results are safe, but summarize in run.py failed: {place}", file=sys.stderr)
        return REFUSED
    if isinstance(made, str | os.PathLike) and os.path.exists(made):
        print(f"picture: {os.path.relpath(made)}")
        if ensemble.run_number is not None:
            ensemble.log("picture", path=os.path.relpath(made))
    return DONE


def _dry_run(config, mode):
    """Print the script of a block with everything as it would be, but for the moment's port and time."""
    if mode == "local":
        print("mode local submits nothing", file=sys.stderr)
        return DONE
    if mode == "job":
        sys.stdout.write((PROJECT / "driver.pbs").read_text(encoding="utf-8"))
        return DONE
    wrong = problems.found(config, "blocks")
    for _, line in wrong:
        print(line, file=sys.stderr)
    if any(fatal for fatal, _ in problems.found(config, "local")):
        return REFUSED
    parsl_config = problems.parsl_config(config, "blocks")
    executor = parsl_config.executors[0]
    from parsl.dataflow.rundirs import make_rundir

    with tempfile.TemporaryDirectory() as folder:
        for run in Path(config.run_dir).glob("[0-9]*[0-9]"):
            (Path(folder) / run.name).mkdir()  # so that the number of the run is the next one
        executor.run_dir = make_rundir(folder)
        executor.provider.script_dir = os.path.join(executor.run_dir, "submit_scripts")
        os.mkdir(executor.provider.script_dir)
        executor.run_id, executor.monitoring_messages = "dry-run", None
        executor.log_config = parsl_config.initialize_logging
        executor.provider.execute_wait = lambda *_: (0, "dry-run", "")  # instead of qsub
        executor.start()
        try:
            executor._launch_block("0")
        finally:
            executor.shutdown()
        script = next(Path(executor.provider.script_dir).glob("parsl.*")).read_text()
        print(script.replace(folder, os.fspath(config.run_dir)))
    with contextlib.suppress(OSError):
        os.rmdir(config.run_dir)  # unless runs are in it
    return DONE
