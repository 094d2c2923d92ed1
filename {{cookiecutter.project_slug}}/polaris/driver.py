"""driver.pbs read: the settings in its #PBS lines, and what is wrong with the lines themselves."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from . import facts
from .rules import Problem, Problems, Settings

OF_A_JOB = ("account", "queue", "nodes_per_block", "walltime", "filesystems")
RESOURCES = ("select", "place", "walltime", "filesystems")  # that this project asks for


def read(text: str) -> tuple[Settings, dict[str, int]]:
    """The settings in the #PBS lines of a script, and the number of each one's line."""
    found = {}
    lines = {}
    for number, line in _head(text):
        if not line.startswith("#PBS"):
            continue
        for option, value in re.findall(r"-([Aql])\s*(\S+)", line):
            for name, given in _settings_in(option, value):
                found[name] = given
                lines[name] = number
    return Settings(**found), lines


def _settings_in(option: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield (name in Settings, value) of what one option of qsub asks for."""
    if option == "A":
        yield "account", value
        return
    if option == "q":
        yield "queue", value
        return
    for name, given in _resources(value):
        if name == "select":
            nodes, _, _ = given.partition(":")
            yield "nodes_per_block", nodes
        elif name in Settings._fields:
            yield name, given


def lacking(driver: Settings, text: str) -> Problems:
    """What qsub asks for and no #PBS line of a script says, and lines that are none."""
    for number, line in _head(text):
        yield from _of_a_line(number, line)
    for name in OF_A_JOB:
        if not getattr(driver, name):
            wrong = "is nowhere in its #PBS lines: qsub must be told, or refuses the job"
            yield Problem(name, "", wrong, fatal=False)


def _of_a_line(number, line):
    if re.match(r"#\s+PBS\s+-|#(pbs|Pbs)\s+-", line):
        shown = line.strip()
        wrong = "is a comment to PBS, which would do without it: write #PBS"
        yield Problem("directive", f"line {number}, {shown!r}", wrong)
    elif line.startswith("#PBS"):
        for request in re.findall(r"-l\s*(\S+)", line):
            yield from _misspelt(number, request)


def _misspelt(number, request):
    """Problems of what one -l asks for: a misspelt name, or nodes of another system."""
    for name, value in _resources(request):
        where = f"line {number}"
        if name not in RESOURCES:
            meant = difflib.get_close_matches(name, RESOURCES, 1, 0.75)
            if meant:
                wrong = f"is no resource: is {meant[0]} meant?"
                yield Problem("directive", f"{where}, -l {name}", wrong)
        elif name == "select":
            system = re.search(r"\bsystem=([^:+]*)", value)
            if system and system[1] != "polaris":
                wrong = "is no system here, and the job would wait for ever: system=polaris"
                yield Problem("directive", f"{where}, system={system[1]}", wrong)


def beside(driver: Settings, blocks: Settings, *, from_driver: bool) -> Problems:
    """Problems between the job of driver.pbs and the blocks of config.py.

    from_driver: whether blocks are about to be submitted from within that job; else they are only
    said.
    """
    queue = facts.QUEUES.get(blocks.queue)
    if queue is not None and queue.running == 1 and driver.queue == blocks.queue:
        wrong = f"runs one job of a {queue.per} at a time: "
        wrong += f"blocks of a driver job in {blocks.queue} would never start; "
        wrong += "for MODE=blocks, give driver.pbs or config.py another queue"
        yield Problem("queue", driver.queue, wrong, fatal=from_driver)
    for name in OF_A_JOB:
        ours = getattr(driver, name)
        theirs = getattr(blocks, name)
        if ours is None or theirs is None:
            continue
        if str(ours) != str(theirs):
            wrong = f"differs from config.py, which has {theirs}"
            yield Problem(name, ours, wrong, fatal=False)


def _resources(request):
    """ "select=2:system=polaris,walltime=1:00:00" -> (name, value) of each."""
    for part in request.split(","):
        name, _, value = part.partition("=")
        yield name, value


def _head(text):
    """Yield (number, line) of a script up to its first command, where PBS stops too."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            return
        yield number, line
