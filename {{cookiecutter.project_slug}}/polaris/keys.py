"""What tells rows apart: names of inputs, keys of 64 bits, sets of them, and where rows lie."""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left
from itertools import pairwise

from . import values

# Words that Parsl takes for itself where an app is called with them.
KEPT_BY_PARSL = (
    "inputs",
    "outputs",
    "stdout",
    "stderr",
    "walltime",
    "parsl_resource_specification",
    "_parsl_staging_inhibit",
)


def key_of(row: dict) -> int:
    """64 bits that identify a row by its values; two of a million rows share them once in 30
    million runs.
    """
    plain = list(row.items())
    if not PLAIN.issuperset(map(type, row.values())):
        plain = [(name, identity_of(value)) for name, value in plain]
    text = repr(plain).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big")


PLAIN = {float, int, str, bool, type(None)}


def identity_of(value: object) -> object:
    """What a value is known by, of kinds with one repr everywhere; raises values.Unkept."""
    exact = type(value)
    if exact in PLAIN:
        return value
    if exact in (list, tuple):
        return exact.__name__, [identity_of(each) for each in value]
    if exact is dict:
        pairs = [(identity_of(name), identity_of(each)) for name, each in value.items()]
        return "dict", pairs
    if exact is complex:
        return "complex", value.real, value.imag
    numpy = values.numpy_if_loaded()
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biufc":
        return value.dtype.name, str(value)
    if numpy is not None and exact is numpy.ndarray and not value.dtype.hasobject:
        digest = hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()
        return "array", value.dtype.str, value.shape, digest
    advice = "give numbers, text, lists, dicts or numpy arrays"
    if isinstance(value, os.PathLike):
        advice = "give its name, str(path)"
    raise values.Unkept(f"is of the kind {values.name_of(exact)}: {advice}")


def problems_of_columns(columns: dict, of: str = "run.py") -> list[str]:
    """What is wrong with the names and kinds of inputs, a line each. of: where they stand."""
    found = []
    kinds = ", ".join(kind.__name__ for kind in values.INPUT_KINDS)
    for name, kind in columns.items():
        if kind is not None and kind not in values.INPUT_KINDS:
            wrong = f"is none of {kinds}; take str, and make of it what the app needs"
            found.append(f"{of}: {name}={kind!r} of table(...): {wrong}")
        if name in KEPT_BY_PARSL:
            mend = f"give the column another name, here and in the input (for example 'my_{name}')"
            found.append(f"{of}: an input is called {name!r}, which Parsl keeps for itself: {mend}")
    if not columns and of == "run.py":
        found.append("run.py: table(...) names no columns: table(path, temperature=float, ...)")
    return found


class Keys:
    """A set of keys in 8 bytes each: filled by `add`, then `sort`, then asked."""

    def __init__(self):
        # In parts, each of them sorted: a list of all keys would take five times the memory for a
        # moment.
        self.parts = [array("Q") for _ in range(256)]
        self.repeated = set()

    def add(self, key: int) -> None:
        self.parts[key >> 56].append(key)

    def sort(self) -> None:
        """Once all are added. What was added more than once counts once, and is in `repeated`."""
        for i, part in enumerate(self.parts):
            keys = sorted(part)
            again = {a for a, b in pairwise(keys) if a == b}
            self.repeated |= again
            self.parts[i] = array("Q", sorted(set(keys)) if again else keys)

    def __contains__(self, key: int) -> bool:
        part = self.parts[key >> 56]
        i = bisect_left(part, key)
        return i < len(part) and part[i] == key

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class Places:
    """Where the row of each key lies in a file, in 16 bytes each: filled by `add`, then `sort`,
    then asked.
    """

    def __init__(self):
        self.keys = [array("Q") for _ in range(256)]
        self.offsets = [array("Q") for _ in range(256)]

    def add(self, key: int, offset: int) -> None:
        self.keys[key >> 56].append(key)
        self.offsets[key >> 56].append(offset)

    def sort(self) -> None:
        """Once all are added; of a key that was added twice the first place counts."""
        for i, keys in enumerate(self.keys):
            pairs = sorted(zip(keys, self.offsets[i], strict=True))
            self.keys[i] = array("Q", [key for key, _ in pairs])
            self.offsets[i] = array("Q", [offset for _, offset in pairs])

    def get(self, key: int) -> int | None:
        keys = self.keys[key >> 56]
        i = bisect_left(keys, key)
        found = i < len(keys) and keys[i] == key
        return self.offsets[key >> 56][i] if found else None
