"""The engine: rows of a CSV file become tasks, their results rows of another, and no row is computed twice.

Memory does not grow with the number of rows beyond 8 bytes a row: the input is read as it is needed, a
bounded window of tasks is in flight, and results go to the file as tasks end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import signal
import tempfile
import time
from itertools import islice
from pathlib import Path

from . import machine, sources, tables, values
from .engine import PLACE, RECORD, Engine
from .errors import Refused, Stopped, one_line
from .lock import BEAT, Lock
from .sources import Keys, key_of, read_rows
from .tables import Table

WINDOW = 1000  # tasks in flight, at least; more where there are more workers
OURS = (*PLACE, "status", "kinds")  # behind the inputs and outputs; see values.py for the last
REASON = ("line", "reason", "trace")  # columns of failures.csv behind the inputs
CLASSES = 8  # of rows by what they cost, where the longest are to go first


def free_names(names, taken, prefix):
    """The names, each with the prefix where it is taken; `taken` grows by them."""
    found = []
    for name in names:
        while name in taken:
            name = f"{prefix}_{name}"
        taken.add(name)
        found.append(name)
    return found


# --- the ensemble --------------------------------------------------------------------------------
class Ensemble:
    """One input file, what is done with a row, and the folder of results.

    inputs: {column: type} of the input file. outputs: the names in a task's result that are kept.
    task: a function from a row to the future of a Parsl app. longest_first: name of an input column that
    grows with the time of a task; rows go out in CLASSES by it, the largest first.
    """

    def __init__(self, inputs_file, inputs, outputs, task, folder="results", longest_first=None):
        self.inputs_file, self.inputs, self.outputs, self.task = inputs_file, inputs, outputs, task
        self.longest_first = longest_first
        self.wrong_names = sources.problems_of_names(inputs, outputs)
        known = ({}, ()) if self.wrong_names else (inputs, outputs)
        # What a task returns keeps its names; an input, or a column of ours, of the same name has a prefix.
        taken = set(known[1])
        self.columns = [*free_names(known[0], taken, "input"), *known[1]]  # of a row, as summarize gets it
        self.header = [*self.columns, *free_names(OURS, taken, "task")]
        self.folder = Path(folder)
        self.results_file = self.folder / "results.csv"
        self.failures_file = self.folder / "failures.csv"
        self.tasks_file = self.folder / "tasks.csv"
        self.runs_file = self.folder / "runs.jsonl"
        self.run_number = None  # of the runs in this folder, from 1
        self.lock = Lock(self.folder)
        self.beat = Clock(BEAT)
        self.stopping = None  # why no further task is handed out; None while they are
        self.at_once = False  # whether to leave without waiting for the running ones
        self.in_task = False  # whether task() of run.py runs
        self.engine = None  # while there is one
        self.last_failure = None
        self.around = []  # lines about workers and blocks, from whoever watches them
        self.start = time.monotonic()
        self.copy = None  # of the input, in a file without a name
        self.keys = None  # of the input, where results.csv has rows that are not in it, or some twice
        self.done_before = Keys()
        self.strangers = 0  # rows of results.csv that the input no longer has
        self.repeated = set()  # keys of rows that stand in results.csv more than once: the first one counts
        self.total = self.done = self.failed = 0
        self.without_result = 0  # failures for a reason of run.py's own, before any row succeeded

    def plan(self):
        """Read the input and what is there of the results; raise Refused with every problem of either.

        Where this run holds the folder, what a killed run left half written is cut off first, and the input
        is copied: edits of it are for the next run.
        """
        problems = list(self.wrong_names)
        if self.lock.holding:
            for path in (self.results_file, self.tasks_file, self.runs_file):
                tables.cut_off_half_a_line(path)
            with contextlib.suppress(OSError), open(self.inputs_file, "rb") as file:  # said by read_rows
                copy = tempfile.TemporaryFile(dir=self.folder)
                shutil.copyfileobj(file, copy)
                self.copy = copy
        keys = Keys()
        if not problems:
            self._check_longest_first(problems)
            self._read_input(keys, problems)
        if not problems and self.results_file.exists():
            self._read_results(keys, problems)
        if problems:
            more = [f"{self.inputs_file}: and more"] if len(problems) > 20 else []
            raise Refused("\n".join(problems[:20] + more))
        self.keys = keys if self.strangers or self.repeated else None
        self.total, self.done, self.failed = len(keys), len(self.done_before), 0

    def _check_longest_first(self, problems):
        name = self.longest_first
        number = isinstance(name, str) and self.inputs.get(name) in (int, float)
        if name is not None and not number:
            numbers = ", ".join(column for column, kind in self.inputs.items() if kind in (int, float))
            wrong = f"is no column of numbers; there are {numbers}; None: in the order of the input"
            problems.append(f"config.py: longest_first = {name!r}: {wrong}")

    def _read_input(self, keys, problems):
        for _, row in self._rows(problems):
            keys.add(key_of(row))
            if len(problems) > 20:
                break
        keys.sort()
        if keys.repeated and not problems:
            first = {}
            for line, row in self._rows():
                key = key_of(row)
                if key in keys.repeated and first.setdefault(key, line) != line:
                    problems.append(f"{self.inputs_file} line {line}: repeats line {first[key]}")
        if not len(keys) and not problems:
            problems.append(f"{self.inputs_file}: no rows")

    def _read_results(self, keys, problems):
        """Take the keys of what is done; every line of results.csv is one, or a problem."""
        header = tables.header_of(self.results_file)
        if header is not None and header != self.header:
            problems.append(
                f"{self.results_file} has the columns {','.join(header)}; run.py now makes "
                f"{','.join(self.header)}: move the results folder away, or take back the change"
            )
            return
        for line, row, fields in self._recorded():
            if row is None:
                said = ",".join(fields or ())[:60]
                mend = "mend the line, or delete it to have its row computed again"
                problems.append(f"{self.results_file} line {line}: is no row of results ({said!r}): {mend}")
                if len(problems) > 20:
                    return
            elif (key := key_of(row)) in keys:
                self.done_before.add(key)
            else:
                self.strangers += 1
        self.done_before.sort()
        self.repeated = self.done_before.repeated

    def _rows(self, problems=None):
        return read_rows(self.inputs_file, self.inputs, problems, self.copy)

    def _recorded(self):
        """Yield (line, {input: value}, fields) of every line of results.csv; no row where it is none."""
        kinds = list(self.inputs.items())
        for line, fields in tables.rows_of(self.results_file):
            row = None
            if fields is not None and len(fields) == len(self.header):
                with contextlib.suppress(ValueError):  # a line that somebody edited
                    if len(fields[-1].split()) == len(self.outputs):
                        pairs = zip(kinds, fields, strict=False)
                        row = {name: values.input_back(cell, kind) for (name, kind), cell in pairs}
            yield line, row, fields

    @property
    def ended(self):
        """Tasks that ended in this run."""
        return self.done + self.failed - len(self.done_before)

    def text(self):
        """How far the run is, in one line."""
        elapsed = max(time.monotonic() - self.start, 1e-6)
        text = f"done {self.done}, failed {self.failed}, left {self.left} of {self.total}"
        if self.stopping is not None and self.left:
            text += f"; {self.stopping}: no further task, waiting for those that run"
            return text + (" (Ctrl-C again: at once)" if self.stopping == "Ctrl-C" else "")
        if not self.ended and self.left:
            text += "; waiting for the first result"
        if self.ended and self.left:
            to_go = in_words(self.left * elapsed / self.ended)
            rate = self.ended / elapsed
            text += f"; {rate:,.0f}" if rate >= 100 else f"; {rate:.2g}"
            text += f" tasks/s, {to_go} to go"
        return text

    @property
    def left(self):
        return self.total - self.done - self.failed

    def results(self):
        """Yield each finished row of the present input, {name: value}: inputs and what its task returned.

        Raises Refused where a value cannot be read any more, such as a file of an array that was deleted.
        """
        again = set(self.repeated)
        first = len(self.inputs)
        for line, row, fields in self._recorded():
            if row is None:
                continue  # said by plan
            if self.keys is not None:
                key = key_of(row)
                if key not in self.keys or (key in self.repeated and key not in again):
                    continue
                again.discard(key)
            try:
                pairs = zip(fields[first:], fields[-1].split(), strict=False)
                outputs = [values.output_back(cell, kind) for cell, kind in pairs]
            except (OSError, ValueError, TypeError, SyntaxError) as error:
                mend = f"delete line {line} of {self.results_file} to have its row computed again"
                raise Refused(f"{self.results_file} line {line}: {one_line(error)}: {mend}") from None
            yield dict(zip(self.columns, (*row.values(), *outputs), strict=True))

    def last_run(self):
        """What the last run that had tasks noted at its start and end; {} where there was none."""
        last = {}
        with contextlib.suppress(OSError):
            for _, event in tables.events_of(self.runs_file):
                if event and event["event"] in ("start", "end"):
                    last |= event
        return last

    def seconds_per_row(self):
        """The mean time of the first thousand results, s; None where there are none."""
        if not self.results_file.exists() or tables.header_of(self.results_file) != self.header:
            return None
        at = len(self.columns) + PLACE.index("seconds")
        took = []
        for _, row, fields in islice(self._recorded(), 1000):
            with contextlib.suppress(ValueError):  # an app that is not timed
                took += [float(fields[at])] if row is not None else []
        return sum(took) / len(took) if took else None

    def log(self, event, **about):
        """Note an event of this run in runs.jsonl, for the report: one JSON object a line."""
        if self.run_number is None:
            self.run_number = 1 + self.last_run().get("run", 0)
        self.lock.check()
        line = json.dumps({"run": self.run_number, "time": round(time.time(), 3), "event": event, **about})
        with open(self.runs_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def run(self, view, window, blocks, groups=None, calls=None):
        """Submit what is missing and record what ends, until all is done or `stop` was called.

        view: an object with update(ensemble). blocks: an object with watch(ensemble), which may stop it;
        drained(), which holds back the tasks that wait and says whether none runs any more; broken(),
        whether there are no workers and will be none; failed_tries(), the record of tries that failed.
        groups: a polaris.groups.Groups, which makes one task of several short rows; None: a task a row.
        calls: a polaris.calls.Calls, which sees the apps that task() calls; None: the one that it returns.
        """
        failed = [*self.inputs, *free_names(REASON, set(self.inputs), "task")]
        try:
            with (
                Table(self.results_file, "a", self.header) as results,
                Table(self.failures_file, "w", failed) as failures,
                Table(self.tasks_file, "a", RECORD) as tries,
            ):
                self.engine = Engine(self, view, window, blocks, groups, calls, (results, failures, tries))
                self.engine.run()
        except Stopped:
            pass  # by a second signal, while task() ran
        except OSError as error:
            if error.filename is not None and not str(error.filename).startswith(str(self.folder)):
                raise
            # The row that was half written is cut off by the next run.
            raise Refused(
                f"{error.filename or self.folder}: {error.strerror}: {self.left} of {self.total} tasks left; "
                "make room there, then run again: it goes on from here"
            ) from None
        self.show(view, last=True)
        if self.left and self.stopping is None:
            raise Refused(f"{self.left} rows came to no end that was noted: run again to compute them")

    def missing(self):
        """Yield (line, row) of every row that has no result yet, in the order of the input or by classes.

        For classes the input is read once for each of them.
        """
        name = self.longest_first
        if name is None:
            yield from self._missing()
            return
        least, most = math.inf, -math.inf
        for _, row in self._missing():
            least, most = min(least, row[name]), max(most, row[name])
        above = math.inf
        # Each class down to half the cost of the one before: a few long rows are one of their own.
        cuts = {least + (most - least) / 2**i for i in range(1, CLASSES)}
        for cut in (*sorted(cuts, reverse=True), -math.inf):
            yield from ((line, row) for line, row in self._missing() if cut <= row[name] < above)
            above = cut

    def _missing(self):
        some_done = len(self.done_before) > 0
        for line, row in self._rows():
            if not some_done or key_of(row) not in self.done_before:
                yield line, row

    # --- one run at a time -----------------------------------------------------------------------
    def hold(self, mode):
        """Take the folder of results for this run; Refused where another run has it."""
        self.lock.hold(mode)
        self.beat = Clock(BEAT)

    def note(self, blocks):
        """Write down how the run goes, for `--status`, and its blocks, for who clears up if it is killed."""
        if blocks != self.lock.mine["blocks"] or self.beat():
            self.lock.note(blocks, [self.text(), *self.around])
            self.beat = Clock(BEAT)

    def code_since(self, code):
        """What changed since results were first made, in words; "" where nothing did. Noted for next time.

        code: {path: digest} of the user's modules now. None where a crash left the note unreadable.
        """
        note = self.folder / "code.json"
        before = code
        with contextlib.suppress(FileNotFoundError):
            before = tables.loaded(note.read_bytes())
            if before and not all(isinstance(digest, str) for digest in before.values()):
                before = None
        if before != code or not note.exists():
            tables.replace(note, json.dumps(code))
        if before is None:
            return None
        words = []
        for path in sorted({*before, *code}):
            if path not in before:
                words.append(f"{path} is new")
            elif path not in code:
                words.append(f"{path} is gone")
            elif before[path] != code[path]:
                words.append(f"{path} was edited since")
        return ", ".join(words)

    def stop(self, why):
        """Hand out no further task; called again, leave without waiting for those that run."""
        self.at_once = self.stopping is not None
        self.stopping = why

    def on_signals(self):
        """Let Ctrl-C, SIGTERM and the loss of the terminal stop the run in order.

        A signal that was ignored from the start, by nohup for one, stays so.
        """
        for number, handler in (
            (signal.SIGINT, self._interrupted),
            (signal.SIGHUP, self._hung_up),
            (signal.SIGTERM, self._terminated),
        ):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)

    def _interrupted(self, *_):
        self.stop("Ctrl-C")
        self._leave_task()

    def _terminated(self, *_):
        """PBS at the end of the walltime: ten seconds until SIGKILL, so nothing is waited for."""
        self.stop("SIGTERM")
        self.at_once = True
        self._leave_task()

    def stops_while_waiting(self):
        """For polaris.calls: see to the run while task() waits for a result; whether the run stops."""
        return self.engine.stops_while_waiting()

    def _leave_task(self):
        """Where task() of run.py waits for something of its own, nothing else would end it."""
        if self.at_once and self.in_task:
            raise Stopped

    def _hung_up(self, *_):
        """The terminal is gone: the run ends as by Ctrl-C."""
        self._show_in_file()
        self.stop("the loss of the terminal")

    def show(self, view, last=False):
        """Update the view; where its terminal is gone and the run was to go on (disown), it does."""
        try:
            view.update(self, last=last)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._show_in_file()

    def _show_in_file(self):
        """What would be shown on a terminal that is gone goes into a file."""
        log = os.open(self.folder / "hangup.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(log, stream)


def note_ends(runs_file):
    """Note in runs.jsonl when blocks of runs that ended were over, where PBS says so and it is not noted."""
    jobs, ended = {}, set()  # jobs: {job: (run, block)}
    with contextlib.suppress(OSError):
        for _, event in tables.events_of(runs_file):
            if event and event["event"] == "end":
                ended.add(event["run"])
            elif event and event["event"] == "block" and "." in str(event.get("job")):
                if event.get("end") is None:
                    jobs[event["job"]] = (event["run"], event["block"])
                else:
                    jobs.pop(event["job"], None)
    of_ended = [job for job, (run, _) in jobs.items() if run in ended]
    for job, end in (machine.ends_of_jobs(of_ended) if of_ended else {}).items():
        run, block = jobs[job]
        about = {"block": block, "job": job, "state": "COMPLETED", "workers": 0, "start": None, "end": end}
        with contextlib.suppress(OSError), open(runs_file, "a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "time": end, "event": "block", **about}) + "\n")


def in_words(seconds):
    """3725 -> "1 h 2 min"; 45 -> "45 s"."""
    seconds = int(seconds)
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Clock:
    """True once every `seconds`."""

    def __init__(self, seconds):
        self.seconds, self.next = seconds, time.monotonic() + seconds

    def __call__(self):
        if time.monotonic() < self.next:
            return False
        self.next = time.monotonic() + self.seconds
        return True
