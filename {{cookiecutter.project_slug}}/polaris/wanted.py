"""Which executors apps name: each must be one that config.py makes.

Parsl itself looks when a task starts: that may be after all the stages before it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import Refused
from .machine import PROJECT

STAGING = "_parsl_internal"  # threads of this process, for Parsl's own staging of files


def named(executors: Iterable[str] | str) -> list[str]:
    """The labels that an app names."""
    return [executors] if isinstance(executors, str) else list(executors)


def unknown(app: str, executors: Iterable[str] | str, labels: list[str]) -> str | None:
    """Why an app has no workers, in words; None where each of its executors is there."""
    given = named(executors)
    if not given:
        return f"{app}: executors={executors!r} names none: it may be {', '.join(labels)}"
    missing = [label for label in given if label not in (*labels, STAGING)]
    if not missing:
        return None
    there = ", ".join(labels)
    return f"{app}: executors={given!r}: config.py makes no {missing[0]}; it makes {there}"


def refuse_unknown(labels: list[str]) -> None:
    """Refused where an app of a module of the project names an executor that is none of these."""
    lines = []
    for place, name, app in _apps():
        if app.executors == "all" or getattr(app, "join", False):
            continue
        wrong = unknown(name, app.executors, labels)
        if wrong:
            lines.append(f"{place}: {wrong}")
    if lines:
        raise Refused("\n".join(lines))


def is_app(name: str) -> bool:
    """Whether an app of a module of the project has that name: else it is a function of rows."""
    return any(name == each for _, each, _ in _apps())


def _apps() -> Iterator[tuple]:
    """(file, name, app) of each app in the modules of the user's that are imported."""
    from parsl.app.app import AppBase

    seen = set()
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "/nowhere")
        if path.parent != PROJECT:
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, AppBase) and id(value) not in seen:
                seen.add(id(value))
                yield path.name, getattr(value.func, "__name__", name), value
