"""Between pixels and converter: transfer, curve, crosstalk and offset, amplifier by amplifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.simulate import readout
from calibrant.simulate.chain import Chain, crosstalk, defer, voltages
from calibrant.simulate.detector import Design, Detector

NONE = Chain.perfect(2)


def bare(**faults) -> Detector:
    """A detector of two halves without noise or structure, and with a chain."""
    design = Design.flawless(amplifiers=2, read_noise=0.0, bias_structure=0.0, dark=0.0, prnu=0.0)
    design = design.changed(vignette=0.0, overscan=6, parallel=4, prescan=3)
    made = Detector.simulated((12, 20), np.random.default_rng(1), design)
    return replace(made, chain=replace(NONE, **faults))


def light(detector: Detector, electrons, lit=True) -> list[np.ndarray]:
    """What each amplifier gives above its level, adu, in the order of readout."""
    images = readout.signal(detector, electrons, np.random.default_rng(2), lit=lit)
    return [image - amplifier.level for image, amplifier in zip(images, detector.amplifiers, strict=True)]


def test_a_perfect_chain_changes_no_bit():
    rng = np.random.default_rng(3)
    plain = Detector.simulated((16, 24), rng, amplifiers=2, parallel=3, prescan=2)
    electrons = rng.poisson(2e4, plain.shape).astype(np.float32)
    one = readout.signal(plain, electrons, np.random.default_rng(4))
    other = readout.signal(replace(plain, chain=NONE), electrons, np.random.default_rng(4))
    for a, b in zip(one, other, strict=True):
        # The same noise, and the same charge: added in another order.
        np.testing.assert_allclose(a, b, rtol=3e-7)
        assert (readout.image(a) == readout.image(b)).mean() > 0.999


# -- charge transfer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_the_overscan_holds_what_the_last_pixel_left_behind(axis):
    image = np.zeros((40, 40), np.float32)
    image[:30, :30] = 1e4
    left = defer(image, 1e-5, axis)
    line = left[10] if axis == 1 else left[:, 10]
    # EPER: (O1 + O2)/(transfers x last pixel), the last but one being a transfer nearer.
    assert line[30] + line[31] == pytest.approx(30 * 1e-5 * 1e4, rel=0.01)
    assert (line[32:] == 0).all()
    assert left.sum(dtype=np.float64) == pytest.approx(image.sum(dtype=np.float64), rel=1e-7)


def test_without_a_fraction_nothing_moves():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert defer(image, 0.0, 0) is image


def test_each_amplifier_has_its_own_transfer():
    detector = bare(cti_serial=np.array([0.0, 1e-4]), cti_parallel=np.array([1e-4, 0.0]))
    first, second = light(detector, 1e4)
    assert first[0, 13:].max() < 0.01 < 1.0 < second[0, 13]
    assert second[12:].max() < 0.01 < 1.0 < first[12, 5]


# -- curve ------------------------------------------------------------------------------------------------


def test_the_curve_is_that_of_the_amplifier():
    faults = {"quadratic": np.array([2e-7, 4e-7]), "cubic": np.array([1e-13, 0.0])}
    detector = bare(**faults)
    for number, image in enumerate(light(detector, 6e4)):
        true = 6e4 / detector.amplifiers[number].gain
        expected = true - faults["quadratic"][number] * true**2 + faults["cubic"][number] * true**3
        assert image[:12, 3:13] == pytest.approx(expected, rel=1e-6)
        assert detector.chain.measured(number, true) == pytest.approx(expected)
        assert expected < 0.995 * true


def test_no_curve_comes_down_again():
    signal = np.linspace(0.0, 5e6, 1000)
    for quadratic, cubic in ((3e-7, 0.0), (3e-7, 1e-14), (3e-7, -1e-13), (3e-7, 1e-12), (0.0, 0.0)):
        chain = replace(NONE, quadratic=np.full(2, quadratic), cubic=np.full(2, cubic))
        assert (np.diff(chain.measured(1, signal)) >= -1e-6).all()


# -- crosstalk --------------------------------------------------------------------------------------------


def test_crosstalk_goes_from_source_to_target_at_the_same_time_of_readout():
    matrix = np.array([[0.0, 1e-3], [0.0, 0.0]])
    detector = bare(crosstalk=matrix)
    electrons = np.zeros(detector.shape, np.float32)
    electrons[4, 2] = 5e4  # in the left half, which is read from the left
    first, second = light(detector, electrons)
    assert second[4, 3 + 2] == pytest.approx(1e-3 * first[4, 3 + 2], rel=1e-4)
    # On the detector the ghost is a mirror image: the right half is read from the right.
    images = tuple(readout.image(image) for image in (first, second))
    ghost = np.argwhere(readout.trimmed(detector, images)[:, 10:] > 10)
    assert ghost.tolist() == [[4, 19 - 2 - 10]]
    assert np.abs(np.delete(first, 5, axis=1)).max() < 0.01


def test_crosstalk_of_several_adds_up():
    images = [np.full((2, 3), value, np.float32) for value in (1e4, 2e4, 0.0)]
    matrix = np.zeros((3, 3))
    matrix[0, 2], matrix[1, 2], matrix[1, 0] = 1e-3, -2e-3, 5e-4
    found = crosstalk(images, matrix)
    assert [image[0, 0] for image in found] == pytest.approx([1e4 + 10, 2e4, 10 - 40])


# -- offsets, saturation ----------------------------------------------------------------------------------


def test_a_pedestal_is_on_lit_pixels_once_the_shutter_was_open():
    detector = bare(pedestal=np.array([3.0, -2.0]))
    for number, (image, dark) in enumerate(
        zip(light(detector, 0.0), light(detector, 0.0, False), strict=True)
    ):
        assert image[:12, 3:13] == pytest.approx((3.0, -2.0)[number], abs=1e-3)
        assert np.abs(image[12:]).max() < 1e-3 and np.abs(image[:, 13:]).max() < 1e-3
        assert np.abs(dark).max() < 1e-3


def test_saturation_is_where_the_curve_meets_the_full_well():
    detector = bare(quadratic=np.array([3e-7, 0.0]))
    full = [detector.design.full_well / amplifier.gain for amplifier in detector.amplifiers]
    levels = [amplifier.level for amplifier in detector.amplifiers]
    limits = readout.limits(detector)
    assert limits == pytest.approx([levels[0] + full[0] * (1 - 3e-7 * full[0]), levels[1] + full[1]])
    assert readout.saturation(detector) == min(limits)


# -- drawn ------------------------------------------------------------------------------------------------


def test_drawn_chains_have_the_strengths_asked_for():
    wells = np.full(200, 6e4)
    strengths = {"nonlinearity": 0.015, "crosstalk": 4e-4, "far": 1e-5, "pedestal": 1.0}
    chain = Chain.drawn(wells, np.random.default_rng(7), cti_serial=5e-6, cti_parallel=2e-6, **strengths)
    missing = [1 - float(chain.measured(n, 6e4)) / 6e4 for n in range(200)]
    assert np.mean(missing) == pytest.approx(0.015, rel=0.05) and np.std(missing) > 0.002
    assert np.mean(np.diag(chain.crosstalk, 1)) == pytest.approx(4e-4, rel=0.1)
    assert np.mean(np.diag(chain.crosstalk, 2)) == pytest.approx(-0.8e-4, rel=0.1)
    assert (np.diag(chain.crosstalk) == 0).all()
    assert np.mean(chain.cti_serial) == pytest.approx(5e-6, rel=0.1)
    assert np.mean(chain.cti_parallel) == pytest.approx(2e-6, rel=0.1)
    assert np.std(chain.pedestal) == pytest.approx(1.0, rel=0.2)


def test_the_order_is_transfer_gain_curve_crosstalk():
    chain = replace(
        NONE,
        quadratic=np.array([1e-6, 0.0]),
        cti_serial=np.array([1e-4, 0.0]),
        crosstalk=np.array([[0.0, 1e-2], [0.0, 0.0]]),
    )
    charge = [np.full((3, 5), 2e4, np.float32), np.zeros((3, 5), np.float32)]
    first, second = voltages(chain, charge, [2.0, 1.0])
    true = defer(charge[0], 1e-4, 1) / 2.0
    assert first == pytest.approx(true - 1e-6 * true**2, rel=1e-6)
    assert second == pytest.approx(1e-2 * first, rel=1e-6)
