"""Seconds, on any machine: that the physics is right and small stages run.

pip install pytest; python -m pytest
"""

import collections
import itertools
import math

import numpy
import pytest

import analysis
import ising

HEADER = "temperature,size,sweeps,seed\n"


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


def test_small_stages_run_and_a_second_run_repeats_nothing(copy):
    lines = []
    for size, temperature in itertools.product((6, 8, 12), (2.1, 2.2, 2.3, 2.4)):
        lines.append(f"{temperature},{size},400,{len(lines)}\n")
    copy.give("sweep.csv", HEADER + "".join(lines))
    found = [line for line in copy.run().splitlines() if line.startswith("T_c")]
    tried = [(row["app"], row["status"]) for row in copy.rows("tasks.csv")]
    expected = {("simulate", "done"): 12, ("analyse", "done"): 12, ("fit", "done"): 1}
    assert collections.Counter(tried) == expected
    assert [line for line in copy.run().splitlines() if line.startswith("T_c")] == found
    assert len(copy.rows("tasks.csv")) == 25
    assert (copy.path / "results" / "crossing.png").exists()
