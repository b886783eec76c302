"""Fringes: truth found within its sigma, observed and intrinsic told apart, and removed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import fringe, row_parity
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.frame import Frame

from .slicer_fringes import RESOLUTION, SHAPE, SLICES, Lamp

LAMP = Lamp()
COUNTS = 6


@pytest.fixture(scope="module")
def found():
    return [
        fringe.measure(LAMP.taken(np.random.default_rng(k)), SLICES, resolution=RESOLUTION)
        for k in range(COUNTS)
    ]


def columns_of(products, table, *names):
    return [np.concatenate([p.tables[table][name] for p in products]) for name in names]


def test_thickness_and_phase_of_each_column_are_found_within_their_errors(found):
    col, d, sigma = columns_of(found, "columns", "col", "D", "D_sigma")
    pull = (d - LAMP.thickness[col]) / sigma
    assert abs(pull.mean()) < 0.3 and 0.85 < pull.std() < 1.15
    assert np.median(sigma) < 0.05  # um, of 1709.6
    pivot = found[0].quantity("pivot").value
    phase, sigma = columns_of(found, "columns", "phase", "phase_sigma")
    away = phase - 2 * LAMP.thickness[col] * 1e-4 * pivot
    pull = (away - np.round(away)) / sigma
    assert abs(pull.mean()) < 0.3 and 0.85 < pull.std() < 1.15


def test_reflectivity_of_each_column_and_wavelength_is_found_within_its_error(found):
    wave, r, sigma = columns_of(found, "points", "wavelength", "R", "R_sigma")
    pull = (r - LAMP.reflectivity(wave)) / sigma
    assert abs(pull.mean()) < 0.3 and 0.85 < pull.std() < 1.15
    assert found[0].quantity("chi2").value == pytest.approx(1, abs=0.1)


def test_what_was_subtracted_before_has_its_part_in_the_errors(found):
    """A level of 1 % of the light that is left, and said, is within errors of depths; unsaid, it is not."""
    frame = LAMP.taken(np.random.default_rng(0))
    light = float(np.nanmedian(np.asarray(frame.data)[SLICES.ids > 0]))
    left = replace(frame, data=frame.data + np.float32(0.01 * light))
    told = replace(left, systematic=np.full(frame.shape, (0.01 * light) ** 2, np.float32))
    true = found[0].quantity("depth").value
    unsaid, said = (fringe.measure(f, SLICES, resolution=RESOLUTION).quantity("depth") for f in (left, told))
    assert unsaid.value == pytest.approx(0.99 * true, rel=3e-3) and true - unsaid.value > 5 * unsaid.sigma
    assert true - said.value < 1.5 * said.sigma < 0.03 * true


def test_one_column_is_kept_row_by_row_with_continuum_fit_and_peaks(found):
    table = found[0].tables["example"]
    assert len(set(table["col"])) == len(set(table["slice"])) == 1
    pull = (table["value"] - table["model"]) / table["sigma"]
    assert 0.9 < pull.std() < 1.1 and table["used"].mean() > 0.99
    peak, level = table["peak"], table["continuum"] / table["model"]
    assert level.min() > 0.999 and level[peak].max() < 1.02 < level.max()
    period = np.diff(table["row"][peak]).mean()
    assert period == pytest.approx(np.mean(found[0].tables["fringes"]["period"]), rel=0.02)


def test_a_wrong_resolution_is_noticed():
    """The twin: with lines half as wide as they are, the reflectivity is far off in units of its sigma."""
    made = fringe.measure(LAMP.taken(np.random.default_rng(9)), SLICES, resolution=2 * RESOLUTION)
    wave, r, sigma = columns_of([made], "points", "wavelength", "R", "R_sigma")
    assert np.median((r - LAMP.reflectivity(wave)) / sigma) < -3


def test_observed_depth_is_what_pixels_show_and_intrinsic_that_of_the_plate(found):
    table = found[0].tables["fringes"]
    for k in range(2, 14, 3):
        true = LAMP.depth(table["slice"][k], table["row"][k], table["period"][k])
        assert abs(table["depth"][k] - true) < max(3 * table["depth_sigma"][k], 0.004 * true)
        r = LAMP.reflectivity(table["wavelength"][k])
        plate = 1 - ((1 - r) / (1 + r)) ** 2
        assert abs(table["depth_intrinsic"][k] - plate) < 4 * table["depth_intrinsic_sigma"][k]
        assert table["depth_intrinsic"][k] > 1.05 * table["depth"][k]
        assert table["F"][k] == pytest.approx(4 * r / (1 - r) ** 2, rel=0.02)
        assert table["visibility"][k] == pytest.approx(table["depth"][k] / (2 - table["depth"][k]), rel=1e-3)


def test_without_a_resolution_only_the_observed_depth_is_known(found):
    made = fringe.measure(LAMP.taken(np.random.default_rng(0)), SLICES)
    assert made.tables["fringes"]["depth"] == pytest.approx(found[0].tables["fringes"]["depth"], rel=5e-3)
    assert np.isnan(made.tables["fringes"]["depth_intrinsic"]).all()
    assert any("resolution" in note for note in made.provenance.notes)


def test_weak_fringes_of_a_weak_source(found):
    weak = Lamp(level=30.0, r=0.023, rise=0.012)
    products = [
        fringe.measure(weak.taken(np.random.default_rng(k)), SLICES, resolution=RESOLUTION) for k in range(3)
    ]
    wave, r, sigma = columns_of(products, "points", "wavelength", "R", "R_sigma")
    pull = (r - weak.reflectivity(wave)) / sigma
    assert abs(pull.mean()) < 0.3 and 0.85 < pull.std() < 1.15
    assert abs(products[0].quantity("D").value - found[0].quantity("D").value) < 1


def test_local_phases_are_those_of_the_wavelengths(found):
    table = found[0].tables["points"]
    away = table["phase"] - 2 * LAMP.thickness[table["col"]] / table["wavelength"]
    pull = (away - np.round(away)) / table["phase_sigma"]
    assert 0.8 < pull.std() < 1.2


def test_parity_changes_depths_by_less_than_two_per_cent(found):
    sign = (1.0 - 2.0 * (np.arange(SHAPE[0]) % 2))[:, None]
    frame = LAMP.taken(np.random.default_rng(0))
    odd = replace(frame, data=(frame.data * (1 + 0.01 * sign)).astype(np.float32))
    made = fringe.measure(odd, SLICES, resolution=RESOLUTION)
    assert made.tables["fringes"]["depth"] == pytest.approx(found[0].tables["fringes"]["depth"], rel=0.02)
    filtered = fringe.measure(row_parity.binomial(frame), SLICES, resolution=RESOLUTION)
    assert (
        filtered.tables["fringes"]["depth"] < 0.95 * found[0].tables["fringes"]["depth"]
    ).all()  # its flaw


def test_hot_pixels_and_holes_do_no_harm(found):
    rng = np.random.default_rng(0)
    frame = LAMP.taken(rng)
    data = frame.data.copy()
    data[rng.random(SHAPE) < 0.003] += 300
    data[rng.random(SHAPE) < 0.01] = np.nan
    data[200:215] = np.nan
    made = fringe.measure(replace(frame, data=data), SLICES, resolution=RESOLUTION)
    one, other = (p.tables["fringes"] for p in (made, found[0]))
    assert np.all(np.abs(one["R"] - other["R"]) < 4 * one["R_sigma"])


def test_a_frame_without_variance_has_errors_from_its_scatter(found):
    made = fringe.measure(
        replace(LAMP.taken(np.random.default_rng(0)), variance=None), SLICES, resolution=RESOLUTION
    )
    assert np.median(
        made.tables["points"]["R_sigma"] / found[0].tables["points"]["R_sigma"]
    ) == pytest.approx(1, abs=0.15)


def test_dispersion_along_columns_and_falling_wavelengths_give_the_same(found):
    frame = LAMP.taken(np.random.default_rng(0))
    turned = replace(frame, data=frame.data[::-1].T.copy(), variance=frame.variance[::-1].T.copy())
    upside = replace(
        SLICES, **{k: getattr(SLICES, k)[::-1] for k in ("ids", "alpha", "beta", "wavelength", "reference")}
    )
    made = fringe.measure(turned, upside.transposed(), resolution=RESOLUTION)
    assert made.quantity("D").value == pytest.approx(found[0].quantity("D").value, abs=1e-3)
    assert made.quantity("depth").value == pytest.approx(found[0].quantity("depth").value, rel=1e-3)


# --- removing them ---


def spread_of_fringes(frame):
    made = fringe.measure(frame, SLICES, thickness=1709.6, resolution=RESOLUTION)
    return made.quantity("depth").value


def test_the_flat_removes_the_fringes_and_carries_its_error(found):
    frame = LAMP.taken(np.random.default_rng(100))
    clean = fringe.apply(frame, found[0])
    inside = found[0].planes["dq"] + (SLICES.ids == 0) == 0
    truth = LAMP.image / found[0].data
    assert spread_of_fringes(clean) < 0.02 * found[0].quantity("depth").value
    assert clean.systematic[inside].mean() > 0 and clean.did("fringe")
    ratio = ((clean.data - truth) ** 2 / clean.variance)[inside]
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    transmission = (LAMP.image / found[0].planes["continuum"])[inside]
    assert 0.995 < np.quantile(transmission, 0.999) < 1.01
    with pytest.raises(HistoryError):
        fringe.apply(clean, found[0])


def test_what_a_flat_left_is_removed_and_nothing_else():
    flat = fringe.measure(Lamp(r=0.05).taken(np.random.default_rng(1)), SLICES, resolution=RESOLUTION)
    once = fringe.apply(LAMP.taken(np.random.default_rng(2)), flat)
    twice, _ = fringe.residual(once, SLICES, thickness=1709.6)
    assert spread_of_fringes(twice) < 0.3 * spread_of_fringes(once)
    assert twice.did("fringe_residual")
    with pytest.raises(HistoryError):
        fringe.residual(twice, SLICES)
    rng = np.random.default_rng(3)
    even = Frame((600 + rng.normal(0, 0.6, SHAPE)).astype(np.float32), np.full(SHAPE, 0.36, np.float32))
    _, none = fringe.residual(even, SLICES, thickness=1709.6)
    assert np.mean(none.data == 1) > 0.95 and "no fringes left" in none.provenance.notes[-1]


# --- what cannot be ---


def test_what_cannot_be_is_refused_or_left_out_and_said():
    frame = LAMP.taken(np.random.default_rng(4))
    with pytest.raises(OptionError, match="no meaning"):
        fringe.measure(frame, SLICES, points=0)
    with pytest.raises(OptionError, match="wavelengths"):
        fringe.measure(frame, replace(SLICES, wavelength=None))
    with pytest.raises(OptionError, match="thickness"):
        fringe.measure(frame, SLICES, thickness=(3.0, 1.0))
    with pytest.raises(OptionError, match="resolution"):
        fringe.measure(frame, SLICES, resolution=-1.0)
    with pytest.raises(ShapeError, match="slice map"):
        fringe.measure(Frame(np.ones((3, 4), np.float32)), SLICES)
    even = np.random.default_rng(5).normal(600, 0.6, SHAPE).astype(np.float32)
    with pytest.raises(SelectionError, match="stand out"):
        fringe.measure(replace(frame, data=even), SLICES)
    with pytest.raises(SelectionError, match="good pixels"):
        fringe.measure(replace(frame, data=np.full(SHAPE, np.nan, np.float32)), SLICES)
    with pytest.raises(SelectionError, match="enough fringes"):
        fringe.measure(frame, SLICES, thickness=20.0)
    data = frame.data.copy()
    data[SLICES.ids == 1] = np.nan
    made = fringe.measure(replace(frame, data=data), SLICES)
    assert set(made.tables["columns"]["slice"]) == {2} and "slice 1" in made.provenance.notes[0]
    wavelength = SLICES.wavelength.copy()
    wavelength[::40][SLICES.ids[::40] == 2] = 5.0
    made = fringe.measure(frame, replace(SLICES, wavelength=wavelength))
    assert set(made.tables["columns"]["slice"]) == {1} and "turn back" in made.provenance.notes[0]
    with pytest.raises(SelectionError, match="not fringes"):
        fringe.apply(frame, replace(made, kind="flat"))


# --- as published ---


def test_published_peaks_and_continuum():
    rows = np.arange(400)
    wave = 10 + np.cos(2 * np.pi * rows / 8.0)
    values, peaks, continuum = fringe.norm_fringe(wave, thres=0, min_dist=6)
    assert np.array_equal(peaks, np.arange(8, 400, 8)) and np.array_equal(values, wave)
    assert continuum == pytest.approx(11.0)
    assert np.array_equal(fringe.find_peaks(np.array([0, 1, 3, 1, 2, 0, 9, 9, 9, 0.0]), 0.0, 1), [2, 4, 7])
    assert np.array_equal(fringe.find_peaks(np.array([0, 1, 3, 1, 2, 0, 0, 0, 5, 0.0]), 0.0, 2), [2, 8])
    assert np.array_equal(fringe.find_peaks(np.array([0, 5, 4, 8, 0], np.uint8), 0.0), [1, 3])


def test_published_function_where_it_failed():
    assert fringe.find_peaks(np.ones(50)).size == 0  # never ended
    _, peaks, continuum = fringe.norm_fringe(np.ones(50))
    assert peaks.size == 0 and np.isnan(continuum).all()  # divided by 0
    few = np.zeros(40)
    few[[10, 20, 30]] = 1.0, 2.0, 3.0
    few += 0.5
    _, peaks, continuum = fringe.norm_fringe(few, k=3)  # scipy refused fewer than k + 1
    assert peaks.size == 3 and continuum[20] == pytest.approx(2.5)
    _, peaks, continuum = fringe.norm_fringe(np.r_[np.ones(5), 2.0, np.ones(5)])
    assert peaks.size == 1 and (continuum == 2).all()
    with pytest.raises(OptionError, match="spline"):
        fringe.norm_fringe(few, k=9)
    with pytest.raises(OptionError, match="peaks"):
        fringe.find_peaks(few, thres=2)
    with pytest.raises(ShapeError):
        fringe.find_peaks(np.ones((3, 3)))


def test_a_map_that_does_not_belong_to_the_light_is_asked_about(found):
    assert not any("far from the light" in note for one in found for note in one.provenance.notes)
    wrong = replace(SLICES, wavelength=SLICES.wavelength * 1.1)
    made = fringe.measure(LAMP.taken(np.random.default_rng(0)), wrong, thickness=1500.0)
    assert any("far from the light" in note for note in made.provenance.notes)
