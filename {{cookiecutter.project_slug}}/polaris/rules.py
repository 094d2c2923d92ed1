"""What a rule is: it takes the Case and yields a Problem for each thing that is wrong.

It leaves alone what is None: not given, or of a wrong kind, which was said before. The rules are in
options.py and queues.py, and listed in checks.py. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from . import facts, layout

Number = int | str | None
Text = str | None
Flag = bool | None


class Settings(NamedTuple):
    """What is checked, as given: text from the questions, numbers from config.py.

    None: not given.
    """

    project_slug: Text = None
    account: Text = None
    queue: Text = None
    nodes_per_block: Number = None
    walltime: Text = None  # H:MM:SS
    filesystems: Text = None  # names joined by ":"
    conda_version: Text = None
    kinds: list | tuple | None = None  # of workers
    nodes_of_kind: dict | None = None  # nodes of a job that a kind has alone
    workers_per_gpu: Number = None
    cpu_workers: Number = None  # on each node
    cores_per_cpu_worker: Number = None
    rows_per_task: Number = None
    rows_alone: Flag = None  # whether the last run had rows that cannot go into groups
    rows: int | None = None  # of the input, that have no result yet
    nodes_per_task: Number = None  # of an MPI program, as the next two
    ranks_per_node: Number = None
    threads_per_rank: Number = None  # hardware threads
    max_blocks: Number = None
    idle_time: Number = None  # seconds
    retries: Number = None
    margin: Number = None  # seconds
    seconds_per_row: float | None = None  # as measured in runs so far
    jobs: Number = None  # of driver.pbs, that are about to be submitted as a chain
    project_dir: Text = None
    run_dir: Text = None
    own_environment: Text = None  # its folder
    own_kind: Text = None  # "venv", "uv", "conda" or "pixi"
    own_place: Text = None  # where it is set: file, line and value
    preload: list | tuple | None = None  # packages
    local_environment: Flag = None
    log_level: Text = None
    monitoring: Flag = None


class Problem(NamedTuple):
    """One broken rule. `mend` is a value that would do, "" where only the user can know it."""

    name: str  # the field of Settings
    given: object
    wrong: str  # what is wrong, and what is allowed
    mend: str = ""
    fatal: bool = True  # False: said, but nothing is refused


Problems = Iterator[Problem]


class Case(NamedTuple):
    """What a rule looks at: settings that are numbers or text where they should be, and what for.

    submitting: whether PBS is about to be asked for nodes.
    ask: a function from the name of a queue to what PBS says of it, see queues.live_queue.
    """

    settings: Settings
    submitting: bool
    ask: Callable

    @property
    def nodes(self) -> int | None:
        """Of a job, where that is a number from 1 on."""
        return self.settings.nodes_per_block or None

    def nodes_of(self, kind: str) -> int | None:
        """Of a job, those that a kind of workers has; None where that is not known.

        A job whose nodes the kinds share has no `max_blocks`; in blocks each kind has its own.
        """
        kinds = self.settings.kinds or (kind,)
        given = self.settings.nodes_of_kind or {}
        if self.nodes is None or not isinstance(given, dict):
            return None
        if self.settings.max_blocks is not None:
            return given.get(kind, self.nodes)
        try:
            return len(layout.share_of(kind, kinds, given, range(self.nodes)))
        except (TypeError, ValueError):  # said by the rules about kinds
            return None

    @property
    def duration(self) -> int | None:
        """The walltime in seconds, where it is one."""
        walltime = self.settings.walltime
        if walltime is None:
            return None
        return facts.seconds(walltime)

    @property
    def queue(self) -> facts.Queue | None:
        """The limits of the queue, where the page lists it."""
        name = self.settings.queue
        return facts.QUEUES.get(name)


def nearest(number: int, least: int, most: int) -> int:
    """The number within the two that is nearest to a given one."""
    if number < least:
        return least
    return min(number, most)


@dataclass(frozen=True)
class Within:
    """A rule: an option lies within two numbers. mend: "" stands for the nearest one."""

    name: str
    least: int
    most: int
    wrong: str
    mend: str = ""

    def __call__(self, case: Case) -> Problems:
        given = getattr(case.settings, self.name)
        if given is None:
            return
        close = nearest(given, self.least, self.most)
        if given != close:
            mend = self.mend or str(close)
            yield Problem(self.name, given, self.wrong, mend)


@dataclass(frozen=True)
class OneOf:
    """A rule: an option is one of a few values."""

    name: str
    allowed: tuple
    wrong: str
    mend: str

    def __call__(self, case: Case) -> Problems:
        given = getattr(case.settings, self.name)
        if given is None:
            return
        if given not in self.allowed:
            yield Problem(self.name, given, self.wrong, self.mend)
