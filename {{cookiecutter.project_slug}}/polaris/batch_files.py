"""A file for the results of a whole batch, written by its app on a worker.

    with batch_file("results/embeddings", rows, ".npy") as path:
        numpy.save(path, vectors)
    return path.places

The table of results then says of each row in which file it is, and where there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from .keys import key_of
from .machine import PROJECT
from .values import InFile


class NewFile(str):
    """The path of a file while it is written. places: the result of each row of the batch, which
    are its app's: {"file": the path that it has then, "place": of the row in it, from 0}.
    """

    places: list[dict]


@contextlib.contextmanager
def batch_file(folder: str, rows: list[dict], ending: str) -> Iterator[NewFile]:
    """The path to write the results of some rows to; whole or not there, whatever happens.

    folder: in the project's folder. rows: as the app got them; the file is named by them, so that
    the same batch writes the same file. ending: of its name, such as ".npy".
    """
    if not rows or not re.fullmatch(r"(\.[A-Za-z0-9]+)+", ending):
        raise ValueError(f"batch_file({folder!r}, {len(rows)} rows, {ending!r}): .npy and its like")
    keys = ",".join(f"{key_of(row):016x}" for row in rows)
    name = hashlib.blake2b(keys.encode(), digest_size=12).hexdigest()
    place = InFile(Path(folder, name + ending).as_posix())
    whole = PROJECT / place
    whole.parent.mkdir(parents=True, exist_ok=True)
    path = NewFile(whole.with_name(f".{name}-{os.getpid()}{ending}"))
    path.places = [{"file": place, "place": i} for i in range(len(rows))]
    try:
        yield path
        os.replace(path, whole)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
