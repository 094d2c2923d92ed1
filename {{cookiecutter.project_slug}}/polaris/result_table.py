"""A table of results: rows of inputs and outputs in a CSV file, read as they were returned."""

from __future__ import annotations

import contextlib
import csv
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import tables, values
from .errors import Refused, one_line, printable
from .machine import PROJECT, shown

PLACE = ("host", "gpu", "cores", "seconds")  # columns that say where a task ran, and how long
# Behind the inputs and outputs; see values.py for the last.
OURS = (*PLACE, "status", "code", "kinds")
# Columns of failures behind the inputs; row: what tasks.csv has as its line, over all files.
REASON = ("file", "line", "row", "reason", "trace")
BARE = "="  # before the kind of a result that is no dict
RESULT = "result"  # the column of such a result
IN_FILES = ("npy", "npy-scalar", "json-file")  # kinds whose cell is the path of a file
IN_FILE = values.InFile.__name__  # that of a path itself
USUAL = "results"  # the name of the table that a program with one has


class Line(NamedTuple):
    """A line of a table: where it is, and its inputs, None where it is no row."""

    offset: int
    end: int
    number: int
    row: dict | None
    fields: list | None


class ResultTable:
    """One table of results: rows of inputs and outputs, read again as they were returned.

    inputs: {name: kind of a cell, None: said by the column `kinds`}. outputs: the names kept of a
    dict that an app returns; None: those of the first one, or of the file that is there.
    """

    def __init__(self, folder, name: str, inputs: dict, outputs: tuple | None = None):
        self.folder = folder
        self.name = name
        self.inputs = inputs
        self.outputs = outputs
        self.declared = all(kind is not None for kind in inputs.values())
        self.path = folder.path / f"{name}.csv"
        failures = "failures.csv" if name == USUAL else f"{name}-failures.csv"
        self.failures_path = folder.path / failures
        self.file = None
        self.failures = None
        self.columns = []  # of a row, as the program gets it
        self.there = set()  # files with results of tasks, that were seen
        self.header = None
        if outputs is not None:
            self._make_header(outputs)

    def _make_header(self, outputs):
        # What an app returns keeps its names; an input, or a column of ours, of the same name has a
        # prefix.
        taken = set(outputs)
        self.outputs = tuple(outputs)
        self.columns = [*free_names(self.inputs, taken, "input"), *outputs]
        self.header = [*self.columns, *free_names(OURS, taken, "task")]

    def problem(self) -> str | None:
        """Why what lies in the file cannot be gone on with, in one line; learns the outputs from
        it.
        """
        if not self.path.exists():
            return None
        header = tables.header_of(self.path)
        if header is None:
            return None
        if self.outputs is None:
            ours = len(OURS)
            self._make_header(header[len(self.inputs) : -ours])
        if header == self.header:
            return None
        makes = f"the program now makes {','.join(self.header)}"
        mend = "move the file away, or take back the change"
        return f"{self.shown} has the columns {','.join(header)}; {makes}: {mend}"

    @property
    def shown(self) -> str:
        return shown(self.path)

    # --- read -------------------------------------------------------------------------------------
    def recorded(self, start: int = 0) -> Iterator[Line]:
        """Yield each whole line from an offset on; its number is right where `start` is 0."""
        if not self.path.exists():
            return
        words = len(self.outputs) + (0 if self.declared else len(self.inputs))
        width = len(self.header)
        for offset, end, number, fields in lines_of(self.path, start):
            row = None
            if fields is not None and len(fields) == width:
                kinds = fields[-1].split()
                if len(kinds) == words:
                    with contextlib.suppress(*UNREADABLE):  # a line that somebody edited
                        row = self._inputs_of(fields, kinds)
            yield Line(offset, end, number, row, fields)

    def _inputs_of(self, fields, kinds):
        row = {}
        for i, (name, kind) in enumerate(self.inputs.items()):
            cell = fields[i]
            row[name] = values.input_back(cell, kind) if kind else value_back(cell, kinds[i])
        return row

    def result_of(self, fields: list) -> object:
        """What the app returned; raises one of UNREADABLE where that cannot be read any more."""
        first = len(self.inputs)
        kinds = fields[-1].split()
        if not self.declared:
            kinds = kinds[first:]
        if len(kinds) == 1 and kinds[0].startswith(BARE):
            return value_back(fields[first], kinds[0][len(BARE) :])
        result = {}
        for name, cell, kind in zip(self.outputs, fields[first:], kinds, strict=False):
            result[name] = value_back(cell, kind)
            if kind == IN_FILE:
                self._look_for(result[name])
        return result

    def _look_for(self, path):
        """FileNotFoundError where a file that a task wrote is gone."""
        if path not in self.there:
            if not (PROJECT / path).exists():
                raise Gone(path)
            self.there.add(path)

    def row_at(self, offset: int) -> dict:
        """The finished row whose line is at an offset of the file; see row_of."""
        return self.row_of(self.line_at(offset))

    def row_of(self, line: Line) -> dict:
        """A finished row as the program gets it: inputs and outputs; Refused where it cannot be
        read.
        """
        result = self.readable_result(line)
        made = result.values() if self._is_dict(line.fields) else [result]
        return dict(zip(self.columns, (*line.row.values(), *made), strict=True))

    def readable_result(self, line: Line) -> object:
        """What the app returned; Refused where it cannot be read any more."""
        try:
            return self.result_of(line.fields)
        except Gone as gone:
            raise Refused(self._of_a_gone(gone)) from None
        except UNREADABLE as error:
            place = f"{self.shown} line {self._number_of(line.offset)}"
            mend = "delete that line to have its row computed again"
            raise Refused(f"{place}: {one_line(error)}: {mend}") from None

    def _of_a_gone(self, gone):
        """Which rows have results in a file that is gone, and how they are computed anew."""
        lines, columns = [], set()
        for line in self.recorded():
            if line.row is None:
                continue
            there = [place for place, cell in enumerate(line.fields) if cell == gone.path]
            columns |= {self.header[place] for place in there}
            lines += [line.number] * bool(there)
        rows = f"{len(lines)} row{'s' * (len(lines) != 1)}"
        numbers = f"line{'s' * (len(lines) != 1)} {spans(lines)}"
        asked = shlex.quote(f"{min(columns)}={gone.path}")
        mend = f"python run.py --again {asked} computes them anew"
        return (
            f"{self.shown}: the file {gone.path} is gone, with results of {rows}, {numbers}: {mend}"
        )

    def _number_of(self, offset):
        with open(self.path, "rb") as file:
            return 1 + file.read(offset).count(b"\n")

    def _is_dict(self, fields):
        return not fields[-1].rpartition(" ")[2].startswith(BARE)

    def line_at(self, offset: int) -> Line:
        """The line at an offset of the file."""
        return next(self.recorded(offset))

    # --- write ------------------------------------------------------------------------------------
    def cells_of(self, result: object, key: int) -> tuple[list, list, str | None]:
        """What an app returned as (cells, kinds, why it cannot be kept or None)."""
        bare = not isinstance(result, dict)
        if self.outputs is None:
            self._make_header((RESULT,) if bare else tuple(map(str, result)))
        has = {RESULT: result} if bare and self.outputs == (RESULT,) else result
        wrong = self._wrong_names(has)
        if wrong:
            return [], [], wrong
        cells, kinds = [], []
        for name in self.outputs:
            try:
                cell, kind = values.output_cell(has[name], self._files(key, name))
            except values.Unkept as unkept:
                named = "its result" if bare else f"its result has {name}, which"
                return [], [], f"{named} {unkept}"
            cells.append(shown(Path(cell)) if kind in IN_FILES else cell)
            kinds.append(BARE + kind if bare else kind)
        return cells, kinds, None

    def _wrong_names(self, has):
        if not isinstance(has, dict):
            if not self.outputs:
                return None
            returned = f"a {type(has).__name__}"
            lacks = f"its result lacks {', '.join(self.outputs)}, columns of {self.shown}"
            return f"{lacks}: it is {returned}"
        missing = [name for name in self.outputs if name not in has]
        if missing:
            lacks = f"its result lacks {', '.join(missing)}, of the columns of {self.shown}"
            return printable(f"{lacks}; it has {', '.join(map(str, has)) or 'nothing'}")
        return None

    def unknown_names(self, result: object) -> list[str]:
        """Names in a result that the table has no column for, which would be lost."""
        if not isinstance(result, dict):
            return []
        return [str(name) for name in result if name not in self.outputs]

    def _files(self, key, name):
        """A function from an ending to the file of one value."""
        return lambda ending: self._file(key, name, ending)

    def _file(self, key, name, ending):
        """The path of a file for a value that fits no cell, relative to the project."""
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)[:60]
        if safe != name:
            names = [*self.inputs, *self.outputs]
            safe += f"-{names.index(name)}"
        table = "" if self.name == USUAL else f"{self.name}-"
        return self.folder.path / "values" / f"{table}{key:016x}-{safe}{ending}"

    def add(self, row: dict, key: int, cells: list, kinds: list, tried: dict, code: str) -> None:
        """Write a finished row. tried: what the record of tries says of its last try."""
        inputs = []
        words = []
        for name, kind in self.inputs.items():
            if kind is None:
                cell, word = values.output_cell(row[name], self._files(key, name))
                inputs.append(shown(Path(cell)) if word in IN_FILES else cell)
                words.append(word)
            else:
                inputs.append(values.input_cell(row[name]))
        place = [tried.get(name, "") for name in PLACE]
        status = "retried" if tried["try"] else "done"
        if self.file is None:
            self.file = self.folder.write(self.path, "a", self.header)
        self.file.writerow([*inputs, *cells, *place, status, code, " ".join([*words, *kinds])])

    def begin_failures(self) -> None:
        """Those of the run before are of no interest any more: their rows are tried again."""
        header = [*self.inputs, *free_names(REASON, set(self.inputs), "task")]
        self.failures = self.folder.write(self.failures_path, "w", header)

    def add_failure(self, row: dict, key: int, where: tuple, reason: str, text: str) -> None:
        """Write a row that failed. where: its file, its line there, its number in the source. text:
        its trace, kept in a file of its own.
        """
        table = "" if self.name == USUAL else f"{self.name}-"
        trace = self.folder.trace(f"{table}{key:016x}", text)
        inputs = []
        for value in row.values():
            plain = type(value) in (int, float, str, bool)
            inputs.append(values.input_cell(value) if plain else printable(repr(value))[:200])
        self.failures.writerow([*inputs, *where, printable(reason), shown(trace)])

    def take_out(self, wanted: Callable[[dict, list], bool]) -> int:
        """Move the rows that are wanted into NAME-before.csv; returns how many. wanted: of (row,
        fields).
        """
        if self.problem() or self.header is None or not self.path.exists():
            return 0
        found = set()
        for line in self.recorded():
            if line.row is not None and wanted(line.row, line.fields):
                found.add(line.offset)
        if not found:
            return 0
        before = self.path.with_name(f"{self.name}-before.csv")
        with open(self.path, "rb") as old, open(before, "ab") as taken:
            head = old.readline()
            if taken.tell() == 0:
                taken.write(head)
            tables.replace(self.path, lambda new: _sort_out(old, head, found, taken, new))
        if next(self.recorded(), None) is None:
            self.path.unlink()  # one that is begun anew may have other columns
        return len(found)


def _sort_out(old, head, found, taken, new):
    """Copy the lines of a file whose offsets were found into one file, the others into another."""
    new.write(head)
    offset = len(head)
    for line in old:
        (taken if offset in found else new).write(line)
        offset += len(line)


class Gone(FileNotFoundError):
    """A file that a task wrote, and that is gone. path: of it, as its cell has it."""

    def __init__(self, path: str):
        super().__init__(f"the file {path} is gone")
        self.path = str(path)


def spans(numbers: list[int]) -> str:
    """Rising numbers in short: "2-5, 9"."""
    found = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


UNREADABLE = (OSError, ValueError, TypeError, SyntaxError, KeyError, IndexError)


def value_back(cell: str, kind: str) -> object:
    """The value of a cell; that of a file where the cell is a path, which is relative to the
    project.
    """
    return values.output_back(str(PROJECT / cell) if kind in IN_FILES else cell, kind)


def free_names(names, taken: set, prefix: str) -> list[str]:
    """The names, each with the prefix where it is taken; `taken` grows by them."""
    found = []
    for name in names:
        while name in taken:
            name = f"{prefix}_{name}"
        taken.add(name)
        found.append(name)
    return found


def lines_of(path: Path, start: int = 0) -> Iterator[tuple[int, int, int, list | None]]:
    """Yield (offset, end, number, fields) of every line after the first, or from an offset on.

    fields is None where a line is no row. A last line without its end is left out: it is being
    written.
    """
    with open(path, "rb") as file:
        offset = start or len(file.readline())
        file.seek(offset)
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                return
            end = offset + len(line)
            if line.strip():
                yield offset, end, number, _fields_of(line)
            offset = end


def _fields_of(line):
    """The cells of a line of such a file; None where it is no row."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        return next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
    except (UnicodeDecodeError, csv.Error):
        return None
