"""Campaigns: shifts of edges and of structure told apart, gains, pedestals, gaps; and what must fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from calibrant.effects import _campaign_words, campaigns, stray_light
from calibrant.effects._campaign_changes import gap_table
from calibrant.effects._campaign_fit import Stack
from calibrant.effects._campaign_words import TRADES
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument.slices import Line, slice_map

ROWS, COUNT = 160, 3
SHAPE = ROWS, 16 + 24 * COUNT
LINES = {
    n + 1: Line((20.0 + 24 * n, 0.3, -4.0), (5.3, 0.08), 19.0 - 0.4 * n, 0.19, smile=(0.1, 0.0, -0.1))
    for n in range(COUNT)
}
SLICES = slice_map(LINES, SHAPE, blind=4)
ROW = np.arange(ROWS, dtype=np.float64)
U = (ROW - (ROWS - 1) / 2) / (ROWS / 2)


def lamp(gain=1.0, pedestal=0.0, structure=0.0, edge=0.0, dispersion=0.0):
    """A slit lamp with fringes; its structure, its edges and its light move on their own."""
    image = np.full(SHAPE, float(pedestal))
    for line in LINES.values():
        away = np.arange(SHAPE[1]) - np.polynomial.polynomial.polyval(U, line.centre)[:, None]
        slope = np.interp(U, (-1.0, 0.0, 1.0), line.smile)[:, None]
        at = (ROW[:, None] - slope * away - dispersion - (ROWS - 1) / 2) / (ROWS / 2)
        wavelength = np.polynomial.polynomial.polyval(at, line.wavelength)
        spectrum = 600 * (1 - 0.25 * at) * (1 + 0.1 * np.cos(2 * np.pi * 0.342 * 1e4 / wavelength))
        alpha = (away - structure) * line.scale
        waves = 1 + 0.35 * np.sin(2 * np.pi * alpha / 1.1) + 0.2 * np.sin(2 * np.pi * alpha / 0.55 + 1)
        half = line.width / 2
        lit = ndtr((away - edge + half) / 0.9) - ndtr((away - edge - half) / 0.9)
        image += gain * spectrum * waves * lit
    return image


def taken(light, seed, **facts):
    variance = np.maximum(light, 1.0) / 300 + 0.02
    values = light + np.random.default_rng(seed).normal(0, 1, light.shape) * np.sqrt(variance)
    return Frame(
        values.astype(np.float32),
        variance=variance.astype(np.float32),
        unit="adu/s",
        exposure=Exposure(**facts),
    )


SCENE = {
    "CV3": {"gain": 1.00, "pedestal": 22.0, "structure": 1.5},
    "FM": {"gain": 1.03, "pedestal": 8.0},
    "OTIS": {"gain": 0.99, "pedestal": 21.0, "structure": 0.3, "dispersion": 0.05},
}


def observed(scene, seed=1, **facts):
    return {name: taken(lamp(**truth), seed + k, **facts) for k, (name, truth) in enumerate(scene.items())}


@pytest.fixture(scope="module")
def three():
    return campaigns.measure(observed(SCENE), SLICES, reference="FM")


def value(product, name, place=""):
    return product.quantity(name, place).value


def test_structure_moved_inside_fixed_edges(three):
    assert value(three, "structure", "CV3") == pytest.approx(1.5, abs=0.05)
    assert value(three, "structure", "OTIS") == pytest.approx(0.3, abs=0.05)
    for name in ("CV3", "OTIS"):
        assert value(three, "edge", name) == pytest.approx(0.0, abs=0.03)
    assert value(three, "structure", "FM") == value(three, "edge", "FM") == 0.0


def test_gains_pedestals_and_the_shift_along_dispersion(three):
    assert value(three, "gain", "CV3") == pytest.approx(1 / 1.03, abs=0.001)
    assert value(three, "gain", "OTIS") == pytest.approx(0.99 / 1.03, abs=0.001)
    for name, truth in SCENE.items():
        assert value(three, "pedestal", name) == pytest.approx(truth["pedestal"], abs=0.3)
    assert value(three, "dispersion", "OTIS") == pytest.approx(0.05, abs=0.01)
    assert value(three, "dispersion", "CV3") == pytest.approx(0.0, abs=0.01)
    assert value(three, "phase", "OTIS") == pytest.approx(0.05 / 8.2, abs=0.0015)


def test_words_say_which_of_them_changed(three):
    told = {note.split()[0]: note for note in three.provenance.notes}
    assert told["CV3"].startswith("CV3 against FM: gain and structure and pedestal changed")
    assert "edge kept" in told["CV3"]
    assert "dispersion changed" in told["OTIS"]


def test_edges_that_move_are_not_taken_for_structure():
    """The twin: the whole image moved, and the model says that edges did, too."""
    scene = {"FM": {"pedestal": 8.0}, "CV3": {"pedestal": 8.0, "structure": 0.4, "edge": 0.4}}
    found = campaigns.measure(observed(scene, 10), SLICES)
    assert value(found, "edge", "CV3") == pytest.approx(0.4, abs=0.03)
    assert value(found, "structure", "CV3") == pytest.approx(0.4, abs=0.05)
    assert "edge and structure changed" in found.provenance.notes[0]
    only = {"FM": {"pedestal": 8.0}, "CV3": {"pedestal": 8.0, "edge": -0.3}}
    found = campaigns.measure(observed(only, 12), SLICES)
    assert value(found, "edge", "CV3") == pytest.approx(-0.3, abs=0.03)
    assert value(found, "structure", "CV3") == pytest.approx(0.0, abs=0.05)


def test_the_same_twice_is_nothing():
    found = campaigns.measure(observed({"A": {"pedestal": 8.0}, "B": {"pedestal": 8.0}}, 20), SLICES)
    assert "nothing changed" in found.provenance.notes[0]
    core = found.tables["change"]
    here = core["part"] == "core"
    assert np.all(np.abs(core["median"][here]) < 5 * core["sigma"][here])


@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_errors_are_honest(count, monkeypatch):
    """Noise makes parameters scatter as much as is said; their means lie within what trades."""
    truth = {"gain": 1.02, "edge": 0.0, "structure": 0.3, "dispersion": 0.0, "pedestal_change": 12.0}
    scene = {"A": {"pedestal": 8.0}, "B": {"gain": 1.02, "pedestal": 20.0, "structure": 0.3}}
    monkeypatch.setattr(_campaign_words, "TRADES", dict.fromkeys(TRADES, 0.0))
    tables = [campaigns.measure(observed(scene, 30 + 2 * k), SLICES).tables["model"] for k in range(count)]
    here, wide = tables[0]["campaign"] == "B", max(2.5 / np.sqrt(2 * COUNT * (count - 1)), 0.1)
    for name, true in truth.items():
        values, sigma = (np.array([t[what][here] for t in tables]) for what in (name, f"{name}_sigma"))
        scatter = np.sqrt((values.var(axis=0, ddof=1) / np.median(sigma**2, axis=0)).mean())
        if name in ("gain", "structure", "dispersion"):
            assert scatter == pytest.approx(1.0, abs=wide), name
        else:  # what is smooth holds edges
            assert scatter < 1.2 + wide, name
        trade = TRADES["gain"] * 600 if name == "pedestal_change" else TRADES.get(name, 0.0)
        allowed = 3 * np.hypot(trade, sigma[0] / np.sqrt(count))
        off = values.mean(axis=0) - true
        assert np.all(np.abs(off) < allowed), name
        assert np.all(np.abs(off + 5 * np.hypot(trade, sigma[0])) > allowed), name  # the twin


def test_gaps_are_in_order_and_rid_of_what_slices_spill(three):
    gaps = three.tables["gaps"]
    for gap in set(gaps["gap"]):
        level = {n: gaps["level"][(gaps["gap"] == gap) & (gaps["campaign"] == n)][0] for n in SCENE}
        assert level["FM"] < min(level["CV3"], level["OTIS"])
    between = np.isin(gaps["gap"], (2, 3))
    for name, truth in SCENE.items():
        here = between & (gaps["campaign"] == name)
        assert np.all(gaps["level"][here] > truth["pedestal"] + 2)
        assert gaps["background"][here] == pytest.approx(truth["pedestal"], abs=1.0)
    assert np.all(gaps["sigma"] > 0)


def test_changes_of_edges_and_cores(three):
    """Structure that moves changes edges most, and pedestals hide a part of the gain in the cores."""
    change, own = three.tables["change"], three.tables["change"]["campaign"] == "CV3"
    wide = {p: (change["high"] - change["low"])[own & (change["part"] == p)].mean() for p in ("core", "edge")}
    assert wide["edge"] > 10
    true = 100 * (lamp(**SCENE["OTIS"]) / lamp(**SCENE["FM"]) - 1)
    plane = three.planes["change_OTIS"]
    assert plane.shape == SHAPE
    pulls = ((plane - true) / three.planes["sigma_OTIS"])[SLICES.ids > 0]
    assert np.nanstd(pulls) == pytest.approx(1.0, abs=0.05)
    inside = np.nanmedian(plane[SLICES.ids > 0])
    assert -3.9 < inside < 0


def test_removing_stray_light_raises_the_change_as_pedestals_hide_gains():
    """As the notebook saw, and the model says why: the gain fell by 3.9 %, the pedestal rose by 13."""
    scene = {"FM": {"gain": 1.03, "pedestal": 8.0}, "OTIS": {"gain": 0.99, "pedestal": 21.0}}
    frames = observed(scene, 90)
    clean = {n: stray_light.apply(f, stray_light.measure(f, SLICES)) for n, f in frames.items()}
    before, after = (campaigns.measure(given, SLICES) for given in (frames, clean))
    core = [value(found, "core_change", "OTIS") for found in (before, after)]
    assert core[1] < core[0] - 1 and core[1] == pytest.approx(-3.9, abs=0.4)
    assert "gain and pedestal changed" in before.provenance.notes[0]
    assert value(before, "pedestal_change", "OTIS") == pytest.approx(13.0, abs=0.3)
    assert value(before, "gain", "OTIS") == pytest.approx(value(after, "gain", "OTIS"), abs=0.002)


def test_ratios_near_zero_are_masked_and_said():
    frames = observed({"A": {"pedestal": 0.0}, "B": {"pedestal": 5.0}}, 50)
    found = campaigns.measure(frames, SLICES)
    dark = SLICES.gaps(4)
    assert np.isnan(found.planes["change_B"][dark]).mean() > 0.9
    low = {
        name: replace(f, data=np.where(SLICES.ids == 2, f.data * 1e-4, f.data).astype("f4"))
        for name, f in frames.items()
    }
    found = campaigns.measure(low, SLICES)
    notes = " ".join(found.provenance.notes)
    assert "slice 2: no light in A" in notes
    assert "unstable" in notes


def test_a_slice_of_nan_and_hot_gap_pixels_change_nothing():
    frames = observed(SCENE, 60)
    hurt = {}
    rng = np.random.default_rng(5)
    for name, frame in frames.items():
        data = frame.data.copy()
        data[SLICES.ids == 3] = np.nan
        hot = (rng.random(SHAPE) < 0.005) & (SLICES.ids != 3)
        data[hot] += 3000
        dq = np.zeros(SHAPE, np.uint32)
        dq[40] = DQ.DO_NOT_USE
        hurt[name] = replace(frame, data=data, dq=dq)
    found = campaigns.measure(hurt, SLICES, reference="FM")
    assert value(found, "structure", "CV3") == pytest.approx(1.5, abs=0.05)
    assert value(found, "edge", "CV3") == pytest.approx(0.0, abs=0.03)
    assert any("slice 3" in note for note in found.provenance.notes)


def test_another_direction_of_dispersion_gives_the_same(three):
    turned = {
        name: replace(f, data=f.data.T.copy(), variance=f.variance.T.copy())
        for name, f in observed(SCENE).items()
    }
    found = campaigns.measure(turned, SLICES.transposed(), reference="FM")
    assert value(found, "structure", "CV3") == pytest.approx(value(three, "structure", "CV3"), abs=1e-4)
    assert found.planes["change_CV3"].shape == SHAPE[::-1]


def test_frames_without_variance_and_maps_without_coordinates():
    frames = {name: replace(frame, variance=None) for name, frame in observed(SCENE).items()}
    bare = replace(SLICES, alpha=None, beta=None, wavelength=None)
    found = campaigns.measure(frames, bare, reference="FM")
    assert value(found, "structure", "CV3") == pytest.approx(1.5, abs=0.05)


def test_epochs_make_a_trend():
    day = 86_400_000_000
    scene = {f"E{n}": {"gain": 1 - 0.01 * n, "pedestal": 8.0} for n in range(3)}
    frames = {
        name: replace(frame, exposure=Exposure(start=10 * n * day))
        for n, (name, frame) in enumerate(observed(scene, 70).items())
    }
    found = campaigns.measure(frames, SLICES)
    drift = found.quantity("gain_drift")
    assert drift.value == pytest.approx(-0.001, abs=5 * drift.sigma)
    assert next(iter(found.tables["trend"]["time"])).startswith("1970-01-01")


def test_wavelengths_that_turn_back_are_refused_and_descending_ones_are_not():
    frames = observed({"A": {}, "B": {"gain": 1.02}}, 80)
    wavelength = SLICES.wavelength.copy()
    wavelength[60:100][SLICES.ids[60:100] == 2] = wavelength[100:60:-1][SLICES.ids[60:100] == 2]
    with pytest.raises(SelectionError, match="slice 2 of slice map"):
        campaigns.measure(frames, replace(SLICES, wavelength=wavelength))
    upside = {
        name: replace(f, data=f.data[::-1].copy(), variance=f.variance[::-1].copy())
        for name, f in frames.items()
    }
    planes = {k: getattr(SLICES, k)[::-1] for k in ("ids", "alpha", "beta", "wavelength", "reference")}
    planes["wavelength"] = np.where(planes["ids"] > 0, planes["wavelength"], 0.0)
    found = campaigns.measure(upside, replace(SLICES, **planes))
    assert value(found, "gain", "B") == pytest.approx(1.02, abs=0.001)


def test_what_cannot_be_compared_is_refused():
    frames = observed({"A": {}, "B": {}}, 80)
    with pytest.raises(SelectionError, match="two campaigns"):
        campaigns.measure({"A": frames["A"]}, SLICES)
    with pytest.raises(OptionError, match="no such campaign"):
        campaigns.measure(frames, SLICES, reference="C")
    with pytest.raises(OptionError, match="positive"):
        campaigns.measure(frames, SLICES, reach=0)
    with pytest.raises(UnitError):
        campaigns.measure({**frames, "B": replace(frames["B"], unit="adu")}, SLICES)
    with pytest.raises(ShapeError):
        campaigns.measure(frames, slice_map(LINES, (ROWS, SHAPE[1] + 1)))
    other = replace(frames["B"], exposure=Exposure(mode="fast"))
    first = replace(frames["A"], exposure=Exposure(mode="slow"))
    with pytest.raises(SelectionError, match="differ in mode"):
        campaigns.measure({"A": first, "B": other}, SLICES)
    dark = {name: replace(f, data=np.zeros(SHAPE, np.float32)) for name, f in frames.items()}
    with pytest.raises(SelectionError, match="no slice has light"):
        campaigns.measure(dark, SLICES)


def test_gaps_between_slices_of_another_band_have_no_background():
    """What is not mapped spills, too, and nobody knows how much."""
    ids = np.where(SLICES.ids == COUNT, -COUNT, SLICES.ids)
    image = np.full((1, *SHAPE), 5.0)
    stack = Stack(image, np.ones(image.shape), np.ones(image.shape, bool), ("A",))
    table = gap_table(stack, replace(SLICES, ids=ids), np.zeros(image.shape))
    assert np.isfinite(table["level"]).all() and np.isfinite(table["background"][:-1]).all()
    assert np.isnan(table["background"][-1]) and table["gap"][-1] == COUNT + 1
