"""Values as cells of CSV files, and back: the same value of the same kind, whatever text has in it.

A row of results.csv is one line of the file. Plain numbers and texts stand in their cells as they
are. The column `kinds` has a word for each output:

    float int bool complex str    the cell is Python's own text of it; of a text, the text
    None                          the cell is empty
    numpy.float32 and its like    a numpy scalar, the cell is its digits
    json                          a list, tuple or dict
    json-file, npy, npy-scalar    a long one, an array, another numpy scalar: the path of its file
    InFile                        the path of a file that the task wrote

A text that would break its line is written as `json:"..."`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

from . import tables

INPUT_KINDS = (int, float, str, bool)
TRUE = ("true", "yes", "1")
FALSE = ("false", "no", "0")
MARK = "json:"
BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")  # a line, or UTF-8
LONGEST_JSON = 1000  # characters in a cell
DIGITS = 4000  # of a whole number that Python writes as digits; a longer one is written as 0x...
WHOLE = re.compile(r"[+-]?[0-9]+")
NUMPYS = "numpy."  # before the name of a kind of numpy's

NewFile = Callable[[str], Path]  # from an ending to the path of a file for a value


class InFile(str):
    """The path of a file in which a result is; it has to be there where the result is read."""


class Unkept(Exception):
    """A value that no cell and no file of results can keep; its text says what to do."""


# --- inputs: what the user wrote ------------------------------------------------------------------
def given(text: str, kind: type) -> int | float | str | bool:
    """The value of a cell of the user's input file; ValueError says what is wrong with it."""
    if kind is str:
        return text
    word = text.strip()
    if kind is float:
        return _float(word)
    if kind is int:
        return _int(word)
    return _bool(word)


def _float(word):
    number = math.nan
    if word.isascii() and "_" not in word:
        try:
            number = float(word)
        except ValueError:
            pass
    if math.isfinite(number):
        return number
    raise ValueError(f"{word[:40]!r} is not a number")


def _int(word):
    if not WHOLE.fullmatch(word):
        raise ValueError(f"{word[:40]!r} is not a whole number")
    digits = len(word)
    if digits > DIGITS:
        raise ValueError(f"{word[:40]!r}... has {digits} digits; {DIGITS} are allowed")
    return int(word)


def _bool(word):
    lower = word.lower()
    if lower in TRUE:
        return True
    if lower in FALSE:
        return False
    raise ValueError(f"{word[:40]!r} is neither True nor False (nor yes, no, 1, 0)")


def input_cell(value: int | float | str | bool) -> str:
    """An input value as a cell of results.csv."""
    if type(value) is str:
        return text_cell(value)
    return repr(value)


def input_back(cell: str, kind: type) -> int | float | str | bool:
    """The value that `input_cell` made a cell of; ValueError where it is none."""
    if kind is str:
        return text_back(cell)
    if kind is bool:
        return given(cell, bool)
    return kind(cell)


def text_cell(text: str) -> str:
    if text.startswith(MARK) or BREAKS.search(text):
        return MARK + json.dumps(text)
    return text


def text_back(cell: str) -> str:
    if not cell.startswith(MARK):
        return cell
    return json.loads(cell[len(MARK) :])


# --- outputs: what a task returned ----------------------------------------------------------------
def output_cell(value: object, new_file: NewFile) -> tuple[str, str]:
    """A value that a task returned, as (cell, kind).

    new_file: makes the path of a file for this value, of an ending. Raises Unkept for what cannot
    be kept, OSError where a file cannot be written.
    """
    exact = type(value)
    plain = CELLS.get(exact)
    if plain is not None:
        return plain(value), exact.__name__
    if value is None:
        return "", "None"
    if exact in (list, tuple, dict):
        return _json_cell(value, new_file)
    numpy = numpy_if_loaded()
    if numpy is not None:
        if isinstance(value, numpy.generic):
            return _scalar_cell(numpy, value, new_file)
        if exact is numpy.ndarray:
            return _array_cell(numpy, value, new_file), "npy"
    mend = "return numbers, text, lists, dicts or numpy arrays"
    raise Unkept(f"is a {name_of(exact)}: {mend}")


def _whole_cell(number):
    if number.bit_length() < 3 * DIGITS:
        return str(number)
    return hex(number)


CELLS = {
    float: repr,
    str: text_cell,
    bool: repr,
    complex: repr,
    int: _whole_cell,
    InFile: text_cell,
}


def _scalar_cell(numpy, value, new_file):
    if _is_number(value):
        return str(value), NUMPYS + value.dtype.name
    array = numpy.asarray(value)
    return _array_cell(numpy, array, new_file), "npy-scalar"


def _is_number(scalar):
    """Whether a numpy scalar can be written as text, and read again as the same."""
    return scalar.dtype.kind in "biuf"


def _array_cell(numpy, array, new_file):
    if array.dtype.hasobject:
        raise Unkept("is an array of Python objects: return an array of numbers, or a list")

    def write(file):
        numpy.save(file, array, allow_pickle=False)

    return _in_file(new_file(".npy"), write)


def _json_cell(value, new_file):
    try:
        text = json.dumps(_to_json(value))
    except (RecursionError, ValueError) as error:
        kind = type(value).__name__
        raise Unkept(f"is a {kind} that cannot be written as JSON: {error}") from None
    if len(text) <= LONGEST_JSON:
        return text, "json"
    return _in_file(new_file(".json"), text), "json-file"


def _in_file(path, write):
    """Write a file of its own for a value; returns its path as a cell."""
    path.parent.mkdir(exist_ok=True)
    tables.replace(path, write)
    return path.as_posix()


# --- and back -------------------------------------------------------------------------------------
def output_back(cell: str, kind: str) -> object:
    """The value that `output_cell` made a cell of; ValueError or OSError where it is unreadable."""
    back = BACK.get(kind)
    if back is not None:
        return back(cell)
    if kind.startswith(NUMPYS):
        name = kind.removeprefix(NUMPYS)
        return _numpy_scalar(cell, name)
    raise ValueError(f"{cell[:40]!r} is no {kind}")


def _none_back(cell):
    return None


def _whole_back(cell):
    if "x" in cell:
        return int(cell, 16)
    return int(cell)


def _bool_back(cell):
    if cell in ("True", "False"):
        return cell == "True"
    raise ValueError(f"{cell[:40]!r} is no bool")


def _json_back(cell):
    return _from_json(json.loads(cell))


def _json_file_back(cell):
    text = Path(cell).read_text(encoding="utf-8")
    return _json_back(text)


def _array_back(cell):
    import numpy

    return numpy.load(cell, allow_pickle=False)


def _scalar_back(cell):
    return _array_back(cell)[()]


BACK = {
    "float": float,
    "str": text_back,
    InFile.__name__: text_back,
    "int": _whole_back,
    "bool": _bool_back,
    "complex": complex,
    "None": _none_back,
    "json": _json_back,
    "json-file": _json_file_back,
    "npy": _array_back,
    "npy-scalar": _scalar_back,
}


def _numpy_scalar(cell, name):
    import numpy

    kind = numpy.dtype(name).type
    if name == "bool":
        return kind(cell == "True")
    return kind(cell)


# --- JSON, with what it has no word for -----------------------------------------------------------
def _to_json(value):
    """What JSON has no word for becomes a dict of one key: the name of its kind, in underscores."""
    exact = type(value)
    if value is None or exact in INPUT_KINDS:
        return value
    if exact is list:
        return _all_to_json(value)
    if exact is tuple:
        return {"__tuple__": _all_to_json(value)}
    if exact is complex:
        return {"__complex__": [value.real, value.imag]}
    if exact is dict:
        return _dict_to_json(value)
    numpy = numpy_if_loaded()
    if numpy is not None and isinstance(value, numpy.generic):
        if _is_number(value):
            return {"__numpy__": [value.dtype.name, str(value)]}
    advice = "plain values"
    if exact.__module__ == "numpy":
        advice = "an output of its own, or .tolist()"
    raise Unkept(f"has a {name_of(exact)} in it: make that {advice}")


def _all_to_json(values):
    return [_to_json(each) for each in values]


def _dict_to_json(value):
    made = {}
    for key, each in value.items():
        if type(key) is not str or key.startswith("__"):
            pairs = [_all_to_json(pair) for pair in value.items()]
            return {"__dict__": pairs}
        made[key] = _to_json(each)
    return made


def _from_json(value):
    if isinstance(value, list):
        return [_from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    name, inner = next(iter(value.items()), (None, None))
    if name == "__tuple__":
        return tuple(map(_from_json, inner))
    if name == "__complex__":
        return complex(*inner)
    if name == "__numpy__":
        kind, digits = inner
        return _numpy_scalar(digits, kind)
    pairs = inner if name == "__dict__" else value.items()
    made = {}
    for key, each in pairs:
        made[_from_json(key)] = _from_json(each)
    return made


# --- kinds ----------------------------------------------------------------------------------------
def numpy_if_loaded():
    """numpy, where somebody has imported it; waits where another thread is just about to."""
    if "numpy" not in sys.modules:
        return None
    import numpy

    return numpy


def name_of(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__name__}"
