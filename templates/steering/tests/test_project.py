"""Seconds, on any machine: that the search is right and a small one runs.

pip install pytest; python -m pytest
"""

import math

import numpy
import pytest

import analysis
import apps

HEADER = "temperature,size,sweeps,seed\n"


def made_up(temperature, critical, number=0):
    """What `evaluate` returns where T_c is known, with noise."""
    noise = numpy.random.default_rng(number).normal(0, 0.04)
    gap = -0.6 * math.tanh((temperature - critical) / 0.2) + noise
    return {"temperature": temperature, "gap": gap, "error": 0.04}


@pytest.mark.parametrize("critical", [2.2, 2.27, 2.4])
def test_the_surrogate_finds_a_critical_temperature_that_is_known(critical):
    rows = [made_up(2 + 0.15 * i, critical, i) for i in range(8)]
    for number in range(8, 40):
        temperature = analysis.next_temperature(rows, [])
        rows.append(made_up(temperature, critical, number))
    found = analysis.crossing(rows)
    assert abs(found.temperature - critical) < found.error < 0.02


def test_what_is_asked_for_already_is_not_asked_for_again_where_it_is_not_known():
    rows = [made_up(2.0, 2.27), made_up(3.0, 2.27)]
    asked = []
    for _ in range(3):
        asked.append({"temperature": analysis.next_temperature(rows, asked)})
    first, second, third = sorted(row["temperature"] for row in asked)
    assert second - first > 0.1 and third - second > 0.1


def test_without_a_crossing_nothing_is_said_of_it():
    rows = [made_up(2 + 0.15 * i, 5.0, i) for i in range(8)]
    found = analysis.crossing(rows)
    assert math.isinf(found.error) and "not known" in analysis.in_words(found, 8)


def test_the_gap_is_above_0_below_the_critical_temperature_and_below_0_above():
    below, above = (apps.evaluate.func(t, size=8, sweeps=200, seed=1) for t in (2.0, 2.6))
    assert below["gap"] > 5 * below["error"] > 0
    assert above["gap"] < -5 * above["error"] < 0


def test_the_same_seed_gives_the_same_result():
    first, second = (apps.evaluate.func(2.2, 6, 50, seed=3) for _ in range(2))
    assert first == second


def test_a_small_search_ends_and_a_second_run_evaluates_nothing(copy):
    lines = [f"{2 + 0.15 * i:.2f},8,200,{i}\n" for i in range(8)]
    copy.give("sweep.csv", HEADER + "".join(lines))
    found = [line for line in copy.run().splitlines() if line.startswith("T_c =")]
    assert len(found) == 1
    first = copy.rows("evaluate.csv")
    assert 8 < len(first) <= 60
    assert [line for line in copy.run().splitlines() if line.startswith("T_c =")] == found
    assert copy.rows("evaluate.csv") == first
    assert (copy.path / "results" / "crossing.png").exists()
