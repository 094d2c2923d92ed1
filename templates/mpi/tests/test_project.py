"""Seconds, on any machine: that the settings hold, the physics is right and a small sweep runs.

pip install pytest; python -m pytest
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import config
from polaris import checks, facts, views

PROJECT = Path(__file__).resolve().parent.parent
needs_mpiexec = pytest.mark.skipif(shutil.which("mpiexec") is None, reason="there is no mpiexec here")


def ising(temperature, size=64, sweeps=1000, seed=1, ranks=1):
    """What ising.py prints; one rank needs no mpiexec."""
    start = [] if ranks == 1 else ["mpiexec", "-n", str(ranks)]
    command = [*start, sys.executable, "ising.py", *map(str, (temperature, size, sweeps, seed))]
    return json.loads(subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout)


def test_the_settings_fit_polaris():
    driver, _ = checks.read_driver((PROJECT / "driver.pbs").read_text())
    ours = checks.Settings(account=config.account, queue=config.queue, walltime=config.walltime)
    for settings in (driver, ours):
        assert [p for p in checks.check(settings, ask=lambda name: None) if p.fatal] == []


def test_each_rank_of_a_node_has_threads_of_its_own():
    entries = facts.rank_affinity(config.ranks_per_node, config.threads_per_rank).split(":")[1:]
    assert len(set(entries)) == config.ranks_per_node


@pytest.mark.parametrize("temperature", [1.8, 2.0])
def test_magnetization_is_onsagers_below_the_critical_temperature(temperature):
    assert abs(ising(temperature)["magnetization"] - views.exact_magnetization(temperature)) < 0.02


def test_magnetization_vanishes_well_above_it():
    assert ising(3.5)["magnetization"] < 0.05


@needs_mpiexec
def test_a_lattice_that_is_split_over_ranks_has_the_same_physics():
    split = ising(1.8, sweeps=400, ranks=2)
    assert split["ranks"] == 2
    assert abs(split["magnetization"] - views.exact_magnetization(1.8)) < 0.02


def test_the_same_seed_gives_the_same_result():
    assert ising(2.2, 16, 50)["energy"] == ising(2.2, 16, 50)["energy"]


@needs_mpiexec
def test_a_small_sweep_runs_and_a_second_run_repeats_nothing(tmp_path):
    inputs = tmp_path / "small.csv"
    inputs.write_text("temperature,size,sweeps,seed\n1.8,16,50,1\n3.0,16,50,1\n")
    for path in PROJECT.iterdir():
        if path.suffix in (".py", ".sh", ".pbs"):
            (tmp_path / path.name).write_text(path.read_text())
    shutil.copytree(PROJECT / "polaris", tmp_path / "polaris")
    command = [sys.executable, "run.py", "--mode", "local", str(inputs)]
    for said in ("2 of 2 tasks done", "nothing to do"):
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr
        assert said in run.stdout
    with open(tmp_path / "results" / "results.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "done"]
