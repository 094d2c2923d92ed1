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
import ising
from polaris import checks, driver, rules

PROJECT = Path(__file__).resolve().parent.parent


def test_the_settings_fit_polaris():
    asked_for, _ = driver.read((PROJECT / "driver.pbs").read_text())
    ours = rules.Settings(account=config.account, queue=config.queue, walltime=config.walltime)
    for settings in (asked_for, ours):
        found = checks.check(settings, ask=lambda name: None)
        assert [problem for problem in found if problem.fatal] == []


@pytest.mark.parametrize("temperature", [1.8, 2.0])
def test_magnetization_is_onsagers_below_the_critical_temperature(temperature):
    result = ising.ising(temperature=temperature, size=64, sweeps=1000, seed=1)
    assert abs(result["magnetization"] - analysis.exact_magnetization(temperature)) < 0.02


def test_the_values_of_a_log_become_columns(tmp_path):
    log = tmp_path / "out.txt"
    lines = ["magnetization = 0.5", "energy = -1e-05", "device = CPU", "Total wall time: 2 s"]
    log.write_text("\n".join(lines))
    assert apps.read_log(log) == {"magnetization": 0.5, "energy": -1e-05, "device": "CPU"}


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
    for row in first:
        folder = project / row["folder"]
        assert f"temperature  {row['temperature']}  #" in (folder / "in.ising").read_text()
        assert "Total wall time" in (folder / "out.txt").read_text()
    assert "nothing to do" in run(project)
    assert rows_of(project, "results.csv") == first
    assert (project / "results" / "magnetization.png").exists()
