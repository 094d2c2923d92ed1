"""The generated project beside other tools, in the shapes of work that 0.2 has: everything in one run, alternating.

    .venv/bin/python benchmarks/peers.py                        all parts, three rounds: about an hour, alone
    .venv/bin/python benchmarks/peers.py --rounds 1 graph       a part, a round
    .venv/bin/python benchmarks/peers.py --small                small sizes: does everything work?

Parts: launcher, steering, graph, inference, sentences, cached, perf. `make bench` runs them once, without what needs
the environment of some 6 GB (Ray, the sentences) and with fewer peers in the longest loops. A way that cannot be
had, or fails, is '-' in the tables, with its reason above them. Each table has medians of the rounds, and in brackets
the ratio to the first column: its median of the rounds, smallest and largest.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

import cached  # noqa: E402
import graph  # noqa: E402
import inference  # noqa: E402
import launcher  # noqa: E402
import perf  # noqa: E402
import steering  # noqa: E402
import venvs  # noqa: E402
import ways  # noqa: E402
from bench import compared  # noqa: E402
from project import ready  # noqa: E402

PROJECT_PACKAGES = ("distributed==2026.8.0", "dask-jobqueue==0.9.0", "hyperqueue==0.27.0")
HEAVY = "model"  # the environment that `make bench` does without


class Part(NamedTuple):
    """A table: what is run, by which ways, on how many workers.

    work: the functions on the workers. given: what the scripts get; small: the same, to see that all works.
    light: the ways that `make bench` takes; None: all that need no heavy environment; (): none.
    """

    title: str
    ways: dict
    work: str
    workers: int
    given: object
    small: object
    light: tuple | None = None


def steered(workers, seconds, number, small, light=None):
    """A steering loop of so many evaluations of so many seconds."""
    title = f"steering: {number:,} evaluations of {seconds:g} s, {workers} workers"
    given = [[seconds, number]]
    return Part(title, steering.WAYS, steering.WORK, workers, given, [[seconds, small]], light)


def launched(number, small, light=None):
    """So many empty tasks, start and all."""
    title = f"{number:,} empty Python tasks, 4 workers"
    return Part(title, launcher.WAYS, launcher.WORK, 4, number, small, light)


MODEL = (5, 0.02)  # seconds of a load, and for an input
PARTS = {
    "launcher": [launched(300, 300, light=()), launched(3000, 600)],
    "steering": [
        steered(2, 0.5, 200, 12, light=("ours", "processes")),
        steered(4, 0.5, 200, 24, light=()),
        steered(2, 0.01, 2000, 200, light=("ours", "page", "Dask", "Colmena, page", "processes")),
        steered(4, 0.01, 2000, 200, light=()),
    ],
    "graph": [Part("stages of empty tasks, 4 workers", graph.WAYS, graph.WORK, 4, 1, 0.1)],
    "inference": [
        Part(
            "inference: 2,000 inputs of 20 ms, a load of 5 s, 2 workers",
            inference.WAYS,
            inference.ASLEEP,
            2,
            [2000, inference.BATCH, *MODEL],
            [300, inference.BATCH, *MODEL],
        )
    ],
    "sentences": [
        Part(
            "embeddings of 2,000 sentences by all-MiniLM-L6-v2 on the CPU, 2 workers of a thread",
            inference.WAYS_VECTORS,
            inference.SENTENCES,
            2,
            [2000, inference.BATCH, 0, 0],
            [300, inference.BATCH, 0, 0],
        )
    ],
    "cached": [
        Part(
            "10,000 cached calls, twice, 4 workers",
            cached.WAYS,
            cached.WORK,
            4,
            [10_000, 0],
            [1000, 0],
            light=("ours",),
        )
    ],
    "perf": [Part("parsl-perf, 4 workers, blocks", perf.WAYS, perf.WORK, 4, 5, 2)],
}
# Ways whose base of ratios is another one than ours, which is first elsewhere.
BASES = {"launcher": "ensemble_launcher"}


def goals(found):
    """(what, its value or None, limit, whether at least) of the rows that this script decides."""

    def value(part, number, way, figure, to=None):
        shown = compared(found.get((part, number), {}), way, figure, to or way)
        return None if not shown or (to and not shown[1:]) else shown[1 if to else 0]

    ours, figure = "ours", "all at once, a second"
    calls, el, parsl = "ours, calls", "ensemble_launcher", "Parsl, our config"
    took = "from the first load to the last batch, s"
    return [
        ("steering, 200 x 0.5 s, 2 workers, to the ideal",
         value("steering", 0, ours, "0.5 s, to the ideal"), 1.06, False),
        ("steering, 0.5 s: ms from a result to the next task",
         value("steering", 0, ours, "0.5 s, ms to the next"), 5, False),
        ("steering, 10 ms: ms from a result to the next task",
         value("steering", 2, ours, "0.01 s, ms to the next"), 5, False),
        ("stage graph, to plain Parsl, our configuration", value("graph", 0, ours, figure, parsl), 0.95, True),
        ("stage graph, to Dask", value("graph", 0, ours, figure, "Dask"), 1.5, True),
        ("inference, to the ideal after start-up", value("inference", 0, ours, "to the ideal"), 1.08, False),
        ("inference, time to Ray's", value("inference", 0, ours, took, "Ray Data"), 1, False),
        ("inference, whole program to Ray's",
         value("inference", 0, ours, "whole program, s", "Ray Data"), 1, False),
        ("sentences, whole program to Ray's",
         value("sentences", 0, ours, "whole program, s", "Ray Data"), 1, False),
        ("3,000 empty calls, to ensemble_launcher, with its start",
         value("launcher", 1, calls, "a second, with the start", el), 3, True),
        ("3,000 empty calls, to ensemble_launcher, without",
         value("launcher", 1, calls, "a second, without", el), 3, True),
        ("3,000 empty rows, to ensemble_launcher, with its start",
         value("launcher", 1, "ours, rows", "a second, with the start", el), 3, True),
        ("resume of 10,000 cached calls, s",
         value("cached", 0, ours, "second run, whole program, s"), 5, False),
    ]  # fmt: skip


def rounds_of(name, number, part, project, rounds, small, light):
    """{(way, figure): [its value in each round]} of a part, the ways in turn; why some have none."""
    found, problems = {}, {}
    chosen = [way for way in part.ways if wanted(part, way, light)]
    for i in range(rounds):
        for way in chosen:
            if way in problems:
                continue
            began = time.time()
            given = part.small if small else part.given
            try:
                figures, problem = ways.one(part.ways[way], project, part.work, part.workers, given)
            except (OSError, AssertionError, ValueError) as error:
                figures, problem = {}, repr(error)
            if problem:
                problems[way] = problem
                print(f"{name}: {way}: -: {problem}", flush=True)
                continue
            for figure, value in figures.items():
                found.setdefault((way, figure), []).append(value)
            shown = ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items())
            print(f"{name}, round {i + 1}: {way}: {shown} ({time.time() - began:.0f} s)", flush=True)
    return found, {**{way: "left out here" for way in part.ways if way not in chosen}, **problems}


def wanted(part, way, light):
    """Whether a way is run: all are, but for those that `make bench` leaves out."""
    if not light:
        return True
    if part.ways[way].venv == HEAVY:
        return False
    return part.light is None or way in part.light


def table(part, found, base):
    """The lines of a table, as Markdown: a row a figure, a column a way."""
    columns = list(part.ways)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for figure in dict.fromkeys(figure for _, figure in found):
        cells = []
        for way in columns:
            shown = compared(found, way, figure, base)
            cell = f"{shown[0]:,.4g}" if shown and shown[0] < 1000 else f"{shown[0]:,.0f}" if shown else "-"
            if shown[1:] and way != base:
                cell += " ({:.2f}, {:.2f}-{:.2f})".format(*shown[1:])
            cells.append(cell)
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return lines


def differing(found):
    """Whether the ways came to different results, where they tell what they computed."""
    checks = [values[0] for (_, figure), values in found.items() if figure == "check"]
    return bool(checks) and max(checks) - min(checks) > 1e-3 * max(1, abs(max(checks)))


def measure(project, parts, rounds, small=False, light=False):
    """Run these parts and print their tables; returns {(part, its number): what rounds_of found}."""
    found = {}
    began = time.time()
    for name in parts:
        for number, part in enumerate(PARTS[name]):
            if light and not any(wanted(part, way, light) for way in part.ways):
                continue
            print(f"\n## {part.title}", flush=True)
            part_found, problems = rounds_of(name, number, part, project, rounds, small, light)
            found[name, number] = part_found
            print()
            print("\n".join(table(part, part_found, BASES.get(name, next(iter(part.ways))))))
            for way, problem in problems.items():
                print(f"{way}: -: {problem.strip().splitlines()[-1]}")
            if differing(part_found):
                print("WRONG: the ways came to different results")
    sizes = ", small sizes: these figures count for nothing" if small else ""
    print(f"\npeers: {rounds} rounds{sizes}; {(time.time() - began) / 60:.0f} minutes")
    for left in ("results", "runinfo", "page-runinfo"):
        shutil.rmtree(project / left, ignore_errors=True)
    return found


def told(rows):
    """A line for each goal: its value, its limit, met or not; '-' where it was not measured."""
    for goal, value, limit, at_least in rows:
        bound = f"{'at least' if at_least else 'at most':8} {limit:<6g}"
        if value is None:
            yield f"{goal:56} {'-':>8}   {bound} not measured here"
        else:
            met = "met" if (value >= limit if at_least else value <= limit) else "not met"
            yield f"{goal:56} {value:8.3g}   {bound} {met}"


def prepared():
    """The project, with the other tools that live in its environment, and an account that PBS takes."""
    project = ready(*PROJECT_PACKAGES)
    for name in ("config.py", "driver.pbs"):
        text = (project / name).read_text()
        (project / name).write_text(text.replace("YOURPROJECT", "MyProj").replace("debug", "preemptable"))
    return project


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="small sizes, to see that everything works")
    parser.add_argument("--light", action="store_true", help="what `make bench` runs")
    args = parser.parse_args()
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]}: is none of {', '.join(PARTS)}")
    versions = sorted({package for packages in venvs.PACKAGES.values() for package in packages})
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; {', '.join(PROJECT_PACKAGES)}")
    print(f"environments of their own: {', '.join(versions)}", flush=True)
    found = measure(prepared(), args.parts or list(PARTS), args.rounds, args.small, args.light)
    print("\ngoals:")
    print("\n".join(told(goals(found))))


if __name__ == "__main__":
    main()
