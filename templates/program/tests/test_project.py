"""Seconds, on any machine: that the physics is right and a small sweep runs.

pip install pytest; python -m pytest
"""

import pytest

import analysis
import apps
import ising

HEADER = "temperature,size,sweeps,seed\n"


@pytest.mark.parametrize("temperature", [1.8, 2.0])
def test_magnetization_is_onsagers_below_the_critical_temperature(temperature):
    result = ising.ising(temperature=temperature, size=64, sweeps=1000, seed=1)
    assert abs(result["magnetization"] - analysis.exact_magnetization(temperature)) < 0.02


def test_the_values_of_a_log_become_columns(tmp_path):
    log = tmp_path / "out.txt"
    lines = ["magnetization = 0.5", "energy = -1e-05", "device = CPU", "Total wall time: 2 s"]
    log.write_text("\n".join(lines))
    assert apps.read_log(log) == {"magnetization": 0.5, "energy": -1e-05, "device": "CPU"}


def test_a_small_sweep_runs_and_a_second_run_repeats_nothing(copy):
    copy.give("sweep.csv", HEADER + "1.8,16,50,1\n3.0,16,50,1\n")
    copy.run()
    first = copy.rows("results.csv")
    assert [row["status"] for row in first] == ["done", "done"]
    for row in first:
        folder = copy.path / row["folder"]
        assert f"temperature  {row['temperature']}  #" in (folder / "in.ising").read_text()
        assert "Total wall time" in (folder / "out.txt").read_text()
    assert "nothing to do" in copy.run()
    assert copy.rows("results.csv") == first
    assert (copy.path / "results" / "magnetization.png").exists()
