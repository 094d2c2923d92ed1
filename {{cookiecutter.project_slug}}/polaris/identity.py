"""What identifies a value among the arguments of a cached app, by Parsl's `id_for_memo`.

Here: plain values and files. In code.py: functions, objects, and what has any of these in it. Kinds
of one's own may be registered, as Parsl's documentation says.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import os
import pickle
from pathlib import PurePath

from parsl.data_provider.files import File
from parsl.dataflow.memoization import id_for_memo

from .machine import PROJECT
from .values import name_of, numpy_if_loaded

PROTOCOL = 4  # of pickle, the same under every Python
# Raised where a value cannot be told from others.
NOT_IDENTIFIED = (TypeError, ValueError, RecursionError)


class Absent(ValueError):
    """An input file that is not there when its app is called."""


def joined(parts: list[bytes]) -> bytes:
    """Parts made one, in a way that tells where each of them ends."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def state_of(path: str | os.PathLike) -> tuple | None:
    """What changes when a file does: (bytes, nanoseconds); of a folder, of all files in it.

    None where it is not there, or cannot be looked at. A relative path is meant from the project's
    folder, where tasks run.
    """
    path = os.path.join(PROJECT, path)
    try:
        seen = os.stat(path)
    except OSError:
        return None
    if os.path.isdir(path):
        return _state_of_folder(path)
    return seen.st_size, seen.st_mtime_ns


def _state_of_folder(path):
    digest = hashlib.blake2b(digest_size=16)
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            near = os.path.relpath(file, path)
            line = f"{near}\0{state_of(file)}\0"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return "folder", digest.hexdigest()


def path_of(file: File) -> str:
    """The path of a file as it was given; ValueError where it is not one of this machine."""
    if file.scheme != "file":
        raise ValueError(f"{file.url} is no file of this machine")
    return file.path


# --- kinds ----------------------------------------------------------------------------------------
def _plain(value, output_ref=False):
    return pickle.dumps(value, PROTOCOL)


def _pickled(value, output_ref=False):
    return joined([_kind(value), pickle.dumps(value, PROTOCOL)])


def _text(value, output_ref=False):
    return joined([b"path", os.fsencode(value)])


def _enum(value, output_ref=False):
    name = str(value.name).encode()
    return joined([_kind(value), name, id_for_memo(value.value)])


def _array(value, output_ref=False):
    if value.dtype.hasobject or type(value).__name__ == "MaskedArray":
        raise ValueError("of Python objects, or masked")
    shape = f"{value.dtype!r} {value.shape}"
    data = hashlib.blake2b(value.tobytes()).digest()
    return joined([_kind(value), shape.encode(), data])


def _file(value, output_ref=False):
    """An output is known by its path, an input by what it is at this moment, too."""
    path = path_of(value)
    named = [_kind(value), os.fsencode(value.url)]
    if output_ref:
        return joined(named)
    state = state_of(path)
    if state is None:
        raise Absent(f"{path} is not there")
    return joined([*named, repr(state).encode()])


def _kind(value):
    return name_of(type(value)).encode()


for kind in (str, int, float, type(None)):
    id_for_memo.register(kind)(_plain)
for kind in (complex, bytes, bytearray, range, decimal.Decimal, fractions.Fraction):
    id_for_memo.register(kind)(_pickled)
for kind in (datetime.date, datetime.time, datetime.timedelta):
    id_for_memo.register(kind)(_pickled)
id_for_memo.register(PurePath)(_text)
id_for_memo.register(enum.Enum)(_enum)
id_for_memo.register(File)(_file)


@functools.lru_cache
def _know_numpy(numpy):
    id_for_memo.register(numpy.ndarray)(_array)
    id_for_memo.register(numpy.generic)(_array)


def learn_numpy() -> None:
    """Take numpy's values once somebody has imported it."""
    numpy = numpy_if_loaded()
    if numpy is not None:
        _know_numpy(numpy)
