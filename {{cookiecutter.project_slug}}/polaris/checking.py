"""`python run.py --check`: everything that this machine can show before a node hour is spent."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import statistics
import sys
from itertools import islice
from pathlib import Path

from . import facts, machine, prefix, settings, sources
from .ending import DONE, REFUSED
from .errors import Refused
from .folder import Folder
from .machine import PROJECT
from .plan import Plan
from .result_table import PLACE, USUAL, ResultTable
from .sources import Source

FEW = 1000  # results whose usual time tells how long a row takes


def planned(table: Source, folder: Folder) -> Plan:
    """What a table and its results say of the next run."""
    rows = ResultTable(folder, USUAL, table.columns)
    plan = Plan(table, rows)
    plan.problems += table.problems()
    return plan if plan.problems else plan.read()


def usual_seconds(rows: ResultTable) -> float | None:
    """The median time of the first FEW results, s, whatever the first of each worker loaded; None
    where there are none.
    """
    if rows.header is None:
        return None
    place = len(rows.columns) + PLACE.index("seconds")
    took = []
    for line in islice(rows.recorded(), FEW):
        with contextlib.suppress(ValueError):  # an app that is not timed
            if line.row is not None:
                took.append(float(line.fields[place]))
    return statistics.median(took) if took else None


def _text(plan, mapped):
    rows = f"{plan.total} row{'s' * (plan.total != 1)} in {plan.source.path}"
    return f"{rows}, {len(plan.done)} of them done" if mapped else rows


def numbers(inputs: tuple) -> list[str]:
    """How many rows each input has, in words; what is wrong with one is said by --check."""
    said = []
    for source in inputs:
        plan = planned(source, Folder(PROJECT / "none"))
        if not plan.problems:
            said.append(f"input: {_text(plan, mapped=False)}")
    return said


def check(config, mode: str, inputs: tuple, jobs: int | None) -> int:
    """Print what is there and what is wrong; returns the exit status."""
    folder = Folder(PROJECT / "results")
    plans = [planned(table, folder) for table in inputs[:1]]
    plans += [planned(table, Folder(PROJECT / "none")) for table in inputs[1:]]
    known = {}
    wrong_rows = [(True, line) for plan in plans for line in plan.lines()]
    mapped = len(plans) == 1 and folder.fills(USUAL)  # else its rows are not tasks of their own
    if mapped:
        alone = folder.last_run().get("grouped") is False
        known = {"seconds_per_row": usual_seconds(plans[0].table), "rows_alone": alone}
        if not plans[0].problems:
            known["rows"] = plans[0].left
    wrong = settings.found(config, mode, every_file=True, jobs=jobs, **known)
    wrong += wrong_rows
    wrong += _of_run_dir(config)
    wrong += _of_environment(mode)
    if not any(fatal for fatal, _ in wrong):
        wrong += settings.of_a_start(config, mode)
    _show(config, mode, plans, mapped)
    for fatal, line in wrong:
        print(f"{'WRONG' if fatal else 'note'}:  {line}")
    fatal = sum(is_fatal for is_fatal, _ in wrong)
    notes = len(wrong) - fatal
    said = f"{fatal} to mend" if fatal else "nothing to mend"
    print(f"{said}, {notes} note{'s' * (notes != 1)}" if notes else said)
    return REFUSED if fatal else DONE


def _of_run_dir(config):
    run_dir = Path(config.run_dir)
    folders = (run_dir, *run_dir.absolute().parents)
    folder = next(path for path in folders if path.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return []
    place = settings.in_config("run_dir")
    return [(True, f"{place} = {str(run_dir)!r}: {folder} cannot be written to")]


def parsl_version() -> str:
    try:
        return importlib.metadata.version("parsl")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _of_environment(mode):
    wrong = []
    parsl = parsl_version()
    needed = ".".join(map(str, facts.PARSL_TESTED))
    own = prefix.own()
    if own is not None and prefix.is_ours():
        wrong += _of_own_environment(parsl, needed)
    elif parsl == "none":
        mend = "source activate.sh" if own else "bash setup_env.sh; source activate.sh"
        wrong.append((True, f"{sys.executable} has no Parsl: {mend}"))
    elif tuple(map(int, parsl.split(".")[:3])) < facts.PARSL_TESTED:
        wrong.append((True, f"Parsl {parsl} is older than {needed}: {prefix.mend()}"))
    if not prefix.is_ours():
        mend = "source activate.sh"
        wrong.append((False, f"{sys.prefix} is not the project's environment: {mend}"))
    if mode == "blocks" and shutil.which("qsub") is None:
        wrong.append((True, "mode blocks needs qsub, which is not on PATH: use a login node"))
    return wrong


def _of_own_environment(parsl, needed):
    """What only shows when all is imported; the rest of it was said already."""
    if prefix.wrong():
        return []
    lacking = prefix.lacks(imported=True)
    if lacking:
        return [(True, prefix.said_to_lack(lacking))]
    if parsl == needed:
        return []
    has = f"it has Parsl {parsl}, in which all is found that is used; tested is {needed}"
    return [(False, f"{prefix.place()}: {has}")]


def _show(config, mode, plans, mapped):
    """What this machine has."""
    made = f"Python {sys.version.split()[0]}"
    conda = os.environ.get("CONDA_PREFIX")
    own = prefix.own()
    if own is not None and prefix.is_ours():
        made += f", your own, {own.kind}"
        conda = conda if conda != own.folder else None
    lines = [
        ("mode", mode),
        ("environment", f"{sys.prefix} ({made})"),
        ("Parsl", parsl_version()),
        ("conda module", conda or "none loaded"),
        ("qsub", shutil.which("qsub") or "none: this is no login node"),
        ("GPUs", machine.gpus_in_words()),
        ("run directory", config.run_dir),
    ]
    for plan in plans:
        if not plan.problems:
            lines.append(("input", _text(plan, mapped)))
    for what, seen in lines:
        print(f"{what + ':':15} {seen}")


def refuse_wrong(inputs: tuple) -> None:
    """Refused with every problem of the tables, before anything starts."""
    problems = []
    for table in inputs:
        found = table.problems()
        if not found:
            for _ in table.rows(found):
                if len(found) > sources.MOST_PROBLEMS:
                    break
        problems += found
    if problems:
        raise Refused("\n".join(problems[: sources.MOST_PROBLEMS]))
