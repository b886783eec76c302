"""The manners of `apply_steps`: planes, history, units, bands, and what is refused."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from calibrant.errors import OptionError, ShapeError, UnitError
from calibrant.frame import DQ, NO_DATA, Applied, Exposure, Frame
from calibrant.stack.pixel import Curve, PixelStep, apply_steps, bands
from calibrant.stack.run import Threads


def test_bands_do_not_change_anything(monkeypatch):
    """The rows of the planes are found again in every band, serial and in threads."""
    rng = np.random.default_rng(1)
    shape = (700, 1000)
    raw = rng.integers(0, 60000, shape).astype(np.uint16)
    steps = [
        PixelStep("bias", offset=rng.normal(1000, 5, shape), offset_variance=np.full((1, 1000), 0.5)),
        PixelStep("overscan", offset=rng.normal(0, 1, (700, 1)), read_noise=4.0, gain=1.5),
        PixelStep("flat", divisor=rng.normal(1, 0.1, shape), dq=(rng.random(shape) < 0.1).astype(np.uint8)),
    ]
    assert len(bands(*shape)) > 2
    whole = apply_steps(Frame(raw), steps)
    threads = apply_steps(Frame(raw), steps, runner=Threads(2))
    monkeypatch.setattr("calibrant.stack.pixel._BAND_PIXELS", 1)
    rows = apply_steps(Frame(raw), steps)
    for other in (threads, rows):
        for name in ("data", "variance", "systematic", "dq"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(other, name))


def test_processes_are_refused():
    """They would fill planes of their own, and ours would stay empty without a word."""
    with ProcessPoolExecutor(1) as pool, pytest.raises(OptionError, match="threads"):
        apply_steps(Frame(np.zeros((3, 4), np.uint16)), [], runner=pool)


def test_unknown_stays_unknown():
    raw = np.arange(12, dtype=np.uint16).reshape(3, 4)
    plain = apply_steps(Frame(raw), [PixelStep("bias", offset=1.0)])
    assert plain.variance is None and plain.systematic is None
    assert plain.dq.dtype == np.uint32 and not plain.dq.any() and plain.data.dtype == np.float32
    noisy = apply_steps(Frame(raw), [PixelStep("noise", read_noise=2.0)])
    assert noisy.variance is not None and noisy.systematic is None
    sure = apply_steps(Frame(raw), [PixelStep("bias", offset=1.0, offset_variance=0.25)])
    assert sure.variance is None and (sure.systematic == 0.25).all()


def test_input_is_left_alone():
    frame = Frame(np.full((3, 4), np.inf, np.float32), variance=np.ones((3, 4), np.float32))
    out = apply_steps(frame, [PixelStep("flat", divisor=2.0)])
    assert np.isinf(frame.data).all() and (frame.variance == 1).all()
    assert np.isnan(out.data).all() and np.isnan(out.variance).all() and (out.dq == NO_DATA).all()


def test_read_only_planes_and_views_are_taken():
    """Planes may be maps of files, sections, or in the other byte order."""
    whole = np.arange(80, dtype=">f4").reshape(8, 10)
    whole.flags.writeable = False
    section = whole[2:6, 1:9:2]
    out = apply_steps(Frame(section), [PixelStep("bias", offset=section)])
    assert (out.data == 0).all()


def test_history_unit_and_products():
    steps = [
        PixelStep("bias", "sha256:b", offset=1.0, offset_variance=0.1, options={"k": 1}, note="n"),
        PixelStep("flat", "sha256:f", divisor=2.0),
        PixelStep("gain", scale=2.0, unit="electron", requires_unit="adu"),
    ]
    before = Frame(np.ones((2, 2)), history=(Applied("overscan"),), systematic_from=frozenset({"sha256:x"}))
    after = apply_steps(before, steps)
    assert [line.effect for line in after.history] == ["overscan", "bias", "flat", "gain"]
    assert after.history[1] == Applied("bias", "sha256:b", {"k": 1}, "n")
    assert after.unit == "electron"
    assert after.systematic_from == {"sha256:x", "sha256:b"}  # the flat brought no variance


def test_a_product_used_twice_is_said():
    step = PixelStep("bias", "sha256:b", offset=1.0, offset_variance=0.1)
    after = apply_steps(Frame(np.ones((2, 2))), [step, step])
    assert "correlated" in after.history[1].note and after.history[0].note == ""


@pytest.mark.parametrize(
    ("name", "shape"), [("offset", (3, 5)), ("divisor", (2, 4)), ("read_noise", (3,)), ("dq", (1, 3, 4))]
)
def test_planes_that_do_not_fit_are_named(name, shape):
    value = np.zeros(shape, np.uint32 if name == "dq" else np.float32)
    step = PixelStep("dark", **{name: value})
    frame = Frame(np.zeros((3, 4)), exposure=Exposure(path="night/m31.fits"))
    with pytest.raises(ShapeError) as failure:
        apply_steps(frame, [step])
    sentence = str(failure.value)
    assert "night/m31.fits" in sentence and "'dark'" in sentence and name.replace("_", " ") in sentence


def test_frames_with_reads_are_refused():
    with pytest.raises(ShapeError, match="rows, cols"):
        apply_steps(Frame(np.zeros((2, 3, 4))), [])


def test_units_are_checked():
    frame = Frame(np.ones((2, 2)), unit="electron")
    with pytest.raises(UnitError, match="noise"):
        apply_steps(frame, [PixelStep("noise", read_noise=3.0)])
    with pytest.raises(UnitError, match="expected adu, got electron"):
        apply_steps(
            Frame(np.ones((2, 2))), [PixelStep("g", unit="electron"), PixelStep("d", requires_unit="adu")]
        )


@pytest.mark.parametrize(
    "options",
    [
        {"gain": 0.0},
        {"gain": float("nan")},
        {"scale": 0.0},
        {"offset": 1.0, "offset_factor": float("inf")},
        {"offset_variance": 1.0},
        {"divisor_variance": 1.0},
        {"dq": np.zeros((2, 2))},
    ],
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(OptionError):
        PixelStep("effect", **options)


def test_complex_pixels_are_refused():
    with pytest.raises(OptionError, match="real"):
        apply_steps(Frame(np.ones((2, 2), complex)), [])


def test_numbers_too_large_for_float32_are_no_data():
    out = apply_steps(Frame(np.array([[1e300, 1.0]])), [])
    assert np.isnan(out.data[0, 0]) and out.dq[0, 0] == NO_DATA and out.dq[0, 1] == 0


def test_overflow_is_flagged():
    out = apply_steps(Frame(np.array([[3e38, 1.0]], np.float32)), [PixelStep("gain", scale=100.0)])
    assert np.isnan(out.data[0, 0]) and out.dq[0, 0] == DQ.DO_NOT_USE and out.data[0, 1] == 100


def test_one_step_twice_is_two_steps():
    step = PixelStep("add", offset=-10.0, saturation=15.0)
    out = apply_steps(Frame(np.array([[1.0, 7.0]])), [step, step])
    assert (out.data == [[21, 27]]).all() and (out.dq == [[0, DQ.SATURATED]]).all()


def curve(**changes):
    one = np.ones(2, np.float32)
    values = {"table": np.ones((2, 3), np.float32), "start": 0 * one, "spacing": one, "low": one, "high": one}
    return Curve(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"table": np.ones((2, 1), np.float32)}, ShapeError),
        ({"low": np.ones(3, np.float32)}, ShapeError),
        ({"spacing": np.zeros(2, np.float32)}, OptionError),
        ({"start": np.full(2, np.nan, np.float32)}, OptionError),
        ({"index": np.full((2, 2), 2, np.uint8)}, OptionError),
        ({"index": -1}, OptionError),
        ({"index": np.zeros((2, 2))}, OptionError),
    ],
)
def test_curves_without_meaning_are_refused(changes, error):
    with pytest.raises(error):
        curve(**changes)


def test_a_curve_of_another_size_is_named():
    step = PixelStep("linearity", curve=curve(index=np.zeros((3, 5), np.uint8)))
    with pytest.raises(ShapeError, match="curve of step 'linearity'"):
        apply_steps(Frame(np.zeros((3, 4))), [step])


def test_a_curve_is_held_outside_its_nodes():
    """Beyond the last node the end value is added, and the value is flagged beyond its limits."""
    bent = Curve(
        table=np.array([[0.0, 10.0, 40.0]], np.float32),
        start=np.zeros(1, np.float32),
        spacing=np.full(1, 100.0, np.float32),
        low=np.zeros(1, np.float32),
        high=np.full(1, 150.0, np.float32),
    )
    values = np.array([[-50.0, 0.0, 50.0, 150.0, 200.0, 900.0]])
    out = apply_steps(Frame(values, variance=np.ones((1, 6))), [PixelStep("linearity", curve=bent)])
    assert (out.data == [[-50, 0, 55, 175, 240, 940]]).all()
    np.testing.assert_allclose(out.variance, [[1, 1.21, 1.21, 1.69, 1.69, 1]], rtol=1e-6)
    assert ((out.dq == DQ.NONLINEAR) == [[True, False, False, False, True, True]]).all()


def test_saturation_is_flagged_at_the_limit():
    """The raw value that equals the limit is saturated; the bias is not added to it before."""
    raw = np.array([[65534, 65535]], np.uint16)
    out = apply_steps(Frame(raw), [PixelStep("bias", offset=1000.0, saturation=65535.0)])
    assert (out.dq == [[0, DQ.SATURATED]]).all()
