"""Whether a dark was removed: simulated cameras, and every real frame with its cards ignored."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects._dark_removed import floors, is_low, live_pixels
from calibrant.effects.pedestal import dark_removed, mark
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.product import Product

SHAPE = (200, 300)
BIAS, NOISE, GAIN = 1000.0, 8.0, 1.5


def rate(seed=0, hot=200):
    """Dark current, adu/s: faint, with hot pixels."""
    rng = np.random.default_rng(seed)
    plane = rng.gamma(2.0, 0.01, SHAPE)
    rows, cols = rng.integers(0, SHAPE[0], hot), rng.integers(0, SHAPE[1], hot)
    plane[rows, cols] += rng.exponential(5.0, hot) + 1.0
    return plane


def exposed(seconds, light=0.0, seed=1, bias=BIAS, **facts):
    """A raw frame: bias, dark, light with a gradient and 1 % of pixel response."""
    rng = np.random.default_rng(seed)
    response = 1 + 0.01 * np.random.default_rng(99).normal(size=SHAPE)
    signal = rate(**facts) * seconds + light * response * np.linspace(0.5, 1.5, SHAPE[1])
    return bias + rng.poisson(signal * GAIN) / GAIN + rng.normal(0, NOISE, SHAPE)


def master(seconds=300.0, bias=BIAS, **facts):
    stack = [exposed(seconds, seed=seed, bias=bias, **facts) for seed in range(5)]
    return Product(
        "dark",
        keys={"exptime": seconds},
        planes={"data": np.median(stack, axis=0).astype(np.float32)},
        units={"data": "adu"},
    )


DARK = master()


@pytest.mark.parametrize("seconds", [10.0, 60.0, 300.0, 900.0])
@pytest.mark.parametrize("light", [0.0, 200.0, 20000.0])
@pytest.mark.parametrize("pedestal", [100.0, 0.0])
def test_both_sides_are_told_apart_whatever_light_and_time(seconds, light, pedestal):
    raw = exposed(seconds, light)
    # The camera's own dark has noise of its own, and clips at zero as it writes unsigned numbers.
    gone = np.clip(raw - exposed(seconds, seed=77) + pedestal, 0, None)
    before, after = (dark_removed(image, DARK, exptime=seconds) for image in (raw, gone))
    assert not before and before.removed == frozenset() and before.certain
    if not after.certain:
        # In 10 s the dark has nearly nothing to show under a bright sky, and the level is hidden by it.
        assert light == 20000.0 and seconds == 10.0
        return
    assert after and "dark" in after.removed
    if before.slope_sigma < 0.05 * before.expected:
        assert before.slope / before.expected == pytest.approx(1.0, abs=0.1)
        assert after.slope / after.expected == pytest.approx(0.0, abs=0.15)


def test_bias_alone_removed_is_neither():
    verdict = dark_removed(exposed(300.0, 100.0) - BIAS, DARK, exptime=300.0)
    assert verdict.removed == {"bias"} and not verdict and verdict.certain
    assert "hot pixels show 1.0" in verdict.reason


def test_dark_current_alone_removed_is_seen_by_the_hot_pixels():
    image = exposed(300.0, 500.0) - rate() * 300.0
    assert dark_removed(image, DARK, exptime=300.0).removed == {"dark"}


def test_half_of_the_dark_is_on_the_edge():
    """The twin: what is neither here nor there must not look like either."""
    verdict = dark_removed(exposed(300.0) - 0.5 * rate() * 300.0, DARK, exptime=300.0)
    assert verdict.slope / verdict.expected == pytest.approx(0.5, abs=0.05)


def test_a_camera_with_a_low_bias_is_judged_by_its_hot_pixels():
    dark = master(bias=30.0)
    raw = exposed(300.0, 50.0, bias=30.0)
    gone = raw - exposed(300.0, bias=30.0, seed=78) + 30.0
    assert not dark_removed(raw, dark, exptime=300.0)
    assert dark_removed(gone, dark, exptime=300.0).removed == {"dark"}


def test_without_hot_pixels_only_the_level_speaks():
    dark = master(hot=0)
    assert dark_removed(exposed(300.0, hot=0) - 900.0, dark, exptime=300.0).removed == {"bias", "dark"}
    verdict = dark_removed(exposed(300.0, 5000.0, hot=0), dark, exptime=300.0)
    assert not verdict and not verdict.certain and "too few" in verdict.reason


def test_a_rate_with_its_bias():
    plane = Product("dark", planes={"data": rate().astype(np.float32)}, units={"data": "adu/s"})
    frame = Frame(exposed(120.0, 300.0).astype(np.float32), exposure=Exposure(duration=120.0))
    kept = dark_removed(frame, plane, bias=BIAS)
    assert not kept and kept.expected == 120.0 and kept.slope == pytest.approx(120.0, rel=0.05)
    assert dark_removed(frame.data - 1000.0, plane, exptime=120.0, bias=BIAS).removed == {"bias"}
    with pytest.raises(OptionError, match="exposure time"):
        dark_removed(frame.data, plane, bias=BIAS)


def test_mark_overrules_the_cards():
    exposure = Exposure(applied=frozenset({"dark", "bias", "flat"}))
    kept = dark_removed(exposed(300.0), DARK, exptime=300.0)
    assert mark(exposure, kept).applied == {"flat"}
    gone = dark_removed(exposed(300.0) - exposed(300.0, seed=9) + 100, DARK, exptime=300.0)
    assert mark(Exposure(), gone).applied == {"dark", "bias"}


def test_bad_input():
    with pytest.raises(ShapeError, match="different size"):
        dark_removed(np.zeros((10, 10), np.float32), DARK)
    with pytest.raises(SelectionError, match="not a dark"):
        dark_removed(exposed(1.0), Product("flat", planes={"data": np.ones(SHAPE)}))
    with pytest.raises(OptionError, match="negative"):
        dark_removed(exposed(1.0), DARK, jump=-1.0)


def dead_columns(image):
    image[:, 20:29] = 0.0


def zero_border(image):
    image[:6], image[-6:], image[:, :6], image[:, -6:] = 0.0, 0.0, 0.0, 0.0


def constant_rows(image):
    image[100:110] = 37.0


def faint_amplifier(image):
    image[:, 250:] = np.random.default_rng(4).normal(60.0, 5.0, (SHAPE[0], 50))


@pytest.mark.parametrize("spoil", [dead_columns, zero_border, constant_rows, faint_amplifier])
@pytest.mark.parametrize("hot", [0, 200])
@pytest.mark.parametrize("light", [0.0, 2000.0])
def test_pixels_that_are_dead_take_nothing_away(spoil, hot, light):
    """One per cent of zeros used to be enough for a raw frame to lose its sky."""
    image = np.rint(exposed(300.0, light, hot=hot))
    spoil(image)
    assert (image < BIAS - 100).mean() > 0.01
    verdict = dark_removed(image, master(hot=hot), exptime=300.0)
    assert verdict.removed == frozenset(), verdict.reason
    gone = np.clip(np.rint(image - exposed(300.0, seed=9, hot=hot) + 100.0), 0, None)
    assert dark_removed(gone, master(hot=hot), exptime=300.0).removed or (light and not hot)


def test_live_pixels():
    rng = np.random.default_rng(5)
    image = np.rint(rng.normal(1000.0, 8.0, (60, 80)))
    image[:, 7], image[30], image[0, 0] = 0.0, 12.0, np.nan
    alive = live_pixels(image)
    assert not alive[:, 7].any() and not alive[30].any() and not alive[0, 0]
    assert alive.sum() > 0.97 * (59 * 79 - 1)
    low, quarter = floors(image)
    assert low == pytest.approx(1000 - 2.33 * 8, abs=2) and quarter == pytest.approx(1000 - 0.674 * 8, abs=1)
    assert np.isnan(floors(np.zeros((9, 9)))).all()
    assert is_low(image, 1200.0) and not is_low(image, 1000.0)


@pytest.mark.real
@pytest.mark.parametrize("exptime", [240, 360, 1200])
def test_all_real_frames_with_every_card_deleted(real_data, exptime):
    """38 frames against any of the three darks: levels and hot pixels, without one look at a header.

    Five frames carry the card of a dark subtracted in the camera. Nine have none left: four flats of one
    series lost theirs without a word in the header, as level and hot pixels agree.
    """
    frames = Exposures.scan(real_data / "st402", instrument="st402")
    dark = np.median([f.load().data for f in frames.where(kind="dark", exptime=exptime).frames()], axis=0)
    product = Product(
        "dark",
        keys={"exptime": float(exptime)},
        planes={"data": dark},
        units={"data": "adu"},
    )
    silent = [f"L2-flat-red-180.0000000{i}.FIT" for i in (1, 2, 3, 4)]
    seen = []
    for index, exposure in enumerate(frames):
        pixels = np.asarray(frames.frame(index).load().data)
        verdict = dark_removed(pixels, product, exptime=exposure.duration)
        name = (exposure.path or "").rpartition("/")[2]
        assert verdict.certain, name
        assert verdict.removed in (frozenset(), frozenset({"bias", "dark"})), name
        assert bool(verdict) == ("dark" in exposure.applied or name in silent), f"{name}: {verdict.reason}"
        share = verdict.slope / verdict.expected
        assert abs(share) < 0.05 if verdict else 0.9 < share < 1.1, name
        seen.append(bool(verdict))
    assert len(seen) == 38 and sum(seen) == 9
