"""What identifies code: of an app, and of a function or an object among the arguments of one.

`code_of` is the one notion of it, for cached apps and for the tables of run.map: the user's
functions and classes, the functions and values that these use, the user's modules, and the programs
of the project's folder that they name ("ising.py", "./md < in.md"). What comes with Python or a
package counts by its name.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import copyreg
import functools
import hashlib
import inspect
import pickle
import types
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from parsl.app.app import AppBase
from parsl.dataflow.memoization import id_for_memo

from . import reading
from .errors import one_line
from .identity import NOT_IDENTIFIED, PROTOCOL, joined, learn_numpy
from .reading import full_name, is_users_module, parts_of, shown_name
from .values import name_of

NUMBERS = {int, float, bool}
FUNCTIONS = (types.FunctionType, AppBase)
UNCHANGING = (str, int, float, type, types.ModuleType, *FUNCTIONS)
# What these modules' functions return depends on the moment or the machine.
OUTSIDE = ("io", "_io", "time", "posix", "_socket", "_random")
LONGEST_SCRIPT = 1_000_000  # bytes of a program in which names of others are looked for


def app_of(function) -> str:
    """The name of an app, or of anything that is called: its file or module, and its own name."""
    functions, values = parts_of(function)
    if not functions:
        walk = Walk()
        for value in values:
            with contextlib.suppress(*NOT_IDENTIFIED):
                walk.identity(value)
        functions = [each for each in walk.code if isinstance(each, types.FunctionType)]
        functions = functions or walk.code
    return shown_name(functions[0]) if functions else full_name(function)


def code_of(function, strict: bool = False) -> bytes:
    """Digest, 16 bytes, of the code of an app, or of anything that is called, and of what it keeps.

    strict: ValueError where it keeps a value that nothing identifies; else that counts by its kind.
    """
    functions, values = parts_of(function)
    if functions and not values:
        return _surveyed(tuple(functions), strict).digest
    walk = Walk()
    bound = []
    for value in values:
        try:
            bound.append(walk.identity(value))
        except NOT_IDENTIFIED:
            if strict:
                raise
            bound.append(name_of(type(value)).encode())
    code = _surveyed((*functions, *walk.code), strict).digest
    name = full_name(function).encode()
    whole = joined([name, code, *bound])
    return hashlib.blake2b(whole, digest_size=16).digest()


def short_code(function) -> str:
    """`code_of` for people and tables: 8 hex digits."""
    return code_of(function)[:4].hex()


# --- the code behind code -------------------------------------------------------------------------
def _surveyed(code: tuple, strict: bool) -> Survey:
    """The survey of functions and classes; made anew where a notebook has changed what they use."""
    survey = _survey(code, strict)
    if not survey.holds():
        _survey.cache_clear()
        survey = _survey(code, strict)
    return survey


@functools.lru_cache(maxsize=1000)
def _survey(code, strict):
    return Survey(code, strict)


class Use(NamedTuple):
    """A global name that code uses. identity: of its value, where that may change in place."""

    namespace: dict
    name: str
    value: object
    identity: bytes | None

    def holds(self) -> bool:
        if self.namespace.get(self.name, Use) is not self.value:
            return False
        if self.identity is None:
            return True
        return _identity_or_none(self.value) == self.identity


class Survey:
    """All that functions and classes of the user's use, each thing once, in one digest.

    strict: as of `code_of`. digest: 16 bytes. uses: [Use].
    """

    def __init__(self, code: tuple, strict: bool):
        self.strict = strict
        self.uses = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._seen = set()
        self._todo = collections.deque()
        self._plan_code(code)
        while self._todo:
            look_at, thing = self._todo.popleft()
            look_at(thing)
        self.digest = self._hash.digest()

    def holds(self) -> bool:
        """Whether the names that were used are still what they were."""
        return all(use.holds() for use in self.uses)

    def _plan(self, look_at, thing):
        if thing not in self._seen:
            self._seen.add(thing)
            self._todo.append((look_at, thing))

    def _plan_code(self, code: Iterable):
        for each in code:
            look_at = self._class if isinstance(each, type) else self._function
            self._plan(look_at, each)

    def _plan_programs(self, text):
        for path in reading.programs_in(text):
            self._plan(self._file, path)

    def _add(self, *texts):
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._hash.update(joined(parts))

    def _function(self, function):
        name = full_name(function)
        self._add(name, reading.source_of(function))
        for value in reading.kept_by(function):
            self._value(value, keeper=name)
        for code in reading.codes_in(function.__code__):
            self._names(code, function)
            for module in reading.imported_by(code):
                self._plan(self._module, module)
            for text in reading.texts_of(code):
                self._plan_programs(text)
                for path in reading.templates_in(code, text):
                    self._add(path.name)
                    self._plan(self._file, path)

    def _names(self, code, function):
        """The global names that a code object uses; an attribute of such a name counts as one."""
        namespace = function.__globals__
        is_sent = function.__module__ == "__main__"  # to workers, with what its names are then
        for name in sorted(set(code.co_names) & namespace.keys()):
            value = namespace[name]
            self._add(name)
            identity = self._value(value)
            if not is_sent or isinstance(value, UNCHANGING):
                identity = None
            self.uses.append(Use(namespace, name, value, identity))

    def _value(self, value, keeper=None):
        """Add a value; returns its identity or None. keeper: the function that keeps it."""
        if isinstance(value, types.ModuleType):
            self._plan(self._module, value.__name__)
            return None
        walk = Walk()
        try:
            identity = walk.identity(value)
            self._hash.update(joined([identity]))
        except NOT_IDENTIFIED:
            if keeper and self.strict and not callable(value):
                kind = name_of(type(value))
                raise ValueError(f"{keeper} uses a {kind} from around it") from None
            identity = None
            self._add(name_of(type(value)))
            if is_users_module(type(value).__module__):
                walk.code.append(type(value))
        self._plan_code(walk.code)
        for text in reading.texts_in(value):
            self._plan_programs(text)
        return identity

    def _class(self, kind):
        self._add(full_name(kind))
        with contextlib.suppress(OSError, TypeError):
            self._add(inspect.getsource(kind))
        for name, member in sorted(vars(kind).items()):
            self._plan_code(reading.functions_of(member))
            is_value = not callable(member) and not hasattr(member, "__get__")
            if is_value and not name.startswith("_"):
                self._add(name)
                self._value(member)
        bases = [base for base in kind.__bases__ if is_users_module(base.__module__)]
        self._plan_code(bases)

    def _module(self, name):
        for path in reading.files_of(name):
            self._plan(self._file, path)

    def _file(self, path: Path):
        """A module or a program of the user's, what it imports, and what programs it names."""
        try:
            text = path.read_bytes()
        except OSError:
            return
        self._hash.update(joined([text]))
        if path.suffix == ".py":
            self._module_text(text)
        elif b"\0" not in text and len(text) < LONGEST_SCRIPT:
            self._plan_programs(text.decode("utf-8", "replace"))

    def _module_text(self, text):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            tree = ast.parse(text)
            for module in reading.imports_in(tree):
                self._plan(self._module, module)
            for string in reading.strings_in(tree):
                self._plan_programs(string)


# --- values with code in them ---------------------------------------------------------------------
class Walk:
    """Identifies values of any kind. code: the user's functions and classes that were in them.

    output_ref: as of Parsl's id_for_memo, whether files are outputs.
    """

    def __init__(self, output_ref: bool = False):
        learn_numpy()
        self.output_ref = output_ref
        self.code = []
        self._around = set()  # ids of what is being looked into

    def identity(self, value) -> bytes:
        """What tells a value from others; one of NOT_IDENTIFIED where nothing does."""
        known = id_for_memo.dispatch(type(value))
        if known is not _walked:
            return known(value, output_ref=self.output_ref)
        if id(value) in self._around:
            raise ValueError("it contains itself")
        self._around.add(id(value))
        try:
            return self._identity(value, type(value))
        finally:
            self._around.discard(id(value))

    def _identity(self, value, kind):
        is_named = issubclass(kind, tuple) and hasattr(kind, "_fields")
        if kind in (list, tuple) or is_named:
            return self._sequence(value, kind)
        if kind is dict:
            return joined([b"dict", *sorted(map(self._pair, value.items()))])
        if kind in (set, frozenset):
            members = sorted(map(self.identity, value))
            return joined([kind.__name__.encode(), *members])
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, FUNCTIONS) or hasattr(value, "__wrapped__"):
            return self._function(value)
        return self._object(value, kind)

    def _pair(self, item):
        key, value = item
        return joined([self.identity(key), self.identity(value)])

    def _sequence(self, value, kind):
        name = name_of(kind).encode()
        if NUMBERS.issuperset(map(type, value)):
            return joined([name, pickle.dumps(list(value), PROTOCOL)])
        return joined([name, *map(self.identity, value)])

    def _class(self, kind):
        if is_users_module(kind.__module__):
            self.code.append(kind)
        return joined([b"class", full_name(kind).encode()])

    def _function(self, value):
        functions, bound = parts_of(value)
        self.code += functions
        names = [full_name(each).encode() for each in functions or [value]]
        values = map(self.identity, bound)
        return joined([b"function", *names, *values])

    def _object(self, value, kind):
        """By its class and its state, as it would be sent to a worker."""
        if isinstance(value, Future):
            advice = "give it as an argument of its own, or in inputs="
            raise ValueError(f"a future within something else: {advice}")
        reduced = _reduced(value, kind)
        if isinstance(reduced, str):
            return self._by_name(value, reduced)
        parts = list(reduced[:3])
        for items in reduced[3:5]:
            parts.append(None if items is None else list(items))
        state = map(self.identity, parts)
        return joined([b"object", self.identity(kind), *state])

    def _by_name(self, value, name):
        module = getattr(value, "__module__", None) or ""
        if module in OUTSIDE:
            raise ValueError(f"{module}.{name} depends on more than its arguments")
        words = (name_of(type(value)), module, name)
        return joined([b"name", *[word.encode() for word in words]])


def _reduced(value, kind):
    """What pickle makes of an object; ValueError where it can make nothing."""
    reduce = copyreg.dispatch_table.get(kind)
    try:
        return value.__reduce_ex__(PROTOCOL) if reduce is None else reduce(value)
    except Exception as error:  # an object's own code
        raise ValueError(one_line(error)) from None


def _identity_or_none(value):
    try:
        return Walk().identity(value)
    except NOT_IDENTIFIED:
        return None


def _walked(value, output_ref=False):
    """`id_for_memo` of what may have code in it, and of everything that is not known otherwise."""
    walk = Walk(output_ref)
    identity = walk.identity(value)
    if not walk.code:
        return identity
    survey = _surveyed(tuple(walk.code), strict=True)
    return joined([identity, survey.digest])


for kind in (object, list, tuple, dict, set, frozenset, type, types.FunctionType):
    id_for_memo.register(kind)(_walked)
