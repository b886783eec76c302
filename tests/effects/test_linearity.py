"""Linearity against the truth of amplifiers whose curve is known, and what is said about bad input."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import linearity
from calibrant.effects._linearity_fit import Choice, respond
from calibrant.errors import HeaderError, HistoryError, OptionError, SelectionError, UserError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.product import Product

SHAPE = (40, 30)
RATE = 3000.0  # adu/s
TIMES = np.concatenate([np.geomspace(0.02, 1.0, 12), np.linspace(1.5, 20.0, 28)])
C0 = {"A": 2.5e-7, "B": -1.5e-7}  # 1/adu: true = measured + c0 measured^2
CUBIC = (2.4e-7, 4e-13)  # measured = true - q true^2 + c true^3
GAIN = 1.4


def camera(**detector):
    halves = ("[1:15,1:40]", "[16:30,1:40]")
    amplifiers = tuple(
        Amplifier(name=name, data=half, place=half, gain=GAIN, saturation=65535.0)
        for name, half in zip("AB", halves, strict=True)
    )
    return Instrument(name="cam", detectors={"0": Detector(amplifiers=amplifiers, gain=GAIN, **detector)})


def quadratic(true, c0):
    """What an amplifier makes of the true signal, so that measured + c0 measured^2 is true."""
    return (np.sqrt(1.0 + 4.0 * c0 * true) - 1.0) / (2.0 * c0)


def cubic(true):
    q, c = CUBIC
    return true * (1.0 - q * true + c * true**2)


def series(curves=None, times=TIMES, *, noise=0.0, shutter=0.0, lamp=0.0, seed=1, keys=None):
    """Flats above their bias; float64 signals, so that only the noise that is asked for is in them."""
    curves = [lambda true, c=c: quadratic(true, c) for c in C0.values()] if curves is None else curves
    rng = np.random.default_rng(seed)
    frames = []
    for number, time in enumerate(times):
        image = np.empty(SHAPE)
        flux = RATE * (time + shutter) * (1 + lamp * rng.normal())
        for half, curve in zip((slice(0, 15), slice(15, 30)), curves, strict=True):
            level = np.asarray(curve(np.float64(flux)))
            spread = noise * np.sqrt(level / GAIN) * rng.normal(size=(SHAPE[0], 15))
            image[:, half] = level + spread
        exposure = Exposure(
            "flat",
            start=number * 60_000_000,
            duration=float(time),
            shape=SHAPE,
            identifier=f"flat {number}",
            applied=frozenset({"bias"}),
            keys={} if keys is None else {name: float(values[number]) for name, values in keys.items()},
        )
        frames.append(Frame(image.astype(np.float32), exposure=exposure))
    return Exposures.from_frames(frames, camera())


def measured(*args, model="quadratic", product=None, **options):
    return linearity.measure(series(*args, **options), products=product, model=model)


# --- truth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c0", [2.5e-7, -1.5e-7, 1e-6])
def test_a_parabola_is_found_exactly(c0):
    """Noise free, to 1e-6 of the coefficient; a coefficient that is 1e-5 off would fail."""
    true = RATE * (TIMES + 0.003)
    u = quadratic(true, c0)
    for model in ("quadratic", "polynomial"):
        found = respond(TIMES, u, np.sqrt(u / GAIN / 1e6), Choice(model=model, limit=0.1))
        assert found.coefficients[0] / found.top == pytest.approx(c0, rel=1e-6)
        assert found.coefficients[0] / found.top != pytest.approx(c0 * (1 + 1e-5), rel=1e-6)
        assert found.slope == pytest.approx(RATE, rel=1e-8)
        assert found.offset / found.slope == pytest.approx(0.003, rel=1e-6)
        assert np.abs(found.after[found.used]).max() < 1e-9


def truth_of_cubic(u):
    true = np.linspace(0, 80000, 80001)
    return np.interp(u, cubic(true), true)


def test_a_spline_is_within_2_adu():
    found = linearity.measure(series([cubic, cubic]), model="spline")
    curve = found.tables["curve"]
    u = curve["measured"]
    assert np.abs(u + curve["correction"] - truth_of_cubic(u)).max() < 2.0
    assert np.abs(u - truth_of_cubic(u)).max() > 200.0  # the twin: without the correction it is not
    assert found.quantity("residual_rms", "A").value < 1e-3
    assert np.nanmax(np.abs(found.tables["linearity"]["residual_before"])) > 0.5


def test_coefficients_in_sigmas():
    """Pulls of both amplifiers over 40 noisy series; the twin: a truth that is 5 sigma off."""
    pulls, off = [], []
    for seed in range(40):
        product = measured(noise=1.0, seed=seed, shutter=0.01)
        for name, c0 in C0.items():
            found = product.quantity("c2", name)
            pulls.append((found.value - c0) / found.sigma)
            off.append((found.value - c0) / found.sigma + 5.0)
    assert abs(np.mean(pulls)) < 3.5 / np.sqrt(len(pulls)) * 1.2
    assert 0.75 < np.std(pulls) < 1.3
    assert not abs(np.mean(off)) < 3.5 / np.sqrt(len(off)) * 1.2


def test_corrected_flats_are_proportional():
    """Both amplifiers agree to 2e-5 at all levels after the correction; 2 % before."""
    flats = series()
    product = linearity.measure(flats, model="polynomial")
    for index in (5, 20, 39):
        before = flats.frame(index)
        done = linearity.apply(before, product)
        true = RATE * TIMES[index]
        np.testing.assert_allclose(done.data, true, rtol=2e-5)
    assert abs(before.data[0, 0] / before.data[0, -1] - 1) > 0.02


def test_lamps_that_vary_widen_the_sigmas():
    quiet, loud = measured(noise=1.0).quantity("c2", "A"), measured(noise=1.0, lamp=3e-3).quantity("c2", "A")
    assert loud.sigma > 3 * quiet.sigma
    assert abs(loud.value - C0["A"]) < 4 * loud.sigma


# --- what it states ---------------------------------------------------------------------------------------


def test_quantities_and_tables():
    product = measured()
    top = quadratic(RATE * TIMES[-1], C0["A"])
    assert product.quantity("valid_high", "A").value == pytest.approx(top, rel=1e-6)
    assert product.quantity("nonlinearity", "A").value == pytest.approx(100 * C0["A"] * top, rel=1e-3)
    assert np.isnan(product.quantity("turnoff", "A").value)
    table = product.tables["linearity"]
    assert len(table["amplifier"]) == 2 * len(TIMES) and table["used"].dtype == bool
    assert set(product.tables["curve"]) == {"amplifier", "measured", "correction", "sigma"}
    assert product.provenance.options["against"] == "exptime"
    assert product.keys["detector"] == "0"


def test_a_photodiode_is_preferred_to_the_clock():
    """Exposure times that are wrong by a quarter do not matter if the light was counted."""
    rng = np.random.default_rng(2)
    wrong = TIMES * rng.uniform(0.75, 1.25, len(TIMES))
    flats = series(keys={"photodiode": TIMES * 7.0})
    flats = flats.updated(
        {i: Exposure(**{**vars(flats[i]), "duration": float(wrong[i])}) for i in range(len(flats))}
    )
    product = linearity.measure(flats, model="quadratic")
    assert product.provenance.options["against"] == "photodiode"
    assert product.quantity("c2", "A").value == pytest.approx(C0["A"], rel=1e-3)
    with pytest.raises(SelectionError, match="uncertain"):
        linearity.measure(flats, model="quadratic", against="exptime")


def test_a_slow_shutter_is_said():
    product = measured(noise=1.0, shutter=0.05)
    found = product.quantity("shutter_offset")
    assert abs(found.value - 0.05) < 4 * found.sigma and found.unit == "s"
    assert any("0.05 s longer" in note for note in product.provenance.notes)
    assert product.quantity("c2", "A").value == pytest.approx(C0["A"], rel=0.1)
    assert not any("longer" in note for note in measured(noise=0.0).provenance.notes)


def test_levels_beyond_the_turnoff_are_left_out():
    """An amplifier that stops at 40 000 adu."""
    full = 40000.0
    curves = [lambda true: min(quadratic(true, C0["A"]), full), lambda true: quadratic(true, C0["B"])]
    product = measured(curves)
    levels = quadratic(RATE * TIMES, C0["A"])
    highest = levels[levels < full].max()
    found = product.quantity("turnoff", "A")
    assert highest * (1 - 1e-6) <= found.value <= full and found.sigma > 0
    assert product.quantity("valid_high", "A").value == pytest.approx(found.value)
    frame = Frame(np.full(SHAPE, 50000.0, np.float32), history=(Applied("overscan"),))
    done = linearity.apply(frame, product)
    assert (done.dq[:, :15] == DQ.NONLINEAR | DQ.SATURATED).all() and not done.dq[:, 15:].any()


def test_outside_the_correction_is_held():
    product = measured()
    frame = Frame(np.full(SHAPE, 64000.0, np.float32), history=(Applied("overscan"),))
    done = linearity.apply(frame, product)
    top = product.quantity("valid_high", "A").value
    np.testing.assert_allclose(done.data[:, :15], 64000.0 + C0["A"] * top**2, rtol=1e-5)
    assert (done.dq[:, :15] == DQ.NONLINEAR).all()
    low = linearity.apply(frame.after(data=np.full(SHAPE, -3.0, np.float32)), product)
    assert (low.data == -3.0).all() and not low.dq.any()


def test_variance_is_stretched():
    product = measured()
    frame = Frame(
        np.full(SHAPE, 40000.0, np.float32),
        variance=np.full(SHAPE, 100.0, np.float32),
        history=(Applied("overscan"),),
    )
    done = linearity.apply(frame, product)
    slope = 1 + 2 * C0["A"] * 40000.0
    np.testing.assert_allclose(done.variance[:, :15], 100.0 * slope**2, rtol=1e-3)


# --- bad input --------------------------------------------------------------------------------------------


def test_a_dead_amplifier_costs_only_itself():
    product = measured([lambda true: quadratic(true, C0["A"]), lambda true: np.float64(3.0)])
    assert np.isnan(product.quantity("c2", "B").value)
    assert product.quantity("c2", "A").value == pytest.approx(C0["A"], rel=1e-3)
    assert any(note.startswith("amplifier B: it does not respond") for note in product.provenance.notes)
    frame = Frame(np.full(SHAPE, 1000.0, np.float32), history=(Applied("overscan"),))
    done = linearity.apply(frame, product)
    assert (done.dq[:, 15:] == DQ.NO_LIN_CORR).all() and not done.dq[:, :15].any()
    assert (done.data[:, 15:] == 1000.0).all()


def test_an_amplifier_without_pixels():
    flats = series([lambda true: quadratic(true, C0["A"]), lambda true: np.float64(np.nan)])
    product = linearity.measure(flats, model="quadratic")
    assert np.isnan(product.quantity("nonlinearity", "B").value) and len(product.provenance.notes) == 1


def test_an_amplifier_whose_mean_falls():
    """More light, less signal: said, and the level does not bend the curve."""
    level = RATE * TIMES[25]
    curves = [
        lambda true: quadratic(true, C0["A"]) * (0.9 if abs(true - level) < 1 else 1.0),
        lambda true: quadratic(true, C0["B"]),
    ]
    product = measured(curves)
    assert any("A: its mean falls" in note for note in product.provenance.notes)
    assert product.quantity("c2", "A").value == pytest.approx(C0["A"], rel=1e-3)
    table = product.tables["linearity"]
    own = (table["amplifier"] == "A") & (np.abs(table["light"] - TIMES[25]) < 1e-9)
    assert not table["used"][own].any()


def test_too_few_levels():
    product = measured(times=TIMES[::10])
    assert np.isfinite(product.quantity("c2", "A").value)
    with pytest.raises(SelectionError, match="3 usable levels of light, the polynomial needs 5"):
        linearity.measure(series(times=TIMES[[0, 20, 39]]), model="polynomial")
    with pytest.raises(SelectionError, match="at least three levels"):
        measured(times=np.ones(5))


def test_levels_that_lie_close_tell_no_curve():
    """A lamp that scatters makes no series of levels of one exposure time."""
    times = 5.0 * (1 + 1e-3 * np.arange(8))
    with pytest.raises(SelectionError, match="1 usable level of light"):
        measured(times=times)
    with pytest.raises(SelectionError, match=r"span a factor 1\.5, where 3 is needed"):
        measured(times=np.linspace(4.0, 6.0, 8))


def test_levels_without_little_light_do_not_bend_the_curve_at_will():
    """A spline has the slope at no light from levels near no light; without them it is refused."""
    times = np.repeat([4.0, 10.0, 14.0, 17.0, 19.0, 20.0, 21.0], 2)
    with pytest.raises(SelectionError, match=r"uncertain by \S+ % of the signal"):
        measured(times=times, model="spline", lamp=3e-4, noise=1.0)
    found = measured(times=times, model="quadratic", lamp=1e-5)
    assert found.quantity("c2", "A").value == pytest.approx(C0["A"], rel=0.05)


def test_saturated_pixels_do_not_make_a_mean():
    """Raw values that reach saturation are missing, and with more than 1 % of them so is the level."""
    product = linearity.measure(series(), model="quadratic", saturation=30000.0)
    assert product.quantity("valid_high", "A").value < 30000.0
    assert product.quantity("c2", "A").value == pytest.approx(C0["A"], rel=1e-2)


def test_bad_input_is_one_sentence():
    with pytest.raises(SelectionError, match="no flats"):
        linearity.measure(series().take([]))
    with pytest.raises(HeaderError, match="diode"):
        linearity.measure(series(), against="diode")
    darks = series()
    with pytest.raises(HistoryError, match="zero level"):
        linearity.measure(
            darks.updated({i: Exposure(**{**vars(darks[i]), "applied": frozenset()}) for i in range(40)})
        )
    for options in ({"order": 1}, {"straight": (0.5, 0.2)}, {"limit": 0.0}, {"knots": 1}):
        with pytest.raises(OptionError):
            linearity.measure(series(), **options)


def test_applying_is_checked():
    product = measured()
    frame = Frame(np.full(SHAPE, 1000.0, np.float32), history=(Applied("overscan"),))
    with pytest.raises(HistoryError, match="zero level"):
        linearity.apply(Frame(np.ones(SHAPE, np.float32)), product)
    with pytest.raises(HistoryError):
        linearity.apply(linearity.apply(frame, product), product)
    with pytest.raises(HistoryError):
        linearity.apply(frame.after(Applied("flat")), product)
    with pytest.raises(SelectionError, match="not a linearity"):
        linearity.step(Exposure(), Product("gain"))
    with pytest.raises(UserError):
        linearity.apply(frame.after(data=np.ones((3, 3), np.float32)), product)


def test_the_bias_of_products_is_subtracted():
    """The same flats with their bias in, and a bias among the products."""
    flats = series()
    frames = []
    for index in range(len(flats)):
        frame = flats.frame(index)
        exposure = Exposure(**{**vars(frame.exposure), "applied": frozenset()})
        frames.append(Frame(np.asarray(frame.data) + np.float32(1000.0), exposure=exposure))
    bias = Product(
        "bias",
        keys={"detector": "0"},
        planes={"data": np.full(SHAPE, 1000.0, np.float32)},
        units={"data": "adu"},
    )
    found = linearity.measure(
        Exposures.from_frames(frames, camera()), products={"bias": bias}, model="quadratic"
    )
    assert found.quantity("c2", "A").value == pytest.approx(C0["A"], rel=1e-2)
    assert bias.identity in found.provenance.parents
