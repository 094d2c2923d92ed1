"""Seconds, on any machine: that the settings hold, the search is right and a small one runs.

pip install pytest; python -m pytest
"""

import csv
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import analysis
import apps
import config
from polaris import checks, driver, facts, rules

PROJECT = Path(__file__).resolve().parent.parent


def test_the_settings_fit_polaris():
    asked_for, _ = driver.read((PROJECT / "driver.pbs").read_text())
    ours = rules.Settings(account=config.account, queue=config.queue, walltime=config.walltime)
    for settings in (asked_for, ours):
        found = checks.check(settings, ask=lambda name: None)
        assert [problem for problem in found if problem.fatal] == []


def test_each_worker_has_threads_of_its_own():
    entries = facts.cpu_affinity(config.workers_per_gpu).split(":")[1:]
    assert len(set(entries)) == facts.GPUS_PER_NODE * config.workers_per_gpu


def made_up(temperature, critical, number=0):
    """What `evaluate` returns where T_c is known, with noise."""
    noise = numpy.random.default_rng(number).normal(0, 0.04)
    gap = -0.6 * math.tanh((temperature - critical) / 0.2) + noise
    return {"temperature": temperature, "gap": gap, "error": 0.04}


@pytest.mark.parametrize("critical", [2.2, 2.27, 2.4])
def test_the_surrogate_finds_a_critical_temperature_that_is_known(critical):
    rows = [made_up(2 + 0.15 * i, critical, i) for i in range(8)]
    for number in range(8, 40):
        temperature = analysis.next_temperature(rows, [])
        rows.append(made_up(temperature, critical, number))
    found = analysis.crossing(rows)
    assert abs(found.temperature - critical) < found.error < 0.02


def test_what_is_asked_for_already_is_not_asked_for_again_where_it_is_not_known():
    rows = [made_up(2.0, 2.27), made_up(3.0, 2.27)]
    asked = []
    for _ in range(3):
        asked.append({"temperature": analysis.next_temperature(rows, asked)})
    first, second, third = sorted(row["temperature"] for row in asked)
    assert second - first > 0.1 and third - second > 0.1


def test_without_a_crossing_nothing_is_said_of_it():
    rows = [made_up(2 + 0.15 * i, 5.0, i) for i in range(8)]
    found = analysis.crossing(rows)
    assert math.isinf(found.error) and "not known" in analysis.in_words(found, 8)


def test_the_gap_is_above_0_below_the_critical_temperature_and_below_0_above():
    below, above = (apps.evaluate.func(t, size=8, sweeps=200, seed=1) for t in (2.0, 2.6))
    assert below["gap"] > 5 * below["error"] > 0
    assert above["gap"] < -5 * above["error"] < 0


def test_the_same_seed_gives_the_same_result():
    first, second = (apps.evaluate.func(2.2, 6, 50, seed=3) for _ in range(2))
    assert first == second


def copy_of_the_project(folder, inputs):
    """The project without its results, with other inputs."""
    leave = shutil.ignore_patterns(".venv", "results", "runinfo", "__pycache__")
    copy = shutil.copytree(PROJECT, folder / "project", ignore=leave)
    (copy / "inputs" / "sweep.csv").write_text("temperature,size,sweeps,seed\n" + inputs)
    return copy


def run(project):
    """What `python run.py` prints there."""
    command = [sys.executable, "run.py", "--mode", "local"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(project, name):
    """The rows of a CSV file among the results, as dicts of text."""
    with open(project / "results" / name, newline="") as file:
        return list(csv.DictReader(file))


def test_a_small_search_ends_and_a_second_run_evaluates_nothing(tmp_path):
    lines = [f"{2 + 0.15 * i:.2f},8,200,{i}\n" for i in range(8)]
    project = copy_of_the_project(tmp_path, "".join(lines))
    found = [line for line in run(project).splitlines() if line.startswith("T_c =")]
    assert len(found) == 1
    first = rows_of(project, "evaluate.csv")
    assert 8 < len(first) <= 60
    assert [line for line in run(project).splitlines() if line.startswith("T_c =")] == found
    assert rows_of(project, "evaluate.csv") == first
    assert (project / "results" / "crossing.png").exists()
