"""The engine: rows of a CSV file become tasks, their results rows of another, and no row is computed twice.

Memory does not grow with the number of rows beyond 8 bytes a row: the input is read as it is needed, a
bounded window of tasks is in flight, and results go to the file as tasks end.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import queue
import re
import shutil
import signal
import socket
import tempfile
import time
import traceback
from array import array
from bisect import bisect_left
from collections import deque
from itertools import islice, pairwise
from pathlib import Path

WINDOW = 1000  # tasks in flight, at least; more where there are more workers
PLACE = ("host", "gpu", "cores", "seconds")  # columns of results.csv that say where a task ran, and how long
# Columns of tasks.csv: every try of every task. Times are seconds since the epoch, `submitted` (to Parsl's
# executor) by the clock of the submit side, `started` and `ended` by the node's.
RECORD = (
    "run", "line", "app", "try", "submitted", "started", "ended", "block", "host", "gpu", "worker", "cores",
    "status", "cause",
)  # fmt: skip
CLASSES = 8  # of rows by what they cost, where the longest are to go first
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
BEAT = 10  # seconds between signs of life in the lock file
TICK = 0.5  # seconds between looks at signals and views while nothing ends


class Item:
    """A row on its way: its line in the input, the call that task() made of it, the tries it has had."""

    __slots__ = ("line", "row", "call", "tries", "cost")

    def __init__(self, line, row):
        self.line, self.row, self.call, self.tries, self.cost = line, row, None, 0, 0


class Refused(Exception):
    """What the user must mend: its lines are printed, nothing else, and the status is 2."""


# --- the input -----------------------------------------------------------------------------------
def read_rows(path, columns, problems=None, copy=None):
    """Yield (line number, {column: value}) of a CSV file with at least the given columns.

    columns: {name: int, float or str}. A malformed line is appended to `problems` as one line that
    names file, line and column, or raised as Refused where there is no such list. copy: an open copy of
    the file, which is read in its place.
    """
    problem = _raise if problems is None else problems.append
    try:
        if copy is not None:
            copy.seek(0)
        file = open(os.dup(copy.fileno()) if copy else path, encoding="utf-8-sig", newline="")
    except OSError as error:
        problem(f"{path}: {error.strerror}")
        return
    with file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            at = {}
            for name in columns:
                if header.count(name) == 1:
                    at[name] = header.index(name)
                else:
                    how = "is missing" if name not in header else "appears twice"
                    problem(f"{path} line 1: column {name} {how}; needed: {','.join(columns)}")
            if len(at) < len(columns):
                return
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    problem(f"{path} line {reader.line_num}: {len(fields)} fields; line 1 has {len(header)}")
                    continue
                row = {}
                for name, kind in columns.items():
                    try:
                        row[name] = _value(fields[at[name]], kind)
                    except ValueError as error:
                        problem(f"{path} line {reader.line_num}: column {name}: {error}")
                if len(row) == len(columns):
                    yield reader.line_num, row
        except csv.Error as error:
            problem(f"{path} line {reader.line_num}: {error}")
        except UnicodeDecodeError as error:
            problem(f"{path} line {reader.line_num + 1}: not UTF-8 text: {error.reason}")


def unused_columns(path, columns):
    """Names in the first line of a readable CSV file that no task is given."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        return [name for name in next(csv.reader(file), []) if name.strip() not in columns]


def _raise(line):
    raise Refused(line)


def _value(text, kind):
    text = text.strip()
    if kind is int and not WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    if kind is float:
        try:
            number = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{text[:40]!r} is not a number")
        return number
    return kind(text)


def key_of(row):
    """64 bits that identify a row by its values; two of a million rows share them once in 30 million runs."""
    return int.from_bytes(hashlib.blake2b(repr(list(row.items())).encode(), digest_size=8).digest(), "big")


class Keys:
    """A set of keys in 8 bytes each: filled by `add`, then `sort`, then asked."""

    def __init__(self):
        # In parts, each of them sorted: a list of all keys would take five times the memory for a moment.
        self.parts = [array("Q") for _ in range(256)]

    def add(self, key):
        self.parts[key >> 56].append(key)

    def sort(self):
        for i, part in enumerate(self.parts):
            self.parts[i] = array("Q", sorted(part))

    def __contains__(self, key):
        part = self.parts[key >> 56]
        i = bisect_left(part, key)
        return i < len(part) and part[i] == key

    def __len__(self):
        return sum(map(len, self.parts))

    def twice(self):
        return {a for part in self.parts for a, b in pairwise(part) if a == b}


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
        self.folder = Path(folder)
        self.results_file = self.folder / "results.csv"
        self.failures_file = self.folder / "failures.csv"
        self.tasks_file = self.folder / "tasks.csv"
        self.runs_file = self.folder / "runs.jsonl"
        self.run_number = None  # of the runs in this folder, from 1
        self.lock_file = self.folder / "running.json"
        self.stopping = None  # why no further task is handed out; None while they are
        self.at_once = False  # whether to leave without waiting for the running ones
        self.last_failure = None
        self.around = []  # lines about workers and blocks, from whoever watches them
        self.start = time.monotonic()
        self.holding = False
        self.copy = None  # of the input, in a file without a name
        self.strangers = 0  # rows of results.csv that the input no longer has

    def plan(self):
        """Read the input and what is there of the results; raise Refused with every problem of either.

        Where this run holds the folder, what a killed run left half written is cut off first, and the input
        is copied: edits of it are for the next run.
        """
        problems = []
        if self.holding:
            with contextlib.suppress(OSError), open(self.inputs_file, "rb") as file:  # said by read_rows
                copy = tempfile.TemporaryFile(dir=self.folder)
                shutil.copyfileobj(file, copy)
                self.copy = copy
        name = self.longest_first
        number = isinstance(name, str) and self.inputs.get(name) in (int, float)
        if name is not None and not number:
            numbers = ", ".join(column for column, kind in self.inputs.items() if kind is not str)
            wrong = f"is no column of numbers; there are {numbers}; None: in the order of the input"
            problems.append(f"config.py: longest_first = {name!r}: {wrong}")
        keys, done = Keys(), Keys()
        for _, row in self._rows(problems):
            keys.add(key_of(row))
            if len(problems) > 20:
                break
        keys.sort()
        repeated = keys.twice()
        if repeated and not problems:
            first = {}
            for line, row in self._rows():
                key = key_of(row)
                if key in repeated and first.setdefault(key, line) != line:
                    problems.append(f"{self.inputs_file} line {line}: repeats line {first[key]}")
        if not len(keys) and not problems:
            problems.append(f"{self.inputs_file}: no rows")
        if not problems and self.results_file.exists():
            self._check_results(problems)
            if not problems:
                for _, row in self._finished():
                    if (key := key_of(row)) in keys:
                        done.add(key)
                    else:
                        self.strangers += 1
                done.sort()
        if problems:
            more = [f"{self.inputs_file}: and more"] if len(problems) > 20 else []
            raise Refused("\n".join(problems[:20] + more))
        self.keys, self.done_before = keys if self.strangers else None, done
        self.total, self.done, self.failed = len(keys), len(self.done_before), 0

    def _rows(self, problems=None):
        return read_rows(self.inputs_file, self.inputs, problems, self.copy)

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

    @property
    def _header(self):
        return [*self.inputs, *self.outputs, *PLACE, "status"]

    def _check_results(self, problems):
        """Cut off a row that a killed run left half written; see that the columns are still the same."""
        if self.holding:
            for path in (self.results_file, self.tasks_file, self.runs_file):
                cut_off_half_a_line(path)
        with open(self.results_file, encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), None)
        if header is not None and header != self._header:
            problems.append(
                f"{self.results_file} has the columns {','.join(header)}; run.py now makes "
                f"{','.join(self._header)}: move the results folder away, or take back the change"
            )

    def _finished(self):
        """(line, {input column: value}) of every whole row in results.csv."""
        return read_rows(self.results_file, self.inputs, problems=[])

    def results(self):
        """Yield every finished row of the present input: inputs and outputs, numbers as numbers."""
        with open(self.results_file, encoding="utf-8", newline="") as file:
            for fields in csv.DictReader(file):
                try:
                    row = {name: _value(fields[name], kind) for name, kind in self.inputs.items()}
                except (AttributeError, ValueError):
                    continue  # no whole row
                if self.keys is None or key_of(row) in self.keys:
                    yield {**row, **{name: _number(fields[name]) for name in self.outputs}}

    def last_run(self):
        """What the last run that had tasks noted at its start and end; {} where there was none."""
        last = {}
        with contextlib.suppress(OSError), open(self.runs_file, encoding="utf-8") as file:
            for event in events(file):
                if event.get("event") in ("start", "end"):
                    last |= event
        return last

    def seconds_per_row(self):
        """The mean time of the first thousand results, s; None where there are none."""
        unreadable = (OSError, ValueError, csv.Error)  # said elsewhere
        with contextlib.suppress(*unreadable), open(self.results_file, encoding="utf-8", newline="") as file:
            took = [_number(row.get("seconds") or "") for row in islice(csv.DictReader(file), 1000)]
            took = [seconds for seconds in took if isinstance(seconds, float)]
            return sum(took) / len(took) if took else None
        return None

    def log(self, event, **about):
        """Note an event of this run in runs.jsonl, for the report: one JSON object a line."""
        if self.run_number is None:
            self.run_number = 1 + self.last_run().get("run", 0)
        self._still_there()
        line = json.dumps({"run": self.run_number, "time": round(time.time(), 3), "event": event, **about})
        with open(self.runs_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def run(self, view, window, blocks, groups=None):
        """Submit what is missing and record what ends, until all is done or `stop` was called.

        view: an object with update(ensemble). blocks: an object with watch(ensemble), which may stop it;
        drained(), which holds back the tasks that wait and says whether none runs any more; broken(),
        whether there are no workers and will be none; failed_tries(), the record of tries that failed.
        groups: a polaris.groups.Groups, which makes one task of several short rows; None: a task a row.
        """
        try:
            self._run(view, window, blocks, groups)
        except OSError as error:
            ours = (self.results_file, self.failures_file, self.tasks_file, self.runs_file)
            if error.filename not in (None, *map(str, ours)):
                raise
            # The row that was half written is cut off by the next run.
            raise Refused(
                f"{error.filename or self.folder}: {error.strerror}: {self.left} of {self.total} tasks left; "
                "make room there, then run again: it goes on from here"
            ) from None
        view.update(self, last=True)

    def _run(self, view, window, blocks, groups):
        ended = queue.SimpleQueue()
        in_flight = {}  # future -> [Item], one or the rows of a group
        again = deque()  # items of groups, that get a task of their own
        rows = (Item(line, row) for line, row in self._missing_longest_first())
        with (
            Table(self.results_file, "a", self._header) as results,
            Table(self.failures_file, "w", [*self.inputs, "line", "reason", "trace"]) as failures,
            Table(self.tasks_file, "a", RECORD) as tries,
        ):
            self._results, self._failures, self._tries = results, failures, tries
            more, quiet, out = True, 0, 0  # out: rows that are with Parsl
            while more or in_flight or again:
                size = groups.size(self.left - out) if groups else 1
                room = groups.room(window, size) if groups else window
                while (more or again) and self.stopping is None and out < room:
                    future, items, more = self._next_task(rows, again, groups, size, more)
                    if future is not None:
                        in_flight[future] = items
                        out += len(items)
                        future.add_done_callback(ended.put)
                if self.stopping is not None:
                    # A second look, a tick later: a result may have been on its way from the interchange.
                    quiet = quiet + 1 if not self.at_once and blocks.drained() and ended.empty() else 0
                    if self.at_once or quiet == 2:
                        break
                out -= self._record(ended, in_flight, again, blocks, groups)
                blocks.watch(self)
                view.update(self)
            while not ended.empty():
                self._record(ended, in_flight, again, blocks, groups)

    def _missing(self):
        """Yield (line, row) of every row that has no result yet."""
        some_done = len(self.done_before) > 0
        for line, row in self._rows():
            if not some_done or key_of(row) not in self.done_before:
                yield line, row

    def _missing_longest_first(self):
        """As `_missing`, in the order of the input or by classes; the input is read once for each class."""
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

    def _next_task(self, rows, again, groups, size, more):
        """Submit the next row, or up to `size` of them: (future or None, its items, are rows left)."""
        if again:
            item = again.popleft()
            return groups.one(item.call, item.cost), [item], more
        items = []
        while len(items) < size:
            item = next(rows, None)
            if item is None:
                more = False
                break
            made = groups.call(self.task, dict(item.row)) if groups else self.task(dict(item.row))
            if hasattr(made, "add_done_callback"):  # submitted already
                again.extend(items)
                return made, [item], more
            if not hasattr(made, "kwargs"):
                raise Refused(f"run.py: task() must return what the app returns, not {made!r}")
            item.call = made
            if items and items[0].call.func is not made.func:
                again.extend(items)  # of another app; few would mix them row by row
                items = []
            items.append(item)
        if len(items) > 1:
            return groups.group([item.call for item in items]), items, more
        return groups.one(items[0].call) if items else None, items, more

    def _record(self, ended, in_flight, again, blocks, groups):
        """Write down what has ended, waiting a tick for the first; returns of how many rows Parsl is rid."""
        try:
            future = ended.get(timeout=TICK)
        except queue.Empty:
            future = None
        rid = 0
        while future is not None:
            self._record_failed_tries(in_flight, blocks)
            items = in_flight.pop(future)
            rid += len(items)
            error = future.exception()
            if len(items) > 1 and error is None:
                self._record_group(items, future, again, groups)
            elif len(items) > 1 and not blocks.broken():
                again.extend(items)  # the group was lost again and again: one of its rows may be the cause
            elif error is None:
                tried = blocks.about_try(future.task_record)
                tried["try"] += items[0].tries
                self._success(items[0].row, future.result(), tried)
                self._record_try(items[0].line, tried)
                if groups:
                    groups.learn(tried.get("seconds", 0.0))
            elif not blocks.broken():  # else it is no failure of the row's own: it stays missing
                self._failure(items[0].line, items[0].row, error, future.stderr)
            future = None if ended.empty() else ended.get()
        self._record_failed_tries(in_flight, blocks)
        for table in (self._results, self._failures, self._tries):
            table.flush()
        return rid

    def _record_group(self, items, future, again, groups):
        name = items[0].call.func.__name__
        for item, (result, error, tried) in zip(items, groups.opened(future, name), strict=True):
            self._record_try(item.line, tried)
            if error is None:
                self._success(item.row, result, tried)
                groups.learn(tried["seconds"])
                continue
            item.tries, item.cost = 1, 1
            if groups.hopeless(error, item.cost):
                self._failure(item.line, item.row, error, None)
            else:
                again.append(item)

    def _record_failed_tries(self, in_flight, blocks):
        for future, tried in blocks.failed_tries():
            for item in in_flight.get(future, ()):  # none: an app that is called by another app
                self._record_try(item.line, {**tried, "try": tried["try"] + item.tries})

    def _record_try(self, line, tried):
        tried |= {"run": self.run_number, "line": line}
        self._tries.writerow([tried.get(name, "") for name in RECORD])

    def _success(self, row, result, tried):
        result = result if isinstance(result, dict) else {}
        missing = [name for name in self.outputs if name not in result]
        if missing:
            # It would be the same for every row, and no run would ever compute them again.
            returned = f"it has {', '.join(result)}" if result else "it is no dict, or an empty one"
            raise Refused(
                f"run.py: OUTPUTS names {', '.join(missing)}, which the result of a task lacks; {returned}: "
                "change OUTPUTS or the app; the rows without a result are run again"
            )
        # One line a row, whatever the text: what a killed run left half written ends without a newline.
        outputs = [" ".join(v.split()) if isinstance(v := result[name], str) else v for name in self.outputs]
        place = [tried.get(name, "") for name in PLACE]
        self._results.writerow([*row.values(), *outputs, *place, "retried" if tried["try"] else "done"])
        self.done += 1

    def _failure(self, line, row, error, stderr):
        folder = self.folder / "traces"
        folder.mkdir(exist_ok=True)
        trace = folder / f"{key_of(row):016x}.txt"
        trace.write_text("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        stderr = stderr[0] if isinstance(stderr, tuple) else stderr  # Parsl's (path, mode)
        reason = one_line(error) + (f"; see {stderr}" if isinstance(stderr, str) else "")
        self._failures.writerow([*row.values(), line, reason, trace])
        self.last_failure = f"line {line} of the input: {reason}"
        self.failed += 1

    # --- one run at a time -----------------------------------------------------------------------
    def hold(self, mode):
        """Take the folder of results for this run; Refused where another run has it.

        Returns what a killed run left in the way: {"mode": ..., "blocks": [...]}, or None.
        """
        self.mine = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("PBS_JOBID")}
        self.mine |= {"mode": mode, "since": time.strftime("%Y-%m-%d %H:%M:%S"), "blocks": [], "lines": []}
        left = None
        try:
            self.folder.mkdir(exist_ok=True)
            new = self.lock_file.with_suffix(f".{self.mine['host']}-{self.mine['pid']}")
            new.write_text(json.dumps(self.mine))
            try:
                while not self.holding:
                    # A link to a whole file: of several runs that start at once, one succeeds.
                    try:
                        os.link(new, self.lock_file)
                        self.holding = True
                    except FileExistsError:
                        with contextlib.suppress(FileNotFoundError):  # another one was quicker
                            left = self._take_from_the_dead(new.with_suffix(".dead")) or left
            finally:
                new.unlink()
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}: results cannot be written there") from None
        self.beat = Clock(BEAT)
        return left

    def _take_from_the_dead(self, aside):
        """Move the lock of a dead run away and return what it said; Refused if that run lives."""
        text = self.lock_file.read_text()
        other = self._other_run(json.loads(text))
        os.rename(self.lock_file, aside)
        if aside.read_text() == text:
            aside.unlink()
            return other
        # Since it was read, another run has taken the folder: that one's lock goes back.
        os.link(aside, self.lock_file)
        aside.unlink()
        return None

    def _other_run(self, other):
        """What the lock of another run says, if that run is dead; Refused if it lives."""
        seen = os.stat(self.lock_file).st_mtime_ns
        alive = other["host"] == self.mine["host"] and runs(other["pid"])
        if other["job"] is not None and other["job"] == self.mine["job"]:
            alive = False  # PBS started this very job again
        elif other["host"] != self.mine["host"] and time.time() - seen / 1e9 < 4 * BEAT:
            print(f"a run on {other['host']} held {self.folder}: waiting to see if it lives", flush=True)
            deadline = time.monotonic() + 3 * BEAT
            while time.monotonic() < deadline and not alive:
                time.sleep(TICK)
                alive = os.stat(self.lock_file).st_mtime_ns != seen
        if alive:
            job = f", PBS job {other['job']}" if other["job"] else ""
            raise Refused(
                f"another run holds {self.folder}: process {other['pid']} on {other['host']}{job}, since "
                f"{other['since']}: wait for it, or end it"
            )
        return other

    def note(self, blocks):
        """Write down how the run goes, for `--status`, and its blocks, for who clears up if it is killed."""
        if blocks != self.mine["blocks"] or self.beat():
            self.mine |= {"blocks": blocks, "lines": [self.text(), *self.around]}
            self._still_there()
            new = self.lock_file.with_suffix(".new")
            new.write_text(json.dumps(self.mine))
            os.replace(new, self.lock_file)
            self.beat = Clock(BEAT)

    def _still_there(self):
        if not self.lock_file.exists():
            raise Refused(f"{self.folder}/ was moved or deleted while this run wrote into it; run again")

    def let_go(self):
        """Give the folder back."""
        if self.holding:
            self.holding = False
            with contextlib.suppress(OSError):
                self.lock_file.unlink()
                self.folder.rmdir()  # where nothing came of it

    def edited_since(self, file):
        """Whether a source file is another than the one that made the results so far; noted for next time."""
        mark = self.folder / f"{Path(file).name}.sha256"
        now = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        before = mark.read_text().strip() if mark.exists() else now
        mark.write_text(now + "\n")
        return before != now

    def stop(self, why):
        """Hand out no further task; called again, leave without waiting for those that run."""
        self.at_once = self.stopping is not None
        self.stopping = why

    def on_signals(self):
        """Let Ctrl-C and SIGTERM stop the run in order."""
        signal.signal(signal.SIGINT, lambda *_: self.stop("Ctrl-C"))
        signal.signal(signal.SIGHUP, self._hung_up)
        signal.signal(signal.SIGTERM, self._terminated)

    def _terminated(self, *_):
        """PBS at the end of the walltime: ten seconds until SIGKILL, so nothing is waited for."""
        self.stop("SIGTERM")
        self.at_once = True

    def _hung_up(self, *_):
        """The terminal is gone: what would be shown goes into a file, and the run ends as by Ctrl-C."""
        log = os.open(self.folder / "hangup.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        self.stop("the loss of the terminal")


class Table:
    """A CSV file that is written row by row; what cannot be written is an OSError with the file's name."""

    def __init__(self, path, mode, header):
        self.path = str(path)
        self.file = open(path, mode, encoding="utf-8", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")
        if self.file.tell() == 0:
            self.writer.writerow(header)
            self.flush()

    def writerow(self, row):
        self._named(self.writer.writerow, row)

    def flush(self):
        self._named(self.file.flush)

    def _named(self, write, *what):
        try:
            write(*what)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # said by flush already
            self.file.close()


def cut_off_half_a_line(path):
    """Cut off what a killed run left half written at the end of a file, if there is such a file."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        tail_start = max(0, size - 65536)
        file.seek(tail_start)
        end = file.read(65536).rfind(b"\n") + 1
        if tail_start + end < size:
            file.truncate(tail_start + end)


def events(lines):
    """Yield the JSON objects of the lines of runs.jsonl, without what is no whole one."""
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def in_words(seconds):
    """3725 -> "1 h 2 min"; 45 -> "45 s"."""
    seconds = int(seconds)
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def runs(pid):
    """Whether a process of this host is a run of ours."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    command = Path(f"/proc/{pid}/cmdline")
    return not Path("/proc/self").exists() or (command.exists() and b"run.py" in command.read_bytes())


def one_line(error):
    """The reason of a failure: its type and the first line of its text that says something."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:300]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


class Clock:
    """True once every `seconds`."""

    def __init__(self, seconds):
        self.seconds, self.next = seconds, time.monotonic() + seconds

    def __call__(self):
        if time.monotonic() < self.next:
            return False
        self.next = time.monotonic() + self.seconds
        return True
