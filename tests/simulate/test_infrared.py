"""Infrared arrays: spectra, stationarity, reference pixels, charge and jumps, with plain NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.frame import DQ
from calibrant.simulate.infrared import Array, Clock, Design, Exposure, frames, ramp

CLOCK = Clock(rows=64, cols=256, outputs=4)
BARE = Design.flawless(clock=CLOCK, bias=0.0, low_cut=20.0)


def streams(design: Design, n: int, seed: int = 1) -> np.ndarray:
    """Reads in the order of time with the overheads as zeros: (n, outputs, ticks of the rows)."""
    clock = design.clock
    out = np.zeros((n, clock.outputs, clock.rows, clock.row_ticks))
    for number, read in enumerate(frames(Array(design), n, np.random.default_rng(seed))):
        for output in range(clock.outputs):
            block = read[:, output * clock.width : (output + 1) * clock.width]
            out[number, output, :, : clock.width] = block[:, ::-1] if output % 2 else block
    return out.reshape(n, clock.outputs, -1)


def spectra(design: Design, n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and one-sided cross spectra of the outputs without a gap: (f, outputs, outputs)."""
    series, dt = streams(design, n, seed), design.clock.pixel_time
    taper = np.hanning(series.shape[-1])
    found = np.fft.rfft(series * taper, axis=-1)
    cross = np.einsum("nif,njf->fij", found, found.conj()) * 2 * dt / (n * np.sum(taper**2))
    return np.fft.rfftfreq(series.shape[-1], dt), cross


def gapless(**changes) -> Design:
    return BARE.changed(clock=replace(CLOCK, row_overhead=0), **changes)


def ratio(f: np.ndarray, psd: np.ndarray, model: np.ndarray, low: float, high: float) -> float:
    used = (f >= low) & (f <= high)
    return float(np.mean(psd[used] / model[used]))


def test_the_clock_of_a_full_frame_is_the_published_one():
    clock = Clock()
    assert (clock.width, clock.row_ticks, clock.frame_ticks) == (512, 524, 1073677)
    assert clock.frame_time == pytest.approx(10.73677) and clock.row_frequency == pytest.approx(
        190.84, abs=0.01
    )
    with pytest.raises(OptionError, match="whole number of columns"):
        Clock(cols=10, outputs=4)


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
def test_own_pink_noise_has_its_power_law_and_no_correlation(exponent):
    f, cross = spectra(gapless(pink_own=(1.0, 2.0, 3.0, 4.0), exponent=exponent), 150)
    for output, coefficient in enumerate((1.0, 2.0, 3.0, 4.0)):
        model = coefficient / f.clip(1) ** exponent
        for low, high in ((200.0, 2000.0), (2000.0, 25000.0)):
            bins = np.sum((f >= low) & (f <= high))
            sigma = 1.5 / np.sqrt(150 * bins)
            assert ratio(f, cross[:, output, output].real, model, low, high) == pytest.approx(
                1, abs=4 * sigma + 0.02
            )
    off = cross[:, 0, 1] / np.sqrt(cross[:, 0, 0] * cross[:, 1, 1])
    assert abs(off[10:].mean()) < 4 / np.sqrt(150 * len(off))


def test_common_pink_noise_is_shared_in_time_with_the_gain_of_each_output():
    f, cross = spectra(gapless(pink_common=2.0, common_gain=(1.0, 1.0, 0.5, 1.0)), 100)
    model = 2.0 / f.clip(1)
    assert ratio(f, cross[:, 0, 1].real, model, 300.0, 25000.0) == pytest.approx(1, abs=0.03)
    assert ratio(f, cross[:, 0, 2].real, model, 300.0, 25000.0) == pytest.approx(0.5, abs=0.015)
    np.testing.assert_allclose(
        np.abs(cross[5:, 0, 1]) ** 2, (cross[5:, 0, 0] * cross[5:, 1, 1]).real, rtol=1e-3
    )


def test_alternating_noise_is_folded_about_the_nyquist_frequency():
    f, cross = spectra(gapless(alternating=1.5), 100)
    folded = 0.5 / CLOCK.pixel_time - f
    psd = np.mean([cross[:, i, i].real for i in range(4)], axis=0)
    assert ratio(f, psd, 1.5 / folded.clip(1), 25000.0, 49500.0) == pytest.approx(1, abs=0.03)
    assert psd[5:200].mean() < 0.05 * psd[-200:-5].mean()


def test_white_noise_is_flat_of_its_own_size_in_each_output():
    _, cross = spectra(gapless(white=(3.0, 4.0, 5.0, 6.0), reference_ratio=1.0), 40)
    for output, sigma in enumerate((3.0, 4.0, 5.0, 6.0)):
        assert cross[5:-5, output, output].real.mean() == pytest.approx(sigma**2 * 2e-5, rel=0.01)


def test_pink_noise_is_stationary_and_its_size_independent_of_the_length():
    clock = Clock(rows=8, cols=16, outputs=4)
    # A corner far below what a short exposure sees: a generator with a transient would start at zero.
    array = Array(Design.flawless(clock=clock, border=(1, 1, 1, 1), bias=0.0, pink_own=1.0, low_cut=1.0))
    rng = np.random.default_rng(3)
    first, last = [], []
    for _ in range(400):
        reads = list(frames(array, 12, rng))
        first.append(reads[0][0, [0, 7, 8, 15]])
        last.append(reads[-1][-1, [3, 4, 11, 12]])
    truth = array.truth().tables["spectrum"]
    expected = np.trapezoid(truth["psd"], truth["frequency"]) + truth["psd"][0] * truth["frequency"][0]
    for values in (np.ravel(first), np.ravel(last)):
        assert np.var(values) == pytest.approx(expected, rel=4.5 * np.sqrt(2 / len(values)))


def test_noise_goes_on_from_read_to_read():
    """The lowest frequencies survive the cut into frames: neighbours are correlated as the PSD says."""
    design = Design.flawless(
        clock=Clock(rows=8, cols=16), border=(1, 1, 1, 1), bias=0.0, pink_own=1.0, low_cut=1.0
    )
    truth = Array(design).truth().tables["spectrum"]
    f = np.linspace(0.0, 50000.0, 1_000_001)
    psd = np.interp(f, truth["frequency"], truth["psd"])
    lag = design.clock.frame_time
    rng, pairs = np.random.default_rng(4), []
    for _ in range(500):
        one, two = frames(Array(design), 2, rng)
        pairs.append((one[3, [0, 7, 8, 15]], two[3, [0, 7, 8, 15]]))
    one, two = np.array(pairs).swapaxes(0, 1)
    expected = np.trapezoid(psd * np.cos(2 * np.pi * f * lag), f)
    variance = np.trapezoid(psd, f)
    assert np.mean(one * two) == pytest.approx(expected, abs=4.5 * variance / np.sqrt(one.size / 2))
    assert expected > 0.4 * variance


def test_reference_pixels_are_quieter_and_blind():
    array = Array(BARE.changed(white=5.0, picture_frame=0.5))
    reference = array.maps.dq & np.uint32(DQ.REFERENCE_PIXEL) != 0
    assert reference.sum() == 64 * 256 - 56 * 248
    quiet = ramp(Array(BARE.changed(white=5.0)), 60, 0.0, np.random.default_rng(1))
    noise = quiet.std(axis=0, ddof=1)
    got = np.sqrt(np.mean(noise[reference] ** 2) / np.mean(noise[~reference] ** 2))
    assert got == pytest.approx(0.8, rel=4 / np.sqrt(2 * 60 * reference.sum()))
    lit = ramp(Array(BARE), 3, 1e5, np.random.default_rng(1))
    assert not lit[:, reference].any() and lit[:, ~reference].min() > 0
    frame = array.maps.picture_frame
    assert frame[~reference].std() == pytest.approx(1.0, rel=1e-4) and not frame[reference].any()


def test_ipc_conserves_charge_and_has_its_kernel():
    from calibrant.simulate._infrared_design import share

    point = np.zeros((7, 7), np.float32)
    point[3, 3] = 1e4
    a, d = 0.01, 0.002
    expected = np.array([[d, a, d], [a, 1 - 4 * (a + d), a], [d, a, d]]) * 1e4
    np.testing.assert_allclose(share(point, a, d)[2:5, 2:5], expected, rtol=1e-5)
    charge = np.random.default_rng(1).poisson(1000.0, (20, 30)).astype(np.float32)
    assert share(charge, a, d).sum(dtype=float) == pytest.approx(charge.sum(dtype=float), rel=1e-7)
    corner = np.zeros((5, 5), np.float32)
    corner[0, 0] = 1e4
    assert share(corner, a, d).sum(dtype=float) == pytest.approx(1e4, rel=1e-6)


@pytest.mark.parametrize("rate", [100.0, 2000.0])
def test_slopes_and_their_photon_noise(rate):
    array = Array(BARE.changed(gain=2.0))
    step = array.clock.frame_time
    cube = ramp(array, 9, rate, np.random.default_rng(2))[(slice(None), *array.design.active)].astype(float)
    steps = np.diff(cube, axis=0) * 2.0
    assert steps.mean() == pytest.approx(rate * step, abs=4.5 * np.sqrt(rate * step / steps.size))
    assert steps.var() == pytest.approx(rate * step, rel=0.03)
    assert cube[0].mean() * 2.0 == pytest.approx(rate * step, rel=0.01), "one frame time after the reset"


def test_groups_average_reads_and_drop_others():
    array = Array(BARE.changed(gain=1.0, white=4.0))
    plane = np.full((64, 256), 500.0)
    cube = ramp(array, 5, plane, np.random.default_rng(2), nframes=4, skip=1)[:, 4:-4, 4:-4]
    step = array.clock.frame_time
    assert np.diff(cube, axis=0).mean() == pytest.approx(500.0 * 5 * step, rel=0.005)
    dark = ramp(array, 8, 0.0, np.random.default_rng(2), nframes=4, skip=1)[:, 4:-4, 4:-4]
    assert dark.std() == pytest.approx(2.0, rel=0.01)


def test_cosmic_rays_are_jumps_where_truth_has_them():
    array = Array(BARE.changed(gain=1.0, cosmic_rate=0.02))
    exposure = Exposure(array, np.random.default_rng(5))
    cube = np.stack([next(exposure) for _ in range(10)])
    hits = exposure.truth().tables["hits"]
    assert len(hits["row"]) > 20 and hits["row"].min() >= 4 and hits["row"].max() < 60
    jumps = np.diff(cube, axis=0, prepend=0.0)
    expected = np.zeros_like(jumps)
    np.add.at(expected, (hits["read"], hits["row"], hits["col"]), hits["charge"])
    np.testing.assert_allclose(jumps, expected, atol=0.05)


def test_telegraph_pixels_stay_on_two_levels_for_their_time():
    design = BARE.changed(telegraph=0.1, telegraph_reference=0.1, telegraph_time=10 * CLOCK.frame_time)
    array = Array(design)
    jumping = array.maps.telegraph > 0
    cube = ramp(array, 40, 0.0, np.random.default_rng(6))
    assert not cube[:, ~jumping].any()
    state = cube[:, jumping] / array.maps.telegraph[jumping] + 0.5
    np.testing.assert_allclose(state, np.rint(state), atol=1e-4)
    assert state.mean() == pytest.approx(0.5, abs=0.03)
    changed = np.mean(np.abs(np.diff(state, axis=0)))
    assert changed == pytest.approx(0.5 * (1 - np.exp(-0.2)), rel=0.05)
    assert np.array_equal(array.maps.dq & np.uint32(DQ.TELEGRAPH) != 0, jumping)


def test_levels_and_picture_frame_are_those_of_the_truth():
    design = BARE.changed(pedestal=2.0, pedestal_common=3.0, picture_frame=1.5)
    array = Array(design)
    exposure = Exposure(array, np.random.default_rng(7))
    cube = np.stack([next(exposure) for _ in range(6)])
    levels = exposure.truth().tables["levels"]
    assert levels["read"].tolist() == [0, 1, 2, 3, 4, 5]
    for output in range(4):
        level = (levels["pedestal_common"] + levels[f"pedestal_{output + 1}"])[:, None, None]
        part = slice(64 * output, 64 * output + 64)
        model = level + levels["picture_frame"][:, None, None] * array.maps.picture_frame[:, part]
        np.testing.assert_allclose(cube[:, :, part], model, atol=1e-4)


def test_reset_noise_and_bias_stay_through_an_exposure():
    array = Array(BARE.changed(bias=8000.0, bias_pattern=100.0, ktc=36.0, gain=1.8))
    rng = np.random.default_rng(8)
    one, two = ramp(array, 2, 0.0, rng), ramp(array, 2, 0.0, rng)
    assert np.array_equal(one[0], one[1])
    assert (one[0] - two[0]).std() == pytest.approx(20.0 * np.sqrt(2), rel=0.02)
    assert (one[0] - array.maps.bias).std() == pytest.approx(20.0, rel=0.03)


def test_the_same_seed_gives_the_same_reads_and_truth():
    array = Array(Design(clock=CLOCK))
    one, two = (ramp(array, 2, 5.0, np.random.default_rng(1)) for _ in range(2))
    assert one.dtype == np.float32 and np.array_equal(one, two)
    truth = array.truth()
    assert truth.identity == Array(Design(clock=CLOCK)).truth().identity
    assert truth.quantity("pink_own", "3").unit == "adu2/Hz"
    assert truth.quantity("row_frequency").value == pytest.approx(1 / (76 * 1e-5))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"white": (1.0, 2.0)}, "a number each"),
        ({"gain": 0.0}, "gain must be positive"),
        ({"pink_common": -1.0}, "must not be negative"),
        ({"border": (40, 40, 0, 0)}, "no active pixel"),
    ],
)
def test_designs_that_mean_nothing_are_refused(changes, match):
    with pytest.raises(OptionError, match=match):
        BARE.changed(**changes)


def test_exposures_that_mean_nothing_are_refused():
    rng = np.random.default_rng(1)
    with pytest.raises(OptionError, match="rate cannot be used"):
        Exposure(Array(BARE), rng, -1.0)
    with pytest.raises(OptionError, match="rate cannot be used"):
        Exposure(Array(BARE), rng, np.ones((3, 3)))
    with pytest.raises(OptionError, match="needs reads"):
        Exposure(Array(BARE), rng, nframes=0)
    with pytest.raises(OptionError, match="power law"):
        Exposure(Array(BARE.changed(exponent=2.5)), rng)


def test_twin_a_generator_that_starts_from_nothing_is_seen():
    """What the test of stationarity would find of a filter without its past."""
    from calibrant.simulate._infrared_pink import Streams, power_law

    rng = np.random.default_rng(9)
    law = power_law(1.0, 1.0, 1e-5)
    f = np.linspace(0.0, 50000.0, 1_000_001)
    expected = np.trapezoid(law.psd(f), f)
    honest, cold = Streams(law, 3000, rng), Streams(law, 3000, rng)
    cold._state[:] = 0.0
    sigma = expected * np.sqrt(2 / 3000)
    assert abs(honest.take(1, rng).var() - expected) < 4.5 * sigma
    assert abs(cold.take(1, rng).var() - expected) > 20 * sigma


def test_twin_another_exponent_or_coefficient_is_seen():
    f, cross = spectra(gapless(pink_common=2.0, exponent=1.1), 100)
    assert abs(ratio(f, cross[:, 0, 1].real, 2.0 / f.clip(1), 300.0, 25000.0) - 1) > 0.3
    f, cross = spectra(gapless(pink_common=2.2), 100)
    assert abs(ratio(f, cross[:, 0, 1].real, 2.0 / f.clip(1), 300.0, 25000.0) - 1) > 0.06


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_the_filter_keeps_to_its_power_law(exponent):
    from calibrant.simulate._infrared_pink import power_law

    law = power_law(exponent, 1e-3, 1e-5)
    f = np.geomspace(1e-4, 25000.0, 500)
    model = (f**2 + 1e-6) ** (-exponent / 2)
    np.testing.assert_allclose(law.psd(f), model, rtol=0.004)
