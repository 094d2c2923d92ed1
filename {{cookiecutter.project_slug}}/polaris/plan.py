"""What is to be done of a table: its rows, and which of them have a result already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from . import sources
from .errors import Refused
from .keys import Keys, key_of
from .result_table import USUAL, ResultTable

CODE = -2  # the place of the column `code` in a line


class Plan:
    """Rows of a source beside what there is of their results.

    wanted: which rows are, a choosing.Part; None: all. problems: lines, each a reason to refuse.
    """

    def __init__(self, source, table: ResultTable):
        self.source = source
        self.table = table
        self.wanted = None
        self.problems = []
        self.keys = Keys()  # of the rows, where they can be read again
        self.done = Keys()  # of those that have a result
        self.others = 0  # lines of results of rows that are none of these
        self.strangers = 0  # of those, whose row the source no longer has
        self.edited = set()  # files of results that were edited since
        self.twice = 0  # rows that are the same as others, where these are computed once
        self.taken = set()  # keys of these that were handed out
        self.codes = Counter()  # of the results: by which code they were computed

    @property
    def total(self) -> int:
        return len(self.keys)

    @property
    def left(self) -> int:
        return len(self.keys) - len(self.done)

    @property
    def repeated(self) -> set:
        """Keys of rows that stand in the results more than once: the first one counts."""
        return self.done.repeated

    @property
    def words(self) -> str:
        """What messages call the rows."""
        named = "" if self.table.name == USUAL else f" ({self.table.name})"
        return f"{self.source.words}{named}"

    def choose(self, choice) -> None:
        """Plan for the rows alone that a choosing.Choice means; None: all."""
        columns = self.source.columns
        if choice is not None and columns is not None:
            self.wanted = choice.of(self.words, self.source.for_app(columns))

    def picked(self, rows: Iterator[tuple[int, dict]]) -> Iterator[tuple[int, dict]]:
        """Of rows that can be read but once, those that are wanted."""
        return rows if self.wanted is None else self.wanted.picked(rows)

    def read(self) -> Plan:
        """Take the keys of the rows and of the results."""
        self._read_rows()
        if not self.problems:
            self.read_results()
        return self

    def refuse(self) -> None:
        """Refused with every problem."""
        lines = self.lines()
        if lines:
            raise Refused("\n".join(lines))

    def lines(self) -> list[str]:
        """The problems, so many of them that one reads them."""
        most = sources.MOST_PROBLEMS
        more = [f"{self.source.words}: and more"] if len(self.problems) > most else []
        return self.problems[:most] + more

    def is_missing(self, row: dict) -> bool:
        """Whether a row is wanted and has no result."""
        if self.wanted is None and not len(self.done) and not self.keys.repeated:
            return True
        key = key_of(row)
        if self.wanted is not None and key not in self.keys:
            return False
        if key in self.done or key in self.taken:
            return False
        if key in self.keys.repeated:
            self.taken.add(key)
        return True

    def stale(self, code: str) -> int:
        """How many of the results were computed by another code."""
        return self.codes.total() - self.codes[code]

    def why_nothing(self) -> str:
        """Why nothing is to be done, in words."""
        if self.wanted is not None and self.wanted.is_a_part:
            return f"every row that {self.wanted.text} chose has its result"
        return "every row has its result"

    def _read_rows(self):
        for _, row in self.source.rows(self.problems):
            if self.wanted is None or self.wanted(row):
                self.keys.add(key_of(row))
                self.twice += 1
            if len(self.problems) > sources.MOST_PROBLEMS:
                return
        self.keys.sort()
        self.twice -= len(self.keys)
        if self.problems:
            return
        if self.keys.repeated and not self.source.repeats:
            self._name_the_repeated()
        elif not len(self.keys) and self.wanted is not None and self.wanted.left_out:
            self.problems.append(self.wanted.none())
        elif not len(self.keys) and self.source.needs_rows:
            self.problems.append(f"{self.source.words}: no rows")

    def _name_the_repeated(self):
        first = {}
        for number, row in self.source.rows():
            key = key_of(row)
            if key in self.keys.repeated and first.setdefault(key, number) != number:
                earlier = self.source.short_place(first[key])
                self.problems.append(f"{self.source.place(number)}: repeats {earlier}")

    def read_results(self) -> None:
        """Take the keys of what is done; every line of the file is one, or a problem."""
        wrong = self.table.problem()
        if wrong:
            self.problems.append(wrong)
            return
        if self.table.header is None:
            return
        for line in self.table.recorded():
            if line.row is None:
                self._name_a_line(line)
                if len(self.problems) > sources.MOST_PROBLEMS:
                    return
                continue
            key = key_of(line.row)
            if self.source.rereadable and key not in self.keys:
                edited = self.source.edited(line.row)
                if edited:
                    self.edited.add(line.row["path"])
                self.others += 1
                self.strangers += self.wanted is None and not edited
                continue
            self.done.add(key)
            self.codes[line.fields[CODE]] += 1
        self.done.sort()

    def _edited_again(self):
        """How many rows are of files that were edited since, and have no result yet."""
        if not self.edited:
            return 0
        return sum(
            row["path"] in self.edited and self.is_missing(row) for _, row in self.source.rows()
        )

    def _name_a_line(self, line):
        said = ",".join(line.fields or ())[:60]
        mend = "mend the line, or delete it to have its row computed again"
        wrong = f"{self.table.shown} line {line.number}: is no row of results ({said!r})"
        self.problems.append(f"{wrong}: {mend}")

    # --- in words ---------------------------------------------------------------------------------
    def first_lines(self, name: str, code: str) -> list[str]:
        """What is said of it before the first task. name, code: of the app."""
        lines = [self._of_the_rows()]
        has = f"{self.table.shown} has"
        if self.strangers:
            rows = _rows(self.strangers)
            lines.append(
                f"{has} {rows} that the input has no more: kept, and left out of the summary"
            )
        edited = self._edited_again()
        if edited:
            lines.append(f"{has} {_rows(edited)} of files that were edited since: these run again")
        if self.repeated:
            rows = f"{_rows(len(self.repeated))} more than once"
            lines.append(f"{has} {rows}: the first of each counts, in the summary too")
        stale = self.stale(code)
        if stale:
            lines.append(of_earlier_code(name, stale, self.codes.total()))
        return lines

    def _of_the_rows(self):
        lacking = self.wanted.of_those_lacking() if self.wanted is not None else ""
        if not self.source.rereadable:
            line = f"{self.words}: read as they come"
            return f"{line}; {lacking}" if lacking else line
        line = f"{self.words}: {self.total} task{'s' * (self.total != 1)}"
        if self.wanted is not None and self.wanted.is_a_part:
            rows = self.wanted.chosen + self.wanted.left_out
            line += f" chosen by {self.wanted.text}, of {rows} rows"
        line += f"; {lacking}" if lacking else ""
        if len(self.done):
            line += f", {len(self.done)} of them done before"
        if self.twice:
            repeat = "line repeats another" if self.twice == 1 else "lines repeat others"
            line += f"; {self.twice} {repeat}: computed once"
        if self.source.left_out:
            line += f"; {self.source.left_out}"
        unused = self.source.unused()
        if unused:
            line += f"; no task is given the columns {', '.join(unused)}"
        return line


def of_earlier_code(name: str, stale: int, results: int) -> str:
    """That results of an app were computed by code that was edited since."""
    of = f"{stale} of its {results} result{'s' * (results != 1)}"
    edited = f"{name}, or code that it uses, was edited since: {of} are of earlier code, and kept"
    return f"{edited}; python run.py --again {name} computes them anew"


def _rows(number):
    return f"{number} row{'s' * (number != 1)}"
