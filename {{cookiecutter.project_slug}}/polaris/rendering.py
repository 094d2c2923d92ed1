"""Inputs put into texts: @name@, of a template or a command, becomes the input of that name.

@name:.3f@ is its value in a format of Python's. Whatever else stands there ($x, {x}, ${x}, %x) is
the program's own, and stays.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import NamedTuple

from .errors import Unusable
from .machine import PROJECT, shown

NAME = re.compile(r"@([^\W\d]\w*)(?::([^@\s]*))?@")
OF_OTHERS = r"\$?\{+\s*%s\s*\}+"  # how other ways of rendering write a name
# What editors and file managers leave: it must not make another template.
JUNK = ("*~", "#*#", ".#*", ".*.sw?", ".DS_Store", "__pycache__", ".ipynb_checkpoints")
GIVEN = "project"  # the one name beside the inputs: the project's folder
PLAIN = (str, int, float, PurePath)


class Values:
    """The inputs of a program as they are put into texts. used: their names so far."""

    def __init__(self, inputs: dict):
        self.values = {**inputs, GIVEN: str(PROJECT)}
        self.used = set()

    def put_into(self, text: str, place: Callable[[int], str]) -> str:
        """A text with the values; Unusable names what it lacks. place: of a line, in words."""

        def value(found):
            line = text.count("\n", 0, found.start()) + 1
            return self._text(place(line), *found.groups())

        return NAME.sub(value, text)

    def _text(self, place, name, form):
        if name not in self.values:
            raise Unusable(f"{place}: @{name}@: {self._what_there_is(name)}")
        value = self.values[name]
        self.used.add(name)
        if not isinstance(value, PLAIN) and type(value).__module__ != "numpy":
            kind = type(value).__name__
            raise Unusable(f"{place}: @{name}@ is a {kind}: give a number or a text")
        try:
            return format(value, form) if form else str(value)
        except (TypeError, ValueError) as error:
            raise Unusable(f"{place}: @{name}:{form}@ of {value!r}: {error}") from None

    def _what_there_is(self, name):
        near = difflib.get_close_matches(name, self.values, 1)
        meant = f", is {near[0]} meant?" if near else ""
        there = ", ".join(self.values)
        return f"no input has that name{meant} (there are {there})"


class File(NamedTuple):
    """A file of a folder of templates. link: where it leads, if it is a symbolic link."""

    name: str  # relative to the folder
    mode: int
    data: bytes
    link: str


class Templates:
    """The files of a folder, as they were when it was read. folder: None for no templates."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.files = []
        if folder is not None:
            self.files = [read(folder, path) for path in paths_in(folder)]

    def identity(self) -> list:
        """What tells their contents from those of others, for JSON."""
        found = []
        for file in self.files:
            content = hashlib.sha256(file.data).hexdigest()
            if file.link:
                content = f"{shown(file.link)} {file.data.decode()}"
            found.append([file.name, bool(file.mode & stat.S_IXUSR), content])
        return found

    def refuse_names(self, names: tuple[str, ...]) -> None:
        """Unusable for files that a run makes itself."""
        for file in self.files:
            if file.name in names:
                raise Unusable(f"{shown(self.folder / file.name)}: a run makes this file itself")

    def rendered(self, values: Values) -> list[File]:
        """The files with the values in them; what is no text (a zero byte in it) as it is."""
        made = []
        for file in self.files:
            if not file.link and b"\0" not in file.data:
                text = values.put_into(_text(file.data), self._place_in(file))
                file = file._replace(data=text.encode("utf-8", "surrogateescape"))
            made.append(file)
        return made

    def refuse_unused(self, inputs: dict, used: set[str]) -> None:
        """Unusable for an input that the program cannot know of: it would change nothing."""
        for name in inputs:
            if name in used:
                continue
            places = f"neither in {shown(self.folder)} nor" if self.folder else "not"
            where = f"the input {name!r} is used nowhere, {places} in the command"
            mend = f"write @{name}@ there, or leave it out of the inputs"
            raise Unusable(f"{where}: {mend}{self._written_otherwise(name)}")

    def _written_otherwise(self, name):
        for file in self.files:
            text = _text(file.data)
            found = re.search(OF_OTHERS % re.escape(name), text)
            if found:
                line = text.count("\n", 0, found.start()) + 1
                place = self._place_in(file)(line)
                return f" ({place} has {found[0]}, which stays as it is)"
        return ""

    def _place_in(self, file):
        return lambda line: f"{shown(self.folder / file.name)}, line {line}"


def _text(data):
    return data.decode("utf-8", "surrogateescape")


def paths_in(folder: Path) -> list[Path]:
    """What lies in a folder of templates and is no folder itself, but for what editors leave."""
    if not folder.is_dir():
        raise Unusable(f"templates={shown(folder)!r}: there is no such folder in {PROJECT}")
    found = []
    for place, folders, names in os.walk(folder):
        kept = [name for name in sorted(folders) if not _is_junk(name)]
        folders[:] = [name for name in kept if not os.path.islink(os.path.join(place, name))]
        links = [name for name in kept if name not in folders]
        for name in sorted([*names, *links]):
            if not _is_junk(name):
                found.append(Path(place, name))
    return found


def _is_junk(name):
    return any(fnmatch.fnmatch(name, pattern) for pattern in JUNK)


def read(folder: Path, path: Path) -> File:
    """A file of a folder of templates; Unusable where it is neither a file nor a link to one."""
    name = path.relative_to(folder).as_posix()
    try:
        seen = path.stat()
        if path.is_symlink():  # to something large, say: it is not copied
            return File(name, 0, f"{seen.st_size} {seen.st_mtime_ns}".encode(), str(path.resolve()))
        if stat.S_ISREG(seen.st_mode):
            return File(name, seen.st_mode, path.read_bytes(), "")
    except OSError as error:
        raise Unusable(f"{shown(path)}: {error.strerror}") from None
    raise Unusable(f"{shown(path)}: is no file")


def write(files: list[File], folder: Path) -> None:
    """Put files into a folder, which is there, with their modes."""
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            path.symlink_to(file.link)
            continue
        path.write_bytes(file.data)
        if file.mode & stat.S_IXUSR:
            path.chmod(path.stat().st_mode | 0o100 | (file.mode & 0o011))


def copy(paths: list[Path], source: Path, folder: Path) -> None:
    """Copy files from one folder into another, each whole or not at all, with their times."""
    for path in paths:
        there = folder / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        new = there.with_name(f".{there.name}.new")
        shutil.copy2(path, new)
        os.replace(new, there)
