"""Gain: nominal values from every place they may stand, and the step on data, variance and flags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import gain
from calibrant.errors import ConfigError, HistoryError, OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.product import Product, Quantity

SHAPE = (6, 8)


def instrument(*gains, **detector):
    halves = ("[1:4,1:6]", "[5:8,1:6]")
    amplifiers = tuple(
        Amplifier(name=name, data=half, place=half, gain=value)
        for name, half, value in zip("AB", halves, gains, strict=False)
    )
    return Instrument(name="cam", detectors={"0": Detector(amplifiers=amplifiers, **detector)})


def frame(unit="adu", **facts):
    rng = np.random.default_rng(1)
    return Frame(
        rng.normal(100, 10, SHAPE).astype(np.float32),
        variance=np.full(SHAPE, 9.0, np.float32),
        unit=unit,
        exposure=Exposure(kind="light", shape=SHAPE, unit=unit, **facts),
    )


def measure(camera, *frames, **options):
    return gain.nominal(Exposures.from_frames(frames or [frame()], camera), **options)


def test_given_before_header_before_file():
    camera = instrument(gain=2.0)
    assert measure(camera).quantity("gain").value == 2.0
    assert measure(camera, frame(gain=1.7)).quantity("gain").value == 1.7
    assert measure(camera, frame(gain=1.7), gain=1.9).quantity("gain").value == 1.9
    assert measure(camera).quantity("gain").unit == "electron/adu"


def test_electrons_are_counts_times_gain():
    before = frame()
    done = gain.apply(before, measure(instrument(gain=2.5)))
    np.testing.assert_allclose(done.data, before.data * 2.5, rtol=1e-6)
    np.testing.assert_allclose(done.variance, 9.0 * 2.5**2, rtol=1e-6)
    assert done.unit == "electron" and done.systematic is None
    assert gain.apply(frame("adu/s"), measure(instrument(gain=2.5))).unit == "electron/s"


def test_amplifiers_have_their_own():
    product = measure(instrument(1.0, 2.0))
    assert [q.value for q in product] == [1.0, 2.0] and [q.place for q in product] == ["A", "B"]
    before = frame()
    done = gain.apply(before, product)
    np.testing.assert_allclose(done.data[:, :4], before.data[:, :4], rtol=1e-6)
    np.testing.assert_allclose(done.data[:, 4:], before.data[:, 4:] * 2, rtol=1e-6)
    np.testing.assert_allclose(done.variance[:, 4:], 36.0, rtol=1e-6)
    by_name = measure(instrument(1.0, 2.0), gain={"A": 3.0, "B": 4.0})
    assert by_name.quantity("gain", "B").value == 4.0


def test_a_sigma_is_common_to_all_pixels():
    before = frame()
    done = gain.apply(before, measure(instrument(gain=2.0), sigma=0.1))
    np.testing.assert_allclose(done.data, before.data * 2.0, rtol=1e-6)
    # d(electrons) = electrons * sigma / gain, in every pixel alike
    np.testing.assert_allclose(done.systematic, (np.asarray(done.data) * 0.05) ** 2, rtol=1e-4)
    assert done.systematic_from


def test_equalised_amplifiers_obey_one_gain():
    """The photon noise of both halves follows the mean gain once they are equalised, and not before."""
    rng = np.random.default_rng(4)
    gains = {"A": 1.0, "B": 3.0}
    electrons = rng.poisson(2000, (100, 200)).astype(float)
    counts = np.where(np.arange(200) < 100, electrons / gains["A"], electrons / gains["B"])
    camera = Instrument(
        name="cam",
        detectors={
            "0": Detector(
                amplifiers=tuple(
                    Amplifier(name=n, data=s, place=s, gain=gains[n])
                    for n, s in (("A", "[1:100,1:100]"), ("B", "[101:200,1:100]"))
                )
            )
        },
    )
    one = Frame(counts.astype(np.float32), exposure=Exposure(shape=counts.shape))
    product = gain.nominal(Exposures.from_frames([one], camera))
    from calibrant.stack.pixel import apply_steps

    data = np.asarray(apply_steps(one, [gain.equalise(one.exposure, product)]).data)
    assert gain.mean_gain(product) == 2.0
    for half in (data[:, :100], data[:, 100:]):
        assert half.mean() / half.var(ddof=1) == pytest.approx(2.0, rel=0.05)
    assert counts[:, 100:].mean() / counts[:, 100:].var(ddof=1) > 2.5


def test_a_measured_gain_that_is_no_number_flags_its_pixels():
    plane = np.full(SHAPE, 1.5, np.float32)
    plane[:, 4:] = np.nan
    broken = Product(
        "gain", planes={"data": plane}, quantities=(Quantity("gain", 1.5, None, "electron/adu"),)
    )
    before = frame()
    done = gain.apply(before, broken)
    assert (done.dq[:, 4:] & DQ.NO_GAIN_VALUE).all() and not done.dq[:, :4].any()
    np.testing.assert_allclose(done.data[:, :4], before.data[:, :4] * 1.5, rtol=1e-6)


def test_bad_input():
    with pytest.raises(ConfigError, match="no gain is known"):
        measure(instrument())
    with pytest.raises(OptionError, match="positive"):
        measure(instrument(), gain=0.0)
    with pytest.raises(OptionError, match="every amplifier"):
        measure(instrument(1.0, 2.0), gain={"A": 1.0})
    with pytest.raises(SelectionError, match="different gains"):
        measure(instrument(), frame(gain=1.0), replace(frame(gain=1.1), data=np.ones(SHAPE, np.float32)))
    product = measure(instrument(gain=2.0))
    with pytest.raises(UnitError, match="counts into electrons"):
        gain.apply(frame("electron"), product)
    with pytest.raises(HistoryError):
        gain.apply(gain.apply(frame(), product), product)
    with pytest.raises(SelectionError, match="not a gain"):
        gain.apply(frame(), Product("bias", planes={"data": np.zeros(SHAPE)}))
