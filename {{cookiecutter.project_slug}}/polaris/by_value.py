"""Functions and classes taken apart and put together again, where no module on a worker has them.

As pickle's `reducer_override` wants it: (what makes an empty one, its arguments, what it is filled
with, None, None, what fills it). Made empty first, a thing may contain itself.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import dis
import enum
import functools
import importlib
import marshal
import sys
import types
import typing

# Of a function, beside what makes it.
ATTRIBUTES = (
    "__module__",
    "__qualname__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
)
# Of a class: what it must be made with, and what its making gives it.
GIVEN_TO_A_CLASS = ("__slots__", "__orig_bases__")
MADE_WITH_A_CLASS = ("__dict__", "__weakref__", "_abc_impl")
DESCRIPTORS_OF_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
METHODS = (types.FunctionType, property, staticmethod, classmethod)


# --- functions ------------------------------------------------------------------------------------
def parts_of_function(function: types.FunctionType, own: str) -> tuple:
    """own: the name in `__main__` under which others find it; or ""."""
    code = function.__code__
    scope = function.__globals__
    home = scope.get("__name__")
    if getattr(sys.modules.get(home), "__dict__", None) is not scope:
        home = None
    used = sorted(names_used(code) & scope.keys())
    values = {name: scope[name] for name in used}
    imports = _submodules(code, values.values())
    packed = marshal.dumps(code)
    made_of = (packed, home, function.__name__, function.__closure__, imports, own)
    attributes = {name: getattr(function, name) for name in ATTRIBUTES}
    attributes["__dict__"] = vars(function)
    if home is not None:
        values = {}  # it finds them there
    filled_with = (attributes, values)
    return new_function, made_of, filled_with, None, None, fill_function


def new_function(code, home, name, closure, imports, own):
    for module in imports:
        with contextlib.suppress(ImportError):  # it may do without
            importlib.import_module(module)
    scope = {"__builtins__": builtins}
    if home is not None:
        scope = vars(importlib.import_module(home))
    code = marshal.loads(code)
    function = types.FunctionType(code, scope, name, None, closure)
    return _found_as(own, function)


def fill_function(function, state):
    attributes, scope = state
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__globals__.update(scope)


def _found_as(own, thing):
    if own:
        setattr(sys.modules["__main__"], own, thing)
    return thing


@functools.lru_cache(maxsize=1000)
def names_used(code: types.CodeType) -> frozenset[str]:
    """The global names that a function uses, those within it too."""
    names = set()
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if "GLOBAL" in name or name == "LOAD_NAME":  # the latter in the body of a class
            names.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_used(constant)
    return frozenset(names)


@functools.lru_cache(maxsize=1000)
def _words(code):
    words = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            words |= _words(constant)
    return words


def _submodules(code, values):
    """Modules within packages that a function uses: `import a.b` binds a alone."""
    packages = [value.__name__ for value in values if isinstance(value, types.ModuleType)]
    found = []
    while packages:
        package = packages.pop()
        inner = [f"{package}.{word}" for word in _words(code)]
        inner = sorted(name for name in inner if name in sys.modules)
        found += inner
        packages += inner
    return tuple(found)


# --- classes --------------------------------------------------------------------------------------
def parts_of_class(kind: type, own: str):
    """own: as above."""
    if not kind.__flags__ & 1 << 9:  # Py_TPFLAGS_HEAPTYPE: Python code did not make it
        return NotImplemented
    if issubclass(kind, enum.Enum):
        return _parts_of_enum(kind, own)
    made_with = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    body = {}
    for name, value in vars(kind).items():
        if name in GIVEN_TO_A_CLASS:
            made_with[name] = value
        elif name not in MADE_WITH_A_CLASS and not isinstance(value, DESCRIPTORS_OF_SLOTS):
            body[name] = value
    made_of = (type(kind), kind.__name__, kind.__bases__, made_with, own)
    return new_class, made_of, body, None, None, fill_class


def new_class(meta, name, bases, body, own):
    return _found_as(own, meta(name, bases, body))


def fill_class(kind, body):
    for name, value in body.items():
        type.__setattr__(kind, name, value)


def _parts_of_enum(kind, own):
    """An Enum is made of its members and methods at once: it cannot be filled later."""
    body = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    for name, value in vars(kind).items():
        of_enum_itself = getattr(value, "__module__", None) == "enum"
        if isinstance(value, METHODS) and not of_enum_itself:
            body[name] = value
    for name, member in kind.__members__.items():
        body[name] = member.value
    made_of = (type(kind), kind.__name__, kind.__bases__, body, own)
    return new_enum, made_of


def new_enum(meta, name, bases, body, own):
    space = meta.__prepare__(name, bases)
    for key, value in body.items():
        space[key] = value
    return _found_as(own, meta(name, bases, space))


# --- other things ---------------------------------------------------------------------------------
def _cell(cell):
    try:
        return new_cell, (), cell.cell_contents, None, None, fill_cell
    except ValueError:  # it is empty
        return new_cell, ()


def new_cell():
    return types.CellType()


def fill_cell(cell, contents):
    cell.cell_contents = contents


def _module(module):
    return importlib.import_module, (module.__name__,)


def _property(thing):
    return property, (thing.fget, thing.fset, thing.fdel, thing.__doc__)


def _wrapped(thing):
    return type(thing), (thing.__func__,)


def _cached_property(thing):
    return new_cached_property, (thing.func, thing.attrname)


def new_cached_property(function, name):
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _cached_function(function):
    settings = function.cache_parameters()
    return new_cached_function, (function.__wrapped__, settings)


def new_cached_function(function, settings):
    return functools.lru_cache(**settings)(function)


def _type_variable(variable):
    settings = {
        "bound": variable.__bound__,
        "covariant": variable.__covariant__,
        "contravariant": variable.__contravariant__,
    }
    return new_type_variable, (variable.__name__, variable.__constraints__, settings)


def new_type_variable(name, constraints, settings):
    return typing.TypeVar(name, *constraints, **settings)


def _mapping(mapping):
    return new_mapping, (dict(mapping),)


def new_mapping(values):
    return types.MappingProxyType(values)


def _by_its_name(thing):
    """One of a kind: dataclasses knows its fields by `is`."""
    for name, value in vars(dataclasses).items():
        if value is thing:
            return getattr, (dataclasses, name)
    return NotImplemented


def _singletons():
    for value in vars(dataclasses).values():
        kind = type(value)
        if kind.__module__ == "dataclasses":
            yield kind


PARTS = {
    types.CellType: _cell,
    types.ModuleType: _module,
    types.MappingProxyType: _mapping,
    typing.TypeVar: _type_variable,
    property: _property,
    staticmethod: _wrapped,
    classmethod: _wrapped,
    functools.cached_property: _cached_property,
    functools._lru_cache_wrapper: _cached_function,
}
PARTS |= {kind: _by_its_name for kind in _singletons()}
