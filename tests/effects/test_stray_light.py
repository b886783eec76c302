"""Stray light between slices: exact weights, the published mode, rows, spill, errors against truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import convolve2d

from calibrant.effects import _stray_wings as wings
from calibrant.effects import stray_light
from calibrant.effects._stray_rows import RowKernel, spread
from calibrant.effects._stray_shepard import Shepard, as_published
from calibrant.effects._stray_wings import edges
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import DQ, Frame
from calibrant.instrument.slices import Line, slice_map
from calibrant.simulate.slicer import Scene, make

ROWS, COLS = 256, 260
LINES = {n + 1: Line((24.0 + 23 * n, 0.3, -3.5), (5.3, 0.44), 19.0, 0.19) for n in range(9)}
SLICES = slice_map(LINES, (ROWS, COLS), blind=4)
INSIDE = SLICES.ids > 0
FINE = 5  # parts of a pixel: edges lie between pixels


def lamp():
    """A lamp with structure; (rows, FINE * cols)."""
    u = (np.arange(ROWS) - (ROWS - 1) / 2) / (ROWS / 2)
    x = (np.arange(COLS * FINE) + 0.5) / FINE - 0.5
    made = np.zeros((ROWS, x.size))
    for line in LINES.values():
        away = x - np.polynomial.polynomial.polyval(u, line.centre)[:, None]
        made += (np.abs(away) < line.width / 2) * (1 + 0.35 * np.sin(2 * np.pi * away * line.scale / 1.1))
    return 600 * made


WIDE = np.hypot(0.9, 12**-0.5)  # with the pixel


def seen(light, blur=0.9):
    return gaussian_filter1d(light, blur * FINE, axis=1).reshape(ROWS, COLS, FINE).mean(axis=2)


LAMP = lamp()


def stray(pedestal=22.0):
    rows, cols = np.mgrid[:ROWS, :COLS]
    return pedestal + 15 * np.exp(-0.5 * (((rows - 100) / 90) ** 2 + ((cols - 140) / 90) ** 2))


def taken(light, under, rng, noise=0.3):
    values = seen(light) + under + rng.normal(0, noise, under.shape)
    return Frame(values.astype(np.float32), variance=np.full(under.shape, noise**2, np.float32), unit="adu/s")


# --- Shepard's weights ---


@pytest.mark.parametrize(("radius", "power", "disc"), [(50, 1, False), (50, 1, True), (21, 2, True)])
def test_shepard_is_the_direct_sum(radius, power, disc):
    rng = np.random.default_rng(1)
    values, mask = rng.normal(10, 3, (70, 60)), rng.random((70, 60)) < 0.2
    variance = rng.uniform(0.5, 2, mask.shape)
    shepard = Shepard(mask.shape, radius, power, disc)
    made, support, error = shepard(values, mask, variance)
    kernel = shepard.kernel
    sums = [convolve2d(plane, k, "same") for plane, k in
            ((values * mask, kernel), (mask * 1.0, kernel), (variance * mask, kernel**2))]  # fmt: skip
    assert np.allclose(made, sums[0] / sums[1], rtol=1e-10)
    assert np.allclose(support, sums[1], atol=1e-12)
    assert np.allclose(error, sums[2] / sums[1] ** 2, rtol=1e-8)


def test_weights_are_those_of_the_formula():
    kernel = Shepard((10, 10), 50.0, 1.0, disc=False).kernel
    assert kernel.shape == (51, 51)
    ratio = kernel[25, 25 + 5] / kernel[25, 25 + 1]
    assert ratio == pytest.approx((45 / (50 * 5)) / (49 / 50))
    assert kernel[25, 25] == 0 and kernel.sum() == pytest.approx(1)
    assert Shepard((10, 10)).kernel[0, 0] == 0  # a disc


def test_a_constant_comes_back_exactly_and_the_published_form_is_18_per_cent_low():
    values = np.full(SLICES.shape, 10.0)
    frame = Frame(values.astype(np.float32), unit="adu/s")
    found = stray_light.measure(frame, SLICES, wings=None, margin=0)
    assert np.nanmax(np.abs(found.planes["data"] - 10)) < 1e-5
    published = stray_light.measure(frame, SLICES, method="as_published")
    assert 7.8 < np.mean(published.planes["data"][INSIDE]) < 8.7
    assert "variance" not in published.planes


def test_as_published_is_what_the_notebook_computes():
    rng = np.random.default_rng(2)
    values, mask = rng.normal(20, 5, SLICES.shape), SLICES.ids == 0
    box = convolve2d(values * mask, np.full((3, 3), 1 / 9), "same") * mask
    kernel = Shepard(SLICES.shape, 50.0, 1.0, disc=False).kernel
    expected = convolve2d(box, kernel, "same") / convolve2d(mask * 1.0, kernel, "same")
    assert np.allclose(as_published(values, mask), expected, rtol=1e-9)


def test_nothing_is_said_where_no_gap_is_near():
    wide = slice_map({1: Line((130.0,), (5.3, 0.4), 120.0, 0.1)}, (ROWS, COLS), blind=4)
    frame = Frame(np.full(wide.shape, 10, np.float32))
    found = stray_light.measure(frame, wide, wings=None)
    middle = np.abs(np.arange(COLS) - 130) < 25
    assert np.isnan(found.planes["data"][:, middle]).all()
    assert (found.planes["dq"][:, middle] == DQ.DO_NOT_USE).all()
    assert any("far from any gap" in note for note in found.provenance.notes)
    done = stray_light.apply(frame, found)
    assert np.isnan(done.data[0, 130]) and done.dq[0, 130] & DQ.DO_NOT_USE


# --- truth ---


def test_stray_light_is_found_with_honest_errors():
    """Of a lamp whose structure shines into gaps of 4 pixels: the nearest of them shows 170 beside 30."""
    true, pulls = stray(), []
    for seed in range(3, 7):
        found = stray_light.measure(taken(LAMP, true, np.random.default_rng(seed)), SLICES)
        known = (SLICES.ids > 0) & np.isfinite(found.planes["data"])
        off = (found.planes["data"] - true)[known]
        pulls.append(off / np.sqrt(found.planes["variance"][known]))
        mean, blur = (found.quantity(name) for name in ("mean", "blur"))
        assert abs(mean.value - true[known].mean()) < 3 * mean.sigma < 0.2 * mean.value
        assert abs(blur.value - WIDE) < 3 * blur.sigma < 0.15 * WIDE
    assert 0.4 < np.sqrt(np.mean(np.concatenate(pulls) ** 2)) < 2.2


def test_without_the_wings_the_slices_themselves_are_taken_for_stray_light():
    """The twin: what spills into the gaps is twice the stray light."""
    true = stray()
    frame = taken(LAMP, true, np.random.default_rng(3))
    found = stray_light.measure(frame, SLICES, method="shepard", wings=None)
    assert np.nanmean((found.planes["data"] - true)[INSIDE]) > 0.5 * true.mean()


@pytest.fixture(scope="module")
def middle():
    """Rows of a spectrometer: `taken(source)` gives the frame, its true stray light; and the map."""
    scene, some = Scene.load("miri-mrs"), np.s_[400:600]
    planes = {name: getattr(scene.slices, name)[some] for name in ("ids", "alpha", "beta", "wavelength")}
    slices = replace(scene.slices, reference=scene.slices.reference[some], **planes)

    def taken(source):
        made = make(scene, source, "CV3", np.random.default_rng(9))
        parts = (plane[some] for plane in (made.frame.data, made.frame.variance))
        return Frame(*parts, unit="adu/s", dq=made.frame.dq[some]), made.truth.planes["stray"][some]

    return taken, slices


def test_a_faint_source_keeps_its_light(middle):
    """Its stray light is below the wings of its slices: with edges at borders of pixels it was found -1."""
    taken, slices = middle
    frame, true = taken("extended-800K")
    inside = slices.ids > 0
    for method in ("auto", "shepard"):
        found = stray_light.measure(frame, slices, method=method)
        mean, blur = (found.quantity(name) for name in ("mean", "blur"))
        assert abs(mean.value - true[inside].mean()) < 2 * mean.sigma
        assert method != "auto" or 2 * mean.sigma < 0.1
        assert abs(blur.value - 0.9) < 3 * blur.sigma < 0.09
    coarse = slices.ids != 0
    border = edges(coarse)  # the twin
    border = replace(border, place=border.col + 0.5 * border.side)
    assert wings.blur(frame.data - true, coarse, slices.gaps(1) & (frame.dq == 0), border)[0] > 0.96


def test_hot_pixels_in_gaps_and_a_slice_without_values_do_no_harm():
    rng, true = np.random.default_rng(4), stray()
    frame = taken(LAMP, true, rng)
    clean = stray_light.measure(frame, SLICES).planes["data"]
    data, dq = frame.data.copy(), np.zeros(frame.shape, np.uint32)
    hot = (SLICES.ids == 0) & (rng.random(data.shape) < 0.005)
    data[hot] += 5e4
    data[SLICES.ids == 5] = np.nan
    dq[SLICES.gap_numbers() == 2] = DQ.DO_NOT_USE
    found = stray_light.measure(replace(frame, data=data, dq=dq), SLICES)
    near = np.isfinite(found.planes["data"]) & (SLICES.ids > 6)
    assert np.nanmedian(np.abs(found.planes["data"] - clean)[near]) < 1.0
    assert any("stand out" in note for note in found.provenance.notes)


def test_levels_of_gaps_are_told_with_errors():
    pulls = []
    for seed in range(10):
        frame = taken(np.zeros(LAMP.shape), np.full(SLICES.shape, 8.0), np.random.default_rng(seed))
        found = stray_light.measure(frame, SLICES, method="shepard", wings=None)
        pulls += [(q.value - 8.0) / q.sigma for q in found if q.name == "level"]
    assert len(pulls) == 100 and 0.8 < np.std(pulls) < 1.2


# --- along rows ---


def test_row_kernels_are_the_matrix_product():
    rng = np.random.default_rng(5)
    light = np.where(INSIDE, rng.uniform(100, 600, SLICES.shape), 0.0)
    fwhm = np.linspace(60, 120, ROWS)
    kernels = [
        RowKernel(fwhm, 0.01, 22.0, 4.0, 0.002, 0.001, (0, 130)),
        RowKernel(90.0, 0.02, columns=(130, COLS)),
    ]
    total = np.sum(spread(light, kernels), axis=0)
    away = np.arange(COLS)[:, None] - np.arange(COLS)
    for row in (0, 100, ROWS - 1):
        half, sigma = fwhm[row] / 2, 4.0 / np.sqrt(8 * np.log(2))
        first = 0.01 * half**2 / (half**2 + away**2)
        for order, height in ((1, 0.002), (2, 0.001)):
            for sign in (-1, 1):
                first = first + height * np.exp(-0.5 * ((away + sign * order * 22.0) / (order * sigma)) ** 2)
        second = 0.02 * 45.0**2 / (45.0**2 + away**2)
        expected = first[:, :130] @ light[row, :130] + second[:, 130:] @ light[row, 130:]
        assert np.allclose(total[row], expected, rtol=1e-9)


def test_gaps_of_three_pixels_are_too_narrow_to_interpolate_between(middle):
    taken, slices = middle
    frame, true = taken("internal")
    inside = slices.ids > 0
    found = stray_light.measure(frame, slices)
    other = stray_light.measure(frame, slices, method="shepard")
    error = {name: one.data - true for name, one in (("auto", found), ("shepard", other))}
    assert np.abs(error["auto"][inside]).max() < 0.05 * true[inside].mean()
    assert np.nanstd(error["shepard"][inside]) > 3  # the twin
    assert found.provenance.options["method"] == "rows" and "shepard would be" in found.provenance.notes[0]
    pulls = error["auto"][inside] / np.sqrt(found.planes["variance"][inside])
    assert 0.5 < np.sqrt(np.mean(pulls**2)) < 2.5


def test_strength_and_pedestal_of_a_row_kernel_are_found():
    kernel = RowKernel(100.0, 1e-3)
    true = 8.0 + 0.7 * spread(seen(LAMP), [kernel])[0]
    frame = taken(LAMP, true, np.random.default_rng(6))
    found = stray_light.measure(frame, SLICES, method="rows", kernels=[kernel])
    strength = next(q for q in found if q.name == "strength")
    assert abs(strength.value - 0.7) < 3 * strength.sigma < 0.2
    off = (found.planes["data"] - true)[INSIDE]
    assert abs(off.mean()) < 0.03 * true[INSIDE].mean()
    fixed = stray_light.measure(frame, SLICES, method="rows", kernels=[kernel], fit_strength=False)
    assert not any(q.name == "strength" for q in fixed)
    assert (fixed.planes["data"] - true)[INSIDE].mean() > 1.0  # it was given too strong


# --- apply, and the other direction ---


def test_a_corrected_frame_is_the_light_alone():
    frame = taken(LAMP, stray(), np.random.default_rng(7))
    found = stray_light.measure(frame, SLICES)
    done = stray_light.apply(frame, found)
    expected = seen(LAMP)
    known = INSIDE & np.isfinite(done.data)
    assert abs(np.mean((done.data - expected)[known])) < 2 * found.quantity("mean").sigma
    cuts = found.tables["cuts"]
    left = done.data[cuts["row"], cuts["col"]]
    assert np.allclose(cuts["value"] - cuts["stray"], left, atol=1e-3, equal_nan=True)
    assert not np.any(cuts["used"] & (cuts["slice"] != 0)) and np.sum(cuts["used"]) > 50
    assert np.array_equal(done.variance, frame.variance)
    assert np.nanmin(done.systematic) > 0 and done.systematic_from == {found.identity}
    with pytest.raises(HistoryError):
        stray_light.apply(done, found)
    with pytest.raises(UnitError, match="another unit"):
        stray_light.apply(replace(frame, unit="electron/s"), found)
    with pytest.raises(ShapeError, match="another size"):
        stray_light.apply(Frame(np.ones((3, 4), np.float32)), found)


def test_dispersion_along_columns_gives_the_same_turned():
    frame = taken(LAMP, stray(), np.random.default_rng(8))
    turned = replace(frame, data=frame.data.T.copy(), variance=frame.variance.T.copy())
    one, other = (stray_light.measure(f, m) for f, m in ((frame, SLICES), (turned, SLICES.transposed())))
    assert np.allclose(one.planes["data"], other.planes["data"].T, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("options", "error", "match"), [
    ({"method": "nearest"}, OptionError, "unknown method"),
    ({"margin": -1}, OptionError, "no meaning"),
    ({"wings": -1.0}, OptionError, "wings"),
    ({"radius": 1.0}, OptionError, "radius"),
    ({"margin": 200}, SelectionError, "no good pixel lies between"),
    ({"method": "rows", "kernels": [RowKernel(np.ones(7))]}, ShapeError, "row kernel"),
    ({"method": "rows", "kernels": [RowKernel(0.0)]}, OptionError, "widths"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options, error, match):
    frame = taken(LAMP, stray(), np.random.default_rng(9))
    with pytest.raises(error, match=match):
        stray_light.measure(frame, SLICES, **options)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ShapeError, match="slice map does not fit"):
        stray_light.measure(Frame(np.ones((5, 6), np.float32)), SLICES)
