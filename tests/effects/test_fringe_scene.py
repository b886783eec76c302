"""Fringes of a whole band of the simulated slicer: what its truth says is found, with honest errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import fringe, row_parity
from calibrant.simulate.slicer import Scene, make

SCENE = Scene.load("miri-mrs", second_reflectivity=0.0)
NUMBERS = [n for n in SCENE.slices.numbers if n < 200]
WAVES = np.linspace(4.8, 5.8, 40)
RESOLUTION = tuple(WAVES), tuple(WAVES / SCENE.resolution(101).width(WAVES))


def taken(source, seed=1, parity=True):
    made = make(SCENE, source, "FM", np.random.default_rng(seed))
    frame = replace(made.frame, data=made.frame.data - made.truth.planes["stray"])
    if not parity:
        frame = row_parity.apply(frame, row_parity.measure(frame, slices=SCENE.slices))
    return frame, made.truth


def found(frame, **options):
    return fringe.measure(frame, SCENE.slices, resolution=RESOLUTION, numbers=NUMBERS, **options)


def pulls(product, truth, name, of):
    table, true = product.tables["fringes"], truth.tables["depths"]
    made = []
    for number in NUMBERS:
        here, there = table["slice"] == number, true["slice"] == number
        expected = np.interp(table["wavelength"][here], true["wavelength"][there], true[of][there])
        made.append((table[name][here] - expected) / table[f"{name}_sigma"][here])
    return np.concatenate(made)


@pytest.fixture(scope="module")
def pair():
    made = {source: taken(source, parity=False) for source in ("internal", "extended-800K")}
    return {source: (found(frame), truth) for source, (frame, truth) in made.items()}


@pytest.mark.parametrize("source", ["internal", "extended-800K"])
def test_depths_of_the_band_are_found_with_honest_errors(pair, source):
    product, truth = pair[source]
    for name, of in (("R", "reflectivity"), ("depth", "observed"), ("depth_intrinsic", "intrinsic")):
        pull = pulls(product, truth, name, of)
        assert abs(pull.mean()) < 0.3 and 0.85 < pull.std() < 1.15, name
    assert np.abs(pulls(product, truth, "depth", "intrinsic")).mean() > 5  # the twin: the two are not one
    columns = product.tables["columns"]
    away = (columns["D"] - truth.quantity("thickness").value) / columns["D_sigma"]
    assert abs(away.mean()) < 0.3 and 0.85 < away.std() < 1.15
    assert product.quantity("D").value == pytest.approx(truth.quantity("thickness").value, abs=0.1)
    assert len(product.tables["columns"]["col"]) > 350


@pytest.mark.soak
@pytest.mark.parametrize("source", ["internal", "extended-800K"])
def test_pulls_of_many_images_are_of_unit_width(source):
    pull = {name: [] for name in ("R", "depth", "depth_intrinsic", "D")}
    for seed in range(12):
        frame, truth = taken(source, 100 + seed, parity=False)
        product = found(frame)
        for name, of in (("R", "reflectivity"), ("depth", "observed"), ("depth_intrinsic", "intrinsic")):
            pull[name].append(pulls(product, truth, name, of))
        columns = product.tables["columns"]
        pull["D"].append((columns["D"] - truth.quantity("thickness").value) / columns["D_sigma"])
    for name, many in pull.items():
        made = np.concatenate(many)
        assert abs(made.mean()) < 0.2 and made.std() == pytest.approx(1.0, abs=0.1), name
        assert (1.25 * made).std() != pytest.approx(1.0, abs=0.1)  # the twin: sigmas too small by a fifth


def test_two_sources_have_their_peaks_at_the_same_place_and_other_reflectivities(pair):
    made = fringe.compare(pair["internal"][0], pair["extended-800K"][0])
    assert abs(made.quantity("phase").value) < 0.05 and abs(made.quantity("D").value) < 1
    assert made.tables["causes"]["cause"][0] == "reflectivity"
    assert "preferred" in made.provenance.notes[0]


def test_a_second_plate_changes_depths_by_little(pair):
    frame = make(Scene.load("miri-mrs"), "internal", "FM", np.random.default_rng(1))
    clean = replace(frame.frame, data=frame.frame.data - frame.truth.planes["stray"])
    beside = found(clean).tables["fringes"]["depth"]
    assert beside == pytest.approx(pair["internal"][0].tables["fringes"]["depth"], rel=0.02)


def test_colder_lamps_have_the_same_fringes(pair):
    cold = found(taken("extended-600K", 3, parity=False)[0])
    made = fringe.compare(pair["extended-800K"][0], cold)
    ratio = made.quantity("depth_ratio")
    assert abs(ratio.value - 1) < 4 * ratio.sigma < 0.02
