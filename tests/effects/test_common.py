from __future__ import annotations

import math

import numpy as np
import pytest

from calibrant.effects import common
from calibrant.effects._dark_fit import Group, fit_rates
from calibrant.effects._levels import bands, read_sample, spread, survey
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product, Quantity
from calibrant.stack.pixel import PixelStep
from calibrant.stack.reject import CCDClip, SigmaClip
from calibrant.stack.source import ArraySource


def frames(n=3, shape=(8, 8), seed=0, **facts):
    rng = np.random.default_rng(seed)
    return [
        Frame(
            rng.normal(1000, 5, shape).astype(np.uint16),
            exposure=Exposure("bias", start=60_000_000 * (n - i), identifier=f"frame{i}", **facts),
        )
        for i in range(n)
    ]


class TestInput:
    def test_order_is_that_of_time(self):
        series = common.begin(Exposures.from_frames(frames(3)), "bias")
        assert [e.identifier for e in series] == ["frame2", "frame1", "frame0"]

    def test_nothing(self):
        with pytest.raises(SelectionError, match="no exposures to make a bias of"):
            common.begin(Exposures(), "bias")

    def test_sizes(self):
        mixed = [*frames(2), *frames(1, shape=(8, 9))]
        with pytest.raises(ShapeError, match="8 x 9 in frame0"):
            common.begin(Exposures.from_frames(mixed), "bias")

    @pytest.mark.parametrize(
        ("key", "one", "other"),
        [("binning", (1, 1), (2, 2)), ("detector", "a", "b"), ("gain_setting", "0", "1")],
    )
    def test_settings(self, key, one, other):
        mixed = [*frames(2, **{key: one}), *frames(1, **{key: other})]
        with pytest.raises(SelectionError, match=f"mixed {key}") as error:
            common.begin(Exposures.from_frames(mixed), "bias")
        assert "frame0" in str(error.value)

    def test_copies(self):
        one = frames(1)[0]
        with pytest.raises(SelectionError, match="more than once"):
            common.begin(Exposures.from_frames([one, one, *frames(2, seed=1)]), "bias")

    def test_frames_that_were_calibrated(self):
        done = Exposures.from_frames(frames(2, applied=frozenset({"dark"})))
        with pytest.raises(HistoryError, match="had their dark removed"):
            common.begin(done, "dark", forbids=("dark",))

    def test_steps_that_were_forbidden(self):
        series = Exposures.from_frames(frames(2)).through(lambda exposure: PixelStep("flat", divisor=2.0))
        assert common.done_by_steps(series) == {"flat"}
        with pytest.raises(HistoryError, match="step of flat"):
            common.begin(series, "bias", forbids=("flat",))

    def test_advice(self):
        series = Exposures.from_frames(frames(3))
        assert "made of 3 frames; at least 10 are advised" in common.advice(series, "bias")[0]
        assert common.advice(Exposures.from_frames(frames(10)), "bias") == []


class TestFacts:
    def test_given_before_products_before_header(self):
        series = Exposures.from_frames(frames(1, gain=2.0, read_noise=10.0, saturation=60000.0))
        known = common.facts(series, {})
        assert known == common.Facts(2.0, 5.0, 60000.0)
        bias = Product("bias", quantities=(Quantity("read_noise", 7.0, unit="adu"),))
        gain = Product("gain", quantities=(Quantity("gain", 1.5), Quantity("gain", 1.7)))
        assert common.facts(series, {"bias": bias, "gain": gain}) == common.Facts(1.6, 7.0, 60000.0)
        assert common.facts(series, {"bias": bias}, gain=3.0, read_noise=4.0).read_noise == 4.0

    def test_unknown_stays_unknown(self):
        assert common.facts(Exposures.from_frames(frames(1)), {}) == common.Facts(None, None, None)

    @pytest.mark.parametrize("wrong", [{"gain": 0.0}, {"gain": -1.0}, {"read_noise": -1.0}])
    def test_numbers_that_mean_nothing(self, wrong):
        with pytest.raises(OptionError):
            common.facts(Exposures.from_frames(frames(1)), {}, **wrong)


def test_the_default_rejection_can_act_at_every_number_of_frames():
    assert common.default_rejection(2) == "none"
    for n in range(3, 12):
        rejection = common.default_rejection(n)
        assert isinstance(rejection, CCDClip)
        rejection.check(n)
    for n in (12, 30, 100):
        rejection = common.default_rejection(n)
        assert isinstance(rejection, SigmaClip)
        rejection.check(n)


def test_keys_are_typical_and_times_are_not_among_them():
    series = Exposures.from_frames([*frames(2, temperature=-10.0), *frames(1, temperature=-10.2)])
    keys = common.product_keys(series, "dark", includes_bias=True)
    assert keys["temperature"] == -10.0
    assert keys["includes_bias"] is True
    assert "exptime" not in keys


class TestLevels:
    def test_spread_of_integers_and_floats_agree(self):
        rng = np.random.default_rng(1)
        values = np.round(rng.normal(1000, 7, 200_000))
        values[:300] = 60000
        whole, real = spread(values.astype(np.uint16)), spread(values.astype(np.float32))
        assert whole.mean == pytest.approx(real.mean, abs=1e-3)
        assert whole.std == pytest.approx(real.std, rel=1e-3)
        assert whole.std == pytest.approx(np.hypot(7, 1 / 12**0.5), rel=5e-3)
        assert whole.mean == pytest.approx(1000, abs=0.05)
        assert whole.median == pytest.approx(1000, abs=0.05)  # resolved below one count

    def test_spread_of_constants_and_of_nothing(self):
        assert spread(np.full(10, 7, np.uint16)).mean == 7
        assert spread(np.full(10, 7.0)).std == 0
        assert spread(np.array([1.0, np.nan, 3.0])).median == 2
        assert math.isnan(spread(np.full(4, np.nan)).mean)

    def test_noise_is_free_of_structure_and_drift(self):
        rng = np.random.default_rng(2)
        structure = rng.normal(1000, 50, (128, 128))
        series = [structure + 3 * i + rng.normal(0, 5, structure.shape) for i in range(6)]
        found = survey([ArraySource(np.round(a).astype(np.uint16)) for a in series])
        assert found.noise == pytest.approx(np.hypot(5, 1 / 12**0.5), rel=0.02)
        assert np.diff(found.mean) == pytest.approx(3 * np.ones(5), abs=0.3)
        assert found.noise_sigma < 0.05

    def test_noise_of_parts(self):
        rng = np.random.default_rng(3)
        sigma = np.where(np.arange(64) < 32, 4.0, 9.0)
        series = [ArraySource((rng.normal(0, 1, (64, 64)) * sigma).astype(np.float32)) for _ in range(4)]
        parts = {"left": (slice(None), slice(0, 32)), "right": (slice(None), slice(32, 64))}
        found = survey(series, parts=parts).parts
        assert found["left"][0] == pytest.approx(4, rel=0.05)
        assert found["right"] == (pytest.approx(9, rel=0.05), 64 * 32)

    def test_only_frames_of_one_time_make_pairs(self):
        series = [ArraySource(np.full((8, 8), v, np.float32)) for v in (1, 1, 500, 500)]
        assert survey(series, times=[1, 1, 60, 60]).pair_noise.size == 2

    def test_bands_are_the_image_or_spread_over_it(self):
        assert sum(b.stop - b.start for b in bands((100, 50))) == 100
        chosen = bands((4096, 4096), 1 << 18)
        assert chosen[0].start == 0
        assert chosen[-1].stop == 4096
        assert sum(b.stop - b.start for b in chosen) * 4096 == pytest.approx(1 << 18, rel=0.1)

    def test_flagged_pixels_are_left_out(self):
        dq = np.zeros((4, 4), np.uint32)
        dq[1, 1] = DQ.DO_NOT_USE
        sample = read_sample(ArraySource(np.ones((4, 4), np.uint16), dq), [slice(0, 4)])
        assert np.isnan(sample[1, 1])
        assert np.isfinite(sample).sum() == 15

    def test_sizes_that_differ_are_named(self):
        with pytest.raises(ShapeError, match="odd"):
            survey([ArraySource(np.ones((4, 4))), ArraySource(np.ones((4, 5)), name="odd")])


class TestFit:
    """The straight lines of darks against numpy.polyfit, and what is left out."""

    def test_agrees_with_polyfit(self):
        rng = np.random.default_rng(4)
        times = np.array([10.0, 20, 60, 150, 300])
        images = [rng.normal(1000 + 0.4 * t, 6, (5, 7)) for t in times]
        groups = [Group(t, ArraySource(a)) for t, a in zip(times, images, strict=True)]
        fit = fit_rates(groups, bias=None, read_noise=6.0, gain=1e12, limit=50.0)
        expected = np.polyfit(times, np.reshape(images, (5, -1)), 1)
        np.testing.assert_allclose(fit.rate.ravel(), expected[0], rtol=1e-4)
        np.testing.assert_allclose(fit.bias.ravel(), expected[1], rtol=1e-6)
        _, covariance = np.polyfit(times, np.reshape(images, (5, -1))[:, 0], 1, cov="unscaled")
        assert fit.rate_variance[0, 0] == pytest.approx(36 * covariance[0, 0], rel=1e-4)
        assert fit.bias_variance[0, 0] == pytest.approx(36 * covariance[1, 1], rel=1e-4)
        assert fit.covariance[0, 0] == pytest.approx(36 * covariance[0, 1], rel=1e-4)

    def test_rate_is_counts_over_seconds(self):
        groups = [
            Group(10.0, ArraySource(np.full((2, 3), 31.0))),
            Group(60.0, ArraySource(np.full((2, 3), 120.0)), np.full((2, 3), 4, np.uint16)),
        ]
        fit = fit_rates(groups, bias=np.full((2, 3), 20, np.float32), read_noise=5.0, gain=2.0, limit=99.0)
        np.testing.assert_allclose(fit.rate, (11 + 4 * 100) / (10 + 4 * 60), rtol=1e-6)
        np.testing.assert_allclose(fit.frames_per_second, 5 / 250, rtol=1e-6)
        assert (fit.count == 5).all()

    @pytest.mark.parametrize("hit", range(5))
    def test_one_hit_is_left_out_wherever_it_falls(self, hit):
        times = [10.0, 20, 60, 150, 300]
        images = [np.full((1, 1), 1000 + 0.4 * t) for t in times]
        images[hit][0, 0] += 400
        groups = [Group(t, ArraySource(a)) for t, a in zip(times, images, strict=True)]
        fit = fit_rates(groups, bias=None, read_noise=6.0, gain=1.5, limit=5.0)
        assert fit.rate[0, 0] == pytest.approx(0.4, rel=1e-4)
        assert (fit.high[0, 0], fit.low[0, 0], fit.count[0, 0]) == (1, 0, 4)

    def test_of_two_that_accuse_each_other_the_higher_goes(self):
        groups = [Group(60.0, ArraySource(np.full((1, 1), v))) for v in (1024.0, 1524.0)]
        fit = fit_rates(groups, bias=np.full((1, 1), 1000, np.float32), read_noise=6.0, gain=1.5, limit=5.0)
        assert fit.rate[0, 0] == pytest.approx(0.4)

    def test_a_pixel_without_values(self):
        groups = [Group(t, ArraySource(np.full((1, 2), np.nan))) for t in (10.0, 60.0)]
        fit = fit_rates(groups, bias=None, read_noise=6.0, gain=1.5, limit=5.0)
        assert np.isnan(fit.rate).all()
        assert (fit.count == 0).all()
