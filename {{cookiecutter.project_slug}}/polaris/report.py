"""The report of a run: where the node hours went, in one self-contained HTML file and its pictures.

    python -m polaris.report        the last run of run.py that had tasks; a number chooses another

`--session NAME`: of another script or a notebook. Written from what runs.py reads.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

try:
    from . import pictures
except ModuleNotFoundError as error:
    sys.exit(f"{sys.executable} has no {error.name}: source activate.sh")

from . import runs
from .errors import Refused
from .history import note_ends
from .machine import PROJECT
from .page import page


def write(folder: Path, number: int | None = None) -> Path:
    """Write the report of a run, without a number of the last one with tasks; returns its file.

    FileNotFoundError where nothing was run, Refused where there is no such run, or no task of it.
    """
    all_runs = runs.read(folder)
    with_tasks = [run.number for run in all_runs.values() if run.lanes]
    if not with_tasks:
        raise Refused(f"{folder}: no task has ended here yet on a worker")
    last = max(with_tasks)
    run = all_runs.get(number or last)
    if run is None:
        raise Refused(f"run {number}: there is no such run; the last one is {last}")
    if not run.lanes:
        raise Refused(f"run {number}: no task of it has ended yet on a worker")
    drawn = pictures.draw(run, folder)
    path = folder / "report.html"
    path.write_text(page(run, all_runs, folder, drawn), encoding="utf-8")
    return path


def _folder_of(session, results):
    """The folder of results of a session, or of run.py; Refused where there is none."""
    names = [path.parent.name for path in results.glob("*/runs.jsonl")]
    if session in names:
        return results / session
    others = ""
    if names:
        others = f"; with --session: {', '.join(sorted(names))}"
    if session is not None:
        raise Refused(f"--session {session}: no session of that name was run here{others}")
    events = results / "runs.jsonl"
    if not events.exists():
        raise Refused(f"{events}: there is none: nothing was run here yet{others}")
    return results


def main(argv: list[str] | None = None) -> None:
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m polaris.report", description=about)
    parser.add_argument("run", nargs="?", type=int, help="number of the run (default: the last)")
    parser.add_argument("--session", metavar="NAME", help="of another script, or a notebook")
    args = parser.parse_args(argv)
    os.chdir(PROJECT)
    try:
        folder = _folder_of(args.session, Path("results"))
        note_ends(folder / "runs.jsonl")
        path = write(folder, args.run)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: there is none: no task has ended here yet")
    except Refused as refusal:
        sys.exit(str(refusal))
    print(f"{path}: opens in any browser, by itself; pictures: {folder}/report-*.png")


if __name__ == "__main__":
    main()
