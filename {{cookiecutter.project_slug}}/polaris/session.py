"""A session: any Parsl program under this project's guarantees. `with session() as run: ...`

What Polaris would refuse is refused before anything starts; one run at a time has the folder of
results; the program is left in order when the run ends before it; what has ended is kept and never
runs again.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import ending, machine, mistakes, settings
from .batches import map_of
from .errors import Refused, Stop, Stopped, is_unfinished
from .folder import Folder
from .kernel import Calls, close_door, load, open_door
from .machine import PROJECT, shown
from .result_table import USUAL
from .results import Results
from .screen import Screen
from .signals import Signals
from .staying import Staying
from .submits import Pool, Submits
from .tally import Tally
from .views import asked_line_by_line
from .work import name_of
from .writing import Ended

TICK = 0.25  # seconds between looks at the run while the program waits for it


def session(name: str | None = None, mode: str = "auto") -> Session:
    """A session for a script of your own, a notebook or a shell: `with session() as run: ...`

    name: of its results, in results/NAME/; None: after the script. mode: as of `python run.py
    --mode`.
    """
    return Session(name=own_name() if name is None else name, mode=mode)


def own_name() -> str:
    """What the results of this program are called: "" for run.py, else after its file."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is None or main.startswith("<"):  # as of "<stdin>"
        return "interactive"
    path = Path(main).resolve()
    if path == PROJECT / "run.py":
        return ""
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in path.stem)


def refuse_name(name: str) -> None:
    """Refused where a session cannot have this name: its results have a folder of that name."""
    good = all(sign.isalnum() or sign in "-_." for sign in name)
    if not good or name in ("values", "traces", "..", "."):
        wrong = "is no name for a folder of results: letters, digits, '-', '_' and '.'"
        raise Refused(f"session(name={name!r}): {wrong}")


def refuse_table(name: str, where: str) -> None:
    """Refused where a table cannot have this name: its results have a file of that name."""
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise Refused(f"{where}: is no name of a table: letters, digits, '-', '_'")
    if name in ("tasks", "failures") or name.endswith(("-failures", "-before")):
        raise Refused(f"{where}: is the name of another file: take another one")


def clear_up_after(session) -> None:
    """End what a killed run had left of its blocks, and say so."""
    from .blocks import clear_up

    left = session.left
    if left and left["mode"] is None:
        lost = f"{shown(session.folder.lock.file)} could not be read, a crash left it so"
        unknown = "what that run had in PBS, if anything, is not known"
        session.screen.say(f"{lost}: {unknown}: qstat -u $USER")
    elif left:
        ended = clear_up(left["mode"], left["blocks"], os.path.abspath(session.run_dir))
        if ended:
            session.screen.say(f"ended what a killed run had left: {', '.join(ended)}")


def about(session) -> dict:
    """What the report tells of a run: where it ran, by which settings and versions."""
    names = settings.options_of(session.config)
    versions = {
        "Python": sys.version.split()[0],
        "Parsl": importlib.metadata.version("parsl"),
        "conda": os.environ.get("CONDA_PREFIX"),
    }
    return {
        "mode": session.mode,
        "host": socket.gethostname(),
        "job": os.environ.get("PBS_JOBID"),
        "script": session.name or "run.py",
        "settings": {name: getattr(session.config, name) for name in names},
        "versions": versions,
    }


class Session:
    """A program's run: from its folder of results to the last task that ends.

    problem: what ended it that the user must mend. stopping: why no further task is handed out.
    """

    def __init__(self, name: str = "", mode: str = "auto", choice=None):
        self.name = name
        self.mode = mode
        self.folder = Folder(PROJECT / "results" / name if name else PROJECT / "results")
        self.screen = Screen(self.folder.path)
        self.choice = choice  # choosing.Choice, which rows run; None: all
        self.config = None
        self.tally = Tally()
        self.ended = Ended()
        self.calls = Calls(self.ended.put, self.tally, self.why_not, self.kinds)
        self.signals = Signals(self.stop, lambda: self.stopping is not None)
        self.jobs = {}  # name of a table -> what fills it
        self.submits = {}  # name of an app -> its calls by run.submit, also before the first
        self.running = None  # Parsl, once the first app is called
        self.changed = threading.Condition()
        self.starting = threading.RLock()
        self.staying = Staying()
        self.began = time.time()
        self.stopping = None
        self.at_once = False  # whether to leave without waiting for the running ones
        self.over = False  # whether what has no result yet will have none
        self.problem = None
        self.is_open = False
        self.left = None  # by a killed run
        self.left_early = False  # whether the program was left before its end
        self.status = 0

    # --- from the beginning to the end ------------------------------------------------------------
    def open(self) -> Session:
        """Check everything, take the folder; Refused with every problem, a line each."""
        self.mode = machine.choose_mode(self.mode)
        if self.mode == "job":
            machine.nodes_of_job()
        self.config = importlib.import_module("config")
        settings.refuse_incomplete(self.config)
        settings.refuse(settings.found(self.config, self.mode))
        refuse_name(self.name)
        open_door(self.start)
        try:
            self._hold()
        except BaseException:
            close_door()
            raise
        self.is_open = True
        mistakes.say_ours_in_one_line()
        self.signals.catch()
        self.signals.inside = True
        return self

    def _hold(self):
        self.folder.path.parent.mkdir(exist_ok=True)
        self.folder.hold(self.mode)
        self.left = self.folder.lock.left

    def __enter__(self) -> Session:
        try:
            self.open()
        except (Refused, machine.WrongMode) as refusal:
            if asked_line_by_line():
                raise
            print(refusal, file=sys.stderr)
            raise SystemExit(2) from None
        return self

    def __exit__(self, kind, error, trace) -> bool:
        if isinstance(error, Exception) and self.cut_off(error):
            error = Stopped()
        self.close(error)
        stopped = isinstance(error, Stopped) or (error is None and self.stopping is not None)
        if stopped and asked_line_by_line():  # whose shell goes on
            raise KeyboardInterrupt(self.stopping.words) from None
        if self.at_once:
            ending.leave_soon(self.status)
        if stopped:
            raise SystemExit(self.status) from None
        return False

    def close(self, error: BaseException | None = None) -> int:
        """Wait for what runs, give everything back, say how it ended; returns the exit status.

        error: by which the program was left; None: it came to its end.
        """
        if not self.is_open:
            return self.status
        self.signals.inside = False
        self.left_early = isinstance(error, Stopped | KeyboardInterrupt)
        own = error is not None and not self.left_early
        if own and self.stopping is None:
            self.stop(Stop.MAIN_RAISED)
        warning = None
        try:
            if self.running is not None:
                self._wait_for_the_rest()
                warning = self.running.close()
            for job in self.jobs.values():
                job.close()
            self.status = ending.say(self, warning)
        finally:
            self.is_open = False
            self.signals.release()
            close_door()
            self.folder.let_go()
            self.staying.close()
        return self.status

    def _wait_for_the_rest(self):
        """Until every call has its result, or the run was stopped and nothing runs any more."""
        while True:
            if self.stopping is not None:
                if self.running.drained.wait(TICK):
                    return
            elif not self.calls.running and all(job.over for job in self.jobs.values()):
                return
            else:
                self.wait(TICK)

    def start(self):
        """Start Parsl, once; returns its kernel. The first call of an app does."""
        with self.starting:
            if self.running is None:
                self.staying.call(self._start)
            return self.running.kernel

    def _start(self):
        from .running import Running

        wrong = self.why_not()
        if wrong:
            self.signals.leave()
            raise Refused(f"no app is called any more: {wrong}")
        clear_up_after(self)
        config = settings.parsl_config(self.config, self.mode, self.run_dir)
        self.running = Running(self, config, self.mode, self.config.margin)
        load(self.running.kernel)
        self.folder.log("start", began=self.began, **self.running.about(), **about(self))
        for job in self.jobs.values():
            job.note()
        logs = shown(Path(self.running.kernel.run_dir))
        self.screen.say(f"mode {self.mode}: {self.running.expected()}; Parsl's logs: {logs}")
        self.running.start()

    @property
    def run_dir(self) -> Path:
        """Of Parsl's logs and checkpoints."""
        run_dir = Path(self.config.run_dir)
        return run_dir / self.name if self.name else run_dir

    def kinds(self) -> list:
        """The labels of the executors, the first one first."""
        return [block.label for block in self.running.blocks] if self.running else []

    # --- what a program asks for ------------------------------------------------------------------
    def map(self, app, rows, *, table=USUAL, timeout=None, outputs=None, batch=None) -> Results:
        """A task for each row, or for as many as `batch` says; see maps.py and batches.py.

        timeout: seconds of a task, so of a whole batch.
        """
        self._refuse_if_over("map")
        self._refuse_a_second(table)
        job = map_of(self, app, rows, table, timeout, outputs, batch)
        job.begin()
        return job.results

    def submit(self, app, /, *given, timeout: float | None = None, **inputs):
        """One call whose result is kept: a future. Asked for again, in a later run too, it is not
        repeated.
        """
        self._refuse_if_over("submit")
        name = name_of(app)
        if given:
            raise Refused(f"run.submit({name}, ...): give inputs by name: run.submit({name}, x=1)")
        with self.starting:
            job = self.jobs.get(name) or self.submits.get(name)
            if job is None:
                refuse_table(name, f"run.submit({name})")
                job = self.submits[name] = Submits(self, app, name)
        if not isinstance(job, Submits):
            raise Refused(
                f"run.submit({name}): the table {name} is run.map's: give that another name"
            )
        return job.submit(app, inputs, timeout)

    def executor(self):
        """A concurrent.futures.Executor over the workers, whose results are kept as of apps with
        cache=True.
        """
        self._refuse_if_over("executor")
        return Pool(self)

    def forget(self, app: str) -> int:
        """Results of an app with cache=True are found no more; returns how many, -1 where that is
        not known.
        """
        return self.start().memoizer.forget(app) if self.has_cached() else 0

    def has_cached(self) -> bool:
        """Whether runs so far kept results of apps with cache=True."""
        return any(self.run_dir.glob("*/checkpoint/tasks.pkl"))

    def picture(self, path) -> None:
        """Show a picture in the report."""
        if self.folder.run_number is not None:
            self.folder.log("picture", path=os.path.relpath(path, PROJECT))

    def _refuse_if_over(self, what):
        wrong = self.why_not()
        if wrong:
            self.signals.leave()
            raise Refused(f"run.{what}: {wrong}")

    def _refuse_a_second(self, table):
        refuse_table(table, f"run.map(table={table!r})")
        if table in self.jobs:
            mend = f'give the second one a name: run.map(..., table="{table}-2")'
            file = shown(self.folder.path / f"{table}.csv")
            raise Refused(f"two maps into one table, {file}: {mend}")

    def why_not(self) -> str | None:
        """Why no further app is called; None where it may be."""
        if not self.is_open:
            return "the session has ended"
        return f"the run is stopped by {self.stopping.words}" if self.stopping else None

    def cut_off(self, error: BaseException) -> bool:
        """Whether a call has no result because the run ended before it: no failure of its own."""
        return self.over or is_unfinished(error)

    # --- while it runs ----------------------------------------------------------------------------
    def notify(self) -> None:
        """Something has ended: who waits looks again."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until something has ended; leaves the program where the run stops."""
        self.signals.leave()
        with self.changed:
            self.changed.wait(seconds)
        self.signals.leave()

    def stop(self, why: Stop) -> None:
        """Hand out no further task; called again, leave without waiting for those that run."""
        again = self.stopping is not None
        self.at_once = self.at_once or again or why in (Stop.SIGTERM, Stop.PROBLEM)
        self.stopping = self.stopping or why
        if why is Stop.TERMINAL_LOST:
            self.screen.is_gone()

    def guarded(self, do: Callable, *arguments) -> None:
        """Do something in a thread of ours: what goes wrong ends the session, and is said by it."""
        try:
            do(*arguments)
        except Refused as refusal:
            self.fail(refusal)
        except OSError as error:
            self.fail(ending.no_room(self, error))
        except Exception as error:
            self.fail(error)

    def fail(self, problem: Exception, why: Stop = Stop.PROBLEM) -> None:
        """End the run for what the user must mend. why: MAIN_RAISED waits for what runs."""
        if self.problem is None:
            self.problem = problem
            if self.stopping is None:
                self.stop(why)
            self.at_once = self.at_once or why is Stop.PROBLEM
