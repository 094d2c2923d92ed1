"""Rows of lines of text, of JSON lines, and of files: what `lines`, `json_lines` and `files` of
sources.py are.

Each is a file or a pattern such as inputs/*.txt, meant from the project's folder. They have what
sources.py says of a source.
"""

from __future__ import annotations

import glob
import json
import math
import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import Refused
from .keys import problems_of_columns
from .machine import PROJECT

PIECE = 1 << 20  # bytes that are copied at a time
STATE = "file_state"  # the column that tells one state of a file from another


def listed(pattern: str) -> list[str]:
    """The files of a pattern, or the one of that name, sorted; from the project's folder."""
    if os.path.isfile(PROJECT / pattern):
        return [pattern]
    found = glob.glob(pattern, root_dir=PROJECT, recursive=True)
    return sorted(path for path in found if os.path.isfile(PROJECT / path))


class Source:
    """What every source of rows has, with what most of them answer."""

    rereadable = True
    needs_rows = True  # one without any is a mistake
    by_cost = False  # whether the longest rows go first
    repeats = False  # whether a row may stand there twice: it is computed once, both get its result
    left_out = ""  # what of it is no row, in words
    only = None  # choosing.Choice, which rows a program gets that reads them itself; None: all

    def __iter__(self) -> Iterator[dict]:
        """The rows, for a program that makes something else of them than a map."""
        part = self.only and self.only.of(self.words, self.for_app(self.columns))
        for _, row in self.rows():
            if part is None or part(row):
                yield self.for_app(row)

    def where(self, number: int) -> tuple[str, int | str]:
        """(the file of a row, its line there); the line is "" where the file is the row."""
        return "", number

    def unused(self) -> list[str]:
        """Names in the first line that no task is given."""
        return []

    def edited(self, row: dict) -> bool:
        """Whether a row of the results is of something that was edited since."""
        return False

    def for_app(self, row: dict) -> dict:
        """What of a row an app gets."""
        return dict(row)


class Input(Source):
    """What inputs of a path or pattern have in common."""

    def __init__(self, path: str):
        self.path = str(path)

    @property
    def words(self) -> str:
        return self.path

    def ordered(self, wanted: Callable[[dict], bool]) -> Iterator[tuple[int, dict]]:
        for number, row in self.rows():
            if wanted(row):
                yield number, row

    def problems(self) -> list[str]:
        if listed(self.path):
            return []
        there = "no file matches" if glob.has_magic(self.path) else "no such file"
        if os.path.isdir(self.path):
            there = f"is a folder: its files are {self.path}/*"
        return [f"{self.path}: {there}"]


class Files(Input):
    """A row for each file of a pattern: {"path": ...}, known by its path, size and time."""

    def __init__(self, path: str):
        super().__init__(path)
        self.columns = {"path": str, STATE: str}
        self.taken = None  # the rows, once a run has looked at them
        self.paths = None  # of the files, once they were asked for

    def place(self, number: int) -> str:
        return self.where(number)[0]

    short_place = place

    def where(self, number: int) -> tuple[str, int | str]:
        return self.taken[number - 1]["path"], ""

    def keep_a_copy(self, folder: Path) -> None:
        """Files that come, or change, from now on are for the next run."""
        self.taken = list(self._look())

    def _look(self):
        for path in listed(self.path):
            try:
                seen = os.stat(PROJECT / path)
            except OSError:
                continue  # it is gone already
            yield {"path": path, STATE: f"{seen.st_size}@{seen.st_mtime_ns}"}

    def rows(self, problems: list[str] | None = None) -> Iterator[tuple[int, dict]]:
        rows = self._look() if self.taken is None else self.taken
        yield from enumerate(rows, 1)

    def for_app(self, row: dict) -> dict:
        return {"path": row["path"]}

    def edited(self, row: dict) -> bool:
        if self.paths is None:
            self.paths = frozenset(listed(self.path))
        return row["path"] in self.paths


class Part:
    """A file of lines, or the copy of one. first: lines before it, once it is read."""

    __slots__ = ("path", "start", "length", "first")

    def __init__(self, path, start=0, length=None):
        self.path = path
        self.start = start
        self.length = length
        self.first = math.inf


class Lines(Input):
    """A row for each line of text files: {"text": ...}. Empty lines are left out."""

    repeats = True

    def __init__(self, path: str):
        super().__init__(path)
        self.empty = 0  # lines, of those that were read last
        self.parts = []  # the files, in the order in which they are read
        self.copy = None  # of all of them, in one file without a name

    @property
    def columns(self) -> dict:
        return {"text": str}

    @property
    def left_out(self) -> str:
        lines = f"{self.empty} empty line{'s' * (self.empty != 1)}"
        return f"{lines} left out" if self.empty else ""

    def place(self, number: int) -> str:
        return self.short_place(number, named=True)

    def short_place(self, number: int, named: bool = False) -> str:
        """`line 3`; with the name of the file where there are several."""
        path, line = self.where(number)
        name = f"{path} " if named or len(self.parts) > 1 else ""
        return f"{name}line {line}"

    def where(self, number: int) -> tuple[str, int | str]:
        firsts = [part.first for part in self.parts]
        part = self.parts[bisect_right(firsts, number - 1) - 1]
        return part.path, number - part.first

    def keep_a_copy(self, folder: Path) -> None:
        """Read from a copy from now on: edits of the files are for the next run."""
        parts = []
        copy = tempfile.TemporaryFile(dir=folder)
        for path in listed(self.path):
            start = copy.tell()
            try:
                with open(PROJECT / path, "rb") as file:
                    while piece := file.read(PIECE):
                        copy.write(piece)
            except OSError:
                copy.close()
                return  # said by rows()
            parts.append(Part(path, start, copy.tell() - start))
        copy.flush()
        self.parts, self.copy = parts, copy

    def rows(self, problems: list[str] | None = None) -> Iterator[tuple[int, dict]]:
        problem = _raise if problems is None else problems.append
        if self.copy is None:
            self.parts = [Part(path) for path in listed(self.path)]
        number = empty = 0
        for part in self.parts:
            part.first = number
            try:
                for line in self._lines_of(part):
                    number += 1
                    if number == part.first + 1:
                        line = line.removeprefix(BOM)
                    line = line.rstrip(b"\r\n")
                    if not line:
                        empty += 1
                        continue
                    row = self._row_in(line, number, problem)
                    if row is not None:
                        yield number, row
            except OSError as error:
                problem(f"{part.path}: {error.strerror}")
        self.empty = empty

    def _lines_of(self, part):
        if self.copy is None:
            with open(PROJECT / part.path, "rb") as file:
                yield from file
            return
        rest = b""
        for offset in range(part.start, part.start + part.length, PIECE):
            size = min(PIECE, part.start + part.length - offset)
            piece = rest + os.pread(self.copy.fileno(), size, offset)
            *whole, rest = piece.split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest

    def _row_in(self, line, number, problem):
        """The row of a line; None where it was said what is wrong with it."""
        try:
            return self._row_of(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            problem(f"{self.place(number)}: not UTF-8 text: {error.reason}")
        except ValueError as error:
            problem(f"{self.place(number)}: {error}")
        return None

    def _row_of(self, text):
        return {"text": text}


class JsonLines(Lines):
    """A row for each line of files of JSON lines: a dict of inputs, the same names in all."""

    def __init__(self, path: str):
        super().__init__(path)
        self.names = None  # of the inputs, in the order of the first line

    @property
    def columns(self) -> dict:
        """The names of the inputs; {} where the first line cannot be read, which rows() says."""
        if self.names is None:
            for _ in self.rows([]):
                break
        return dict.fromkeys(self.names or ())

    def problems(self) -> list[str]:
        return super().problems() or problems_of_columns(self.columns, self.words)

    def _row_of(self, text):
        try:
            row = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            raise ValueError(f"is no JSON: {error.msg} at character {error.pos + 1}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        if not isinstance(row, dict) or not row:
            raise ValueError('is no JSON object of inputs, such as {"text": "...", "number": 1}')
        if self.names is None:
            self.names = list(row)
        if row.keys() != set(self.names):
            has, needed = ", ".join(row), ", ".join(self.names)
            raise ValueError(
                f"has {has}; the first line that can be read has {needed}: give all the same"
            )
        return {name: row[name] for name in self.names}


BOM = b"\xef\xbb\xbf"


def _object(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names {twice!r} twice")
    return found


def _no_constant(word):
    raise ValueError(f"{word} is no number that JSON knows: leave it out, or write null")


def _raise(line):
    raise Refused(line)
