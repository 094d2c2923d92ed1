"""`python run.py --status` and `--dry-run`: how a run goes, and what would be submitted. Both
change nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from . import settings, tables
from .checking import planned
from .ending import DONE, REFUSED
from .errors import Refused
from .folder import Folder
from .inputs import listed
from .lock import is_here, lives, read
from .machine import PROJECT, shown
from .result_table import USUAL


def status(inputs: tuple, given: bool = False) -> int:
    """What runs that go on last wrote about themselves, else what the results say.

    given: whether the file of the first input is one that was typed, and no other is meant.
    """
    folder = Folder(PROJECT / "results")
    if inputs and not given:
        inputs[0].path = _last_source(folder, inputs[0])
    _status_of(folder, inputs)
    for file in sorted(folder.path.glob("*/runs.jsonl")):  # of sessions by name
        print(f"\n{shown(file.parent)}:")
        _status_of(Folder(file.parent), ())
    return DONE


def _status_of(folder, inputs):
    file = folder.lock.file
    try:
        seen = file.stat().st_mtime
    except OSError:
        _status_of_results(folder, inputs)
        return
    run = read(file)
    if run is None:
        print(f"{shown(file)} cannot be read: a crash left it so, and the next run clears it away")
        _status_of_results(folder, inputs)
        return
    job = f", PBS job {run['job']}" if run["job"] else ""
    print(f"mode {run['mode']}, process {run['pid']} on {run['host']}{job}, since {run['since']}")
    clock = time.strftime("%H:%M:%S", time.localtime(seen))
    print(f"as of {clock}:", *run.get("lines", []), sep="\n")
    if not lives(file):
        for plan in _plans(folder, inputs):
            print(f"results: done {len(plan.done)}, left {plan.left} of {plan.total}")
        gone = "none: it, or its node, was killed"
        if is_here(run):
            gone = "that process is gone: it was killed"
        print(f"{gone}; run again to go on")


def _plans(folder, inputs):
    for table in inputs[:1] if folder.fills(USUAL) else ():
        plan = planned(table, folder)
        if plan.problems:
            raise Refused("\n".join(plan.lines()))
        yield plan


def _status_of_results(folder, inputs):
    print("no run goes on here")
    for plan in _plans(folder, inputs):
        counted = f"done {len(plan.done)}, left {plan.left} of {plan.total}"
        failures = plan.table.failures_path
        with contextlib.suppress(OSError):
            failed = sum(1 for _ in tables.rows_of(failures))
            failed = min(failed, plan.left)
            if failed > 0:
                counted += f"; the last run failed in {failed} of those left: {shown(failures)}"
        print(f"{plan.source.path}: {counted}")
    for rows, _ in folder.tables():
        if rows.name != USUAL or not inputs:
            done, failed = lines_in(rows.path), lines_in(rows.failures_path)
            print(f"{rows.shown}: {done} done" + f", {failed} failed" * (failed > 0))
    last = folder.last_run()
    counts = last.get("apps") or {}
    calls = [f"{app} {count['done']} of {count['known']}" for app, count in counts.items()]
    if calls:
        part = f", of a part of the rows, {last['only']}" if last.get("only") else ""
        print(f"calls in the last run{part}: {', '.join(calls)}")


def lines_in(path: Path) -> int:
    """How many rows a table has; 0 where there is no such file."""
    return sum(1 for _ in tables.rows_of(path)) if path.exists() else 0


def _last_source(folder, table):
    """The file whose rows last went into the usual table; else that of the program."""
    noted = [event for event in folder.events() if event["event"] == "map"]
    paths = [event.get("path") for event in noted if event["table"] == USUAL]
    if not paths or not paths[-1] or not listed(paths[-1]):
        return table.path
    return paths[-1]


def dry_run(config, mode: str) -> int:
    """Print the script of a block with everything as it would be, but for the moment's port and
    time.
    """
    if mode == "local":
        print("mode local submits nothing", file=sys.stderr)
        return DONE
    if mode == "job":
        sys.stdout.write((PROJECT / "driver.pbs").read_text(encoding="utf-8"))
        return DONE
    for _, line in settings.found(config, "blocks"):
        print(line, file=sys.stderr)
    if any(fatal for fatal, _ in settings.found(config, "local")):
        return REFUSED
    made = settings.parsl_config(config, "blocks")
    for executor in made.executors:
        if hasattr(executor, "provider"):
            print(_script_of(executor, made, Path(config.run_dir)))
    with contextlib.suppress(OSError):
        os.rmdir(config.run_dir)  # unless runs are in it
    return DONE


def _script_of(executor, config, run_dir):
    """What qsub would get."""
    from parsl.dataflow.rundirs import make_rundir

    with tempfile.TemporaryDirectory() as folder:
        for run in run_dir.glob("[0-9]*[0-9]"):
            (Path(folder) / run.name).mkdir()  # so that the number of the run is the next one
        executor.run_dir = make_rundir(folder)
        executor.provider.script_dir = os.path.join(executor.run_dir, "submit_scripts")
        os.mkdir(executor.provider.script_dir)
        executor.run_id, executor.monitoring_messages = "dry-run", None
        executor.log_config = config.initialize_logging
        executor.provider.execute_wait = lambda *_: (0, "dry-run", "")  # instead of qsub
        executor.start()
        try:
            executor._launch_block("0")
        finally:
            executor.shutdown()
        script = next(Path(executor.provider.script_dir).glob("parsl.*")).read_text()
        return script.replace(folder, os.fspath(run_dir))
