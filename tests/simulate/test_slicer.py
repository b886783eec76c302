"""Scenes of image slicers: what is put in is there, and the same seed gives the same image."""

import numpy as np
import pytest

from calibrant.errors import OptionError, SelectionError
from calibrant.simulate._slicer_fringes import Cavity, attenuation, depths, period_of, transmission
from calibrant.simulate._slicer_scene import parabola
from calibrant.simulate.slicer import Place, Scene, image, make, truth
from calibrant.simulate.slicer_files import simulate

DEMO = "slicer-demo"


def rng():
    return np.random.default_rng(1)


@pytest.fixture(scope="module")
def demo():
    return Scene.load(DEMO, bad=0.0)


def test_transmission_is_that_of_a_plate_where_nothing_blurs_it():
    wavelength = np.linspace(5.0, 5.1, 500)
    step, none = np.full(500, 1e-9), np.zeros(500)
    found = transmission(Cavity(0.17096, 0.1, 0.06), wavelength, step, none)
    factor = 4 * 0.06 / (1 - 0.06) ** 2
    airy = 1 / (1 + factor * np.sin(np.pi * (2 * 0.17096 / (wavelength * 1e-4) - 0.1)) ** 2)
    np.testing.assert_allclose(found, airy, atol=1e-7)


def test_recorded_transmission_is_that_of_a_plate_convolved_with_line_spread_and_pixel():
    step, sigma, fine = 9.0e-4, 0.75, 50
    rows = np.arange(-20, 60, 1 / fine)
    cavity = Cavity(0.17096, 0.0, 0.06)
    plain = transmission(cavity, 5.3 + step * rows, np.full(rows.size, 1e-9), np.zeros(rows.size))
    away = np.arange(-6 * fine, 6 * fine + 1) / fine
    kernel = np.exp(-0.5 * (away / sigma) ** 2)
    blurred = np.convolve(np.convolve(plain, kernel / kernel.sum(), "same"), np.ones(fine) / fine, "same")
    whole = slice(20 * fine, 60 * fine - 10 * fine)
    quick = transmission(cavity, 5.3 + step * rows, np.full(rows.size, step), np.full(rows.size, sigma))
    # Pixels of an even number of samples lie half a sample aside.
    assert np.abs(blurred - quick)[whole].max() < 2e-3
    assert np.abs(blurred - plain)[whole].max() > 1e-2


def test_minima_of_the_two_lamps_are_those_seen_in_the_instrument():
    """The notebook saw the internal lamp raw, and the extended one through its filter of three rows."""
    scene = Scene.load("miri-mrs")
    for source, lowest, kept in (("internal", 0.795, False), ("extended-800K", 0.912, True)):
        lamp = scene.source(source)
        u = np.array([-0.33])
        period = period_of(scene.thickness, np.array([5.2]), np.array([8.8e-4]))
        sigma = scene.resolution(111).width(np.array([5.2])) / 2.3548 / 8.8e-4
        intrinsic, observed = depths(parabola(lamp.reflectivity, u), period, sigma)
        filtered = np.cos(np.pi / period[0]) ** 2 if kept else 1.0
        assert 1 - observed[0] * filtered == pytest.approx(lowest, abs=0.004)
        assert intrinsic[0] > observed[0]
        assert attenuation(1, period, sigma)[0] == pytest.approx(0.86, abs=0.02)
    assert parabola(lamp.reflectivity, u)[0] == pytest.approx(0.030, abs=0.0005)


def test_the_middle_of_a_slice_has_the_level_of_its_lamp(demo):
    made = make(demo, "extended-800K", "FM", rng())
    inside = demo.slices.ids > 0
    ratio = make(demo, "internal", "FM", rng()).truth.planes["light"][inside].mean()
    assert 15 < ratio / made.truth.planes["light"][inside].mean() < 25
    assert made.frame.variance.shape == made.frame.data.shape == demo.slices.shape


def test_structure_moves_and_edges_stay(demo):
    changes = {"FM": {"gain": 1.0}, "CV3": {"gain": 1.0, "structure_shift": 1.5}}
    scene = Scene.load(DEMO, bad=0.0, campaigns=changes)
    one, other = (truth(scene, "internal", name) for name in ("FM", "CV3"))
    np.testing.assert_array_equal(one.planes["illumination"], other.planes["illumination"])
    assert np.abs(one.planes["structure"] - other.planes["structure"]).max() > 0.3
    moved = Scene.load(DEMO, bad=0.0, campaigns={"FM": {"edge_shift": 0.5}})
    assert (
        np.abs(truth(moved, "internal", "FM").planes["illumination"] - one.planes["illumination"]).max() > 0.1
    )


def test_a_pedestal_lies_everywhere_but_on_blind_pixels(demo):
    for campaign, level in (("FM", 8.0), ("CV3", 22.0)):
        planes = truth(demo, "internal", campaign).planes
        assert planes["stray"].min() >= level
        assert not planes["clean"][demo.slices.reference].any()
    assert truth(demo, "background", "CV3").planes["stray"].max() < 1.0


def test_noise_is_what_the_variance_says(demo):
    made = make(demo, "internal", "FM", rng())
    pulls = (made.frame.data - made.truth.planes["clean"]) / np.sqrt(made.frame.variance)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.01)
    twin = pulls / np.sqrt(0.9)
    assert np.std(twin) != pytest.approx(1.0, abs=0.01)


def test_a_point_stands_where_it_is_put(demo):
    for alpha in (-0.8, 0.8):
        made = truth(demo, "point", "FM", Place(alpha, demo.lines[4].beta))
        light = demo.slices.upright(made.planes["light"])
        across = demo.slices.upright(np.where(demo.slices.mask(4), demo.slices.alpha, np.nan))
        row = 250
        brightest = np.nanargmax(np.where(np.isfinite(across[row]), light[row], np.nan))
        assert across[row][brightest] == pytest.approx(alpha, abs=0.2)


def test_bad_pixels_are_flagged():
    scene = Scene.load(DEMO, bad=0.01, stripes=1)
    frame = image(scene, "internal", "FM", rng())
    assert np.isnan(frame.data).any()
    assert (frame.dq[np.isnan(frame.data)] & 1).all()


def test_unknown_names_are_refused(demo):
    with pytest.raises(SelectionError, match="no such source"):
        image(demo, "moon", "FM", rng())
    with pytest.raises(SelectionError, match="no such campaign"):
        image(demo, "internal", "CV9", rng())
    with pytest.raises(OptionError, match="no such scene"):
        Scene.load("nothing")


def test_a_file_does_not_depend_on_what_else_is_taken(tmp_path, demo):
    one = simulate(tmp_path / "a", demo, sources=("internal",), campaigns=("FM",))
    two = simulate(tmp_path / "b", demo, sources=("background", "internal"), campaigns=("CV3", "FM"))
    same = next(path for path in two.raw if path.name == one.raw[0].name)
    assert same.read_bytes()[-1_000_000:] == one.raw[0].read_bytes()[-1_000_000:]
    assert [path.name for path in one.truth] == [path.name for path in one.raw]


def test_an_etalon_has_the_lines_of_its_table(demo):
    centres = [demo.lines[4].wavelength[0] + part for part in (-0.02, 0.0, 0.011)]
    scene = demo.with_lines("etalon", centres, [1.0, 2.0, 0.5])
    planes = truth(scene, "etalon", "FM").planes
    light = demo.slices.upright(planes["light"] / planes["fringes"])
    middle = round(np.polynomial.polynomial.polyval(0.0, demo.lines[4].centre))
    spectrum = light[:, middle]
    wave = demo.slices.upright(demo.slices.wavelength)[:, middle]
    for centre, height in zip(centres, (1.0, 2.0, 0.5), strict=True):
        near = np.abs(wave - centre) < 0.004
        assert np.sum(wave[near] * (spectrum[near] - spectrum.min())) / np.sum(
            spectrum[near] - spectrum.min()
        ) == pytest.approx(centre, abs=2e-4)
        assert spectrum[near].max() / 5.0 == pytest.approx(height, rel=0.2)
    with pytest.raises(OptionError, match="as many heights"):
        demo.with_lines("etalon", [5.0], [])
    with pytest.raises(SelectionError, match="no such source"):
        demo.with_lines("moon", [5.0], [1.0])
