"""Files that are written line by line, and read again: every line of them is accounted for."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

# A cell may be long; csv's own limit is 131,072 characters.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
CHUNK = 65_536  # bytes that are read at a time from the end of a file


class Table:
    """A CSV file that is written row by row; what cannot be written is an OSError with its name.

    Cells have no line breaks: a row is a line, whatever is in it.
    """

    def __init__(self, path: os.PathLike, mode: str, header: list | tuple):
        self.path = str(path)
        self.file = open(path, mode, encoding="utf-8", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")
        if self.file.tell() == 0:
            self.writer.writerow(header)
            self.flush()

    def writerow(self, row: list | tuple) -> None:
        self._named(self.writer.writerow, row)

    def flush(self) -> None:
        self._named(self.file.flush)

    def _named(self, write, *what):
        try:
            write(*what)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # said by flush already
            self.file.close()


def rows_of(path: os.PathLike) -> Iterator[tuple[int, list[str] | None]]:
    """Yield (number, fields) of every line of such a file after the first.

    fields is None where it is no row. A last line without its end is left out: it is being written,
    or a kill cut it off.
    """
    with open(path, "rb") as file:
        file.readline()
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                return
            if not line.strip():
                continue
            try:
                fields = _fields_of(line)
            except (UnicodeDecodeError, csv.Error):
                fields = None
            yield number, fields


def _fields_of(line):
    text = line.decode("utf-8").rstrip("\r\n")
    if '"' not in text:  # much faster
        return text.split(",")
    return next(csv.reader([text], strict=True))


def header_of(path: os.PathLike) -> list[str] | None:
    """The names in the first line of such a file; None where it has none."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        line = file.readline().rstrip("\r\n")
    return next(csv.reader([line]), None)


def events_of(path: os.PathLike) -> Iterator[tuple[int, dict | None]]:
    """Yield (number, event) of every whole line of runs.jsonl; event is None where it is none."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            event = loaded(line)
            yield number, event if _is_event(event) else None


def _is_event(event):
    if event is None:
        return False
    if not isinstance(event.get("run"), int):
        return False
    return "event" in event and isinstance(event.get("time"), int | float)


def loaded(text: str | bytes) -> dict | None:
    """A JSON object; None where the text is none, such as that of a file left empty by a crash."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def cut_off_half_a_line(path: os.PathLike) -> None:
    """Cut off what a killed run left half written at the end of a file, if there is such a file."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = _end_of_lines(file, size)
        if end < size:
            file.truncate(end)


def _end_of_lines(file, size):
    """How many bytes of a file are whole lines. size: of the file, bytes."""
    end = size
    while end:
        start = max(0, end - CHUNK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def replace(path: Path, write: str | Callable[[BinaryIO], object]) -> None:
    """Write a file that is there whole, the old or the new one. write: its text, or a writer."""
    new = path.with_name(f"{path.name}.new-{os.getpid()}")
    with open(new, "wb") as file:
        if isinstance(write, str):
            file.write(write.encode("utf-8"))
        else:
            write(file)
    os.replace(new, path)
