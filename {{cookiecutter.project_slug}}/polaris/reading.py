"""Code, read: whose it is, what a function holds and names, which files belong to it.

The user's is what comes neither with Python, nor with a package, nor with this project's machinery.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import dis
import functools
import importlib.machinery
import inspect
import os
import re
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path, PurePath

from parsl.app.app import AppBase

from . import rendering
from .machine import PROJECT

HERE = os.path.realpath(os.path.dirname(__file__)) + os.sep
LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
STANDARD = sysconfig.get_path("stdlib") + os.sep  # whose files may be links to elsewhere
PACKAGES = ("site-packages", "dist-packages", "/archive-v0/")  # the last is uv's cache, linked to
# Files of the project's folder that count as code where code names them. So do those that may be
# executed.
PROGRAMS = tuple(".py .sh .bash .awk .sed .pl .r .jl .in .inp .tmpl .j2".split())
OF_PROJECT = "@project@/"  # in a command for run_in_folder
NOT_PROGRAMS = ("polaris", "results", "runinfo")  # and what is hidden, such as .venv
WORD = re.compile(r"[\w./+@%-]+")
CODE_HAS_DOCSTRING = 0x4000000  # of co_flags, since Python 3.13


# --- whose it is ----------------------------------------------------------------------------------
@functools.lru_cache(maxsize=10_000)
def is_users_file(path: str) -> bool:
    if path.startswith(STANDARD) and not any(name in path for name in PACKAGES):
        return False
    path = os.path.realpath(path)
    if path.startswith((*LIBRARIES, HERE)):
        return False
    return not any(name in path for name in PACKAGES)


def is_users_module(name: str) -> bool:
    """Whether a module is the user's; one without a file is a notebook, a shell or Python's own."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name not in sys.builtin_module_names and not name.startswith("_frozen")
    return is_users_file(file)


def is_users_function(function: types.FunctionType) -> bool:
    file = function.__code__.co_filename
    if file.startswith("<"):
        return is_users_module(function.__module__ or "__main__")
    return is_users_file(file)


def full_name(code) -> str:
    """Module and name of a function or class; of another object, its kind's."""
    if not hasattr(code, "__qualname__"):
        code = type(code)
    return f"{code.__module__}.{code.__qualname__}"


@functools.lru_cache(maxsize=1000)
def shown_name(code) -> str:
    """The name of a user's function or class; of one of a script, after its file."""
    if code.__module__ != "__main__":
        return full_name(code)
    if isinstance(code, types.FunctionType):
        file = code.__code__.co_filename
    else:
        file = getattr(sys.modules["__main__"], "__file__", "")
    if not os.path.exists(file):  # a notebook
        return full_name(code)
    return f"{Path(file).name}.{code.__qualname__}"


# --- what is called -------------------------------------------------------------------------------
def parts_of(function) -> tuple[list, list]:
    """The user's functions in what is called, and the values bound in it.

    Parsl's wrappers around the user's own, decorators, partials and methods are looked into; what
    is called otherwise (an object, a class) is among the values.
    """
    functions, values, seen = [], [], set()
    levels = collections.deque([function])
    while levels:
        level = levels.popleft()
        if id(level) in seen:
            continue
        seen.add(id(level))
        if isinstance(level, types.FunctionType):
            if is_users_function(level):
                functions.append(level)
                levels.extend(_wrapped_in(level))
            else:
                levels.extend(_wrapped_in(level) or _called_by(level))
        elif isinstance(level, functools.partial):
            bound = _bound_in(level)
            levels.extend(value for value in bound if callable(value))
            levels.append(level.func)
            values.extend(value for value in bound if not callable(value))
        elif isinstance(level, AppBase):
            levels.append(level.func)
        elif isinstance(level, types.MethodType):
            values.append(level.__self__)
            levels.append(level.__func__)
        elif _wrapped_in(level) and not isinstance(level, type):
            levels.extend(_wrapped_in(level))
        else:
            values.append(level)
    return functions, values


def _wrapped_in(level):
    return [level.__wrapped__] if hasattr(level, "__wrapped__") else []


def _called_by(wrapper):
    """What a package's wrapper without __wrapped__ may call."""
    return [value for value in _around(wrapper) if callable(value)]


def _bound_in(partial):
    if not partial.keywords:
        return list(partial.args)
    return [*partial.args, list(partial.keywords), *partial.keywords.values()]


# --- a function or class --------------------------------------------------------------------------
def kept_by(function: types.FunctionType) -> Iterator[object]:
    """The values that a function keeps: of its defaults, and of the functions around it."""
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from _around(function)


def _around(function):
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            yield None


def functions_of(member) -> list[types.FunctionType]:
    """The functions in an attribute of a class, but for those made as text, of a dataclass, say."""
    found = [member]
    if isinstance(member, property):
        found = [member.fget, member.fset, member.fdel]
    elif isinstance(member, functools.cached_property):
        found = [member.func]
    elif hasattr(member, "__wrapped__"):  # a static or class method, or decorated
        found = [inspect.unwrap(member)]
    functions = [each for each in found if isinstance(each, types.FunctionType)]
    return [each for each in functions if each.__code__.co_filename != "<string>"]


def source_of(function: types.FunctionType) -> str:
    """The text of a function, or what stands for it where there is none."""
    if function.__name__ != "<lambda>":  # of which a line may have several
        with contextlib.suppress(OSError, TypeError):
            return inspect.getsource(function)
    return _structure(function.__code__)


def _structure(code):
    """A code object in words, the same in every process."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    constants = []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            constants.append(_structure(constant))
        elif isinstance(constant, frozenset):
            members = sorted(map(repr, constant))
            constants.append(repr(members))
        else:
            constants.append(repr(constant))
    return repr((code.co_code.hex(), counts, names, constants))


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


def texts_of(code: types.CodeType) -> Iterator[str]:
    """The texts in a code object, without what documents it."""
    constants = list(code.co_consts)
    is_documented = not code.co_name.startswith("<")  # all but lambdas, comprehensions, ...
    if sys.version_info >= (3, 13):
        is_documented = bool(code.co_flags & CODE_HAS_DOCSTRING)
    if is_documented and constants:
        del constants[0]
    yield from texts_in(constants)


def texts_in(value) -> Iterator[str]:
    """The texts and paths in a value, its lists and tuples."""
    if isinstance(value, str | PurePath):
        yield str(value)
    elif isinstance(value, list | tuple | frozenset):
        for each in value:
            if isinstance(each, str | PurePath | tuple | frozenset):
                yield from texts_in(each)


def imported_by(code: types.CodeType) -> list[str]:
    """The modules that a function imports itself, as most apps do."""
    instructions = dis.get_instructions(code)
    found = {each.argval for each in instructions if each.opname == "IMPORT_NAME"}
    return sorted(found - {""})


# --- files ----------------------------------------------------------------------------------------
def files_of(module: str) -> list[Path]:
    """The files of a module or package of the user's, by its name; [] of any other."""
    top = module.partition(".")[0]
    found = sys.modules.get(top)
    if found is None:
        with contextlib.suppress(ImportError, ValueError):
            found = importlib.machinery.PathFinder.find_spec(top)
    file = getattr(found, "__file__", None) or getattr(found, "origin", None)
    folders = getattr(found, "__path__", None)
    if folders is None:
        folders = getattr(found, "submodule_search_locations", None)
    paths = [Path(file)] if file else []
    if folders:
        theirs = [Path(folder) for folder in folders if is_users_file(folder)]
        paths = [path for folder in theirs for path in sorted(folder.rglob("*.py"))]
    return [path for path in paths if is_users_file(str(path))]


def programs_in(text: str) -> Iterator[Path]:
    """The files of the project's folder that a text names, where they count as code."""
    for word in dict.fromkeys(WORD.findall(text.replace(OF_PROJECT, ""))):
        named = Path(word.rstrip("."))
        is_program = named.suffix.lower() in PROGRAMS
        if not is_program and "/" not in word:
            continue
        with contextlib.suppress(OSError, ValueError):
            path = (PROJECT / named).resolve()
            if _is_ours(path.relative_to(PROJECT)):  # ValueError: it lies elsewhere
                continue
            if path.is_file() and (is_program or os.access(path, os.X_OK)):
                yield path


def templates_in(code: types.CodeType, text: str) -> list[Path]:
    """The files of a folder of the project that a text of this code names for run_in_folder."""
    if "run_in_folder" not in code.co_names:
        return []
    with contextlib.suppress(OSError, ValueError):
        folder = (PROJECT / text).resolve()
        near = folder.relative_to(PROJECT)
        if near.parts and not _is_ours(near) and folder.is_dir():
            return rendering.paths_in(folder)
    return []


def _is_ours(near):
    first = near.parts[0] if near.parts else ""
    return first in NOT_PROGRAMS or first.startswith(".")


def imports_in(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports, but for those of its own package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def strings_in(tree: ast.Module) -> Iterator[str]:
    """The texts in a module, without what documents it."""
    documents = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            documents.add(body[0].value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node not in documents:
                yield node.value
