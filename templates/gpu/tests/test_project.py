"""Seconds, on any machine: that the settings hold, the physics is right and a small sweep runs.

pip install pytest; python -m pytest
"""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import apps
import config
from polaris import checks, facts, views

PROJECT = Path(__file__).resolve().parent.parent
ising = apps.ising.func  # the function itself, without Parsl


def test_the_settings_fit_polaris():
    driver, _ = checks.read_driver((PROJECT / "driver.pbs").read_text())
    ours = checks.Settings(account=config.account, queue=config.queue, walltime=config.walltime)
    for settings in (driver, ours):
        assert [p for p in checks.check(settings, ask=lambda name: None) if p.fatal] == []


def test_each_worker_has_threads_of_its_own():
    assert config.cpu_affinity.count(":") == facts.GPUS_PER_NODE * config.workers_per_gpu


@pytest.mark.parametrize("temperature", [1.8, 2.0])
def test_magnetization_is_onsagers_below_the_critical_temperature(temperature):
    result = ising(temperature=temperature, size=64, sweeps=1000, seed=1)
    assert abs(result["magnetization"] - views.exact_magnetization(temperature)) < 0.02


def test_magnetization_vanishes_well_above_it():
    assert ising(temperature=3.5, size=64, sweeps=1000, seed=1)["magnetization"] < 0.05


def test_the_same_seed_gives_the_same_result():
    first, second = (ising(temperature=2.2, size=16, sweeps=50, seed=3) for _ in range(2))
    assert first["energy"] == second["energy"]


def test_a_small_sweep_runs_and_a_second_run_repeats_nothing(tmp_path):
    inputs = tmp_path / "small.csv"
    inputs.write_text("temperature,size,sweeps,seed\n1.8,16,50,1\n3.0,16,50,1\n")
    for name in ("run.py", "apps.py", "config.py", "activate.sh", "driver.pbs"):
        (tmp_path / name).write_text((PROJECT / name).read_text())
    shutil.copytree(PROJECT / "polaris", tmp_path / "polaris")
    command = [sys.executable, "run.py", "--mode", "local", str(inputs)]
    for said in ("2 of 2 tasks done", "nothing to do"):
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr
        assert said in run.stdout
    with open(tmp_path / "results" / "results.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "done"]
