"""The detector: its planes, and photon -> charge -> pixel."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError, SelectionError
from calibrant.frame import DQ
from calibrant.simulate.cosmic_rays import Hits
from calibrant.simulate.detector import Design, Detector, charge, photon, pixel
from calibrant.simulate.structure import NOTEBOOK_DUST

SHAPE = (256, 256)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.simulated(SHAPE, np.random.default_rng(1))


def flawless(seed: int = 1, **changes) -> Detector:
    return Detector.simulated(SHAPE, np.random.default_rng(seed), Design.flawless(**changes))


def test_throughput_has_median_one_vignetting_and_the_dust_of_the_notebook(detector):
    flat = detector.flat("R").astype(float)
    assert np.median(flat) == pytest.approx(1.0, abs=0.002)
    corner, centre = flat[:16, :16].mean(), flat[120:136, 120:136].mean()
    assert corner / centre == pytest.approx(1.0 - detector.design.vignette, abs=0.04)
    row, col = (round(part * side) for part, side in zip(NOTEBOOK_DUST, SHAPE, strict=True))
    reach = 0.024 * 256
    y, x = np.indices(SHAPE)
    distance = np.hypot(y - row, x - col)
    ring = np.median(flat[(distance > 0.6 * reach) & (distance < 0.8 * reach)])
    around = np.median(flat[(distance > 1.4 * reach) & (distance < 2.2 * reach)])
    assert 0.05 < 1.0 - ring / around < 0.12


def test_pixel_response_scatters_by_the_stated_prnu():
    flat = flawless(prnu=0.02, vignette=0.0).flat("V")
    assert 1.4826 * np.median(np.abs(flat - np.median(flat))) == pytest.approx(0.02, rel=0.05)


def test_filters_share_pixels_but_not_all_dust(detector):
    ratio = detector.flat("R") / np.maximum(detector.flat("V"), 1e-3)
    good = detector.dq & np.uint32(DQ.DEAD) == 0
    assert 0.002 < np.std(ratio[good]) < 0.03


def test_defects_have_the_densities_of_the_design():
    design = Design(noisy=500.0, telegraph=200.0, dead=300.0, bad_columns=False, hot_fraction=0.004)
    made = Detector.simulated((1024, 1024), np.random.default_rng(2), design)
    count = {bit: int(np.count_nonzero(made.dq & np.uint32(bit))) for bit in DQ}
    assert (count[DQ.OTHER_BAD_PIXEL], count[DQ.TELEGRAPH], count[DQ.DEAD]) == (500, 200, 300)
    hot = made.dark > 20 * design.dark
    # Of the log-normal tail about 30 times the median, the part above 20 times.
    assert hot.mean() == pytest.approx(0.004 * 0.632, rel=0.1)
    np.testing.assert_array_equal(hot, made.dq & np.uint32(DQ.HOT) != 0)
    assert np.median(made.dark) == pytest.approx(design.dark, rel=0.03)


def test_bad_columns_run_to_the_top(detector):
    columns = np.flatnonzero(np.count_nonzero(detector.dq & np.uint32(DQ.HOT | DQ.DEAD), axis=0) > 100)
    assert len(columns) == 2
    assert all(detector.dq[-1, columns])


def test_dark_doubles_with_the_doubling_temperature(detector):
    reference = detector.design.reference_temperature
    np.testing.assert_allclose(
        detector.dark_at(reference + 2 * detector.design.doubling), 4 * detector.dark, rtol=1e-6
    )
    np.testing.assert_allclose(
        detector.dark_at(reference - detector.design.doubling), detector.dark / 2, rtol=1e-6
    )


def test_photons_are_light_times_response_times_open_time(detector):
    light = np.full(SHAPE, 50.0, np.float32)
    expected = 50.0 * detector.flat("R") * (2.0 + detector.shutter)
    np.testing.assert_allclose(photon(detector, light, 2.0, "R"), expected, rtol=1e-5)
    assert detector.shutter[128, 128] > 0 > detector.shutter[0, 0]
    assert np.ptp(detector.shutter) == pytest.approx(detector.design.shutter, rel=0.2)
    with pytest.raises(SelectionError, match="R, V"):
        photon(detector, light, 2.0, "Ha")


def test_charge_is_poissonian_with_dark_and_temperature():
    made = flawless(dark=0.5)
    rng = np.random.default_rng(3)
    got = charge(made, 40.0, 20.0, rng, temperature=made.design.reference_temperature + 6.0)
    expected = 40.0 + 2.0 * made.dark.astype(float) * 20.0
    assert np.mean(got - expected) == pytest.approx(0.0, abs=4 * np.sqrt(expected.mean() / got.size))
    assert np.mean((got - expected) ** 2 / expected) == pytest.approx(1.0, abs=0.03)
    assert np.array_equal(got, np.rint(got))


def test_hits_are_added_to_the_charge():
    made = flawless(dark=0.0)
    at = (np.array([5, 5], np.int32), np.array([7, 7], np.int32))
    hits = Hits(np.zeros(2, np.int32), *at, np.array([100.0, 20.0], np.float32), 1)
    got = charge(made, 0.0, 1.0, np.random.default_rng(1), hits=hits)
    assert got[5, 7] == 120.0 and got.sum() == 120.0


def test_bleeding_keeps_the_charge_and_stays_in_the_column(detector):
    well = np.float32(detector.design.full_well)
    electrons = np.full(SHAPE, 1000.0, np.float32)
    electrons[100, 40] = 10 * well
    held = pixel(detector, electrons)
    assert held.max() == well
    assert held.sum(dtype=float) == pytest.approx(electrons.sum(dtype=float), rel=1e-6)
    changed = np.flatnonzero((held != electrons).any(axis=0))
    assert changed.tolist() == [40]
    full = np.flatnonzero(held[:, 40] == well)
    assert full[0] + full[-1] == pytest.approx(200, abs=1), "half each way"
    assert len(full) == pytest.approx(10, abs=1) and np.all(np.diff(full) == 1)


def test_bleeding_from_two_sources_meets_and_leaves_over_the_end():
    made = flawless(bleeding=True)
    well = np.float32(made.design.full_well)
    electrons = np.zeros(SHAPE, np.float32)
    electrons[[2, 4], 9] = 7 * well
    held = pixel(made, electrons)
    assert np.all(held[:7, 9] == well)
    assert held.sum(dtype=float) < electrons.sum(dtype=float), "charge left over the lower end"
    assert held.max() == well


def test_without_bleeding_the_surplus_is_lost():
    made = flawless()
    electrons = np.full(SHAPE, 2 * made.design.full_well, np.float32)
    assert np.all(pixel(made, electrons) == made.design.full_well)


def test_two_amplifiers_have_their_own_gain_and_level():
    made = flawless(amplifiers=2, read_noise=6.0)
    left, right = made.amplifiers
    assert (left.start, left.stop, right.start, right.stop) == (0, 128, 128, 256)
    assert right.reverse and right.gain != left.gain
    assert made.gain[0, 127] == np.float32(left.gain) and made.gain[0, 128] == np.float32(right.gain)
    assert made.bias[:, 200].mean() - made.bias[:, 20].mean() == pytest.approx(70.0, abs=8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gian": 2.0}, "did you mean gain"),
        ({"amplifiers": 3}, "1 or 2"),
        ({"gain": 0.0}, "gain must be positive"),
    ],
)
def test_mistakes_in_a_design_are_explained(changes, sentence):
    with pytest.raises(OptionError, match=sentence):
        Design().changed(**changes)


@pytest.mark.parametrize("shape", [(8, 8), (1, 40), (33, 70)])
def test_small_detectors_can_be_made(shape):
    assert Detector.simulated(shape, np.random.default_rng(0)).bias.shape == shape
