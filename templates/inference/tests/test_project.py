"""Seconds, on any machine: that the model is right and small batches run.

pip install pytest; python -m pytest
"""

from pathlib import Path

import numpy
import pytest

import analysis
import apps
import ising
import model

PROJECT = Path(__file__).resolve().parent.parent


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


def test_a_crossing_is_of_temperatures_that_both_sizes_have():
    curves = {}
    for size, critical in ((8, 2.26), (48, 2.26)):
        temperatures = [2.22, 2.24, 2.26, 2.28, 2.30, 2.32][size == 48 :]
        curves[size] = [(t, 0.7 - size * (t - critical), 0.01) for t in temperatures]
    found, error = analysis.critical_temperature(curves)
    assert abs(found - 2.26) < error < 0.04
    some = {size: points[-3:] for size, points in curves.items()}
    assert analysis.critical_temperature(some) is None  # as where only some rows have run
    assert analysis.critical_temperature({8: curves[8]}) is None


def test_a_small_run_asks_the_model_about_each_input_once(copy):
    with open(PROJECT / "inputs" / "configurations.jsonl") as file:
        lines = file.readlines()[::2]
    copy.give("configurations.jsonl", "".join(lines))
    found = [line for line in copy.run().splitlines() if line.startswith("T_c =")]
    first = copy.rows("results.csv")
    assert len(found) == 1 and len(first) == len(set(lines))
    assert [line for line in copy.run().splitlines() if line.startswith("T_c =")] == found
    assert copy.rows("results.csv") == first
    assert (copy.path / "results" / "crossing.png").exists()
