"""What is said when a session ends, and the exit status that goes with it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

from . import facts, machine
from .errors import Refused, Stop, one_line
from .history import note_ends
from .machine import shown
from .views import asked_line_by_line

LAST_SECONDS = 3  # that threads of Parsl's are waited for where the run was left at once
DONE, TASKS_FAILED, REFUSED, UNFINISHED = 0, 1, 2, 75


def say(session, warning: str | None) -> int:
    """Say how the run ended, note it in its log; returns the exit status."""
    running = session.running
    status = DONE
    if running is not None:
        for line in running.slow_starts():
            print(line)
        losses = running.losses()
        if losses:
            print(losses)
    if session.problem is not None:
        status = REFUSED
        print(_problem(session.problem), file=sys.stderr, flush=True)
    elif running is not None and session.stopping in (None, Stop.NO_WORKERS) and running.broken():
        status = UNFINISHED if session.tally.ended else REFUSED
        print(running.broken().reason(), file=sys.stderr, flush=True)
    if session.stopping is not None and status != REFUSED and unfinished(session):
        status = session.stopping.status
        print(f"stopped by {session.stopping.words}", flush=True)
        print(f"unfinished: {session.tally.left_in_words()}; {goes_on(session)}", flush=True)
        for line in computed_again(session):
            print(line, flush=True)
    if status == DONE:
        status = say_failures(session)
    if warning:
        print(warning, file=sys.stderr)
    say_the_sum(session)
    say_the_part(session)
    note(session)
    return status


def unfinished(session) -> bool:
    """Whether something is left, as far as anybody knows."""
    tally = session.tally
    return session.left_early or tally.left > 0 or tally.total is None


def _problem(problem):
    if isinstance(problem, Refused):
        return str(problem)
    return f"this run cannot go on: {one_line(problem)}"


def no_room(session, error: OSError) -> Refused:
    """What to say of a file that cannot be written; a half written row is cut off later."""
    left = session.tally.left_in_words()
    mend = "make room there, then run again: it goes on from here"
    file = error.filename or session.folder.path
    return Refused(f"{file}: {error.strerror}: {left}; {mend}")


def goes_on(session) -> str:
    """What goes on from here, in words."""
    typed = asked_line_by_line() or not sys.argv[0]
    command = "the same program" if typed else machine.again()
    goes_on = f"{command} goes on from here"
    end = session.running.walltime.end if session.running else None
    if session.stopping is Stop.SIGTERM and machine.starts_again(end):
        by_itself = "after preemption or qrerun PBS starts this job again by itself, and it goes on"
        return f"{by_itself}; else {goes_on}"
    if os.environ.get("CHAIN"):
        return f"the next job of the chain goes on from here; without one, {goes_on}"
    return goes_on


def computed_again(session) -> list:
    """Which finished calls the next run makes again, a line."""
    lost = []
    for name, count in session.tally.apps.items():
        if count.uncached:
            calls = f"{count.uncached} finished call{'s' * (count.uncached != 1)}"
            lost.append(f"{calls} of {name}")
    if not lost:
        return []
    return [f"the next run makes again, for want of cache=True: {', '.join(lost)}"]


def say_failures(session) -> int:
    """Say what failed; returns the status."""
    failed = []
    for name, job in session.jobs.items():
        count = job.count
        if not count.failed:
            continue
        failed.append(count)
        named = f"{name}: " if len(session.jobs) > 1 else ""
        of = f"{named}{count.failed} of {count.known} task{'s' * (count.known != 1)} failed"
        print(f"{of} and will be tried again by the next run: {shown(job.table.failures_path)}")
    for name, count in session.tally.apps.items():
        if count.failed:
            failed.append(count)
            of = f"{count.failed} of {count.known} call{'s' * (count.known != 1)} of {name} failed"
            print(f"{of}: {shown(session.folder.tasks_file)}")
    for count in failed:
        print(f"the last one: {count.last_failure}")
    return TASKS_FAILED if failed else DONE


def say_the_sum(session) -> None:
    """How much is done, and where it lies."""
    took = facts.in_words(time.monotonic() - session.tally.start)
    stopped = session.problem is not None or (session.stopping is not None and unfinished(session))
    for job in session.jobs.values():
        count = job.count
        if not stopped and count.known:
            part = ", of a part of the rows" if job.is_a_part else ""
            done = f"{count.done} of {count.known} tasks done{part}, in {took}"
            print(f"{done}: {job.table.shown}")
    if not stopped and not session.jobs and session.tally.done:
        before = sum(count.before for count in session.tally.counts())
        earlier = f", {before} of them by earlier runs" if before else ""
        print(f"{session.tally.done} of {session.tally.total} tasks done{earlier}, in {took}")
    if session.tally.ended:
        named = f" --session {session.name}" if session.name else ""
        print(f"where the time went: python -m polaris.report{named}", flush=True)


def say_the_part(session) -> None:
    """That what the program made is of some rows alone, where `--only` chose them."""
    choice = session.choice
    if choice is None or session.problem is not None:
        return
    parts = choice.of_a_part()
    if parts:
        made = "what the program printed, drew and wrote is of these alone"
        print(f"a part only, {choice.text}: {', '.join(parts)}; {made}", flush=True)
    elif not (choice.parts or choice.by_again) and session.stopping is None:
        chooses = "rows of run.map and of the tables given to cli.main, read in main"
        print(f"{choice.text} chose nothing: it chooses {chooses}; all of the program ran")


def note(session) -> None:
    """Note the end in the run's log."""
    if session.folder.run_number is None:
        return
    tally = session.tally
    apps, uncached = {}, {}
    for name, count in tally.apps.items():
        apps[name] = {"done": count.done, "failed": count.failed, "known": count.known}
        if count.uncached:
            uncached[name] = count.uncached
    tables = {}
    for name, count in tally.tables.items():
        tables[name] = {"done": count.done, "failed": count.failed, "known": count.known}
    total = tally.total
    with contextlib.suppress(OSError, Refused):  # a full disk was said before
        session.folder.log(
            "end",
            stopped=session.stopping.words if session.stopping else None,
            at_once=session.at_once,
            done=tally.done,
            failed=tally.failed,
            left=None if total is None else tally.left,
            apps=apps,
            tables=tables,
            uncached=uncached,
            only=session.choice.text if session.choice and session.choice.of_a_part() else None,
        )
    if session.mode == "blocks":
        note_ends(session.folder.runs_file)


def leave_soon(status: int) -> None:
    """End this process though a thread of Parsl's waits for what PBS has killed."""
    sys.stdout.flush()
    timer = threading.Timer(LAST_SECONDS, os._exit, (status,))
    timer.daemon = True
    timer.start()
