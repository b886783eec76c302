"""The structure of a raft's flats: where each part lies, in which bands it shows, and at every size alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from calibrant.files.fits import read
from calibrant.simulate import flat_structure as parts_of
from calibrant.simulate.camera import load
from calibrant.simulate.flat_structure import Flats, Grid, amplitudes, flat
from calibrant.simulate.raft import make_sensor, simulate
from calibrant.simulate.raft_plan import Counts

COMCAM = load("comcam")
SMALL = COMCAM.size("small")
SHAPE = COMCAM.shape(SMALL)


@pytest.fixture(scope="module")
def sensors():
    return [make_sensor(COMCAM, SMALL, number, 3) for number in range(9)]


def rng(number=0):
    return np.random.default_rng((1, number))


def grid(number=4, shape=SHAPE):
    return Grid(shape, COMCAM.extent, COMCAM.centre(number))


def binned(plane, factor):
    rows, cols = plane.shape
    return plane.reshape(rows // factor, factor, cols // factor, factor).mean(axis=(1, 3))


def test_vignetting_runs_over_the_detectors(sensors):
    whole = [sensor.parts["vignetting"] for sensor in sensors]
    gap = 1.0 - whole[3][144, -1] / whole[4][144, 0]
    assert abs(gap) < 0.004 < 1.0 - whole[2].min()  # no step between neighbours, a loss in the corners
    corner = sensors[0].grid.raft()[0][0, 0], sensors[0].grid.raft()[1][0, 0]
    radius2 = ((corner[0] + 6.0) ** 2 + (corner[1] - 4.0) ** 2) / 89.0**2
    assert whole[0][0, 0] == pytest.approx(1 - 0.07 * (0.4 * radius2 + 0.6 * radius2**2), abs=1e-6)
    assert max(plane.max() for plane in whole) == pytest.approx(1.0, abs=1e-5)


def test_a_speck_shadows_all_detectors_below_it():
    epoch = COMCAM.epochs[0]
    speck = (0.0, COMCAM.pitch / 2, 6.0, 0.05)  # between the detectors 4 and 5
    left, right = (parts_of.dust(grid(number), [speck], undusted(epoch)) for number in (4, 5))
    rows = slice(120, 168)
    assert left[rows, -10:].min() < 0.97 and right[rows, :10].min() < 0.97
    assert np.all(left[:, :100] == 1.0) and np.all(right[:, 200:] == 1.0)
    assert np.all(parts_of.dust(grid(0), [speck], undusted(epoch)) == 1.0)
    np.testing.assert_allclose(left[:, -8], left[::-1, -8], atol=2e-3)


def undusted(epoch):
    return epoch.model_copy(update={"dust": ()})


def test_dust_and_lamp_change_from_epoch_to_epoch_only(sensors):
    central = sensors[4].parts
    new = central["dust_2"] / central["dust_1"]
    row, col, radius, depth = COMCAM.epochs[1].dust[1]
    y, x = sensors[4].grid.raft()
    ring = np.abs(np.hypot(y - row, x - col) / radius - 0.7) < 0.1
    assert np.mean(new[ring]) == pytest.approx(1.0 - depth, abs=0.005)
    assert np.all(central["lamp_1"] == 1.0)
    tilt = sensors[5].parts["lamp_2"].mean() - sensors[3].parts["lamp_2"].mean()
    assert tilt == pytest.approx(-0.008 * 2 * COMCAM.pitch / 100, rel=1e-3)


def test_tree_rings_are_circles_about_a_point_beyond_a_corner():
    found = parts_of.tree_rings(grid(), (2.0, 6.0), rng())
    assert found.mean(dtype=float) == pytest.approx(0.0, abs=1e-5)
    assert found.std(dtype=float) == pytest.approx(1.0, abs=1e-5)
    draws = rng()
    corner = draws.choice([-1.0, 1.0], 2) * (np.array(COMCAM.extent) / 2 + draws.uniform(2.0, 9.0, 2))
    y, x = grid().own()
    ring = np.round(np.hypot(y - corner[0], x - corner[1]) / 0.1).astype(int)
    count = np.bincount(ring.ravel())
    mean = np.bincount(ring.ravel(), found.ravel()) / np.maximum(count, 1)
    assert np.std(found - mean[ring]) < 0.08


def test_edges_fall_away_from_the_edge():
    found = parts_of.edges(grid(), 0.5)
    pixel = COMCAM.extent[1] / SHAPE[1]
    assert found[144, 0] == pytest.approx(np.exp(-0.5 * pixel / 0.5), rel=1e-6)
    assert found[144, 0] / found[144, 5] == pytest.approx(np.exp(5 * pixel / 0.5), rel=1e-4)
    assert found[144, 144] < 1e-12


@pytest.mark.parametrize("part", ["tree_rings", "coating", "fringes", "edges", "vignetting", "dust_2"])
def test_larger_pixels_see_the_same_structure(part):
    small, large = (
        parts_of.parts(COMCAM, grid(4, shape), parts_of.specks(COMCAM, rng(1)), rng(2))[part]
        for shape in (SHAPE, (4 * SHAPE[0], 4 * SHAPE[1]))
    )
    assert np.corrcoef(small.ravel(), binned(large, 4).ravel())[0, 1] > 0.98


def shown(sensor, band, pattern) -> float:
    """Amplitude with which a pattern stands in the flat of a band, all other parts known."""
    without = amplitudes(COMCAM.bands[band]) | {pattern: 0.0}
    whole = flat(sensor.parts, amplitudes(COMCAM.bands[band]), 1)
    rest = flat(sensor.parts, without, 1)
    good = rest > 0.5
    values, wave = (whole / rest - 1.0)[good], sensor.parts[pattern][good]
    return float(np.sum(values * wave, dtype=float) / np.sum(wave * wave, dtype=float))


@pytest.mark.parametrize("band", list("ugrizy"))
def test_chromatic_parts_have_the_amplitudes_of_the_camera(sensors, band):
    for pattern in ("tree_rings", "coating", "fringes"):
        expected = getattr(COMCAM.bands[band], pattern)
        assert shown(sensors[2], band, pattern) == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_what_a_person_looks_for_stands_in_the_right_bands():
    bands = COMCAM.bands
    rings = [bands[name].tree_rings for name in "ugrizy"]
    assert rings == sorted(rings, reverse=True)
    assert bands["u"].coating > 2 * max(bands[name].coating for name in "grizy")
    assert [name for name in "ugrizy" if bands[name].fringes] == ["z", "y"]


def test_each_detector_has_patterns_of_its_own(sensors):
    for part in ("tree_rings", "coating", "fringes", "pixels"):
        one, other = (gaussian_filter(sensors[number].parts[part], 1.0) for number in (0, 1))
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3, part


def test_flats_are_made_when_asked_for(sensors):
    flats = Flats(sensors[0].parts, COMCAM.bands, 2)
    assert len(flats) == len(list(flats)) == 12 and "y_2" in flats and "y_3" not in flats
    assert flats["u_1"] is flats["u_1"]
    with pytest.raises(KeyError):
        flats["w_1"]
    ratio = flats["u_2"] / flats["u_1"]
    expected = sensors[0].parts["dust_2"] / sensors[0].parts["dust_1"] * sensors[0].parts["lamp_2"]
    good = flats["u_1"] > 0
    np.testing.assert_allclose(ratio[good], expected[good], rtol=1e-5)


def test_a_truth_without_flats_still_gives_them(tmp_path):
    sizes = {**COMCAM.sizes, "bare": SMALL.model_copy(update={"flats": False})}
    options = {"seed": 3, "detectors": [2], "bands": ["u", "y"], "counts": Counts(0, 0, 0, False)}
    bare = simulate(COMCAM.model_copy(update={"sizes": sizes}), tmp_path / "a", size="bare", **options)
    whole = simulate(COMCAM, tmp_path / "b", **options)
    truth, full = read(bare.truth[0]), read(whole.truth[0])
    assert not [name for name in truth.planes if name.startswith("flat_")]
    assert {"flat_u_1", "flat_u_2", "flat_y_1", "flat_y_2"} <= full.planes.keys()
    rows = truth.tables["bands"]
    for index, band in enumerate(rows["band"]):
        strength = {name: float(rows[name][index]) for name in rows if name != "band"}
        np.testing.assert_array_equal(flat(truth.planes, strength, 2), full.planes[f"flat_{band}_2"])
