"""What is called for a row: an app of Parsl's, or a function that calls several."""

from __future__ import annotations

import inspect
import sys
import types
from concurrent.futures import Future
from pathlib import Path

from parsl.app.app import AppBase
from parsl.app.python import PythonApp

from .code import code_of, short_code
from .errors import Refused, kind_of
from .keys import KEPT_BY_PARSL


class Work:
    """An app, or a function from a row to a future. name: of it. code: 8 hex digits that tell its
    code.
    """

    def __init__(self, given):
        if not callable(given):
            wrong = f"is of the kind {type(given).__name__}"
            raise Refused(
                f"run.map(app, rows): the app {wrong}: give a python_app, or a function of a row"
            )
        self.given = given
        self.is_app = isinstance(given, AppBase)
        self.name = name_of(given)
        self.code = short_code(given)
        self.digest = code_of(given)

    @property
    def may_be_grouped(self) -> bool:
        """Whether it is nothing but a function and its arguments: short rows of it may share a
        task.
        """
        if not isinstance(self.given, PythonApp):
            return False
        return not self.given.cache and not self.given.join

    def refuse_columns(self, names) -> None:
        """Refused where the app does not take inputs of these names, or needs others."""
        if not self.is_app:
            return
        kept = [name for name in names if name in KEPT_BY_PARSL]
        if kept:
            raise Refused(f"{self.name} has an input {kept[0]!r}, which Parsl keeps for itself")
        signature = inspect.signature(self.given.func)
        try:
            signature.bind(**dict.fromkeys(names))
        except TypeError as error:
            takes = ", ".join(signature.parameters)
            has = ", ".join(names)
            raise Refused(
                f"{self.name}({takes}) cannot be called with the inputs {has}: {error}; "
                "give it these names, or give run.map a function of a row: lambda row: app(...)"
            ) from None

    def call(self, row: dict) -> Future:
        """Call it for a row, as Parsl does."""
        return self.given(**row) if self.is_app else self.given(row)


class BatchWork(Work):
    """An app that takes a list of rows, and returns a list of their results."""

    may_be_grouped = True  # many rows share a task

    def __init__(self, given):
        super().__init__(given)
        name = self.name
        if not self.is_app:
            wrong = f"a batch is for an app itself, and {name} is a function of a row"
            mend = f"give run.map the app, def {name}(rows), or leave batch out"
            raise Refused(f"run.map({name}, rows, batch=...): {wrong}: {mend}")
        if not isinstance(given, PythonApp):
            wrong = "is no python_app, and returns no list of results"
            raise Refused(f"run.map({name}, rows, batch=...): {name} {wrong}: leave batch out")
        self._refuse_signature()

    def _refuse_signature(self):
        signature = inspect.signature(self.given.func)
        try:
            signature.bind([])
        except TypeError as error:
            takes = ", ".join(signature.parameters)
            wrong = f"cannot be called with a batch, one list of rows: {error}"
            mend = f"make it def {self.name}(rows), or leave batch out"
            raise Refused(f"{self.name}({takes}) {wrong}: {mend}") from None

    def refuse_columns(self, names) -> None:
        """It takes rows of any columns."""

    def call(self, rows: list[dict]) -> Future:
        """Call it for a batch of rows, as Parsl does."""
        return self.given(rows)


def name_of(given) -> str:
    """What an app, or a function, is called."""
    name = getattr(given, "__name__", None) or type(given).__name__
    return "function" if name == "<lambda>" else name


def where_to_put_it(error: BaseException) -> str:
    """Of a name that an app lacks on workers and the program has: what to do; else ""."""
    if kind_of(error) != "NameError":
        return ""
    main = sys.modules["__main__"]
    name = getattr(error, "name", None)
    if not name or not hasattr(main, name):
        return ""
    file = Path(getattr(main, "__file__", "the program")).name
    if isinstance(getattr(main, name), types.ModuleType):
        return f": {file} imports it, and workers do not load {file}: import it in the app"
    return f": it is in {file}, which workers do not load: it and the app belong into apps.py"
