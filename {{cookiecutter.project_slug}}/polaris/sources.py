"""Rows, wherever they come from: read, checked, and told apart by their keys.

A source has `words` (how messages call it), `columns` ({name: kind}, or None before the first row
is known), `rereadable`, and `rows(problems)`, which yields (number, row): a line of a file, or the
place in a list. inputs.py has what else they have, and those that are no tables.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import values
from .errors import Refused, one_line
from .inputs import Files, Input, JsonLines, Lines, Source
from .keys import PLAIN, identity_of, problems_of_columns

CLASSES = 8  # of rows by what they cost, where the longest are to go first
MOST_PROBLEMS = 20  # that are said of one input


def table(path: str, longest_first: str | None = None, **columns: type) -> Table:
    """A CSV file of rows, and the kinds of its columns: int, float, bool or str.

    longest_first: a column of numbers that grows with the time of a task: rows with the largest go
    first.
    """
    return Table(path, columns, longest_first)


def lines(path: str) -> Lines:
    """Lines of a text file, or of several: lines("inputs/*.txt"). The app gets text="...".

    Without what ends the line; empty lines are left out. One that stands there twice is computed
    once, and both get the result.
    """
    return Lines(path)


def json_lines(path: str) -> JsonLines:
    """JSON lines of a file, or of several: a dict of inputs each, with the same names in all.

    One that stands there twice is computed once, and both get the result.
    """
    return JsonLines(path)


def files(pattern: str) -> Files:
    """The files of a pattern, files("inputs/*.xyz"), sorted. The app gets path="inputs/a.xyz".

    A file that was edited since (size, or time of the last change) is computed anew.
    """
    return Files(pattern)


class Table(Source):
    """Rows of a CSV file with at least the given columns."""

    def __init__(self, path: str, columns: dict[str, type], longest_first: str | None = None):
        self.path = path
        self.columns = columns
        self.longest_first = longest_first
        self.copy = None  # of the file, in one without a name

    @property
    def words(self) -> str:
        return str(self.path)

    @property
    def by_cost(self) -> bool:
        """Whether the longest rows go first."""
        return self.longest_first is not None

    def place(self, number: int) -> str:
        return f"{self.path} {self.short_place(number)}"

    def short_place(self, number: int) -> str:
        return f"line {number}"

    def where(self, number: int) -> tuple[str, int | str]:
        return str(self.path), number

    def problems(self) -> list[str]:
        """What is wrong with the names and kinds of its columns, a line each."""
        found = problems_of_columns(self.columns)
        name = self.longest_first
        if name is None:
            return found
        numbers = [column for column, kind in self.columns.items() if kind in (int, float)]
        if name not in numbers:
            wrong = f"is no column of numbers; there are {', '.join(numbers)}"
            found.append(
                f"{self.path}: longest_first = {name!r}: {wrong}; None: in the order of the file"
            )
        return found

    def keep_a_copy(self, folder: Path) -> None:
        """Read from a copy from now on: edits of the file are for the next run."""
        try:
            with open(self.path, "rb") as file:
                copy = tempfile.TemporaryFile(dir=folder)
                shutil.copyfileobj(file, copy)
                copy.flush()
        except OSError:
            return  # said by rows()
        self.copy = copy

    def rows(self, problems: list[str] | None = None) -> Iterator[tuple[int, dict]]:
        return read_rows(self.path, self.columns, problems, self.copy)

    def unused(self) -> list[str]:
        """Names in the first line that no task is given."""
        with open(self.path, encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        return [name for name in header if name.strip() not in self.columns]

    def ordered(self, wanted: Callable[[dict], bool]) -> Iterator[tuple[int, dict]]:
        """Yield the (number, row) that are wanted, in the order of the file or by classes of their
        cost.

        For classes the file is read once for each of them.
        """
        name = self.longest_first
        if name is None:
            yield from self._wanted(wanted)
            return
        costs = [row[name] for _, row in self._wanted(wanted)]
        if not costs:
            return
        least, most = min(costs), max(costs)
        # Each class down to half the cost of the one before: a few long rows are one of their own.
        cuts = {least + (most - least) / 2**i for i in range(1, CLASSES)}
        above = math.inf
        for cut in (*sorted(cuts, reverse=True), -math.inf):
            for number, row in self._wanted(wanted):
                if cut <= row[name] < above:
                    yield number, row
            above = cut

    def _wanted(self, wanted):
        for number, row in self.rows():
            if wanted(row):
                yield number, row


class Given(Source):
    """Rows that the program gives: dicts of a list, or of anything that can be read once."""

    def __init__(self, rows: Iterable[dict]):
        self.rereadable = isinstance(rows, list | tuple)
        self.given = list(rows) if self.rereadable else iter(rows)
        self.columns = None
        if self.rereadable and rows:
            self._learn(1, rows[0])

    words = "the rows given"
    needs_rows = False

    def place(self, number: int) -> str:
        return f"row {number}"

    short_place = place

    def problems(self) -> list[str]:
        return []

    def keep_a_copy(self, folder: Path) -> None:
        """Nothing: nobody edits them."""

    def rows(self, problems: list[str] | None = None) -> Iterator[tuple[int, dict]]:
        numbered = enumerate(self.given, 1)
        while True:
            try:
                number, row = next(numbered, (None, None))
            except Exception as error:
                wrong = f"the generator of the rows raised {one_line(error)}"
                raise Refused(f"{wrong}; what is finished is kept") from error
            if number is None:
                return
            try:
                yield number, self._plain(number, row)
            except Refused as refusal:
                if problems is None:
                    raise
                problems.append(str(refusal))

    def ordered(self, wanted: Callable[[dict], bool]) -> Iterator[tuple[int, dict]]:
        for number, row in self.rows():
            if wanted(row):
                yield number, row

    def _plain(self, number, row):
        """A row as it is kept: columns in one order, values of kinds that a file can keep."""
        if self.columns is None:
            self._learn(number, row)
        if not isinstance(row, dict) or row.keys() != self.columns.keys():
            has = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            needed = ", ".join(self.columns)
            raise Refused(f"row {number} has {has}; the first one has {needed}: give all the same")
        plain = {}
        for name in self.columns:
            plain[name] = plain_input(row[name], f"row {number}: {name}")
        return plain

    def _learn(self, number, row):
        if not isinstance(row, dict):
            wrong = f"row {number} is no dict but {type(row).__name__}"
            raise Refused(f"{wrong}: give dicts of inputs, such as dict(temperature=2.0)")
        names = [name for name in row if not isinstance(name, str)]
        if names:
            raise Refused(f"row {number} has the name {names[0]!r}: names of inputs are text")
        self.columns = dict.fromkeys(row)
        wrong = problems_of_columns(self.columns)
        if wrong:
            raise Refused("\n".join(wrong))


def source_of(rows) -> Source:
    """The source that a user means by what is given as rows."""
    if isinstance(rows, Input):
        return type(rows)(rows.path)  # with a copy of its own
    if isinstance(rows, Table):
        return Table(rows.path, rows.columns, rows.longest_first)  # with a copy of its own
    if isinstance(rows, str | os.PathLike):
        mend = f'table("{rows}", column=kind, ...)'
        others = "for others lines(...), json_lines(...) or files(...)"
        raise Refused(
            f"rows={str(rows)!r}: is a name; for the rows of a CSV file give {mend}, {others}"
        )
    if isinstance(rows, dict) or not isinstance(rows, Iterable):
        wrong = f"rows is of the kind {type(rows).__name__}"
        raise Refused(f"{wrong}: give a table(...), or a list or generator of dicts")
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a frame of pandas
        return Given(rows.to_dict("records"))
    return Given(rows)


def plain_input(value: object, name: str) -> object:
    """An input value as results keep it: numpy's numbers of Python's own kinds are these.

    Raises Refused, with the name, for what no result could be found by again.
    """
    if type(value) in PLAIN:
        return value
    numpy = values.numpy_if_loaded()
    if numpy is not None and isinstance(value, numpy.bool_ | numpy.float64 | numpy.str_):
        return value.item()
    if numpy is not None and isinstance(value, numpy.integer):
        return int(value)
    try:
        identity_of(value)
    except values.Unkept as wrong:
        raise Refused(f"{name} {wrong}") from None
    return value


def read_rows(path, columns, problems=None, copy=None):
    """Yield (line number, {column: value}) of a CSV file with at least the given columns.

    columns: {name: int, float, bool or str}. A malformed line is appended to `problems` as one line
    that names file, line and column, or raised as Refused where there is no such list. copy: an
    open copy of the file, which is read in its place.
    """
    problem = _raise if problems is None else problems.append
    try:
        raw = open(path, "rb") if copy is None else io.BufferedReader(_FromTheStart(copy))
        file = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    except OSError as error:
        problem(f"{path}: {error.strerror}")
        return
    with file:
        reader = csv.reader(file, strict=True)
        try:
            yield from _rows_of(reader, path, columns, problem)
        except csv.Error as error:
            problem(f"{path} line {reader.line_num}: {error}")
        except UnicodeDecodeError as error:
            line = _first_line_of_no_text(file.buffer)
            problem(f"{path} line {line}: not UTF-8 text: {error.reason}")


class _FromTheStart(io.RawIOBase):
    """An open file, read from its beginning whoever else reads it: each reader has a place of its
    own.
    """

    def __init__(self, file):
        self.file = file
        self.place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self.place = place if whence == os.SEEK_SET else self.place + place
        return self.place

    def readinto(self, buffer) -> int:
        found = os.pread(self.file.fileno(), len(buffer), self.place)
        buffer[: len(found)] = found
        self.place += len(found)
        return len(found)


def _rows_of(reader, path, columns, problem):
    header = [name.strip() for name in next(reader, [])]
    places = {}
    for name in columns:
        if header.count(name) == 1:
            places[name] = header.index(name)
            continue
        how = "is missing" if name not in header else "appears twice"
        problem(f"{path} line 1: column {name} {how}; needed: {','.join(columns)}")
    if len(places) < len(columns):
        return
    wanted = [(name, kind, places[name]) for name, kind in columns.items()]
    width = len(header)
    given = values.given
    for fields in reader:
        if not fields:
            continue
        if len(fields) != width:
            problem(f"{path} line {reader.line_num}: {len(fields)} fields; line 1 has {width}")
            continue
        row = {}
        for name, kind, place in wanted:
            try:
                row[name] = given(fields[place], kind)
            except ValueError as error:
                problem(f"{path} line {reader.line_num}: column {name}: {error}")
        if len(row) == len(wanted):
            yield reader.line_num, row


def _first_line_of_no_text(file):
    """The number of the first line that is no UTF-8; the reader is ahead of its own count."""
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return "?"


def _raise(line):
    raise Refused(line)
