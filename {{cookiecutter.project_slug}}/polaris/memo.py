"""Results of apps with `cache=True`: what identifies a call, and checkpoints of earlier runs read again.

A call is known by its app's module, name and code, the code of the user's own that the app uses, and its
arguments. Code that was edited is computed again, and it is said.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import importlib.machinery
import inspect
import json
import marshal
import os
import pickle
import pickletools
import sys
import sysconfig
import types
from concurrent.futures import Future
from pathlib import Path, PurePath

from parsl.app.app import AppBase
from parsl.dataflow.memoization import BasicMemoizer, id_for_memo

from . import tables
from .errors import one_line
from .values import name_of, numpy_if_loaded

NOTES = "cached_apps.json"  # in run_dir: {app: what its code was when it was last used}
LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
HERE = os.path.realpath(os.path.dirname(__file__)) + os.sep


class NoKey(TypeError):
    """A cached app got, or uses, what no result can be found by again."""


class Memoizer(BasicMemoizer):
    """BasicMemoizer that knows code and common scientific values, for apps with `cache=True` alone."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.notes_file = None
        self.notes = {}  # app -> digest of its code

    def start(self, *, run_dir, config_run_dir):
        super().start(run_dir=run_dir, config_run_dir=config_run_dir)
        self.notes_file = Path(config_run_dir) / NOTES
        with contextlib.suppress(FileNotFoundError):
            notes = tables.loaded(self.notes_file.read_bytes())
            self.notes = notes or {}
            if notes is None:
                _say(f"{self.notes_file} cannot be read: whether cached apps were edited is not known")

    def check_memo(self, task):
        if not (self.memoize and task["memoize"]):
            return super().check_memo(task)
        _learn_numpy()
        self._look_at(task["func"])
        try:
            return super().check_memo(task)
        except (TypeError, ValueError, RecursionError):
            _name_what_is_no_key(task)
            raise

    def _look_at(self, function):
        """Say once where the code of a cached app is another than when its results were made."""
        app, now = app_of(function), code_of(function).hex()
        before = self.notes.get(app)
        if before == now:
            return
        if before is not None:
            _say(f"{app} or code that it uses was edited: what this code has not computed yet runs again")
        self.notes[app] = now
        tables.replace(self.notes_file, json.dumps(self.notes, indent=1))

    # What is not cached is no matter of the memoizer's: Parsl's opens its file for every task.
    def update_memo_result(self, task, r):
        if task["memoize"]:
            super().update_memo_result(task, r)

    def update_memo_exception(self, task, e):
        if task["memoize"]:
            super().update_memo_exception(task, e)

    def load_checkpoints(self, checkpointDirs):
        """{hash of a call: Future of its result}; what cannot be read on this host is left, and said."""
        table = {}
        for folder in checkpointDirs or ():
            path = Path(folder) / "tasks.pkl"
            unread = []
            for entry, error in entries(path):
                if error is None and not (isinstance(entry, dict) and {"hash", "result"} <= entry.keys()):
                    error = ValueError("no result of a cached app")
                if error is not None:
                    unread.append(error)
                    continue
                table[entry["hash"]] = Future()
                table[entry["hash"]].set_result(entry["result"])
            if unread:
                said = f"{len(unread)} of its cached results cannot be read here"
                _say(f"{path}: {said} ({one_line(unread[0])}): those calls run again")
        return table


def _say(line):
    print(line, file=sys.stderr, flush=True)


def entries(path):
    """Yield (entry, None) of a file of pickles, or (None, why it cannot be read); nothing of a torn end."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (start := file.tell()) < size:
            try:
                entry, error = pickle.load(file), None
            except Exception as problem:  # pickle raises whatever the classes in it raise
                entry, error = None, problem
                file.seek(start)
                try:
                    for _ in pickletools.genops(file):
                        pass  # to the end of this entry, without making anything of it
                except Exception as broken:
                    if file.tell() < size:  # else the file ends within: a kill cut it off
                        yield None, ValueError(f"damaged from byte {start} on: {broken}")
                    return
            end = file.tell()
            yield entry, error
            file.seek(end)


# --- what identifies a call ----------------------------------------------------------------------
def _name_what_is_no_key(task):
    """Raise NoKey, with the name of the app and of the argument by which Parsl cannot tell calls apart."""
    ignored = task["ignore_for_cache"]
    named = [(f"argument {i + 1}", value) for i, value in enumerate(task["args"])]
    named += [(f"argument {name!r}", value) for name, value in task["kwargs"].items() if name not in ignored]
    for name, value in named:
        try:
            id_for_memo(value, output_ref=name == "argument 'outputs'")
        except (TypeError, ValueError, RecursionError) as error:
            raise NoKey(
                f"{task['func_name']}(cache=True): {name} is a {name_of(type(value))} ({error}); no cached "
                "result can be found by that: pass numbers, text, paths, arrays, lists or dicts, or leave "
                "cache=True out"
            ) from None


def _pickled(value, output_ref=False):
    return pickle.dumps((name_of(type(value)), value))


def _text(value, output_ref=False):
    return pickle.dumps((name_of(type(value)), str(value)))


# Parsl takes a list, a tuple and a dict of the same items for the same.
def _sequence(value, output_ref=False):
    if type(value) not in (list, tuple) and not hasattr(value, "_fields"):
        raise ValueError("a class of its own")
    return pickle.dumps((name_of(type(value)), [id_for_memo(each, output_ref=output_ref) for each in value]))


def _dict(value, output_ref=False):
    if type(value) is not dict:
        raise ValueError("a class of its own")
    items = [(id_for_memo(key), id_for_memo(each, output_ref=output_ref)) for key, each in value.items()]
    return pickle.dumps(("dict", sorted(items)))


def _set(value, output_ref=False):
    return pickle.dumps((name_of(type(value)), sorted(map(id_for_memo, value))))


def _enum(value, output_ref=False):
    return pickle.dumps((name_of(type(value)), value.name))


def _array(value, output_ref=False):
    if value.dtype.hasobject or type(value).__name__ == "MaskedArray":
        raise ValueError("of Python objects, or masked")
    data = hashlib.blake2b(value.tobytes()).digest()
    return pickle.dumps((name_of(type(value)), value.dtype.str, value.shape, data))


def _function(function, output_ref=False):
    return code_of(function)


for kind in (complex, bytes, bytearray, range, decimal.Decimal, fractions.Fraction):
    id_for_memo.register(kind)(_pickled)
for kind in (datetime.date, datetime.time, datetime.timedelta):
    id_for_memo.register(kind)(_pickled)
for kind in (list, tuple):
    id_for_memo.register(kind)(_sequence)
id_for_memo.register(dict)(_dict)
for kind in (set, frozenset):
    id_for_memo.register(kind)(_set)
id_for_memo.register(PurePath)(_text)
id_for_memo.register(enum.Enum)(_enum)
id_for_memo.register(types.FunctionType)(_function)


@functools.lru_cache
def _know_numpy(numpy):
    id_for_memo.register(numpy.ndarray)(_array)
    id_for_memo.register(numpy.generic)(_array)


def _learn_numpy():
    """Take numpy's values as keys once somebody has imported it."""
    numpy = numpy_if_loaded()
    if numpy is not None:
        _know_numpy(numpy)


# --- what identifies code ------------------------------------------------------------------------
def _users(path):
    """Whether a file is the user's own, not Python's, a package's or this project's machinery."""
    if not path or path.startswith("<"):
        return True  # a notebook, a shell
    path = os.path.realpath(path)
    return not path.startswith((*LIBRARIES, HERE)) and "site-packages" not in path


def _levels(function):
    """A function and what it wraps: Parsl's wrappers around the user's own, decorators, partials."""
    while function is not None:
        if isinstance(function, functools.partial):
            for value in (*function.args, *function.keywords.values()):
                yield from _levels(value) if callable(value) else ()
            function = function.func
        elif isinstance(function, AppBase):
            function = function.func
        else:
            yield function
            function = getattr(function, "__wrapped__", None)


def _own(function):
    """The levels of a function that are the user's."""
    for level in _levels(function):
        if isinstance(level, types.FunctionType) and _users(level.__code__.co_filename):
            yield level


def app_of(function) -> str:
    """What an app is called in a message: its file or module, and its name."""
    for level in _own(function):
        file = level.__code__.co_filename
        script = level.__module__ == "__main__" and os.path.exists(file)
        module = Path(file).name if script else level.__module__
        return f"{module}.{level.__qualname__}"
    return f"{function.__module__}.{function.__name__}"


def code_of(function) -> bytes:
    """Digest of a function's module, name and code, and of the user's own code and values that it uses."""
    own = tuple(_own(function))
    return _digest(own) if own else f"{function.__module__}.{function.__name__}".encode()


@functools.lru_cache(maxsize=1000)
def _digest(levels):
    digest, seen = hashlib.blake2b(digest_size=16), set()
    for level in levels:
        _add_function(level, digest, seen)
    return digest.digest()


def _add_function(function, digest, seen):
    if function in seen:
        return
    seen.add(function)
    name = f"{function.__module__}.{function.__qualname__}"
    digest.update(f"{name}\0{_source(function)}\0".encode("utf-8", "surrogatepass"))
    kept = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    kept += [_cell(cell) for cell in function.__closure__ or ()]
    for value in kept:
        _add_value(value, digest, seen, name)
    for code in _codes(function.__code__):
        for used in sorted(set(code.co_names) & function.__globals__.keys()):
            digest.update(f"{used}\0".encode())
            _add_value(function.__globals__[used], digest, seen, None)
        for module in _imported(code):
            _add_module(module, digest, seen)


def _add_value(value, digest, seen, strict):
    """strict: the function that would give another result for another value of no known kind, or None."""
    if isinstance(value, types.FunctionType | functools.partial | AppBase):
        for level in _own(value):
            _add_function(level, digest, seen)
    elif isinstance(value, types.ModuleType):
        _add_module(value.__name__, digest, seen)
    elif isinstance(value, type):
        digest.update(name_of(value).encode())
        if value not in seen and _users(getattr(sys.modules.get(value.__module__), "__file__", None)):
            seen.add(value)
            with contextlib.suppress(OSError, TypeError):
                digest.update(inspect.getsource(value).encode("utf-8", "surrogatepass"))
    else:
        try:
            digest.update(id_for_memo(value))
        except (TypeError, ValueError, RecursionError):
            if strict and not callable(value):
                raise NoKey(
                    f"{strict}(cache=True) uses a {name_of(type(value))} from around it, by which no cached "
                    "result can be found: make it an argument, or leave cache=True out"
                ) from None
            digest.update(name_of(type(value)).encode())


def _cell(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _source(function):
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return marshal.dumps(function.__code__.replace(co_filename="", co_firstlineno=1)).hex()


def _codes(code):
    """A code object and those of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _imported(code):
    """The modules that a function imports itself, as most apps do."""
    return sorted({i.argval for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME"})


def _add_module(name, digest, seen):
    """The text of a module of the user's, and of those of the user's that it imports."""
    for path in _files(name):
        if path in seen:
            continue
        seen.add(path)
        with contextlib.suppress(OSError):
            text = path.read_bytes()
            digest.update(text)
            for imported in _imports(text):
                _add_module(imported, digest, seen)


def _files(name):
    """The files of a module or package of the user's, by its name; [] of any other."""
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None)
    if module is None:
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            file = importlib.machinery.PathFinder.find_spec(top).origin
    if not file or not file.endswith(".py") or not _users(file):
        return []
    path = Path(file)
    return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]


def _imports(text):
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module
