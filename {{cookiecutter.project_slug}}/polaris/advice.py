"""What of a run would waste less next time, in words."""

from __future__ import annotations

import numpy

from .errors import Stop
from .facts import in_words
from .runs import Run, percent
from .spent import COMPUTING, FAILED_WORK, PARTS

LARGE = 0.1  # share of the allocation from which on a part is worth advice
MOST = 2 / 3  # share of a part from which on it is that of one executor
IDLE, BUSY = 0.25, 0.5  # shares of its time that an executor ran tasks
SHORT = 0.001  # seconds, the least that the record tells
LONG = 3  # a long task takes as many typical ones

ADVICE = {  # what to do about a large part of PARTS
    "loading": (
        "went into loading: the first task of a worker took longer than the others: fewer nodes, "
        "or more tasks a run"
    ),
    "failed work": "went into tries that failed: see the causes",
    "start-up": "went into starting workers: give a job more tasks, and the start is less of it",
    "between tasks": (
        "workers waited although tasks were left: let each do more, one takes {typical}"
    ),
    "tail": (
        "workers had nothing left to start while the last tasks ran: fewer nodes, or more tasks "
        "a run"
    ),
    "node lost": "was of nodes that were lost: shorter tasks lose less",
    "unfinished": (
        "was spent on tasks that were cut off: shorter ones, or a larger margin, lose less"
    ),
    "never a task": (
        "was of workers that never had a task: fewer nodes, more tasks, or see what failed"
    ),
}
IN_STAGES = {  # the same where tasks may have had to wait for others
    "start-up": (
        "went by before workers had a first task: they were starting, or nothing was ready for "
        "them: fewer nodes waste less"
    ),
    "between tasks": (
        "workers were free while tasks were still to start: where these waited for others, fewer "
        "nodes waste less; where not, let each do more, one takes {typical}"
    ),
}
LONGEST_FIRST = (
    "; or longest_first of table() in run.py: one took {longest}, a typical one {typical}"
)


def advice(run: Run) -> list[str]:
    """What would waste less next time, a sentence each; [] where little was wasted."""
    if run.goes_on:
        return []
    said = []
    for code, part in enumerate(PARTS):
        cut_off_by_hand = part == "unfinished" and run.stopped is Stop.CTRL_C
        large = run.shares[code] >= LARGE
        if large and part in ADVICE and not cut_off_by_hand:
            said.append(_about(run, code, part))
    return said + _idle(run)


def _about(run, code, part):
    """What to do about a part of the time, and whose it was where executors differ."""
    executor = _whose(run, code)
    typical, longest = _times(run, executor)
    text = ADVICE[part]
    if run.in_stages:
        text = IN_STAGES.get(part, text)
    elif part == "tail" and longest > LONG * typical:
        text += LONGEST_FIRST
    short = f"{typical:.3g} s" if typical >= SHORT else f"less than {SHORT * 1000:.0f} ms"
    text = text.format(typical=short, longest=in_words(longest))
    whose = f", most of it of the {executor} workers," if executor else ""
    return f"{percent(run.shares[code])} of the time{whose} {text}."


def _whose(run, code):
    """The executor that most of a part of the time is of; None where there is one, or none such."""
    for executor, totals in run.of.items():
        if len(run.of) > 1 and totals[code] > MOST * run.totals[code]:
            return executor
    return None


def _times(run, executor):
    """(median, longest) seconds of a task, of an executor or of all; 0 where none is known."""
    if executor is None:
        seconds = run.seconds()
    else:
        seconds = run.seconds(lane=run.lanes_of(executor))
    if not len(seconds):
        return 0.0, 0.0
    return float(numpy.median(seconds)), float(seconds.max())


def _idle(run):
    """Executors that had little to do while another was busy."""
    busy = {}
    for executor, totals in run.of.items():
        whole = totals.sum()
        if whole > 0:
            busy[executor] = (totals[COMPUTING] + totals[FAILED_WORK]) / whole
    if not busy or max(busy.values()) < BUSY:
        return []
    most = max(busy, key=busy.get)
    said = []
    for executor, share in busy.items():
        large = run.of[executor].sum() >= LARGE * run.allocated
        if share < IDLE and large:
            mine = f"The {executor} workers waited {percent(1 - share)} of their time"
            others = f"those of {most} {percent(1 - busy[most])}"
            said.append(f"{mine}, {others}: give {executor} fewer of them, or more to do.")
    return said
