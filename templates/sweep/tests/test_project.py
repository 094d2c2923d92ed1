"""Seconds, on any machine: that the settings hold, the physics is right and a small sweep runs.

pip install pytest; python -m pytest
"""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
import apps
import config
from polaris import checks, driver, facts, rules

PROJECT = Path(__file__).resolve().parent.parent
ising = apps.ising.func  # the function itself, without Parsl


def test_the_settings_fit_polaris():
    asked_for, _ = driver.read((PROJECT / "driver.pbs").read_text())
    ours = rules.Settings(account=config.account, queue=config.queue, walltime=config.walltime)
    for settings in (asked_for, ours):
        found = checks.check(settings, ask=lambda name: None)
        assert [problem for problem in found if problem.fatal] == []


def test_each_worker_has_threads_of_its_own():
    entries = facts.cpu_affinity(config.workers_per_gpu).split(":")[1:]
    assert len(set(entries)) == facts.GPUS_PER_NODE * config.workers_per_gpu


@pytest.mark.parametrize("temperature", [1.8, 2.0])
def test_magnetization_is_onsagers_below_the_critical_temperature(temperature):
    result = ising(temperature=temperature, size=64, sweeps=1000, seed=1)
    assert abs(result["magnetization"] - analysis.exact_magnetization(temperature)) < 0.02


def test_magnetization_vanishes_well_above_it():
    assert ising(temperature=3.5, size=64, sweeps=1000, seed=1)["magnetization"] < 0.05


def test_the_same_seed_gives_the_same_result():
    first, second = (ising(temperature=2.2, size=16, sweeps=50, seed=3) for _ in range(2))
    assert first["energy"] == second["energy"]


def test_the_seeds_of_a_temperature_are_averaged():
    rows = [
        {"temperature": 2.0, "magnetization": 0.9, "magnetization_error": 0.01},
        {"temperature": 1.5, "magnetization": 0.98, "magnetization_error": 0.01},
        {"temperature": 2.0, "magnetization": 0.94, "magnetization_error": 0.01},
    ]
    first, second = analysis.averages(rows)
    assert (first["temperature"], first["seeds"]) == (1.5, 1)
    assert (second["magnetization"], second["seeds"]) == (pytest.approx(0.92), 2)
    assert second["magnetization_error"] == pytest.approx(0.02)  # their scatter


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


def test_a_small_sweep_runs_and_a_second_run_repeats_nothing(tmp_path):
    project = copy_of_the_project(tmp_path, "1.8,16,50,1\n3.0,16,50,1\n")
    run(project)
    first = rows_of(project, "results.csv")
    assert [row["status"] for row in first] == ["done", "done"]
    assert "nothing to do" in run(project)
    assert rows_of(project, "results.csv") == first
    assert (project / "results" / "magnetization.png").exists()
