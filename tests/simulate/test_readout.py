"""Readout: pixel -> signal -> image, with overscan, amplifiers and converter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.frame import DQ
from calibrant.sections import parse_section
from calibrant.simulate import readout
from calibrant.simulate.detector import Design, Detector

SHAPE = (128, 160)


def flawless(**changes) -> Detector:
    return Detector.simulated(SHAPE, np.random.default_rng(1), Design.flawless(**changes))


def test_signal_has_the_mean_of_the_bias_and_the_variance_of_the_read_noise():
    made, rng = flawless(), np.random.default_rng(2)
    stack = np.stack([readout.signal(made, 0.0, rng)[0] for _ in range(60)]).astype(float)
    data = stack[:, :, :160]
    noise = made.amplifiers[0].read_noise
    assert np.std(data.mean(axis=0) - made.bias) == pytest.approx(noise / np.sqrt(60), rel=0.03)
    assert np.mean(data - made.bias) == pytest.approx(0.0, abs=0.03)
    assert data.var(axis=0, ddof=1).mean() == pytest.approx(noise**2, rel=0.01)
    overscan = stack[:, :, 160:]
    assert overscan.shape[2] == made.design.overscan
    level = made.row_level + made.design.level
    assert np.mean(overscan - level[:, np.newaxis]) == pytest.approx(0.0, abs=0.05)
    assert overscan.var(axis=0, ddof=1).mean() == pytest.approx(noise**2, rel=0.02)


def test_the_gain_divides_and_the_offset_adds_everywhere():
    made = flawless(read_noise=0.0, gain=2.5)
    rng = np.random.default_rng(3)
    dark, lit = readout.signal(made, 0.0, rng)[0], readout.signal(made, 1000.0, rng, offset=-1.5)[0]
    np.testing.assert_allclose((lit - dark)[:, :160], 1000.0 / 2.5 - 1.5, atol=1e-3)
    np.testing.assert_allclose((lit - dark)[:, 160:], -1.5, atol=1e-3)


def test_telegraph_pixels_stand_on_two_levels_from_frame_to_frame():
    made = Detector.simulated(SHAPE, np.random.default_rng(4), telegraph=2000.0, read_noise=0.0, noisy=0.0)
    at = made.dq & np.uint32(DQ.TELEGRAPH) != 0
    rng = np.random.default_rng(5)
    stack = np.stack([readout.signal(made, 0.0, rng)[0][:, :160][at] for _ in range(40)])
    steps = (stack - (made.bias - 0.5 * made.telegraph)[at]) / made.telegraph[at]
    np.testing.assert_allclose(np.abs(steps - 0.5), 0.5, atol=1e-4)
    assert steps.mean() == pytest.approx(0.5, abs=0.06)


def test_the_converter_rounds_and_clips():
    volts = np.array([[-3.0, 0.4, 0.6, 70000.0, 65534.7]], np.float32)
    got = readout.image(volts)
    assert got.dtype == np.uint16 and got.tolist() == [[0, 0, 1, 65535, 65535]]


def test_amplifiers_go_back_together_and_the_second_is_read_from_the_right():
    made = flawless(amplifiers=2, read_noise=0.0, bias_structure=0.0, overscan=8)
    electrons = np.arange(SHAPE[1], dtype=np.float32)[np.newaxis, :] * np.full((SHAPE[0], 1), 100.0)
    images = tuple(map(readout.image, readout.signal(made, electrons, np.random.default_rng(1))))
    assert [image.shape for image in images] == [(128, 88), (128, 88)]
    assert images[1][0, 0] > images[1][0, 79], "the rightmost column comes first"
    whole = readout.trimmed(made, images).astype(float)
    np.testing.assert_allclose((whole - made.bias) * made.gain, electrons, atol=1.0)


@pytest.mark.parametrize("amplifiers", [1, 2])
def test_sections_name_the_parts_of_the_image(amplifiers):
    made = flawless(amplifiers=amplifiers, read_noise=0.0)
    images = readout.signal(made, 5000.0, np.random.default_rng(1))
    for amplifier, image in zip(made.amplifiers, images, strict=True):
        cards = readout.sections(made, amplifier)
        data, bias = (parse_section(cards[key]).within(image.shape) for key in ("DATASEC", "BIASSEC"))
        assert data.of(image).min() > bias.of(image).max() + 1000
        assert data.shape[1] + bias.shape[1] == image.shape[1]
        if amplifiers == 2:
            whole = parse_section(cards["DETSEC"]).within(SHAPE)
            assert (whole.cols.start, whole.cols.stop) == (amplifier.start, amplifier.stop)
            assert whole.flip_cols == amplifier.reverse
    assert "BIASSEC" not in readout.sections(flawless(overscan=0), made.amplifiers[0])


def test_saturation_is_the_full_well_or_the_converter():
    made = flawless(gain=2.0, full_well=50_000.0, level=500.0)
    assert readout.saturation(made) == 25_500.0
    assert readout.saturation(replace(made, design=made.design.changed(full_well=1e6))) == 65535.0
