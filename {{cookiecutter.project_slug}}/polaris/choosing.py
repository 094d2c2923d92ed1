"""`--only`: which rows run first, and what it left out of each map and table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from . import values
from .errors import Refused, printable
from .keys import key_of

FEW = 8  # values of a column that are named where none of them was meant


def choice(given: list[str] | None, inputs: tuple) -> Choice | None:
    """What `--only`, given once or more often, means; None: all rows."""
    if not given:
        return None
    most = None
    columns = []
    for text in given:
        if not re.fullmatch("[1-9][0-9]*", text):
            columns.append(text)
        elif most is None:
            most = int(text)
        else:
            raise Refused(f"{_typed(given)}: gives two numbers of rows: give one")
    wanted = pairs_of("--only", columns)
    made = Choice(_typed(given), most, wanted)
    for table in inputs:
        made.known |= set(names_of(table))
    if inputs:
        made.refuse_unknown("no input has", made.known)
    return made


def _typed(given):
    return " ".join(f"--only {text}" for text in given)


def names_of(source) -> list[str]:
    """The columns of a source that an app is given, so a user knows."""
    return list(source.for_app(source.columns or {}))


def pairs_of(option: str, given: list[str]) -> dict[str, list[str]]:
    """{column: texts of values, of which one is meant} of each "column=value,...".

    Conditions on different columns hold together, and of one column any of its values. One with a
    comma in its value stands in double quotes, as a cell of a CSV file does.
    """
    pairs = {}
    what = "so many rows (from 1 on)" if option == "--only" else "an app"
    for text in given:
        for part in next(csv.reader([text]), [""]):
            name, sign, value = part.partition("=")
            if not sign or not name.strip():
                allowed = f"{what}, or column=value,..."
                first = text.partition("=")[0].strip()
                if first and part.strip() and first != part:
                    allowed += (
                        f"; of several values each has its column: {first}=...,{first}={part}; "
                        f"with a comma in a value: '\"{first}=...,...\"'"
                    )
                raise Refused(f"{option} {text}: is not understood: {allowed}")
            pairs.setdefault(name.strip(), []).append(value.strip())
    return pairs


def is_one_of(value: object, texts: Iterable[str]) -> bool:
    """Whether a value is one of those; texts are read as the value's own kind."""
    return any(_is(value, text) for text in texts)


def _is(value, text):
    kind = type(value)
    if kind not in values.INPUT_KINDS:
        return str(value) == text
    try:
        return values.given(text, kind) == value
    except ValueError:
        return False


def matches(row: dict, wanted: dict[str, list[str]]) -> bool:
    """Whether a row has one of the values of each column."""
    return all(name in row and is_one_of(row[name], texts) for name, texts in wanted.items())


class Choice:
    """What `--only` means.

    text: as it was typed. most: rows of each map; None: any number. wanted: {column: texts of
    values}. known: columns that rows of this program have. parts: {words for rows: what of them
    was chosen}, of those that were read.
    """

    def __init__(self, text: str, most: int | None, wanted: dict[str, list[str]]):
        self.text = text
        self.most = most
        self.wanted = wanted
        self.known = set()
        self.parts = {}
        self.by_again = False  # whether --again asked which results of run.submit are meant

    def of(self, words: str, columns: Iterable[str]) -> Part:
        """What it chooses of some rows, before they are read; kept, for what is said at the end.

        Where they lack a column that other rows of the program have, that column chooses nothing
        there. One that no rows have is a slip of the pen: Refused, before they run.
        """
        columns = list(columns)
        self.known |= set(columns)
        self.refuse_unknown(f"{words} has no row with", columns)
        part = self.parts[words] = Part(self, words, columns)
        return part

    def refuse_unknown(self, who: str, columns: Iterable[str]) -> None:
        """Refused where a column is known of no rows at all. columns: those that are there."""
        unknown = [name for name in self.wanted if name not in self.known]
        if unknown:
            there = ", ".join(sorted(columns)) or "none"
            raise Refused(f"{self.text}: {who} a column {unknown[0]}; there are {there}")

    def refuse_none(self, inputs: tuple) -> None:
        """Refused, before anything starts, where no row of an input is chosen."""
        for table in inputs:
            part = Part(self, table.words, names_of(table))
            if not any(part(row) for _, row in table.rows()) and part.left_out:
                raise Refused(part.none())

    def of_a_part(self) -> list[str]:
        """What of each source was chosen, in words, where that was not all."""
        return [part.in_words() for part in self.parts.values() if part.is_a_part]


class Part:
    """The rows of one map or table that `--only` chooses: called once for each of them, in order.

    left_out: how many were not chosen. cut_off: whether rows were left that nobody read.
    """

    def __init__(self, choice: Choice, words: str, columns: list[str]):
        self.text = choice.text
        self.most = choice.most
        self.words = words
        self.wanted = {name: choice.wanted[name] for name in choice.wanted if name in columns}
        self.lacking = [name for name in choice.wanted if name not in columns]
        self.chosen = 0
        self.left_out = 0
        self.cut_off = False
        self.keys = set()  # of those chosen, where their number counts
        self.seen = {name: {} for name in self.wanted}  # some of the values, as an ordered set

    def __call__(self, row: dict) -> bool:
        if self._means(row):
            self.chosen += 1
            return True
        self.left_out += 1
        for name, found in self.seen.items():
            if len(found) <= FEW and not self.chosen:
                found[printable(str(row[name]))[:60]] = None
        return False

    def _means(self, row):
        if not matches(row, self.wanted):
            return False
        if self.most is None:
            return True
        key = key_of(row)
        if not self.is_full:
            self.keys.add(key)
        return key in self.keys  # one that stands there twice goes with the first

    def picked(self, rows: Iterator[tuple[int, dict]]) -> Iterator[tuple[int, dict]]:
        """Those of (number, row) that it chooses, where rows can be read but once.

        None is read that is not needed: the next one may cost its program something, or never come.
        """
        for number, row in rows:
            if self(row):
                yield number, row
            if self.is_full:
                self.cut_off = True
                return
        if self.left_out and not self.chosen:
            raise Refused(self.none())

    @property
    def is_full(self) -> bool:
        """Whether no further row is chosen, whatever its values."""
        return self.most is not None and len(self.keys) >= self.most

    @property
    def is_a_part(self) -> bool:
        """Whether rows were chosen, and others not."""
        return self.chosen > 0 and (self.left_out > 0 or self.cut_off)

    def in_words(self) -> str:
        """How many of how many."""
        if self.cut_off:
            return f"{self.chosen} of {self.words}, which were read no further"
        return f"{self.chosen} of {self.chosen + self.left_out} rows of {self.words}"

    def none(self) -> str:
        """That it chooses no row, and which values there are."""
        line = f"{self.words}: no row is chosen by {self.text}"
        for name, found in self.seen.items():
            listed = ", ".join(list(found)[:FEW])
            line += f"; {name} is {listed}" + ", ..." * (len(found) > FEW)
        return line

    def of_those_lacking(self) -> str:
        """That a column chooses nothing here, in words; "" where each does."""
        if not self.lacking:
            return ""
        said = f"they have no column {' or '.join(self.lacking)} for {self.text} to choose by"
        return said if self.wanted or self.most else f"{said}, and run whole"
