"""Brighter-fatter: the kernel's equation, the two forms, bad pixels, borders of bands, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import convolve

from calibrant.effects import _brighter_fatter_correct as fixed_point
from calibrant.effects import brighter_fatter
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product, Provenance
from calibrant.stack import kernels_fixed_point as kernels
from calibrant.stack.run import Threads

A00, LAGS = -3e-6, 6


def matrix(lags=LAGS):
    """Like that of a CCD: the charge's own pixel shrinks, the others grow."""
    i, j = np.indices((lags, lags))
    a = 4e-7 / np.maximum(np.hypot(i, 1.3 * j), 1) ** 3.5
    a[0, 0] = A00
    return a


def gain(*amplifiers, **changes):
    """A gain with one a matrix per amplifier: (name, a, sigma)."""
    rows = [
        (name, i, j, a[i, j], np.broadcast_to(sigma, a.shape)[i, j])
        for name, a, sigma in amplifiers
        for i, j in np.ndindex(a.shape)
    ]
    columns = zip(("amplifier", "i", "j", "a", "sigma"), map(np.array, zip(*rows, strict=True)), strict=True)
    made = Product(
        "gain",
        instrument="test",
        keys={"detector": "0", "binning": (1, 1), "gain_setting": "high"},
        tables={"a_matrix": dict(columns)},
        provenance=Provenance(options={"model": "full"}),
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def kernel():
    return brighter_fatter.from_gain(gain(("", matrix(), 1e-8)))


def scene(shape=(60, 70), seed=2):
    """A bright, sharp scene [electron]."""
    rng = np.random.default_rng(seed)
    light = rng.uniform(1e3, 2e3, shape)
    light[20:24, 30:33] += 6e4
    light[28, 36] += 3e4
    return light.astype(np.float32)


def frame(data=None, **changes):
    return Frame(scene() if data is None else data, unit="electron", **changes)


# --- the kernel -------------------------------------------------------------------------------------------


def test_the_laplacian_of_the_kernel_is_minus_a(kernel):
    assert kernel.data.shape == (2 * LAGS + 1, 2 * LAGS + 1)
    padded = np.pad(kernel.data, 1)
    laplacian = convolve(padded, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], mode="constant")
    inner = laplacian[2:-2, 2:-2]  # of the lags that were measured
    middle = LAGS - 1
    np.testing.assert_allclose(inner[middle:, middle:], -matrix(), atol=1e-18)
    np.testing.assert_allclose(inner, inner[::-1, ::-1], atol=1e-18)
    assert laplacian.sum() == pytest.approx(0, abs=1e-18)  # no light is made or lost
    assert kernel.provenance.options["residual"] < 1e-12
    assert np.argmin(kernel.data) == kernel.data.size // 2


def test_quantities_and_tables(kernel):
    assert kernel.quantity("a00").value == A00
    assert kernel.quantity("centre").value == kernel.data[LAGS, LAGS]
    assert kernel.quantity("sum").value == pytest.approx(kernels_sum(matrix()))
    shifts = kernel.tables["shifts"]
    own = (shifts["i"] == 0) & (shifts["j"] == 0)
    assert (shifts["rows"][own] < 0) and (shifts["cols"][own] < 0)  # borders move towards the charge
    assert 2 * (shifts["rows"][own] + shifts["cols"][own]) == pytest.approx(A00)  # four borders make the area
    assert "gain_setting" not in kernel.keys and kernel.keys["detector"] == "0"


def kernels_sum(a):
    return a[0, 0] + 2 * a[1:, 0].sum() + 2 * a[0, 1:].sum() + 4 * a[1:, 1:].sum()


def test_zero_sum_lowers_a00_alone():
    made = brighter_fatter.from_gain(gain(("", matrix(), 1e-8)), zero_sum=True)
    a = made.tables["a_matrix"]["a"].reshape(LAGS, LAGS)
    assert kernels_sum(a) == pytest.approx(0, abs=1e-20)
    np.testing.assert_array_equal(a.ravel()[1:], matrix().ravel()[1:])


def test_lags_and_pad_set_the_size():
    made = brighter_fatter.from_gain(gain(("", matrix(), 1e-8)), lags=3, pad=4)
    assert made.data.shape == (13, 13)


def test_errors_of_the_kernel_are_those_of_a():
    rng, sigma = np.random.default_rng(5), 2e-8
    made = [
        brighter_fatter.from_gain(gain(("", matrix() + rng.normal(0, sigma, (LAGS, LAGS)), sigma)))
        for _ in range(300)
    ]
    for name in ("centre", "sum"):
        scatter = np.std([product.quantity(name).value for product in made])
        assert scatter == pytest.approx(made[0].quantity(name).sigma, rel=0.15)


def test_amplifiers_are_averaged_by_their_errors():
    a = matrix()
    made = brighter_fatter.from_gain(gain(("A", a * 1.01, 1e-8), ("B", a * 0.98, 2e-8)))
    assert made.quantity("a00").value == pytest.approx(A00 * (4 * 1.01 + 0.98) / 5)
    assert made.quantity("a00").sigma == pytest.approx(1e-8 / np.sqrt(1.25))
    assert made.quantity("a00", "B").value == pytest.approx(A00 * 0.98)


def test_dead_and_odd_amplifiers_are_left_out_and_named():
    a = matrix()
    good = [
        (name, a * factor, 1e-8)
        for name, factor in zip("ABCDE", (1, 1.002, 0.998, 1.001, 0.999), strict=True)
    ]
    made = brighter_fatter.from_gain(gain(*good, ("odd", 1.5 * a, 1e-8), ("dead", a * np.nan, np.nan)))
    assert made.quantity("a00").value == pytest.approx(A00, rel=1e-6)
    notes = " ".join(made.provenance.notes)
    assert "dead" in notes and "odd" in notes
    assert np.isnan(made.quantity("a00", "dead").value)


@pytest.mark.parametrize(
    ("a", "sigma", "told"),
    [
        (-matrix(), 1e-8, "negative"),
        (np.where(matrix() < 0, -1e-7, matrix()), 1e-8, "lowest"),
        (np.where(np.indices((LAGS, LAGS)).max(axis=0) == LAGS - 1, 4e-8, matrix()), 1e-9, "last lag"),
        (matrix(), 5e-7, "more flats"),
    ],
)
def test_a_kernel_that_looks_wrong_is_told(a, sigma, told):
    notes = brighter_fatter.from_gain(gain(("", a, sigma))).provenance.notes
    assert any(told in note for note in notes), notes


def test_a_good_kernel_has_no_notes(kernel):
    assert kernel.provenance.notes == ()


# --- the correction ---------------------------------------------------------------------------------------


def reference(charge, kernel, form, iterations=12):
    """The fixed point in float64, by sums over lags."""
    charge = charge.astype(float)
    light = charge
    for _ in range(iterations):
        potential = convolve(light / 6 + charge / 3, kernel, mode="nearest")
        move = kernels.conserving if form == "flux" else kernels.differential
        out = np.empty_like(charge)
        move.py_func(light, potential, charge, out, 0, len(charge))
        light = out
    return light


@pytest.mark.parametrize("form", brighter_fatter.FORMS)
def test_the_fixed_point_is_found(kernel, form):
    small = scene((34, 40))
    done = brighter_fatter.apply(frame(small), kernel, form=form, tolerance=1e-6, max_iterations=30)
    wanted = reference(small, kernel.data, form)
    moved = np.abs(wanted - small).max()
    assert moved > 100
    np.testing.assert_allclose(done.data, wanted, atol=2e-4 * moved)


def numpy_conserving(light, potential, charge):
    """Flux across borders as arrays."""
    out = charge.copy()
    for axis in (0, 1):
        wide = np.pad(light, [(1, 1) if n == axis else (0, 0) for n in (0, 1)], mode="edge")
        wide = np.moveaxis(wide, axis, 0)
        density = (7 * (wide[1:-2] + wide[2:-1]) - wide[:-3] - wide[3:]) / 12
        flow = np.moveaxis(density * np.diff(np.moveaxis(potential, axis, 0), axis=0), 0, axis)
        zero = [(1, 1) if n == axis else (0, 0) for n in (0, 1)]
        out = out + np.diff(np.pad(flow, zero), axis=axis)
    return out


def numpy_differential(light, potential, charge):
    wide, field = np.pad(light, 1, mode="edge"), np.pad(potential, 1, mode="edge")
    slopes = [
        (plane[2:, 1:-1] - plane[:-2, 1:-1], plane[1:-1, 2:] - plane[1:-1, :-2]) for plane in (wide, field)
    ]
    laplacian = field[2:, 1:-1] + field[:-2, 1:-1] + field[1:-1, 2:] + field[1:-1, :-2] - 4 * potential
    gradient = sum(one * other for one, other in zip(*slopes, strict=True)) / 4
    return charge + gradient + light * laplacian


@pytest.mark.parametrize("name", ["conserving", "differential"])
@pytest.mark.parametrize("compiled", [True, False])
def test_kernels_against_arrays(name, compiled):
    rng = np.random.default_rng(1)
    light, potential, charge = rng.uniform(1, 2, (3, 9, 11)).astype(np.float32)
    out = np.full_like(charge, np.nan)
    kernel = getattr(kernels, name)
    kernel = kernel if compiled else kernel.py_func
    sums = np.sum([kernel(light, potential, charge, out, *rows) for rows in ((0, 4), (4, 9))], axis=0)
    wanted = globals()[f"numpy_{name}"](*(plane.astype(float) for plane in (light, potential, charge)))
    np.testing.assert_allclose(out, wanted, atol=2e-6)
    np.testing.assert_allclose(sums, [np.abs(wanted - light).sum(), np.abs(wanted - charge).sum()], rtol=1e-5)


def test_the_sum_stays(kernel):
    data = scene()
    done = brighter_fatter.apply(frame(data), kernel)
    assert done.data.sum(dtype=float) == pytest.approx(data.sum(dtype=float), rel=1e-8)
    assert np.abs(done.data - data).max() > 100


def test_even_light_is_left_alone(kernel):
    even = np.full((60, 70), 5e4, np.float32)
    for form in brighter_fatter.FORMS:
        np.testing.assert_array_equal(brighter_fatter.apply(frame(even), kernel, form=form).data, even)


def test_bands_and_threads_change_nothing(kernel, monkeypatch):
    data = scene((150, 80))
    whole = brighter_fatter.apply(frame(data), kernel).data
    monkeypatch.setattr(fixed_point, "BAND", 40)
    np.testing.assert_allclose(brighter_fatter.apply(frame(data), kernel).data, whole, atol=0.05)
    threads = brighter_fatter.apply(frame(data), kernel, runner=Threads(2)).data
    np.testing.assert_allclose(threads, whole, atol=0.05)


def test_a_frame_divided_by_a_flat_is_corrected_by_its_charge(kernel):
    data = scene()
    response = np.linspace(0.7, 1.2, data.size).reshape(data.shape).astype(np.float32)
    wanted = brighter_fatter.apply(frame(data), kernel).data / response
    divided = frame(data / response)
    done = brighter_fatter.apply(divided, kernel, response=response).data
    np.testing.assert_allclose(done, wanted, rtol=1e-5)
    assert np.abs(brighter_fatter.apply(divided, kernel).data - wanted).max() > 30  # without it, it is wrong
    with pytest.raises(ShapeError, match="response"):
        brighter_fatter.apply(divided, kernel, response=response[:5])


def test_history_tells_how_it_converged(kernel):
    done = brighter_fatter.apply(frame(), kernel)
    line = done.history[-1]
    assert line.product == kernel.identity and line.options["form"] == "flux"
    assert "iterations" in line.note and not line.note.startswith("not")
    early = brighter_fatter.apply(frame(), kernel, max_iterations=1)
    assert early.history[-1].note.startswith("not converged")


def test_the_error_of_the_kernel_is_systematic(kernel):
    done = brighter_fatter.apply(frame(systematic=np.full((60, 70), 2.0, np.float32)), kernel)
    centre = kernel.quantity("centre")
    moved = done.data - scene()
    np.testing.assert_allclose(done.systematic, 2 + (moved * centre.sigma / centre.value) ** 2, rtol=1e-3)
    assert kernel.identity in done.systematic_from


# --- pixels without a value -------------------------------------------------------------------------------


def test_bad_pixels_are_guessed_for_the_work_only(kernel):
    data, dq = scene(), np.zeros((60, 70), np.uint32)
    plain = brighter_fatter.apply(frame(data), kernel).data
    hurt = data.copy()
    hurt[10, 12] = np.nan
    hurt[30, 60], dq[30, 60] = 5e6, DQ.DO_NOT_USE | DQ.HOT
    done = brighter_fatter.apply(frame(hurt, dq=dq), kernel)
    assert np.isnan(done.data[10, 12])
    assert done.data[30, 60] == pytest.approx(5e6, rel=1e-3)
    far = np.ones(data.shape, bool)
    far[8:13, 10:15] = far[28:33, 58:63] = far[10, 12] = False
    np.testing.assert_allclose(done.data[far], plain[far], atol=3.0)
    near = np.s_[28:33, 58:63]
    assert (done.dq[near] & DQ.CHARGELOSS).all() and (done.dq[30, 60] & DQ.HOT)
    assert not (done.dq[30:50, 10:50] & DQ.CHARGELOSS).any()
    assert (done.dq[0] & DQ.CHARGELOSS).all() and not dq[0].any()


def test_saturated_pixels_hold_real_charge(kernel):
    dq = np.zeros((60, 70), np.uint32)
    dq[20:24, 30:33] = DQ.SATURATED | DQ.DO_NOT_USE
    done = brighter_fatter.apply(frame(dq=dq), kernel)
    np.testing.assert_array_equal(done.data, brighter_fatter.apply(frame(), kernel).data)


def test_filling_takes_the_shorter_gap():
    image = np.add.outer(np.arange(8.0), np.zeros(9)).astype(np.float32)  # rises along rows
    bad = np.zeros(image.shape, bool)
    bad[:, 4] = True  # a dead column: no good pixel in it
    bad[3, :3] = True
    filled = fixed_point.filled(np.where(bad, np.float32(np.nan), image), bad)
    np.testing.assert_allclose(filled, image, atol=1e-3)
    bad[:] = True
    bad[0, 0] = False
    assert np.isfinite(fixed_point.filled(image, bad)).all()


def test_a_frame_without_a_good_pixel(kernel):
    done = brighter_fatter.apply(frame(np.full((60, 70), np.nan, np.float32)), kernel)
    assert np.isnan(done.data).all() and done.history[-1].note == "no good pixel"


def test_a_dead_amplifier_does_not_spoil_the_others(kernel):
    data = scene()
    plain = brighter_fatter.apply(frame(data), kernel).data
    data[:, 40:] = np.nan
    done = brighter_fatter.apply(frame(data), kernel).data
    np.testing.assert_allclose(done[:, :30], plain[:, :30], atol=3.0)
    assert np.isfinite(done[:, :40]).all() and np.isnan(done[:, 40:]).all()


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["adu", "electron/s", ""])
def test_only_electrons_move(kernel, unit):
    with pytest.raises(UnitError, match="electron"):
        brighter_fatter.apply(replace(frame(), unit=unit), kernel)


def test_a_kernel_larger_than_the_image(kernel):
    with pytest.raises(ShapeError, match="larger than the image"):
        brighter_fatter.apply(frame(scene((60, 70))[:10]), kernel)


def test_cubes_are_no_images(kernel):
    with pytest.raises(ShapeError, match="no image"):
        brighter_fatter.apply(frame(np.zeros((3, 60, 70), np.float32)), kernel)


def test_the_product_must_be_a_kernel_of_the_detector(kernel):
    with pytest.raises(SelectionError, match="another kind"):
        brighter_fatter.apply(frame(), gain(("", matrix(), 1e-8)))
    with pytest.raises(SelectionError, match="another detector"):
        brighter_fatter.apply(frame(exposure=Exposure(detector="7")), kernel)
    with pytest.raises(SelectionError, match="no numbers"):
        spoilt = np.where(kernel.data == kernel.data.min(), np.nan, kernel.data)
        brighter_fatter.apply(frame(), replace(kernel, planes={**kernel.planes, "data": spoilt}))


def test_not_twice(kernel):
    done = brighter_fatter.apply(frame(), kernel)
    with pytest.raises(HistoryError):
        brighter_fatter.apply(done, kernel)


@pytest.mark.parametrize("options", [{"form": "wet"}, {"tolerance": 0}, {"max_iterations": 0}])
def test_options_without_a_meaning(kernel, options):
    with pytest.raises(OptionError):
        brighter_fatter.apply(frame(), kernel, **options)


@pytest.mark.parametrize("options", [{"lags": 1}, {"lags": LAGS + 1}, {"pad": 0}])
def test_lags_that_are_not_there(options):
    with pytest.raises(OptionError):
        brighter_fatter.from_gain(gain(("", matrix(), 1e-8)), **options)


def test_gains_without_covariances():
    with pytest.raises(SelectionError, match="without covariances"):
        brighter_fatter.from_gain(Product("gain"))
    with pytest.raises(SelectionError, match="another kind"):
        brighter_fatter.from_gain(Product("bias"))
    with pytest.raises(SelectionError, match="no amplifier has an a matrix"):
        brighter_fatter.from_gain(gain(("A", matrix() * np.nan, 1e-8)))


def test_measure_takes_the_gain_of_the_flats():
    flats = Exposures.from_frames([Frame(np.ones((4, 5)), exposure=Exposure("flat", identifier="one"))])
    ptc = gain(("", matrix(), 1e-8))
    made = brighter_fatter.measure(flats, products={"gain": ptc})
    assert made.identity == brighter_fatter.from_gain(ptc).identity
    assert ptc.identity in made.provenance.parents
    with pytest.raises(SelectionError, match="covariances of flats"):
        brighter_fatter.measure(flats)
