"""Results of apps with `cache=True`: found again in this run, and by its checkpoints in later ones.

A call is known by the code of its app (code.py) and by its arguments (identity.py). A result counts
only as long as the files that its call wrote are as it left them.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from parsl.data_provider.files import File
from parsl.dataflow import memoization
from parsl.dataflow.memoization import id_for_memo
from parsl.utils import get_all_checkpoints

from . import tables
from .checkpoint import Checkpoint, entries
from .code import app_of, code_of
from .errors import one_line
from .identity import NOT_IDENTIFIED, Absent, joined, path_of, state_of
from .values import name_of

NOTES = "cached_apps.json"  # in run_dir: {app: how often its results were given up}
WRITTEN = ("outputs", "stdout", "stderr")  # arguments that are files which a call writes
ADVICE = "pass numbers, text, paths, files, arrays, lists or dicts, or leave cache=True out"
KEPT = {"hash", "result", "app", "code", "again", "files"}  # of an entry of a checkpoint


class NoKey(TypeError):
    """A cached app got, or uses, what no result can be found by again."""


class Call(NamedTuple):
    """A call that runs. again: how often the results of its app were given up before it.

    outputs: the paths that must be there after it. logs: of its stdout and stderr. inputs: what its
    arguments are known by, where there are files among them.
    """

    key: str
    app: str
    code: str
    again: int
    outputs: list
    logs: list
    inputs: bytes | None


class Known(NamedTuple):
    """The result of a call. files: {path: its state} of what the call wrote."""

    app: str
    code: str
    again: int
    files: dict
    result: object


class Memoizer(memoization.Memoizer):
    """Parsl's memoizer for a project: it does nothing for apps without cache=True.

    memoize: False turns the cache off. checkpoint_mode: "task_exit", or None: results are for this
    run alone. checkpoint_files: folders of checkpoints to read; None: all in run_dir. say: a
    function that shows a line. A call that failed is not kept: asked for again, it runs again.
    """

    def __init__(
        self,
        *,
        memoize: bool = True,
        checkpoint_mode: str | None = "task_exit",
        checkpoint_files: list[str] | None = None,
        say: Callable[[str], None] | None = None,
    ):
        if checkpoint_mode not in ("task_exit", None):
            wrong = f"checkpoint_mode = {checkpoint_mode!r}"
            raise ValueError(
                f'{wrong}: "task_exit" and None are allowed; a kill costs nothing then'
            )
        self.memoize = memoize
        self.checkpoint_mode = checkpoint_mode
        self.checkpoint_files = checkpoint_files
        self.say = say or _print
        self.unkept = 0  # results that could not be written down
        self.no_room = None  # what is called with an OSError where a result could not be
        self._lock = threading.Lock()
        self._known = {}  # key of a call -> Known
        self._calls = {}  # id of Parsl's task -> Call, as long as it runs
        self._earlier = collections.Counter()  # (app, code) -> results of earlier runs
        self._looked = set()  # (app, code) of this run
        self._said = set()  # (app, what was said of it)
        self._again = {}  # app -> how often its results were given up
        self._notes = None
        self._checkpoint = None

    # --- what Parsl calls -------------------------------------------------------------------------
    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        self._notes = Path(config_run_dir) / NOTES
        self._read_notes()
        if self.checkpoint_mode is None:
            return
        self._checkpoint = Checkpoint(Path(run_dir) / "checkpoint" / "tasks.pkl")
        folders = self.checkpoint_files
        if folders is None:
            folders = get_all_checkpoints(str(config_run_dir))
        if self.memoize:
            for folder in folders:
                self._load(Path(folder) / "tasks.pkl")

    def close(self) -> None:
        with self._lock:
            if self._checkpoint is not None:
                self._checkpoint.close()

    def check_memo(self, task) -> Future | None:
        """A future that has the call's result, where it is known; NoKey where it cannot be."""
        if not (self.memoize and task["memoize"]):
            return None
        try:
            call = self._call_of(task)
        except Absent as error:
            said = f"{error}: a call whose input is not there is not kept"
            self._say_once(app_of(_called(task)), "absent", said)
            return None
        self._look_at(call)
        known = self._known.get(call.key)
        changed = known and self._changed_file(known)
        if known is None or changed:
            if changed:
                said = f"{changed}: a call runs again whose files are not as it left them"
                self._say_once(call.app, "changed", said)
            self._calls[task["id"]] = call
            task["hashsum"] = call.key
            return None
        task["hashsum"] = call.key
        future = Future()
        future.set_result(known.result)
        return future

    def update_memo_result(self, task, r) -> None:
        call = self._calls.pop(task["id"], None)
        if call is None:
            return
        files = self._files_after(task, call)
        if files is None:
            return
        known = Known(call.app, call.code, call.again, files, r)
        with self._lock:
            if call.again == self._again.get(call.app, 0):
                self._known[call.key] = known
                self._keep(call.key, known)

    def update_memo_exception(self, task, e) -> None:
        self._calls.pop(task["id"], None)

    # --- what a session asks for ------------------------------------------------------------------
    def counts(self) -> dict[str, int]:
        """How many results are known of each app, as `app_of` names them; of all its code."""
        known = list(self._known.values())
        return dict(collections.Counter(each.app for each in known))

    def forget(self, app_name: str) -> int:
        """Give up the results of an app, for later runs too; returns how many there were.

        app_name: as of `counts`, or the function's alone. OSError where that cannot be noted.
        """
        with self._lock:
            calls = [*self._known.values(), *self._calls.values()]
            apps = {call.app for call in calls if app_name in _names_of(call.app)}
            if not apps:
                return 0
            again = {app: self._again.get(app, 0) + 1 for app in apps}
            notes = {**self._again, **again}
            tables.replace(self._notes, json.dumps(notes, indent=1))
            self._again = notes
            gone = [key for key, known in self._known.items() if known.app in apps]
            for key in gone:
                del self._known[key]
            for app, code in list(self._earlier):
                if app in apps:
                    del self._earlier[app, code]
        return len(gone)

    # --- a call -----------------------------------------------------------------------------------
    def _call_of(self, task):
        called = _called(task)
        app = app_of(called)
        code = _code_of(task, called)
        own = code if called is task["func"] else _code_of(task, task["func"])
        arguments = list(_arguments(task))
        inputs = _identity_of(task, arguments)
        whole = joined([own, inputs])
        key = hashlib.blake2b(whole, digest_size=16).hexdigest()
        outputs, logs = [], []
        for name, value in arguments:
            if name == "outputs":
                outputs = [path_of(file) for file in value]
            elif name in WRITTEN:
                logs += _path_of_log(value)
        read = [value for name, value in arguments if name not in WRITTEN]
        if not _has_file(read):
            inputs = None
        again = self._again.get(app, 0)
        return Call(key, app, code.hex(), again, outputs, logs, inputs)

    def _look_at(self, call):
        """Say once where the code of an app is another than when its results were made."""
        now = (call.app, call.code)
        if now in self._looked:
            return
        self._looked.add(now)
        if now in self._earlier or (call.app, "edited") in self._said:
            return
        others = [code for app, code in self._earlier if app == call.app]
        stale = [code for code in others if (call.app, code) not in self._looked]
        count = sum(self._earlier[call.app, code] for code in stale)
        if count:
            said = f"{count} results of it so far are not used"
            if count == 1:
                said = "1 result of it so far is not used"
            self._said.add((call.app, "edited"))
            self.say(f"{call.app} or code that it uses was edited since: {said}")

    def _changed_file(self, known):
        """In words, a file that is not as the call left it; None where all are."""
        for path, state in known.files.items():
            now = state_of(path)
            if now != state:
                return f"{path} is gone" if now is None else f"{path} was changed"
        return None

    def _files_after(self, task, call):
        """{path: state} of what a call wrote; None where its result is not to be kept."""
        written = [*call.outputs, *call.logs]
        files = {path: state_of(path) for path in written}
        missing = [path for path in call.outputs if files[path] is None]
        if missing:
            said = f"{missing[0]}, an output, is not there: such a call is not kept"
            self._say_once(call.app, "missing", said)
            return None
        if call.inputs is not None and not _is_unchanged(task, call):
            said = "an input file was changed while a call ran: such a call is not kept"
            self._say_once(call.app, "moved", said)
            return None
        return files

    def _say_once(self, app, what, line):
        if (app, what) not in self._said:
            self._said.add((app, what))
            self.say(f"{app}(cache=True): {line}")

    # --- what is kept -----------------------------------------------------------------------------
    def _keep(self, key, known):
        """Write a result down; one that cannot be is one of this run alone, and that is said."""
        if self._checkpoint is None:
            return
        try:
            self._checkpoint.add({"hash": key, "exception": None, **known._asdict()})
        except Exception as error:  # no room for it, or its class cannot be pickled
            self.unkept += 1
            if self.no_room is not None and isinstance(error, OSError):
                self.no_room(error)
                return
            said = (
                f"a result cannot be kept ({one_line(error)}): its call runs again in the next run"
            )
            self._say_once(known.app, "unkept", said)

    def _read_notes(self):
        with contextlib.suppress(FileNotFoundError):
            notes = tables.loaded(self._notes.read_bytes())
            if notes is None:
                self.say(f"{self._notes} cannot be read: results that were given up count again")
            for app, number in (notes or {}).items():
                if isinstance(number, int):
                    self._again[app] = number

    def _load(self, path):
        """Read a checkpoint; what cannot be read on this host is left as it is, and said."""
        if not path.exists():  # a run that was killed may leave its folder empty
            return
        unread = []
        for entry, error in entries(path):
            is_ours = isinstance(entry, dict) and KEPT <= entry.keys()
            if error is None and not is_ours:
                error = ValueError("no result of a cached app")
            if error is not None:
                unread.append(error)
                continue
            known = Known(*[entry[name] for name in Known._fields])
            if known.again < self._again.get(known.app, 0):
                continue
            if entry["hash"] not in self._known:
                self._earlier[known.app, known.code] += 1
            self._known[entry["hash"]] = known
        if unread:
            said = f"{len(unread)} of its cached results cannot be read here"
            why = one_line(unread[0])
            self.say(f"{path}: {said} ({why}): those calls run again")


# --- what identifies a call -----------------------------------------------------------------------
def _names_of(app):
    return app, app.rpartition(".")[2]


def _called(task):
    """What a task calls; of a function of polaris' own, such as an Executor's, what that calls."""
    function, args = task["func"], task["args"]
    is_ours = app_of(function).startswith(f"{__package__}.")
    return args[0] if is_ours and args and callable(args[0]) else function


def _arguments(task):
    """(name, value) of all that tells calls of an app apart: positional ones by number."""
    for number, value in enumerate(task["args"], 1):
        yield str(number), value
    for name, value in sorted(task["kwargs"].items()):
        if name not in task["ignore_for_cache"]:
            yield name, value


def _code_of(task, called):
    try:
        return code_of(called, strict=True)
    except NOT_IDENTIFIED as error:
        wrong = f"{task['func_name']}(cache=True): {error}, by which no cached result can be found"
        raise NoKey(f"{wrong}: make it an argument, or leave cache=True out") from None


def _identity_of(task, arguments):
    """What a call's arguments are known by; NoKey names one by which it cannot be. Or Absent."""
    parts = []
    for name, value in arguments:
        try:
            identity = id_for_memo(value, output_ref=name in WRITTEN)
        except Absent:
            raise
        except NOT_IDENTIFIED as error:
            shown = name if name.isdigit() else repr(name)
            kind = name_of(type(value))
            what = f"argument {shown} is a {kind} ({error})"
            wrong = (
                f"{task['func_name']}(cache=True): {what}; no cached result can be found by that"
            )
            raise NoKey(f"{wrong}: {ADVICE}") from None
        parts += [name.encode(), identity]
    return joined(parts)


def _is_unchanged(task, call):
    """Whether the input files of a call are still as when it was launched."""
    try:
        return _identity_of(task, _arguments(task)) == call.inputs
    except NOT_IDENTIFIED:
        return False


def _path_of_log(value):
    """The path of stdout= or stderr= (text, File, (path, mode)) in a list; [] where it is none."""
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, File):
        return [path_of(value)]
    return [os.fsdecode(value)] if isinstance(value, str | os.PathLike) else []


def _has_file(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_file, value))
    return isinstance(value, File)


def _print(line):
    with contextlib.suppress(OSError, ValueError):  # nobody listens
        print(line, file=sys.stderr, flush=True)
