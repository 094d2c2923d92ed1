"""Seconds, on any machine: that the physics is right and a small sweep runs.

pip install pytest; python -m pytest
"""

import pytest

import analysis
import apps

HEADER = "temperature,size,sweeps,seed\n"
ising = apps.ising.func  # the function itself, without Parsl


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


def test_a_small_sweep_runs_and_a_second_run_repeats_nothing(copy):
    copy.give("sweep.csv", HEADER + "1.8,16,50,1\n3.0,16,50,1\n")
    copy.run()
    first = copy.rows("results.csv")
    assert [row["status"] for row in first] == ["done", "done"]
    assert "nothing to do" in copy.run()
    assert copy.rows("results.csv") == first
    assert (copy.path / "results" / "magnetization.png").exists()
