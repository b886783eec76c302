"""The level of each frame, against simulated jumps and on the real frames that made it necessary."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from calibrant.effects import pedestal
from calibrant.effects._unlit import darkest_rows, unlit_by_flat, unlit_level
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.product import Product

SHAPE = (120, 260)
BIAS, NOISE, GAIN = 1000.0, 8.0, 1.5
JUMPS = np.array([0.0, 21.0, -3.0, 20.0, 0.4])
SLIT = slice(40, 90)  # lit rows


def pattern():
    """Bias structure and a dark with hot pixels, adu."""
    rng = np.random.default_rng(5)
    plane = 2.0 + 2.0 * np.sin(np.arange(SHAPE[1]) / 9) + rng.gamma(2.0, 1.5, SHAPE)
    plane[rng.integers(0, SHAPE[0], 150), rng.integers(0, SHAPE[1], 150)] += rng.exponential(2000.0, 150)
    return plane


def spectrum():
    light = np.zeros(SHAPE)
    light[SLIT] = 150 + 400 * np.exp(-(((np.arange(SHAPE[1]) - 130) / 3.0) ** 2))
    return light


def frame(shift=0.0, seed=1, light=None, kind="dark", name="d", **facts):
    rng = np.random.default_rng(seed)
    light = np.zeros(SHAPE) if light is None else light
    signal = pattern() + light
    data = BIAS + shift + rng.poisson(np.clip(signal, 0, None) * GAIN) / GAIN + rng.normal(0, NOISE, SHAPE)
    exposure = Exposure(
        kind=kind,
        duration=240.0,
        identifier=f"{name}{seed}",
        start=seed * 10**9,
        shape=SHAPE,
        gain=GAIN,
        **facts,
    )
    return Frame(np.rint(data).astype(np.uint16), exposure=exposure)


def series(light=None, kind="dark", jumps=JUMPS, **facts):
    return Exposures.from_frames(
        [frame(jump, seed, light, kind, **facts) for seed, jump in enumerate(jumps, 1)], "generic-ccd"
    )


def dark(seconds=240.0):
    """A master dark of many frames, with its bias."""
    plane = BIAS + pattern() * seconds / 240 + np.random.default_rng(50).normal(0, NOISE / 5, SHAPE)
    return Product(
        "dark", keys={"exptime": seconds}, planes={"data": plane.astype(np.float32)}, units={"data": "adu"}
    )


def test_jumps_of_darks_are_found_to_a_tenth_of_a_count():
    found = pedestal.measure(series())
    table = found.tables["levels"]
    truth = JUMPS - np.median(JUMPS)
    assert np.abs(table["shift"] - truth).max() < 0.25
    assert ((table["shift"] - truth) / table["sigma"]).std() < 2.5 and (table["sigma"] < 0.15).all()
    assert found.quantity("jump").value == pytest.approx(24.0, abs=0.4)
    assert found.quantity("scatter").value == pytest.approx(JUMPS.std(ddof=1), abs=0.2)
    assert table["trusted"].all() and not table["removed"].any()


def test_a_pull_of_unit_width_and_its_broken_twin():
    pulls, broken = [], []
    for seed in range(30):
        truth = 7.0
        image = np.asarray(frame(truth, 100 + seed).data, float) - (BIAS + pattern())
        level = unlit_level(image, np.ones(SHAPE, bool), pattern() < 30)
        pulls.append((level.value - truth) / level.sigma)
        broken.append((level.value - truth + 5 * level.sigma) / level.sigma)
    assert abs(np.mean(pulls)) < 0.6 and 0.7 < np.std(pulls) < 1.35
    assert np.mean(broken) > 3


def test_spectra_are_judged_by_rows_that_no_light_reaches():
    found = pedestal.measure(series(spectrum(), "light"), products={"dark": dark()})
    table = found.tables["levels"]
    assert np.abs(table["shift"] - JUMPS).max() < 0.6
    assert table["trusted"].all()
    assert table["unlit"] == pytest.approx(np.full(5, 70 / 120), abs=0.08)
    # The twin: the median of all pixels, half of them lit, is no pedestal.
    blind = pedestal.measure(
        series(spectrum(), "light"), products={"dark": dark()}, region=np.ones(SHAPE, bool), jump=1e6
    )
    assert not blind.tables["levels"]["trusted"].any()


def test_faint_light_is_not_taken_for_the_level():
    """3 adu of sky in the slit: a third of a pixel's noise, five sigmas of a row."""
    sky = np.zeros(SHAPE)
    sky[SLIT] = 3.0
    shifts = pedestal.measure(series(sky, "light"), products={"dark": dark()}).tables["levels"]["shift"]
    assert np.abs(shifts - JUMPS).max() < 0.8


def test_the_region_may_be_told_or_shown_by_a_flat():
    flat = np.where(spectrum() > 0, 1.0, 0.02).astype(np.float32)
    product = Product("flat", planes={"data": flat}, units={"data": ""})
    exposures = series(spectrum(), "light")
    by_flat = pedestal.measure(exposures, products={"dark": dark(), "flat": product}).tables["levels"]
    told = pedestal.measure(exposures, products={"dark": dark()}, region="[1:260,1:38]").tables["levels"]
    for table in (by_flat, told):
        assert np.abs(table["shift"] - JUMPS).max() < 0.4
    assert by_flat["unlit"][0] == pytest.approx((120 - 54) / 120, abs=0.05)


def test_steps_bring_frames_to_one_level():
    exposures = series()
    product = pedestal.measure(exposures)
    prepared = exposures.through(partial(pedestal.step, product=product))
    means = [float(np.mean(np.asarray(f.load().data)[pattern() < 20])) for f in prepared.frames()]
    assert np.ptp(means) < 0.5 and np.ptp([np.mean(f.load().data) for f in exposures.frames()]) > 20
    assert prepared.parents == (product.identity,)
    done = pedestal.apply(exposures.frame(1), product)
    assert done.history[-1].effect == "pedestal" and done.history[-1].product == product.identity
    assert float(done.systematic[0, 0]) == pytest.approx(product.tables["levels"]["sigma"][1] ** 2, rel=1e-4)


def test_one_frame_alone():
    done = pedestal.apply(frame(18.0, 3, spectrum(), "light"), products={"dark": dark()})
    left = np.asarray(done.data)[:38] - (BIAS + pattern())[:38]
    assert abs(np.median(left)) < 0.5


def test_scattered_light_everywhere_is_no_pedestal():
    glow = spectrum() * 20 + 150 * np.linspace(1, 2, SHAPE[0])[:, None]
    lit = frame(0.0, 9, glow, "flat", "f")
    others = [frame(jump, seed, spectrum(), "flat", "f") for seed, jump in enumerate((20.0, 21.0, 22.0), 1)]
    found = pedestal.measure(Exposures.from_frames([*others, lit]), products={"dark": dark()})
    table = found.tables["levels"]
    assert table["trusted"].tolist() == [True, True, True, False]
    assert table["shift"][3] == pytest.approx(21.0, abs=1.0)  # its neighbours' level
    assert "no pixels that are surely unlit" in found.provenance.notes[-1]


def test_charge_is_told_from_electronics():
    """Two darks stand 40 adu higher: one by its electronics, one by leaked light with its photon noise."""
    frames = [frame(0.0, seed) for seed in range(1, 5)]
    frames += [frame(40.0, 5, name="jump"), frame(0.0, 6, np.full(SHAPE, 40.0), name="leak")]
    found = pedestal.measure(Exposures.from_frames(frames))
    assert found.tables["levels"]["shift"][4:] == pytest.approx([40.0, 40.0], abs=0.6)
    told = [note for note in found.provenance.notes if "noisier" in note]
    assert len(told) == 1 and told[0].startswith("leak6")


def test_frames_whose_dark_is_gone_lose_what_was_left():
    gone = []
    for seed in range(1, 4):
        raw = frame(0.0, seed, spectrum(), "light", "g")
        data = np.clip(
            np.asarray(raw.data, float) - np.asarray(frame(0.0, 60 + seed).data, float) + 100, 0, None
        )
        gone.append(Frame(data.astype(np.uint16), exposure=raw.exposure))
    found = pedestal.measure(Exposures.from_frames(gone), products={"dark": dark()})
    table = found.tables["levels"]
    assert table["removed"].all() and found.quantity("level").value == 0
    assert table["shift"] == pytest.approx([100.0] * 3, abs=1.0)
    assert all("whatever the header says" in note for note in found.provenance.notes)
    # Lit everywhere: what the camera states is taken, not the light.
    glow = [
        Frame(
            (np.asarray(f.data) + np.arange(SHAPE[0])[:, None] + 300).astype(np.uint16), exposure=f.exposure
        )
        for f in gone
    ]
    stated = pedestal.measure(Exposures.from_frames(glow), products={"dark": dark()}, nominal=100.0)
    assert stated.tables["levels"]["shift"].tolist() == [100.0] * 3


def test_darkest_rows_of_a_frame_that_is_unlit_are_nearly_all():
    image = np.random.default_rng(3).normal(0, 5, (200, 100))
    assert darkest_rows(image).mean() > 0.85
    assert unlit_level(image).value == pytest.approx(0, abs=0.1)


def test_a_flat_without_dark_parts_shows_none():
    assert unlit_by_flat(np.ones(SHAPE)) is None


# --- bad input ---


def test_lit_frames_without_a_dark_are_refused():
    with pytest.raises(SelectionError, match="needs the dark's pattern"):
        pedestal.measure(series(spectrum(), "light"))


def test_a_dark_of_another_time_is_refused():
    with pytest.raises(SelectionError, match="another exposure time"):
        pedestal.measure(series(spectrum(), "light"), products={"dark": dark(60.0)})


def test_a_frame_that_was_not_measured_is_refused():
    product = pedestal.measure(series())
    with pytest.raises(SelectionError, match="was not measured"):
        pedestal.step(frame(0, 77).exposure, product)
    with pytest.raises(SelectionError, match="not a pedestal"):
        pedestal.step(frame().exposure, dark())


def test_a_region_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError):
        pedestal.measure(series(), region=np.ones((3, 3), bool))
    with pytest.raises(OptionError, match="no pixel"):
        pedestal.measure(series(), region=(slice(0, 0), slice(0, 5)))
    with pytest.raises(ShapeError, match="too few unlit pixels"):
        pedestal.measure(series(), region=(slice(0, 2), slice(0, 5)))


def test_after_the_dark_it_is_too_late():
    product = pedestal.measure(series())
    done = pedestal.apply(series().frame(0), product)
    with pytest.raises(HistoryError):
        pedestal.apply(done, product)


# --- the real camera ---


@pytest.mark.real
def test_real_levels(real_data):
    """Darks of 20 minutes: two of five stand 14 and 20 adu high, by charge. Spectra: 20, by electronics."""
    frames = Exposures.scan(real_data / "st402", instrument="st402")
    masters = {}
    for time, jump in ((240, 1.6), (360, 0.5), (1200, 20.4)):
        darks = frames.where(kind="dark", exptime=time)
        found = pedestal.measure(darks)
        assert found.quantity("jump").value == pytest.approx(jump, abs=0.3)
        leaks = [note for note in found.provenance.notes if "noisier" in note]
        assert len(leaks) == (2 if time == 1200 else 0)
        prepared = darks.through(partial(pedestal.step, product=found))
        plane = np.median([f.load().data for f in prepared.frames()], axis=0)
        masters[time] = Product("dark", keys={"exptime": time}, planes={"data": plane}, units={"data": "adu"})
    for setting, time, low, high in (("hg", 240, 19.5, 23.0), ("neon", 1200, 20.0, 26.5)):
        light = frames.where(kind="light", exptime=time, setting=setting)
        found = pedestal.measure(light, products={"dark": masters[time]})
        shift = found.tables["levels"]["shift"]
        assert len(shift) == 5 and found.tables["levels"]["trusted"].all()
        assert low < shift.min() and shift.max() < high
        assert not [note for note in found.provenance.notes if "noisier" in note]
    red = pedestal.measure(frames.where(kind="flat", exptime=180), products={"dark": masters[240]})
    assert red.tables["levels"]["removed"].all() and red.tables["levels"]["shift"].tolist() == [100.0] * 5
    assert len([note for note in red.provenance.notes if "whatever the header says" in note]) == 4
