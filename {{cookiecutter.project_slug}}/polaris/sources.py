"""The rows of the input: read, checked, and told apart by their keys."""

from __future__ import annotations

import csv
import hashlib
import os
from array import array
from bisect import bisect_left
from itertools import pairwise

from . import values
from .errors import Refused

# Words that Parsl takes for itself where an app is called with them.
KEPT_BY_PARSL = (
    "inputs", "outputs", "stdout", "stderr", "walltime", "parsl_resource_specification",
    "_parsl_staging_inhibit",
)  # fmt: skip


def problems_of_names(inputs, outputs) -> list[str]:
    """What is wrong with INPUTS and OUTPUTS of run.py, a line each; [] where they can work."""
    if not isinstance(inputs, dict) or not all(isinstance(name, str) for name in inputs):
        return [f"run.py: INPUTS = {inputs!r}: is no dict of column names in quotes and their kinds"]
    if not isinstance(outputs, tuple | list) or not all(isinstance(name, str) for name in outputs):
        wrong = "is no tuple of names in quotes; one name needs a comma behind it"
        return [f'run.py: OUTPUTS = {outputs!r}: {wrong} (for example ("energy",))']
    found = []
    kinds = ", ".join(kind.__name__ for kind in values.INPUT_KINDS)
    for name, kind in inputs.items():
        if kind not in values.INPUT_KINDS:
            mend = f"{kinds}; take str, and let task() make of it what the app needs"
            found.append(f"run.py: INPUTS[{name!r}] = {kind!r}: is none of {mend}")
        if name in KEPT_BY_PARSL:
            wrong = "Parsl keeps for itself: give the column another name, here and in the file"
            found.append(f"run.py: INPUTS has {name!r}, which {wrong} (for example {f'my_{name}'!r})")
    for name in sorted({name for name in outputs if list(outputs).count(name) > 1}):
        found.append(f"run.py: OUTPUTS names {name!r} twice")
    return found


def read_rows(path, columns, problems=None, copy=None):
    """Yield (line number, {column: value}) of a CSV file with at least the given columns.

    columns: {name: int, float, bool or str}. A malformed line is appended to `problems` as one line that
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
                        row[name] = values.given(fields[at[name]], kind)
                    except ValueError as error:
                        problem(f"{path} line {reader.line_num}: column {name}: {error}")
                if len(row) == len(columns):
                    yield reader.line_num, row
        except csv.Error as error:
            problem(f"{path} line {reader.line_num}: {error}")
        except UnicodeDecodeError as error:
            problem(f"{path} line {_first_line_of_no_text(file.buffer)}: not UTF-8 text: {error.reason}")


def _first_line_of_no_text(file):
    """The number of the first line that is no UTF-8; the reader is blocks ahead of its own count."""
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return "?"


def unused_columns(path, columns):
    """Names in the first line of a readable CSV file that no task is given."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        return [name for name in next(csv.reader(file), []) if name.strip() not in columns]


def _raise(line):
    raise Refused(line)


def key_of(row):
    """64 bits that identify a row by its values; two of a million rows share them once in 30 million runs."""
    text = repr(list(row.items())).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class Keys:
    """A set of keys in 8 bytes each: filled by `add`, then `sort`, then asked."""

    def __init__(self):
        # In parts, each of them sorted: a list of all keys would take five times the memory for a moment.
        self.parts = [array("Q") for _ in range(256)]
        self.repeated = set()

    def add(self, key):
        self.parts[key >> 56].append(key)

    def sort(self):
        """Once all are added. What was added more than once counts once, and is in `repeated`."""
        for i, part in enumerate(self.parts):
            keys = sorted(part)
            again = {a for a, b in pairwise(keys) if a == b}
            self.repeated |= again
            self.parts[i] = array("Q", sorted(set(keys)) if again else keys)

    def __contains__(self, key):
        part = self.parts[key >> 56]
        i = bisect_left(part, key)
        return i < len(part) and part[i] == key

    def __len__(self):
        return sum(map(len, self.parts))
