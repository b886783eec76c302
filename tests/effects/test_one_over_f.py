"""1/f noise of outputs: simulated in the order of time, measured, and held against what was put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft

from calibrant.effects._one_over_f_fit import Linear, _gradients, _rank_one, parts
from calibrant.effects._one_over_f_reference import reference
from calibrant.effects._one_over_f_response import power_law, responses
from calibrant.effects._one_over_f_spectra import Accumulator
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.instrument.clock import Clock
from calibrant.stack.kernels_spectra import cross, lay

CLOCK = Clock(256, 1024)
WHITE, OWN, COMMON, ALTERNATING = 6.0, 2.0, 8.0, 0.5


def pink(ticks, clock, amplitude, rng):
    """Stationary noise of the one-sided density amplitude / f; its lowest frequency is that of its length."""
    n = scipy.fft.next_fast_len(ticks, True)
    spectrum = scipy.fft.rfft(rng.standard_normal(n, np.float32))
    frequency = np.fft.rfftfreq(n, clock.pixel_time)
    frequency[0] = np.inf
    shape = np.sqrt(amplitude / frequency / (2 * clock.pixel_time))
    return scipy.fft.irfft(spectrum * shape.astype(np.float32), n)[:ticks].astype(np.float32)


def simulated(clock, reads, seed, *, white=WHITE, own=OWN, common=COMMON, alternating=ALTERNATING):
    """Reads of a ramp (reads, rows, columns), and the common noise (reads, rows, row ticks)."""
    rng, ticks = np.random.default_rng(seed), reads * clock.frame_ticks
    sign = np.where(np.arange(clock.width) % 2, np.float32(-1), np.float32(1))

    def laid(amplitude):
        stream = pink(ticks, clock, amplitude, rng).reshape(reads, -1)[:, : clock.rows * clock.row_ticks]
        return stream.reshape(reads, clock.rows, -1)[:, :, : clock.width]

    shared = laid(common)
    found = np.empty((reads, clock.rows, clock.outputs, clock.width), np.float32)
    for i in range(clock.outputs):
        x = shared + laid(own) + np.float32(white) * rng.standard_normal(shared.shape, np.float32)
        if alternating:
            x += laid(alternating) * sign
        found[:, :, i] = x[:, :, ::-1] if i % 2 and clock.alternate else x
    return found.reshape(reads, clock.rows, -1), shared


def measured(clock, ramps, **options):
    accumulator = Accumulator(clock, **options)
    for reads in ramps:
        for k in range(0, len(reads) - 1, 2):
            accumulator.add(reads[k], reads[k + 1])
    return parts(accumulator.result(), responses(clock))


@pytest.fixture(scope="module")
def ramps():
    return [simulated(CLOCK, 10, seed)[0] for seed in range(4)]


def test_clock_of_a_large_array():
    clock = Clock(2048, 2048)
    assert clock.frame_ticks == 1_073_677
    assert clock.frame_time == pytest.approx(10.73677)
    assert clock.row_frequency == pytest.approx(190.84, abs=0.01)
    assert list(clock.directions[0]) == [0, 1023, 1024, 2047]


def test_parts_are_those_put_in(ramps):
    found = measured(CLOCK, ramps)
    white = WHITE**2 / CLOCK.nyquist
    assert pulls(found, white) < 4.5
    assert found.common is not None
    for one in found.own:
        assert one.white == pytest.approx(white, rel=0.03)
        assert one.chi2 < 1.8
        assert one.pink.density(100.0) == pytest.approx(OWN / 100, rel=0.1)
    assert found.common.density(100.0) == pytest.approx(COMMON / 100, rel=0.03)
    assert found.common.slope == pytest.approx(1, abs=0.02)


def pulls(found, white, own=OWN, common=COMMON):
    """The largest, at 100 Hz, in sigma."""
    values = [(one.white - white) / one.white_sigma for one in found.own]
    values += [(one.pink.density(100.0) - own / 100) / one.pink.density_sigma(100.0) for one in found.own]
    values.append((found.common.density(100.0) - common / 100) / found.common.density_sigma(100.0))
    return max(map(abs, values))


def test_twin_with_other_noise_fails(ramps):
    found = measured(CLOCK, ramps)
    white = WHITE**2 / CLOCK.nyquist
    assert pulls(found, white, common=1.15 * COMMON) > 5
    assert pulls(found, white, own=1.4 * OWN) > 5
    assert pulls(found, 1.1 * white) > 5


def test_twin_with_another_clock_fails(ramps):
    """Taken for read in one direction, outputs have little in common."""
    wrong = measured(replace(CLOCK, alternate=False), ramps)
    assert pulls(wrong, WHITE**2 / CLOCK.nyquist) > 8


def test_gaps_after_rows_are_gaps_and_a_twin_without_them_fails():
    clock = replace(CLOCK, row_overhead=96)
    ramps = [simulated(clock, 10, seed)[0] for seed in range(4)]
    white = WHITE**2 / clock.nyquist
    assert pulls(measured(clock, ramps), white) < 4.5
    assert pulls(measured(replace(clock, row_overhead=0), ramps), white) > 6


def test_what_was_not_put_in_is_not_found():
    ramps = [simulated(CLOCK, 10, seed, own=0, common=0, alternating=0)[0] for seed in range(3)]
    found = measured(CLOCK, ramps)
    for one in [found.common, *(p for own in found.own for p in (own.pink, own.alternating))]:
        assert abs(one.amplitude) < 4 * one.sigma
        assert one.variance(10, 1e4) < 0.02**2 * WHITE**2
        assert np.isnan(one.slope_sigma)
    assert found.own[0].white == pytest.approx(WHITE**2 / CLOCK.nyquist, rel=0.01)


def test_bad_pixels_cosmic_rays_pattern_and_drift_change_nothing(ramps):
    rng = np.random.default_rng(5)
    good = rng.random(ramps[0].shape[1:]) > 0.01
    dirty = []
    glow = rng.random(good.shape, np.float32)
    for reads in ramps:
        reads = reads + 30 * np.arange(len(reads), dtype=np.float32)[:, None, None] * (1 + glow)
        reads[5, 100, 40] += 1e4
        reads[:, ~good] = np.nan
        dirty.append(reads)
    clean, found = measured(CLOCK, ramps), measured(CLOCK, dirty, good=good)
    for a, b in zip(clean.own, found.own, strict=True):
        # filled pixels lack the pink noise within a row: 1 % of them, of as much pink as white noise here
        assert b.white == pytest.approx(a.white, rel=0.04)
    assert found.common.density(100.0) == pytest.approx(clean.common.density(100.0), rel=0.03)


def test_coherence_is_that_of_a_known_mixture():
    """A stream that sees the common noise at 0.8, with noise of its own, and one that sees nothing."""
    clock, rng = replace(CLOCK, rows=128), np.random.default_rng(2)
    accumulator = Accumulator(clock)
    for seed in range(8):
        reads, shared = simulated(clock, 10, seed, own=0, alternating=0)
        means = 0.8 * shared.mean(axis=2)
        for k in range(0, 10, 2):
            streams = np.stack([means[k + 1] - means[k], rng.standard_normal(clock.rows)])
            accumulator.add(reads[k], reads[k + 1], streams)
    spectra = accumulator.result()
    found = reference(spectra.rows, 4)
    assert found.weights.shape == (4, 2, len(found.frequency))
    np.testing.assert_allclose(found.weights[:, 0], 1 / 0.8, rtol=0.03)
    assert np.all(found.coherence > 0.98)
    assert np.all(found.remaining[:, 1:] < 4 * 2 * WHITE**2 / CLOCK.nyquist)
    with pytest.raises(SelectionError, match="reference streams"):
        reference(spectra.pixels, 4)


def test_forms_take_the_parts_out_exactly():
    own = np.array([3.0, 1.0, 5.0, 2.0])
    for gains in (np.ones(4), np.array([1.1, 0.8, 1.2, 0.9])):
        matrix, forms = np.diag(own) + 7.0 * np.outer(gains, gains), Linear.of(gains)
        np.testing.assert_allclose(np.einsum("oij,ji->o", forms.own, matrix), own)
        assert np.einsum("ij,ji", forms.common, matrix) == pytest.approx(7)


def test_gains_of_products_and_how_they_follow_them():
    gains, rng = np.array([1.1, 0.8, 1.2, 0.9]), np.random.default_rng(3)
    matrix = 7.0 * np.outer(gains, gains) + np.diag([3.0, 1.0, 5.0, 2.0])
    np.testing.assert_allclose(_rank_one(matrix, np.ones(4)), gains, rtol=1e-6)
    forms = _gradients(matrix, gains)
    change = rng.standard_normal((4, 4)) * 1e-3
    change += change.T
    moved = _rank_one(matrix + change, gains) - gains
    np.testing.assert_allclose(np.einsum("kij,ji->k", forms, change), moved, atol=2e-6)
    assert np.abs(moved).max() > 1e-5


def test_power_law_of_cells_is_smooth_at_one():
    cells = np.geomspace(0.01, 1e5, 50)
    np.testing.assert_allclose(power_law(cells, 1.0), 1)
    change = (power_law(cells, 1 + 1e-8) - 1) / -1e-8
    np.testing.assert_allclose(change, np.log(cells[1:] * cells[:-1]) / 2, rtol=1e-4, atol=1e-4)


def test_knee_and_variance():
    found = measured(CLOCK, [simulated(CLOCK, 10, 7, own=0, alternating=0)[0]]).common
    knee, sigma = found.knee(WHITE**2 / CLOCK.nyquist)
    assert abs(knee - COMMON / (WHITE**2 / CLOCK.nyquist)) < 5 * sigma
    assert found.variance(10, 100) == pytest.approx(COMMON * np.log(10), rel=0.1)


def test_kernels_are_their_specification():
    rng, clock = np.random.default_rng(1), Clock(4, 10, outputs=2, row_overhead=2)
    first, second = rng.standard_normal((2, 4, 10)).astype(np.float32)
    good = rng.random((4, 10)) > 0.2
    found = []
    for kernel in (lay, lay.py_func):
        out, means, counts = (
            np.zeros((2, 4, 7), np.float32),
            np.zeros((2, 4, 2), np.float32),
            np.zeros(2, int),
        )
        kernel(first, second, good, *clock.directions, np.array([[0, 9.0]] * 2), 5, out, means, counts)
        found.append((out, means, counts))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    expected = np.where(good, second - first, np.nan)[:, :4:-1]
    np.testing.assert_allclose(found[0][1][1, :, 0], np.nanmean(expected, axis=1), rtol=1e-5)
    x = rng.standard_normal((2, 3, 2, 6)).astype(np.float32)
    sums = np.zeros((3, 2, 6), np.float32)
    cross(x, sums)
    z = x[:, :, 0] + 1j * x[:, :, 1]
    wanted = [(z[i] * z[j].conj()).sum(axis=0) for i, j in ((0, 0), (0, 1), (1, 1))]
    np.testing.assert_allclose(sums[:, 0] + 1j * sums[:, 1], wanted, atol=1e-5)


def test_refusals():
    with pytest.raises(OptionError, match="clock"):
        Clock(0, 4)
    accumulator = Accumulator(CLOCK)
    with pytest.raises(ShapeError, match="one shape"):
        accumulator.add(np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(SelectionError, match="more differences"):
        accumulator.result()
    with pytest.raises(ShapeError, match="good pixels"):
        Accumulator(CLOCK, np.ones((2, 2), bool))


@pytest.mark.soak
@pytest.mark.parametrize(("ramps", "tolerance"), [(2, 0.03), (20, 0.01)])
def test_a_large_array_reaches_the_stated_precision(ramps, tolerance):
    """10 and 100 differences of 2048 x 2048: W within 0.5 %, U within 3 %, C within 3 % and 1 %."""
    clock = Clock(2048, 2048)
    found = measured(clock, (simulated(clock, 10, 50 + seed)[0] for seed in range(ramps)))
    for one in found.own:
        assert one.white == pytest.approx(WHITE**2 / clock.nyquist, rel=0.005)
        assert one.pink.density(100.0) == pytest.approx(OWN / 100, rel=0.03)
    assert found.common.density(100.0) == pytest.approx(COMMON / 100, rel=tolerance)
