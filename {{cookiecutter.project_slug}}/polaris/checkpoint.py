"""Files of results of cached apps, as Parsl keeps them: one pickle after the other."""

from __future__ import annotations

import os
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path


class Checkpoint:
    """The file of this run's results: entries as Parsl writes them, one after the other."""

    def __init__(self, path: Path):
        self.path = path
        self._file = None

    def add(self, entry: dict) -> None:
        """Write an entry, whole or not at all. OSError: no room; or what pickle raises."""
        data = pickle.dumps(entry)
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)
        start = self._file.tell()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            error.filename = os.fspath(self.path)
            self._file.truncate(start)
            self._file.seek(start)
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def entries(path: str | os.PathLike) -> Iterator[tuple]:
    """Yield (entry, None), or (None, why it cannot be read); nothing of a torn end."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (start := file.tell()) < size:
            try:
                entry, error = pickle.load(file), None
            except Exception as problem:  # pickle raises whatever the classes in it raise
                entry, error = None, problem
                file.seek(start)
                try:
                    for _ in pickletools.genops(file):
                        pass  # to the end of this entry, without making anything of it
                except Exception as broken:
                    if file.tell() < size:  # else the file ends within: a kill cut it off
                        yield None, ValueError(f"damaged from byte {start} on: {broken}")
                    return
            end = file.tell()
            yield entry, error
            file.seek(end)
