"""Seconds, on any machine: that the settings hold, the model is right and small batches run.

pip install pytest; python -m pytest
"""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import analysis
import apps
import config
import ising
import model
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


@pytest.mark.parametrize("temperature, ordered", [(1.8, True), (3.2, False)])
def test_the_model_knows_the_phase_of_lattices_that_it_has_not_seen(temperature, ordered):
    spins = ising.lattices(temperature, size=24, sweeps=200, seed=77, number=20)
    for sign in (1, -1):
        said = apps.network().ordered(list(sign * spins))
        assert sum((each > 0.5) == ordered for each in said) >= 19


def test_a_configuration_is_read_as_it_was_written():
    spins = ising.lattices(2.5, size=16, sweeps=20, seed=1, number=1)[0]
    assert (model.spins_of(ising.as_text(spins), 16) == spins).all()


def test_magnetization_is_onsagers_below_the_critical_temperature():
    spins = ising.lattices(2.0, size=32, sweeps=200, seed=1, number=40)
    assert abs(spins.mean() - 0.911) < 0.01


@pytest.mark.parametrize("critical", [2.26, 2.29])
def test_the_crossing_of_curves_that_are_known_is_found(critical):
    random = numpy.random.default_rng(1)
    rows = []
    for size, temperature in ((s, t) for s in (8, 48) for t in (2.22, 2.25, 2.28, 2.31, 2.34)):
        mean = 0.7 - 0.1 * size * (temperature - critical)
        for said in random.normal(mean, 0.1, 50):
            rows.append({"size": size, "temperature": temperature, "ordered": said})
    found, error = analysis.critical_temperature(analysis.curves(rows))
    assert abs(found - critical) < error < 0.04


def copy_of_the_project(folder, lines):
    """The project without its results, with other inputs."""
    leave = shutil.ignore_patterns(".venv", "results", "runinfo", "__pycache__")
    copy = shutil.copytree(PROJECT, folder / "project", ignore=leave)
    (copy / "inputs" / "configurations.jsonl").write_text("".join(lines))
    return copy


def run(project):
    """What `python run.py` prints there."""
    command = [sys.executable, "run.py", "--mode", "local"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(project):
    """The rows of the results, as dicts of text."""
    with open(project / "results" / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_small_run_asks_the_model_about_each_input_once(tmp_path):
    with open(PROJECT / "inputs" / "configurations.jsonl") as file:
        lines = file.readlines()[::2]
    project = copy_of_the_project(tmp_path, lines)
    found = [line for line in run(project).splitlines() if line.startswith("T_c =")]
    first = rows_of(project)
    assert len(found) == 1 and len(first) == len(set(lines))
    assert [line for line in run(project).splitlines() if line.startswith("T_c =")] == found
    assert rows_of(project) == first
    assert (project / "results" / "crossing.png").exists()
