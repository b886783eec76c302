"""Defects against a simulated detector: how many are found, and how many of the found are true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from calibrant.effects import defects
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product
from calibrant.simulate.detector import Design, Detector

SHAPE = (384, 320)


def product(kind, unit="", **planes):
    return Product(kind, keys={"detector": "0"}, planes=planes, units={"data": unit})


@pytest.fixture(scope="module")
def detector():
    rng = np.random.default_rng(11)
    design = Design(noisy=800.0, dead=400.0, telegraph=0.0, hot_fraction=0.003)
    return Detector.simulated(SHAPE, rng, design)


@pytest.fixture(scope="module")
def masters(detector):
    """What ten biases, five darks of 300 s and ten flats would give, drawn from the true planes."""
    rng = np.random.default_rng(12)
    noise = detector.read_noise
    dark = detector.dark_at(-15.0)
    gain = detector.design.gain
    rate = dark / gain + rng.normal(size=SHAPE) * np.sqrt(noise**2 + dark * 300 / gain**2) / 300 / 5**0.5
    flat = detector.flat("R") * (1 + 0.002 * rng.normal(size=SHAPE))
    scatter = (rng.normal(size=(10, *SHAPE)) * noise).std(axis=0, ddof=1)
    return {
        "dark": product("dark", "adu/s", data=rate.astype(np.float32)),
        "flat": product("flat", "", data=flat.astype(np.float32)),
        "bias": product(
            "bias", "adu", data=np.zeros(SHAPE, np.float32), read_noise=scatter.astype(np.float32),
            count=np.full(SHAPE, 10, np.uint16),
        ),
    }  # fmt: skip


def scores(found, true):
    """Completeness and purity."""
    both = np.count_nonzero(found & true)
    return both / np.count_nonzero(true), both / max(np.count_nonzero(found), 1)


def test_completeness_and_purity(detector, masters):
    dq = defects.measure(products=masters).planes["dq"]
    truth = detector.dq
    dead = (truth & DQ.DEAD) != 0
    complete, pure = scores((dq & DQ.DEAD) != 0, dead)
    assert complete > 0.99 and pure > 0.99
    noisy = ((truth & DQ.OTHER_BAD_PIXEL) != 0) & (detector.read_noise > 4 * np.median(detector.read_noise))
    complete, pure = scores(((dq & DQ.OTHER_BAD_PIXEL) != 0) & ~dead, noisy & ~dead)
    assert complete > 0.95 and pure > 0.95
    dark = detector.dark_at(-15.0) / detector.design.gain
    sigma = 1.4826 * np.median(np.abs(masters["dark"].data - np.median(masters["dark"].data)))
    excess = dark - np.median(dark)
    clearly, hardly = excess > 60 * sigma, excess > 40 * sigma
    assert scores((dq & DQ.HOT) != 0, clearly)[0] > 0.99
    assert scores((dq & DQ.HOT) != 0, hardly)[1] > 0.99
    assert np.count_nonzero(clearly) > 100


def test_the_twin_with_shuffled_masters_fails(detector, masters):
    """Pixels found on masters of another detector must not look right."""
    turned = {
        kind: product(kind, p.unit, **{n: v[::-1] for n, v in p.planes.items()})
        for kind, p in masters.items()
    }
    dq = defects.measure(products=turned).planes["dq"]
    single = ((detector.dq & DQ.DEAD) != 0) & (((detector.dq & DQ.DEAD) != 0).sum(axis=0) < 50)
    assert scores((dq & DQ.DEAD) != 0, single)[0] < 0.1


def test_unusable_is_a_choice(masters):
    usual = defects.measure(products=masters)
    spared = defects.measure(products=masters, unusable=("dead",), column=0)
    dq = spared.planes["dq"]
    assert ((dq & DQ.DO_NOT_USE) != 0).sum() == ((dq & DQ.DEAD) != 0).sum()
    assert ((dq & DQ.HOT) != 0).sum() == ((usual.planes["dq"] & DQ.HOT) != 0).sum()
    assert usual.quantity("unusable").value > spared.quantity("unusable").value
    assert usual.quantity("hot").value == pytest.approx(((dq & DQ.HOT) != 0).mean())
    assert not (usual.planes["dq"][(dq & DQ.WARM) != 0] & DQ.HOT).any()


def test_structure_of_light_is_no_defect():
    """A slit with sharp edges, a gradient of a factor 5, dust at 10 %: nothing is bad but one dead column."""
    rows, cols = np.mgrid[0:200, 0:300]
    flat = 0.4 + 1.6 * cols / 300 - 0.1 * np.exp(-((rows - 120) ** 2 + (cols - 100) ** 2) / 400)
    flat[:40] = 0.01
    flat[150:] = 0.0
    flat *= 1 + 0.01 * np.random.default_rng(1).normal(size=flat.shape)
    flat[60:, 77] *= 0.2
    found = defects.measure(products={"flat": product("flat", data=flat.astype(np.float32))}).planes["dq"]
    bad = (found & (DQ.DEAD | DQ.LOW_QE)) != 0
    assert bad[60:150, 77].all()
    bad[:, 77] = False
    assert not bad.any()


def test_glow_is_no_hot_pixel_but_a_hot_column_is():
    rows, cols = np.mgrid[0:200, 0:300]
    dark = 5 * np.exp(-(rows + cols) / 40.0) + np.random.default_rng(2).normal(0, 0.01, (200, 300))
    dark[100:, 50] += 3.0
    found = defects.measure(products={"dark": product("dark", "adu/s", data=dark)})
    hot = (found.planes["dq"] & DQ.HOT) != 0
    assert hot[100:, 50].all() and hot.sum() == 100
    absolute = defects.measure(products={"dark": product("dark", "adu/s", data=dark)}, hot_rate=4.0)
    assert absolute.quantity("hot").value == 0


def test_surroundings_are_scipys_medians_along_rows_then_columns():
    plane = np.random.default_rng(9).normal(size=(40, 57)).astype(np.float32)
    rows = median_filter(plane, size=(1, 15), mode="nearest")
    np.testing.assert_array_equal(
        defects.surroundings(plane), median_filter(rows, size=(15, 1), mode="nearest")
    )
    assert defects.surroundings(np.ones((3, 200), np.float32)).shape == (3, 200)


def test_low_response_is_flagged_and_may_be_used():
    flat = np.ones((60, 60), np.float32) * (1 + 0.005 * np.random.default_rng(3).normal(size=(60, 60)))
    flat[10, 10], flat[20, 20], flat[30, 30] = 0.7, 0.9, np.nan
    dq = defects.measure(products={"flat": product("flat", data=flat)}).planes["dq"]
    assert dq[10, 10] == DQ.LOW_QE and dq[20, 20] == 0
    assert dq[30, 30] == DQ.DEAD | DQ.DO_NOT_USE


def test_columns_are_filled_between_bad_pixels_but_not_over_gaps():
    dark = np.random.default_rng(4).normal(0, 0.01, (400, 60))
    dark[0:120:2, 30] += 5  # 60 bad, every second
    dark[300:400:2, 30] += 5  # after a gap of 181 good ones
    dark[0:60:2, 10] += 5  # 30 bad only
    dq = defects.measure(products={"dark": product("dark", "adu/s", data=dark)}).planes["dq"]
    assert (dq[0:119, 30] & DQ.DO_NOT_USE).all() and (dq[300:399, 30] & DQ.DO_NOT_USE).all()
    assert not dq[120:300, 30].any()
    assert np.count_nonzero(dq[:, 10]) == 30
    off = defects.measure(products={"dark": product("dark", "adu/s", data=dark)}, column=0).planes["dq"]
    assert np.count_nonzero(off[:, 30]) == 110


@pytest.mark.parametrize("frames", [3, 5, 10, 30])
def test_chance_makes_no_pixel_noisy(frames):
    rng = np.random.default_rng(frames)
    noise = rng.normal(0, 5, (frames, 300, 300)).std(axis=0, ddof=1)
    assert not defects.noisy_pixels(noise, frames).any()
    noise[7, 7] = 5 * 8
    assert defects.noisy_pixels(noise, frames)[7, 7]
    # The twin: a plain ratio of 2 would blame chance in a few frames.
    if frames <= 5:
        assert (noise > 2 * np.median(noise)).sum() > 50


def test_noise_from_frames_where_no_bias_has_a_map():
    rng = np.random.default_rng(6)
    sigma = np.full((80, 90), 5.0)
    sigma[40, 40] = 80
    frames = [
        Frame(
            (1000 + rng.normal(0, sigma)).astype(np.float32),
            exposure=Exposure(kind="bias", identifier=str(i)),
        )
        for i in range(8)
    ]
    found = defects.measure(Exposures.from_frames(frames))
    assert np.argwhere(found.planes["dq"]).tolist() == [[40, 40]]


def test_applied_flags_are_added_and_data_stay(masters):
    found = defects.measure(products=masters)
    before = Frame(
        np.ones(SHAPE, np.float32), dq=np.full(SHAPE, DQ.SATURATED, np.uint32), exposure=Exposure(shape=SHAPE)
    )
    done = defects.apply(before, found)
    np.testing.assert_array_equal(done.data, before.data)
    np.testing.assert_array_equal(done.dq, found.planes["dq"] | np.uint32(DQ.SATURATED))
    assert done.history[-1].product == found.identity


def test_bad_input(masters):
    with pytest.raises(SelectionError, match="none was given"):
        defects.measure()
    with pytest.raises(SelectionError, match="show no defects"):
        defects.measure(products={"bias": product("bias", data=np.zeros((4, 4), np.float32))})
    small = product("flat", data=np.ones((5, 5), np.float32))
    with pytest.raises(ShapeError, match="different sizes"):
        defects.measure(products={**masters, "flat": small})
    with pytest.raises(OptionError, match="no meaning"):
        defects.measure(products=masters, hot=1.0, warm=8.0)
    with pytest.raises(OptionError, match="no limit 'holt'"):
        defects.measure(products=masters, holt=3)
    with pytest.raises(OptionError, match="no defect called 'grumpy'"):
        defects.measure(products=masters, unusable=("grumpy",))
    found = defects.measure(products=masters)
    frame = Frame(np.ones(SHAPE, np.float32))
    with pytest.raises(HistoryError):
        defects.apply(defects.apply(frame, found), found)
    with pytest.raises(ShapeError, match="does not fit"):
        defects.apply(Frame(np.ones((5, 5), np.float32)), found)
    with pytest.raises(SelectionError, match="not a map"):
        defects.step(Exposure(), small)
