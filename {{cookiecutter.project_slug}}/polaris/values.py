"""Values as cells of CSV files, and back: the same value of the same kind, whatever a text has in it.

A row of results.csv is one line of the file. Plain numbers and texts stand in their cells as they are. The
column `kinds` has a word for each output:

    float int bool complex str    the cell is Python's own text of it; of a text, the text
    None                          the cell is empty
    numpy.float32 and its like    a numpy scalar, the cell is its digits
    json                          a list, tuple or dict
    json-file, npy, npy-scalar    a long one, an array, another numpy scalar: the cell is the path of its file

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
TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")
MARK = "json:"
BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")  # a line, or UTF-8
LONGEST_JSON = 1000  # characters in a cell
DIGITS = 4000  # of a whole number that Python writes and reads as digits; a longer one is written as 0x...
WHOLE = re.compile(r"[+-]?[0-9]+")


class Unkept(Exception):
    """A value that no cell and no file of results can keep; its text says what it is and what to do."""


# --- inputs: what the user wrote -----------------------------------------------------------------
def given(text: str, kind: type) -> int | float | str | bool:
    """The value of a cell of the user's input file; ValueError says what is wrong with it."""
    if kind is str:
        return text
    text = text.strip()
    if kind is float:
        try:
            number = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
        raise ValueError(f"{text[:40]!r} is not a number")
    if kind is int:
        if not WHOLE.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is not a whole number")
        if len(text) > DIGITS:
            raise ValueError(f"{text[:40]!r}... has {len(text)} digits; {DIGITS} are allowed")
        return int(text)
    if text.lower() not in TRUE + FALSE:
        raise ValueError(f"{text[:40]!r} is neither True nor False (nor yes, no, 1, 0)")
    return text.lower() in TRUE


def input_cell(value) -> str:
    """An input value as a cell of results.csv."""
    return text_cell(value) if type(value) is str else repr(value)


def input_back(cell: str, kind: type) -> int | float | str | bool:
    """The value that `input_cell` made a cell of; ValueError where it is none."""
    if kind is str:
        return text_back(cell)
    return given(cell, bool) if kind is bool else kind(cell)


def text_cell(text: str) -> str:
    return MARK + json.dumps(text) if BREAKS.search(text) or text.startswith(MARK) else text


def text_back(cell: str) -> str:
    return json.loads(cell[len(MARK) :]) if cell.startswith(MARK) else cell


# --- outputs: what a task returned ---------------------------------------------------------------
def output_cell(value, new_file: Callable[[str], Path]) -> tuple[str, str]:
    """A value that a task returned, as (cell, kind).

    new_file: a function from an ending to the path of a file for this value. Raises Unkept for what cannot
    be kept, OSError where a file cannot be written.
    """
    exact = type(value)
    if exact is float:
        return repr(value), "float"
    if exact is str:
        return text_cell(value), "str"
    if exact is bool or exact is complex:
        return repr(value), exact.__name__
    if value is None:
        return "", "None"
    if exact is int:
        return str(value) if value.bit_length() < 3 * DIGITS else hex(value), "int"
    if exact in (list, tuple, dict):
        return _json_cell(value, new_file)
    numpy = numpy_if_loaded()
    if numpy is not None and isinstance(value, numpy.generic):
        if value.dtype.kind in "biuf":
            return str(value), f"numpy.{value.dtype.name}"
        return _array_cell(numpy, numpy.asarray(value), new_file), "npy-scalar"
    if numpy is not None and exact is numpy.ndarray:
        return _array_cell(numpy, value, new_file), "npy"
    raise Unkept(f"is a {name_of(exact)}: return numbers, text, lists, dicts or numpy arrays")


def output_back(cell: str, kind: str):
    """The value that `output_cell` made a cell of; ValueError or OSError where it cannot be read."""
    plain = PLAIN.get(kind)
    if plain is not None:
        return plain(cell)
    if kind == "bool" and cell in ("True", "False"):
        return cell == "True"
    if kind == "json":
        return _from_json(json.loads(cell))
    if kind == "json-file":
        return _from_json(json.loads(Path(cell).read_text(encoding="utf-8")))
    if kind in ("npy", "npy-scalar"):
        import numpy

        array = numpy.load(cell, allow_pickle=False)
        return array if kind == "npy" else array[()]
    if kind.startswith("numpy."):
        return _numpy_scalar(cell, kind[len("numpy.") :])
    raise ValueError(f"{cell[:40]!r} is no {kind}")


def numpy_if_loaded():
    """numpy, where somebody has imported it; waits where another thread is just about to."""
    if "numpy" not in sys.modules:
        return None
    import numpy

    return numpy


def _whole(cell):
    return int(cell, 16) if "x" in cell else int(cell)


PLAIN = {"float": float, "int": _whole, "str": text_back, "complex": complex, "None": lambda cell: None}


def name_of(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _numpy_scalar(cell, name):
    import numpy

    kind = numpy.dtype(name).type
    return kind(cell == "True") if name == "bool" else kind(cell)


def _array_cell(numpy, array, new_file):
    if array.dtype.hasobject:
        raise Unkept("is an array of Python objects: return an array of numbers, or a list")
    return _in_file(new_file(".npy"), lambda file: numpy.save(file, array, allow_pickle=False))


def _json_cell(value, new_file):
    try:
        text = json.dumps(_to_json(value))
    except (RecursionError, ValueError) as error:
        raise Unkept(f"is a {type(value).__name__} that cannot be written as JSON: {error}") from None
    if len(text) <= LONGEST_JSON:
        return text, "json"
    return _in_file(new_file(".json"), text), "json-file"


def _in_file(path, write):
    """Write a file of its own for a value; returns its path as a cell."""
    path.parent.mkdir(exist_ok=True)
    tables.replace(path, write)
    return path.as_posix()


def _to_json(value):
    """What JSON has no word for becomes a dict of one key, the name of its kind between underscores."""
    exact = type(value)
    if value is None or exact in (bool, int, float, str):
        return value
    if exact is list:
        return [_to_json(each) for each in value]
    if exact is tuple:
        return {"__tuple__": [_to_json(each) for each in value]}
    if exact is complex:
        return {"__complex__": [value.real, value.imag]}
    if exact is dict:
        if all(type(key) is str and not key.startswith("__") for key in value):
            return {key: _to_json(each) for key, each in value.items()}
        return {"__dict__": [[_to_json(key), _to_json(each)] for key, each in value.items()]}
    numpy = numpy_if_loaded()
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        return {"__numpy__": [value.dtype.name, str(value)]}
    advice = "an output of its own, or .tolist()" if exact.__module__ == "numpy" else "plain values"
    raise Unkept(f"has a {name_of(exact)} in it: make that {advice}")


def _from_json(value):
    if isinstance(value, list):
        return [_from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    (name, inner), *_ = value.items() or [(None, None)]
    if name == "__tuple__":
        return tuple(map(_from_json, inner))
    if name == "__complex__":
        return complex(*inner)
    if name == "__dict__":
        return {_from_json(key): _from_json(each) for key, each in inner}
    if name == "__numpy__":
        return _numpy_scalar(inner[1], inner[0])
    return {key: _from_json(each) for key, each in value.items()}
