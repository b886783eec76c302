"""Two sources beside each other: ratio, phase, thickness, and the cause of the difference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import fringe
from calibrant.effects._etalon_cause import Pair, causes
from calibrant.errors import SelectionError

from .slicer_fringes import RESOLUTION, SLICES, Lamp

FIRST = Lamp(level=2000.0)


def found(lamp, seed=1):
    return fringe.measure(lamp.taken(np.random.default_rng(seed)), SLICES, resolution=RESOLUTION)


@pytest.fixture(scope="module")
def first():
    return found(FIRST)


def best(product):
    return (
        product.tables["causes"]["cause"][0],
        product.tables["causes"]["value"][0],
        product.tables["causes"]["sigma"][0],
    )


def test_another_reflectivity_is_preferred_where_it_is_one(first):
    made = fringe.compare(first, found(Lamp(r=0.025, rise=0.0125), 2))
    cause, value, sigma = best(made)
    assert cause == "reflectivity" and "preferred" in made.provenance.notes[0]
    assert abs(value - 0.025 / 0.06) < 4 * sigma
    ratio, phase, thickness = (made.quantity(name) for name in ("R_ratio", "phase", "D"))
    assert abs(ratio.value - 0.025 / 0.06) < 4 * ratio.sigma < 0.01
    assert abs(phase.value) < 4 * phase.sigma < 0.05
    assert abs(thickness.value) < 4 * thickness.sigma < 1
    assert made.quantity("depth_ratio").value > ratio.value  # depth saturates with R
    beside, curves = made.tables["transmissions"], made.tables["models"]
    assert beside["second_fit"].min() > beside["first_fit"].min() + 0.05
    chosen = curves["cause"] == "reflectivity"
    pull = (made.tables["wavelengths"]["R_ratio"] - curves["ratio"][chosen]) / made.tables["wavelengths"][
        "R_ratio_sigma"
    ]
    assert np.abs(pull).max() < 4 and not curves["phase"][chosen].any()


def test_a_wider_cone_is_told_by_the_fringes_it_moves(first):
    cone = 0.025
    made = fringe.compare(first, found(Lamp(cone=cone), 3))
    cause, value, sigma = best(made)
    assert cause == "cone" and "second source" in made.provenance.notes[0]
    assert value == pytest.approx(cone, rel=0.02) and 0 < sigma < 0.001
    assert made.quantity("D").value == pytest.approx(-1709.6 * cone**2 / 4, abs=0.1)


def test_broader_lines_weaken_short_waves_most(first):
    made = fringe.compare(found(Lamp(resolution=1900.0, level=2000.0), 4), first)
    cause, value, _ = best(made)
    assert cause == "line_spread" and value < 0 and "first source" in made.provenance.notes[0]
    true = (1900.0**-2 - RESOLUTION**-2) ** -0.5
    told = float(made.provenance.notes[0].split("resolution of ")[1].split(":")[0].split(";")[0])
    assert told == pytest.approx(true, rel=0.02)


def test_the_same_source_twice_has_no_preferred_cause(first):
    made = fringe.compare(first, found(FIRST, 5))
    assert made.quantity("R_ratio").value == pytest.approx(1, abs=4 * made.quantity("R_ratio").sigma)
    assert "cannot be told apart" in made.provenance.notes[0]


def test_what_nothing_explains_is_said(first):
    shifted = found(Lamp(r=0.025, d=1709.6 + 0.3), 6)
    assert "no cause" in fringe.compare(first, shifted).provenance.notes[0]


def test_what_cannot_be_compared_is_refused(first):
    with pytest.raises(SelectionError, match="not fringes"):
        fringe.compare(first, replace(first, kind="flat"))
    some = {k: v[first.tables["points"]["slice"] == 1] for k, v in first.tables["points"].items()}
    other = {k: v[first.tables["points"]["slice"] == 2] for k, v in first.tables["points"].items()}
    pair = [replace(first, tables={**first.tables, "points": points}) for points in (some, other)]
    with pytest.raises(SelectionError, match="in common"):
        fringe.compare(*pair)
    twice = fringe.compare(first, fringe.measure(FIRST.taken(np.random.default_rng(1)), SLICES))
    assert "different resolutions" in twice.provenance.notes[1]


def test_a_cone_is_not_taken_for_one_that_shifts_fringes_by_whole_cycles():
    """Beyond the first zero of its contrast phases come back: no such cone is tried."""
    wave, one = np.linspace(1750.0, 2030.0, 8), np.ones(8)
    both = Pair(wave, 0.1 * one, 0.05 * one, 0.0 * one, 0.1 * one, 0.02 * one, 0.01 * one)
    cone = next(cause for cause in causes(both, 1709.6) if cause.name == "cone")
    orders = 2 * 1709.6e-4 * wave
    assert np.abs(cone.phase).max() <= 0.5 and orders.mean() * cone.value**2 / 2 <= 1.2
    assert cone.chi2 > 1.0
