"""Files that are written line by line, and read again so that every line of them is accounted for."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell may be long; csv's own limit is 131,072 characters


class Table:
    """A CSV file that is written row by row; what cannot be written is an OSError with the file's name.

    Cells have no line breaks: a row is a line, whatever is in it.
    """

    def __init__(self, path, mode, header):
        self.path = str(path)
        self.file = open(path, mode, encoding="utf-8", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")
        if self.file.tell() == 0:
            self.writer.writerow(header)
            self.flush()

    def writerow(self, row):
        self._named(self.writer.writerow, row)

    def flush(self):
        self._named(self.file.flush)

    def _named(self, write, *what):
        try:
            write(*what)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # said by flush already
            self.file.close()


def rows_of(path) -> Iterator[tuple[int, list[str] | None]]:
    """Yield (number, fields) of every line of such a file after the first; fields is None where it is no row.

    A last line without its end is left out: it is being written, or a kill cut it off.
    """
    with open(path, "rb") as file:
        file.readline()
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                return
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8").rstrip("\r\n")
                yield number, next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
            except (UnicodeDecodeError, csv.Error):
                yield number, None


def header_of(path) -> list[str] | None:
    """The names in the first line of such a file; None where it has none."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return next(csv.reader([file.readline().rstrip("\r\n")]), None)


def events_of(path) -> Iterator[tuple[int, dict | None]]:
    """Yield (number, event) of every whole line of runs.jsonl; event is None where it is none."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            event = loaded(line)
            good = event is not None and isinstance(event.get("run"), int) and "event" in event
            yield number, event if good and isinstance(event.get("time"), int | float) else None


def loaded(text: str | bytes) -> dict | None:
    """A JSON object; None where the text is none, such as that of a file which a crash left empty."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        return value if isinstance(value, dict) else None
    return None


def cut_off_half_a_line(path) -> None:
    """Cut off what a killed run left half written at the end of a file, if there is such a file."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def replace(path: Path, write: str | Callable[[BinaryIO], object]) -> None:
    """Write a file that is there whole, the old one or the new one. write: its text, or what writes it."""
    new = path.with_name(f"{path.name}.new-{os.getpid()}")
    with open(new, "wb") as file:
        file.write(write.encode("utf-8")) if isinstance(write, str) else write(file)
    os.replace(new, path)
