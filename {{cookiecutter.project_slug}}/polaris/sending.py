"""What is sent to workers and comes back, as bytes: functions, arguments, results, errors.

A function of a module goes as its code, and finds the module on the worker. A function of
`__main__`, which workers do not load (run.py, a script, a notebook), goes with whatever of
`__main__` it uses: functions, classes, constants, imports. Each of these things travels under its
name, and they make up a `__main__` on the worker; so what is made of a class there is of the same
class here.
"""

from __future__ import annotations

import builtins
import functools
import io
import operator
import pickle
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from parsl.serialize import deserialize, serialize

from . import by_value

PLAIN, DILL = b"p", b"d"  # the first byte says what wrote the others
MAIN = "__main__"
LARGE = 1_000_000  # bytes; larger functions are not kept by workers
MOST_FUNCTIONS = 100  # that a worker keeps
ADVICE = "move it into a file such as apps.py"


class Function:
    """A function among arguments that workers keep from one task to the next, as they keep apps."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class Thing(NamedTuple):
    """What a name of `__main__` stands for. code: whether it is a function or a class."""

    packed: bytes
    code: bool


# --- away -----------------------------------------------------------------------------------------
class Packer(pickle.Pickler):
    """A Pickler of things that pickle alone cannot send; by_value.py takes them apart.

    own: the name in `__main__` of what is packed, which is packed itself then, not its name.
    needs: the names in `__main__` that must be there where it is unpacked.
    """

    def __init__(self, file, own: str = ""):
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.own = own
        self.needs = set()

    def reducer_override(self, thing):
        kind = type(thing)
        if kind is types.FunctionType:
            return self._function(thing)
        if issubclass(kind, type):
            return self._class(thing)
        if kind is Function:
            packed, needs = pack(thing.function)
            self.needs |= needs
            return read_function, (packed,)
        parts = by_value.PARTS.get(kind)
        return parts(thing) if parts else NotImplemented

    def _function(self, function):
        if self._goes_by_name(function):
            return NotImplemented
        scope = function.__globals__
        if scope is vars(sys.modules[MAIN]):
            used = by_value.names_used(function.__code__)
            self.needs |= used & scope.keys()
        return by_value.parts_of_function(function, self._own_name(function))

    def _class(self, kind):
        if self._goes_by_name(kind):
            return NotImplemented
        return by_value.parts_of_class(kind, self._own_name(kind))

    def _goes_by_name(self, thing):
        """Whether it is found by its module and name, there as here."""
        if not _has_place(thing):
            return False
        if thing.__module__ != MAIN:
            return True
        top = thing.__qualname__.partition(".")[0]
        if top == self.own:
            return False
        self.needs.add(top)
        return True

    def _own_name(self, thing):
        """The name under which others find it while it is still being unpacked; or ""."""
        if self.own == thing.__qualname__ and _has_place(thing):
            return self.own
        return ""


def _has_place(thing):
    module = sys.modules.get(thing.__module__)
    try:
        return operator.attrgetter(thing.__qualname__)(module) is thing
    except AttributeError:
        return False


def pack(thing: Any, own: str = "") -> tuple[bytes, set[str]]:
    """A thing as bytes, and the names in `__main__` that it needs; raises what its classes do."""
    file = io.BytesIO(PLAIN)
    file.seek(0, io.SEEK_END)
    packer = Packer(file, own)
    try:
        packer.dump(thing)
    except Exception as problem:
        if own or packer.needs:
            raise
        try:
            return DILL + serialize(thing), set()  # what plain Parsl could send, goes
        except Exception:
            raise problem from None
    return file.getvalue(), packer.needs


def unpack(packed: bytes) -> Any:
    if packed[:1] == PLAIN:
        return pickle.loads(memoryview(packed)[1:])
    return deserialize(packed[1:])


def task(function: Callable, args: tuple, kwargs: dict) -> bytes:
    """A function and its arguments, for `Reader.task`; TypeError names what cannot be sent."""
    name = getattr(function, "__name__", type(function).__name__)
    try:
        packed, needs = pack(function)
    except Exception as problem:
        what = f"{name} cannot be sent to a worker"
        raise TypeError(f"{what}: {say(problem)}: {ADVICE}") from None
    try:
        arguments, more = pack((args, kwargs))
    except Exception as problem:
        raise TypeError(_what_cannot_be_sent(name, args, kwargs, problem)) from None
    needs |= more
    things = things_of_main(name, needs) if needs else None
    return pickle.dumps((things, packed, arguments), pickle.HIGHEST_PROTOCOL)


def things_of_main(app: str, names: set[str]) -> dict[str, Thing]:
    """{name: Thing} of these names in `__main__`, and of those that they need in their turn."""
    main = vars(sys.modules[MAIN])
    found = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in found or name not in main:
            continue
        value = main[name]
        try:
            packed, needs = pack(value, own=name)
        except Exception as problem:
            what = (
                f"{app} uses {name} of {_script()}, {_kind(value)} that cannot be sent to a worker"
            )
            raise TypeError(f"{what}: {say(problem)}: make it in the app, or {ADVICE}") from None
        found[name] = Thing(packed, callable(value))
        waiting.extend(sorted(needs))
    return found


def _what_cannot_be_sent(name, args, kwargs, problem):
    named = {f"argument {i + 1}": value for i, value in enumerate(args)}
    named |= {f"argument {key!r}": value for key, value in kwargs.items()}
    mend = "give what it is made of, and make it in the app"
    for argument, value in named.items():
        try:
            pack(value)
        except Exception as its_own:
            what = f"{name}: {argument} is {_kind(value)} that cannot be sent to a worker"
            return f"{what}: {say(its_own)}: {mend}"
    return f"{name}: its arguments cannot be sent to a worker: {say(problem)}: {mend}"


def _script():
    file = getattr(sys.modules[MAIN], "__file__", None)
    return Path(file).name if file else "the notebook"


def _kind(value):
    return f"a {type(value).__qualname__}"


def say(error: BaseException, kind: bool = True) -> str:
    """The text of an error, whatever its class does; kind: with the name of its class."""
    try:
        text = str(error)
    except Exception as problem:
        text = f"(no text: its __str__ raised {type(problem).__name__})"
    return f"{type(error).__name__}: {text}" if kind else text


# --- there ----------------------------------------------------------------------------------------
class Reader:
    """On a worker: makes of what was sent functions and arguments, and `__main__`.

    What of `__main__` is as it was, stays: a task finds there what those before it left. Where code
    has changed, all of it is made anew.
    """

    def __init__(self):
        self.main = types.ModuleType(MAIN)
        self.main.__builtins__ = builtins
        self.main.__getattr__ = self._read  # by which things find those that are not unpacked yet
        self.things = {}  # name -> Thing that it was made of
        self.waiting = {}  # name -> bytes
        self.functions = {}  # bytes -> function
        sys.modules[MAIN] = self.main

    def task(self, buffer: bytes) -> tuple[Callable, tuple, dict]:
        """The function and its arguments that `task` was given on the submit side."""
        things, packed, arguments = pickle.loads(buffer)
        if things:
            self._take(things)
        function = self.function(packed)
        args, kwargs = unpack(arguments)
        return function, args, kwargs

    def function(self, packed: bytes) -> Callable:
        function = self.functions.get(packed)
        if function is not None:
            return function
        function = unpack(packed)
        if len(self.functions) > MOST_FUNCTIONS:
            self.functions.clear()
        if len(packed) < LARGE:
            self.functions[packed] = function
        return function

    def _take(self, things):
        known = self.things
        changed = [name for name, thing in things.items() if known.get(name) != thing]
        if not changed:
            return
        self.functions.clear()
        others = [name for name in changed if name in known]
        if any(known[name].code or things[name].code for name in others):
            changed = list(things)
            self._forget()
        self.waiting = {name: things[name].packed for name in changed}
        for name in changed:
            vars(self.main).pop(name, None)
        for name in changed:
            self._make(name)
        self.things |= {name: things[name] for name in changed}

    def _make(self, name):
        try:
            getattr(self.main, name)
        except Exception as problem:
            self._forget()
            what = f"{name} of the program cannot be made on {socket.gethostname()}"
            raise TypeError(f"{what}: {say(problem)}: {ADVICE}") from problem

    def _forget(self):
        for name in self.things:
            vars(self.main).pop(name, None)
        self.things = {}
        self.waiting = {}

    def _read(self, name):
        packed = self.waiting.pop(name, None)
        if packed is None:
            raise AttributeError(f"{MAIN} has no {name} on workers")
        value = unpack(packed)
        setattr(self.main, name, value)
        return value


@functools.cache
def reader() -> Reader:
    """The Reader of this worker process."""
    return Reader()


def read_function(packed: bytes) -> Callable:
    return reader().function(packed)
