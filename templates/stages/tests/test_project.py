"""Seconds, on any machine: that the settings hold, the physics is right and small stages run.

pip install pytest; python -m pytest
"""

import collections
import csv
import itertools
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import analysis
import config
import ising
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


def made_up_curves(critical, lattices=16):
    """What `analyse` returns where T_c is known: log(S - 1) = 3.5 - 0.6 x, with noise."""
    random = numpy.random.default_rng(1)
    curves = []
    for size, temperature in itertools.product((12, 16, 24, 32), (2.22, 2.25, 2.28, 2.31)):
        stretch = numpy.exp(3.5 - 0.6 * (temperature - critical) * size)
        uniform = (1 + stretch) * random.normal(1, 0.02, lattices)
        curve = {"temperature": temperature, "size": size, "uniform": uniform.tolist()}
        curves.append({**curve, "wave": [1.0] * lattices})
    return curves


@pytest.mark.parametrize("critical", [2.25, 2.27])
def test_the_fit_finds_a_critical_temperature_that_is_known(critical):
    found = analysis.critical_temperature(made_up_curves(critical))
    assert abs(found["critical_temperature"] - critical) < found["error"] < 0.02
    assert abs(found["exponent"] - 1) < 0.2


def test_curves_that_meet_nowhere_are_no_result():
    with pytest.raises(ValueError, match="agree"):
        analysis.critical_temperature(made_up_curves(2.6))


@pytest.mark.parametrize("temperature", [1.8, 2.0])
def test_magnetization_is_onsagers_below_the_critical_temperature(temperature):
    series = ising.fluctuations(temperature, size=32, sweeps=400, seed=1)
    exact = (1 - math.sinh(2 / temperature) ** -4) ** 0.125
    assert abs(series[20:, 0].mean() ** 0.5 - exact) < 0.02


def test_fluctuations_are_those_of_a_gas_well_above_it():
    series = ising.fluctuations(20.0, size=16, sweeps=400, seed=1)
    uniform, wave = series[20:].mean(axis=(0, 2))
    assert 1 < uniform * 16**2 < 1.5 and 1 < uniform / wave < 1.2


def test_the_same_seed_gives_the_same_result():
    first, second = (ising.fluctuations(2.2, 16, 50, seed=3) for _ in range(2))
    assert (first == second).all()


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


def test_small_stages_run_and_a_second_run_repeats_nothing(tmp_path):
    lines = []
    for size, temperature in itertools.product((6, 8, 12), (2.1, 2.2, 2.3, 2.4)):
        lines.append(f"{temperature},{size},400,{len(lines)}\n")
    project = copy_of_the_project(tmp_path, "".join(lines))
    found = [line for line in run(project).splitlines() if line.startswith("T_c")]
    tried = [(row["app"], row["status"]) for row in rows_of(project, "tasks.csv")]
    expected = {("simulate", "done"): 12, ("analyse", "done"): 12, ("fit", "done"): 1}
    assert collections.Counter(tried) == expected
    assert [line for line in run(project).splitlines() if line.startswith("T_c")] == found
    assert len(rows_of(project, "tasks.csv")) == 25
    assert (project / "results" / "crossing.png").exists()
