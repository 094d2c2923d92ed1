"""The command line of run.py: run its program, check the settings, show what would be submitted."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable

from . import mistakes

sys.excepthook = mistakes.said_in_one_line  # of these imports too, where this Python has no Parsl

from . import anew, checking, choosing, machine, settings, showing  # noqa: E402
from .ending import DONE, REFUSED, TASKS_FAILED, leave_soon  # noqa: E402
from .errors import Refused, Stop, Stopped  # noqa: E402
from .jobs import trace_of  # noqa: E402
from .machine import PROJECT, shown  # noqa: E402, F401  (of users, too)
from .mistakes import in_words, is_of_a_task  # noqa: E402
from .session import Session  # noqa: E402
from .sources import Source  # noqa: E402

STATUS = (
    "status: 0 all done, 1 some task failed, 2 wrong settings or usage, 75 unfinished (walltime), "
    "130 stopped by Ctrl-C"
)


def parser(inputs: tuple) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="run.py",
        allow_abbrev=False,  # what goes on is said without --again: machine.again()
        description="Run the program: each task that has no result yet.",
        epilog=STATUS,
    )
    default = f" (default: {inputs[0].path})" if inputs else ""
    made.add_argument("inputs_file", nargs="?", help=f"file of the rows{default}")
    made.add_argument(
        "--mode",
        choices=["auto", *machine.MODES],
        default="auto",
        help="local: this machine; job: the nodes of the PBS job this runs in; blocks: submit PBS "
        "jobs; auto: job inside a job, blocks where there is a qsub, else local",
    )
    made.add_argument("--check", action="store_true", help="say what is wrong with the settings")
    made.add_argument("--status", action="store_true", help="say how far a run in this folder is")
    made.add_argument(
        "--dry-run", action="store_true", help="print the script that would be submitted"
    )
    made.add_argument(
        "--again",
        action="append",
        metavar="WHAT",
        help="compute anew: the results of an app, by its name, or of rows, by column=value,... of "
        "the table of results; of the rows that this run has. May be given several times",
    )
    made.add_argument(
        "--only",
        action="append",
        metavar="ROWS",
        help="run some rows first: so many of each map, or those with column=value,...; given "
        "several times, conditions on different columns hold together, of one column any of its "
        "values is taken. Rows without the column run whole. What the program makes of the results "
        "is then of a part",
    )
    # For chain.sh, before it submits so many.
    made.add_argument("--jobs", type=int, help=argparse.SUPPRESS)
    return made


def main(program, *inputs: Source, argv: list | None = None) -> int:
    """Do what the command line says with `program(run)`; returns the exit status, see STATUS.

    inputs: the tables, lines or files that it reads, checked before anything starts.
    """
    args = parser(inputs).parse_args(argv)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a name that the locale has no letters for is no reason to end
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    given = args.inputs_file and os.path.abspath(args.inputs_file)
    os.chdir(PROJECT)  # the inputs lie there, wherever this was called from
    try:
        _take_file(inputs, given)
        status = _do(program, inputs, args)
    except (Refused, machine.WrongMode) as error:
        print(error, file=sys.stderr)
        status = REFUSED
    if os.environ.get("CHAIN") and status in (TASKS_FAILED, REFUSED):
        print(f"the chain ends here: no later job would mend what this one left (status {status})")
        status = DONE  # chain.sh's next job starts if this one fails
    return status


def _take_file(inputs, given):
    if not given:
        return
    if len(inputs) != 1:
        raise Refused(
            f"{given}: run.py reads {len(inputs)} tables: which one is not known; edit run.py"
        )
    near = os.path.relpath(given, PROJECT)
    inputs[0].path = given if near.startswith("..") else near


def _do(program, inputs, args):
    config = importlib.import_module("config")
    _refuse_beside_a_look(args)
    if args.status:
        return showing.status(inputs, args.inputs_file is not None)
    settings.refuse_incomplete(config)
    mode = machine.choose_mode(args.mode)
    if mode == "job":
        machine.nodes_of_job()
    if args.check:
        return checking.check(config, mode, inputs, args.jobs)
    if args.dry_run:
        status = showing.dry_run(config, args.mode)
        for line in checking.numbers(inputs):
            print(line, file=sys.stderr)
        return status
    choice = choosing.choice(args.only, inputs)
    for table in inputs:
        table.only = choice
    session = Session("", mode, choice)
    session.open()
    return run(program, session, lambda: _prepare(session, inputs, args.again))


def _refuse_beside_a_look(args):
    """What shows something and runs nothing stands alone: else the rest would be passed over."""
    looks = [f"--{name}" for name in ("status", "check", "dry-run") if _given(args, name)]
    others = [f"--{name}" for name in ("only", "again") if _given(args, name)]
    if looks and len(looks + others) > 1:
        shows = f"{looks[0]} shows something and runs nothing"
        raise Refused(f"{' '.join(looks + others)}: {shows}: give it alone")


def _given(args, option):
    return bool(getattr(args, option.replace("-", "_")))


def _prepare(session, inputs, again):
    """What comes before the program's own start."""
    checking.refuse_wrong(inputs)
    if session.choice is not None:
        session.choice.refuse_none(inputs)
    if again:
        # What would be refused when Parsl starts is, before results are set aside.
        settings.parsl_config(session.config, session.mode, session.run_dir)
        anew.again(session, again, inputs)


def run(program, session: Session, prepare: Callable[[], None]) -> int:
    """Call the program in its session; returns the exit status. prepare: is called before."""
    error = None
    made = None
    try:
        prepare()
        made = call_program(program, session)
    except Stopped as stopped:
        error = stopped
    except BrokenPipeError:  # who read the output has gone: python run.py | head
        session.screen.is_gone()
        session.stop(Stop.TERMINAL_LOST)
        error = Stopped()
    except SystemExit as left:  # sys.exit() ends a program well
        error = left if left.code else None
    except (Exception, KeyboardInterrupt) as raised:
        error = Stopped() if session.cut_off(raised) else raised
    said = None
    if error is not None and not isinstance(error, Stopped):
        said = in_words(error) + _trace_of(session, error)
        session.screen.show(lambda: print(said, file=sys.stderr, flush=True))
    elif isinstance(made, str | os.PathLike) and os.path.exists(made):
        _show_picture(session, os.path.relpath(made))
    status = session.close(error)
    if said is not None:
        status = TASKS_FAILED if is_of_a_task(error) else REFUSED
    if session.at_once:
        leave_soon(status)
    return status


def _show_picture(session, path):
    if session.choice is not None and session.choice.of_a_part():
        session.screen.say(f"picture, of a part and so not in the report: {path}")
        return
    session.screen.say(f"picture: {path}")
    session.picture(path)


def call_program(program, session: Session) -> object:
    """The frame between this project's code and the user's; signals.py looks for it."""
    return program(session)


def _trace_of(session, error):
    """Where the whole trace of an error of the program is kept; "" where its line is enough."""
    if isinstance(error, Refused | SystemExit):
        return ""
    try:
        return f"; trace: {shown(session.folder.trace('main', trace_of(error)))}"
    except OSError:  # a full disk
        return ""
