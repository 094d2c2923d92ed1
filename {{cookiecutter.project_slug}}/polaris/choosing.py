"""`--only` and `--again`: which rows run first, and which results are computed anew."""

from __future__ import annotations

import re
from collections.abc import Callable

from . import values
from .errors import Refused
from .machine import shown


def choice(text: str | None, inputs: tuple) -> Callable | None:
    """Which rows `--only` means: a function of (row, keys so far); None: all."""
    if text is None:
        return None
    if re.fullmatch("[1-9][0-9]*", text):
        most = int(text)
        return lambda row, keys: len(keys) < most
    wanted = pairs_of("--only", text)
    columns = {name for table in inputs for name in table.columns}
    unknown = [name for name in wanted if inputs and name not in columns]
    if unknown:
        there = ", ".join(sorted(columns))
        raise Refused(f"--only {text}: no input has a column {unknown[0]}; there are {there}")
    return lambda row, keys: matches(row, wanted)


def pairs_of(option: str, text: str) -> dict:
    """{column: text of a value} of "column=value,..."."""
    pairs = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            allowed = (
                "so many rows, or column=value,..."
                if option == "--only"
                else "an app, or column=value,..."
            )
            raise Refused(f"{option} {text}: is not understood: {allowed}")
        pairs[name.strip()] = value.strip()
    return pairs


def matches(row: dict, wanted: dict) -> bool:
    """Whether a row has these values; texts are read as each value's own kind."""
    for name, text in wanted.items():
        if name not in row:
            return False
        value = row[name]
        kind = type(value)
        if kind in values.INPUT_KINDS:
            try:
                if values.given(text, kind) != value:
                    return False
            except ValueError:
                return False
        elif str(value) != text:
            return False
    return True


def again(session, text: str) -> None:
    """Take results out, to be computed anew; what they were is kept in NAME-before.csv."""
    if text == "failed":
        print("--again failed: every run tries the rows again that have failed")
        return
    if "=" in text:
        _rows_again(session, text)
        return
    taken = _app_again(session, text)
    if not taken:
        apps = {app for _, app in session.folder.tables()}
        there = f"; there are some of {', '.join(sorted(apps))}" if apps else ""
        raise Refused(f"--again {text}: there are no results of an app of that name here{there}")


def _rows_again(session, text):
    wanted = pairs_of("--again", text)
    taken = 0
    for rows, _ in session.folder.tables():
        taken += _take(rows, lambda row, _: matches(row, wanted))
    if not taken:
        mend = "calls with cache=True are chosen by the name of their app"
        raise Refused(f"--again {text}: no row of the results has these values; {mend}")


def _app_again(session, name):
    """The results of an app by its name: of its tables, and of its cached calls."""
    taken = 0
    for rows, app in session.folder.tables():
        if app == name:
            taken += _take(rows, lambda row, _: True)
    forgotten = session.forget(name)
    if forgotten:
        number = f"{forgotten} cached results" if forgotten > 0 else "the cached results"
        print(f"--again {name}: {number} are not used any more")
    return taken or forgotten


def _take(rows, wanted):
    taken = rows.take_out(wanted)
    if taken:
        before = shown(rows.path.with_name(f"{rows.name}-before.csv"))
        number = f"{taken} result{'s' * (taken != 1)}"
        print(f"{rows.shown}: {number} will be computed anew; what they were is in {before}")
    return taken
