from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import bias, dark
from calibrant.errors import HeaderError, HistoryError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product, Quantity
from calibrant.stack.pixel import apply_steps

SHAPE = (32, 40)
GAIN, NOISE = 2.0, 5.0


def frame(data, time, start=0, kind="dark", **facts):
    facts = {"gain": GAIN, "read_noise": NOISE * GAIN, **facts}
    exposure = Exposure(kind, start=start, duration=time, identifier=f"d{start // 10**7}", **facts)
    return Frame(np.asarray(data), exposure=exposure)


def series(times, seed=0, level=1000.0, rate=0.5, jumps=None, **facts):
    rng = np.random.default_rng(seed)
    rates = np.full(SHAPE, rate)
    rates[4, 5] = 40.0  # hot
    made = []
    for i, time in enumerate(times):
        counts = level + (0 if jumps is None else jumps[i]) + rng.normal(0, NOISE, SHAPE)
        counts += rng.poisson(rates * time * GAIN) / GAIN
        made.append(frame(np.round(counts).astype(np.uint16), time, start=i * 10**7, **facts))
    return Exposures.from_frames(made)


@pytest.fixture
def zero():
    data = np.full(SHAPE, 1000, np.float32)
    return Product(
        "bias",
        planes={"data": data, "propagated": np.full(SHAPE, 2.5, np.float32)},
        units={"data": "adu", "propagated": "adu2"},
        quantities=(Quantity("read_noise", NOISE, unit="adu"),),
    )


def cube(exposures):
    return np.array([f.load().data for f in exposures.frames()], float)


class TestRate:
    def test_one_time(self, zero):
        frames = series([60.0] * 7)
        found = dark.measure(frames, products={"bias": zero}, method="median", reject="none")
        np.testing.assert_allclose(found.data, np.median((cube(frames) - 1000) / 60, axis=0), rtol=1e-6)
        assert found.unit == "adu/s"
        assert "exptime" not in found.keys
        np.testing.assert_allclose(found.planes["systematic"], 2.5 / 3600, rtol=1e-6)
        assert found.provenance.parents == (zero.identity,)

    def test_frames_of_one_time_stay_integers(self, zero, monkeypatch):
        """The raw numbers go to the engine: half the bytes, and the same median."""
        seen = []
        stack = dark.common.stack
        monkeypatch.setattr(
            dark.common, "stack", lambda s, **o: seen.extend(x.encoding.dtype for x in s) or stack(s, **o)
        )
        dark.measure(series([60.0] * 3), products={"bias": zero})
        assert {np.dtype(d) for d in seen} == {np.dtype(np.uint16)}

    def test_several_times_are_counts_over_seconds(self, zero):
        frames = series([10.0, 20.0, 60.0, 60.0, 60.0, 300.0])
        found = dark.measure(frames, products={"bias": zero})
        times = np.array([10, 20, 60, 60, 60, 300.0])
        expected = (cube(frames) - 1000).sum(0) / times.sum()
        whole = found.planes["count"] == 6
        assert whole.mean() > 0.99
        np.testing.assert_allclose(found.data[whole], expected[whole], rtol=1e-5)
        assert found.quantity("rate").value == pytest.approx(0.5, abs=0.01)
        assert found.quantity("slope").value == pytest.approx(0.5, abs=0.01)
        assert found.quantity("intercept").value == pytest.approx(0, abs=1)
        assert found.quantity("nonlinearity").value < 1
        assert found.quantity("time_max").value == 300
        assert found.planes["systematic"][0, 0] == pytest.approx(2.5 * (6 / 510) ** 2, rel=1e-5)

    def test_a_current_that_is_not_linear_is_seen(self, zero):
        frames = list(series([30.0, 60.0, 120.0, 240.0]).frames())
        frames[-1] = replace(frames[-1], data=frames[-1].data - np.uint16(20))
        found = dark.measure(Exposures.from_frames(frames), products={"bias": zero})
        assert found.quantity("nonlinearity").value > 3

    def test_dark_time_counts_before_exposure_time(self, zero):
        frames = [
            replace(f, exposure=replace(f.exposure, duration=55.0, dark_time=60.0))
            for f in series([60.0] * 3).frames()
        ]
        found = dark.measure(Exposures.from_frames(frames), products={"bias": zero})
        assert found.quantity("rate").value == pytest.approx(0.5, abs=0.02)
        assert found.quantity("time_max").value == 60

    def test_hits_and_hot_pixels(self, zero):
        frames = list(series([100.0] * 8).frames())
        for i, f in enumerate(frames):
            f.data[10 + i, 10:13] += 3000  # a track of three pixels is one hit
        found = dark.measure(Exposures.from_frames(frames), products={"bias": zero})
        pixels = SHAPE[0] * SHAPE[1]
        assert found.quantity("cosmic_ray_rate").value == pytest.approx(8e6 / (800 * pixels), rel=0.9)
        assert found.data[12, 11] < 1
        assert found.quantity("hot_fraction").value == pytest.approx(1 / pixels)

    def test_separate_hits_are_counted(self, zero):
        frames = list(series([100.0] * 8).frames())
        for i, f in enumerate(frames):
            f.data[3 * i + 1, 20:22] += 3000
        found = dark.measure(Exposures.from_frames(frames), products={"bias": zero})
        assert found.quantity("cosmic_ray_rate").value == pytest.approx(
            8e6 / (800 * SHAPE[0] * SHAPE[1]), rel=0.01
        )

    def test_unknown_gain_leaves_the_propagated_variance_unknown(self, zero):
        found = dark.measure(series([60.0] * 3, gain=None, read_noise=None), products={"bias": zero})
        assert "propagated" not in found.planes
        assert "variance" in found.planes
        assert any("gain is unknown" in note for note in found.provenance.notes)

    def test_flags(self, zero):
        dq = np.zeros(SHAPE, np.uint32)
        dq[0, 0] = DQ.DO_NOT_USE
        flagged = replace(zero, planes={**zero.planes, "dq": dq})
        assert dark.measure(series([60.0] * 3), products={"bias": flagged}).planes["dq"][0, 0] & DQ.DO_NOT_USE
        frames = []
        for i, f in enumerate(series([60.0] * 5).frames()):
            data = f.data.astype(np.float32)
            data[7, 7] = np.nan if i else data[7, 7]
            frames.append(replace(f, data=data))
        found = dark.measure(Exposures.from_frames(frames), products={"bias": zero}, reject="none")
        assert found.planes["dq"][7, 7] & DQ.UNRELIABLE_DARK


def test_the_result_does_not_depend_on_the_runner(zero, monkeypatch):
    frames = series([10.0, 20.0, 60.0, 60.0, 60.0, 300.0])
    expected = dark.measure(frames, products={"bias": zero}, runner="serial")
    monkeypatch.setattr("calibrant.effects._dark_fit.BAND_VALUES", 500)
    steps = []
    found = dark.measure(frames, products={"bias": zero}, runner=2, progress=lambda *p: steps.append(p))
    assert found.identity == expected.identity
    assert (SHAPE[0], SHAPE[0], "dark rates") in steps


class TestWithoutBias:
    def test_one_time_holds_the_bias(self):
        frames = series([60.0] * 5)
        found = dark.measure(frames, method="median", reject="none")
        np.testing.assert_array_equal(found.data, np.median(cube(frames), axis=0).astype(np.float32))
        assert found.unit == "adu"
        assert found.keys["exptime"] == 60.0
        assert found.keys["includes_bias"] is True
        assert found.quantity("level").value == pytest.approx(1030, abs=1)
        assert any("holds its bias" in note for note in found.provenance.notes)

    def test_two_times_are_fitted(self):
        found = dark.measure(series([30.0] * 4 + [300.0] * 4))
        assert np.median(found.data) == pytest.approx(0.5, abs=0.01)
        assert np.median(found.planes["bias"]) == pytest.approx(1000, abs=1)
        assert found.data[4, 5] == pytest.approx(40, rel=0.05)
        assert found.keys["includes_bias"] is True
        assert "exptime" not in found.keys

    def test_levels_that_jump(self):
        jumps = (0, 60, -50, 40, -30)
        found = dark.measure(series([60.0] * 5, jumps=jumps))
        assert any("each was shifted" in note for note in found.provenance.notes)
        assert (found.planes["count"] == 5).mean() > 0.99
        kept = dark.measure(series([60.0] * 5, jumps=jumps), level="keep")
        assert (kept.planes["count"] == 5).mean() < 0.5
        np.testing.assert_allclose(np.median(found.data), 1030 + np.mean(jumps), atol=1.5)

    def test_times_without_read_noise(self):
        found = dark.measure(series([10.0, 20.0, 60.0, 300.0], gain=None, read_noise=None))
        assert np.median(found.data) == pytest.approx(0.5, abs=0.02)
        assert any("from frames of different times" in note for note in found.provenance.notes)

    def test_noise_is_that_of_the_frames(self):
        found = dark.measure(series([60.0] * 6))
        truth = np.sqrt(NOISE**2 + 30 / GAIN)
        assert found.quantity("noise").value == pytest.approx(truth, rel=0.05)


class TestBadInput:
    def test_missing_time(self, zero):
        frames = [*series([60.0] * 2).frames(), frame(np.ones(SHAPE, np.uint16), None, start=9 * 10**7)]
        with pytest.raises(HeaderError, match="d9: neither a dark time nor an exposure time"):
            dark.measure(Exposures.from_frames(frames), products={"bias": zero})

    def test_zero_seconds(self, zero):
        with pytest.raises(SelectionError, match="above zero"):
            dark.measure(series([60.0, 0.0, 60.0]), products={"bias": zero})

    def test_dark_removed_already(self, zero):
        with pytest.raises(HistoryError, match="dark removed"):
            dark.measure(series([60.0] * 3, applied=frozenset({"dark"})), products={"bias": zero})

    def test_another_size(self, zero):
        small = replace(zero, planes={"data": np.ones((4, 4), np.float32)})
        with pytest.raises(ShapeError, match="does not fit"):
            dark.measure(series([60.0] * 3), products={"bias": small})

    def test_temperatures(self, zero):
        mixed = series([60.0] * 2, temperature=-10.0) + series([60.0] * 2, seed=3, temperature=20.0)
        with pytest.raises(SelectionError, match="mixed temperature"):
            dark.measure(mixed, products={"bias": zero})

    def test_not_a_level(self, zero):
        with pytest.raises(OptionError, match="auto, keep or common"):
            dark.measure(series([60.0] * 3), products={"bias": zero}, level="sometimes")

    def test_not_a_bias(self, zero):
        with pytest.raises(UnitError):
            dark.measure(series([60.0] * 3), products={"bias": replace(zero, units={"data": "electron"})})

    def test_one_frame_of_unknown_noise(self, zero):
        one = series([60.0], gain=None, read_noise=None)
        found = dark.measure(one, products={"bias": replace(zero, quantities=())})
        assert set(found.planes) == {"data", "systematic", "count", "dq"}


def rate_product(longest, **more):
    return Product(
        "dark",
        planes={"data": np.full(SHAPE, 0.5, np.float32), "propagated": np.full(SHAPE, 1e-4, np.float32)},
        units={"data": "adu/s"},
        quantities=(Quantity("time_max", longest, unit="s"),),
        **more,
    )


def whole_product(time):
    return Product(
        "dark",
        keys={"exptime": time, "includes_bias": True},
        planes={"data": np.full(SHAPE, 1030, np.float32)},
        units={"data": "adu"},
        quantities=(Quantity("level", 1030.0),),
    )


class TestChoose:
    def test_exact_first(self):
        darks = [rate_product(300.0), rate_product(60.0), whole_product(60.0)]
        choice = dark.choose(darks, 60.0)
        assert (choice.dark, choice.scaled) == (darks[1], False)
        assert dark.choose([rate_product(300.0), whole_product(60.0)], 60.0).dark.unit == "adu"

    def test_then_down_from_the_nearest(self):
        darks = [rate_product(600.0), rate_product(300.0), rate_product(60.0)]
        choice = dark.choose(darks, 120.0)
        assert choice.dark is darks[1]
        assert choice.scaled
        assert choice.reason == "scaled down from 300 s to 120 s"

    def test_never_up_unasked(self):
        with pytest.raises(SelectionError, match=r"no dark serves this exposure time.*got 60 s, 300 s"):
            dark.choose([rate_product(60.0), rate_product(300.0)], 900.0)
        choice = dark.choose([rate_product(60.0), rate_product(300.0)], 900.0, scale_up=True)
        assert "scaled UP from 300 s" in choice.reason

    def test_a_dark_with_its_bias_is_never_scaled(self):
        with pytest.raises(SelectionError, match="no dark serves"):
            dark.choose([whole_product(300.0)], 60.0, scale_up=True)

    def test_no_darks(self):
        with pytest.raises(SelectionError, match="no darks"):
            dark.choose([], 60.0)


class TestApply:
    def light(self, time=60.0, **facts):
        return frame(np.full(SHAPE, 1530, np.uint16), time, kind="light", **facts)

    def test_rate_times_time(self, zero):
        done = dark.apply(bias.apply(self.light(), zero), rate_product(300.0))
        np.testing.assert_allclose(done.data, 500)
        np.testing.assert_allclose(done.systematic, 2.5 + 1e-4 * 3600, rtol=1e-6)
        assert done.history[-1].options["time"] == 60.0

    def test_needs_the_bias_removed(self):
        with pytest.raises(HistoryError, match="needs the bias"):
            dark.apply(self.light(), rate_product(300.0))

    def test_whole(self, zero):
        done = dark.apply(self.light(), whole_product(60.0))
        np.testing.assert_allclose(done.data, 500)
        with pytest.raises(SelectionError, match="never scaled"):
            dark.apply(self.light(30.0), whole_product(60.0))
        with pytest.raises(HistoryError, match="bias was applied already"):
            dark.apply(bias.apply(self.light(), zero), whole_product(60.0))

    def test_camera_removed_it(self, zero):
        with pytest.raises(HistoryError, match="cannot be applied because dark was applied already"):
            dark.apply(self.light(applied=frozenset({"dark"})), rate_product(300.0))
        with pytest.raises(HistoryError, match="before this frame reached us"):
            dark.step(self.light(applied=frozenset({"dark"})).exposure, rate_product(300.0))

    def test_scaling_up_can_be_forbidden(self, zero):
        light = bias.apply(self.light(900.0), zero)
        with pytest.raises(SelectionError, match="scaled down only"):
            dark.apply(light, rate_product(300.0), scale_up=False)
        assert dark.apply(light, rate_product(300.0)).did("dark")

    def test_missing_time(self, zero):
        with pytest.raises(HeaderError, match="neither a dark time"):
            dark.apply(bias.apply(self.light(None), zero), rate_product(300.0))

    def test_noise_of_a_dark_that_holds_its_bias(self):
        step = dark.step(self.light().exposure, whole_product(60.0), read_noise=5.0, gain=2.0)
        done = apply_steps(self.light(), [step])
        np.testing.assert_allclose(done.variance, 25 + 500 / 2, rtol=1e-6)
        # A dark that shows more noise than the read noise has electrons in its typical pixels.
        seen = whole_product(60.0)
        seen = replace(seen, quantities=(*seen.quantities, Quantity("noise", 6.0, unit="adu")))
        step = dark.step(self.light().exposure, seen, read_noise=5.0, gain=2.0)
        np.testing.assert_allclose(apply_steps(self.light(), [step]).variance, 36 + 500 / 2, rtol=1e-6)


@pytest.mark.real
class TestReal:
    @pytest.mark.parametrize(
        ("temperature", "levels"), [(-5, {300: 105.0, 60: 22.8}), (-10, {300: 52.4})], ids=["-5 C", "-10 C"]
    )
    def test_levels(self, real_data, temperature, levels):
        exposures = Exposures.scan(real_data / "stl1001", instrument="stl1001").where(temperature=temperature)
        zero = bias.measure(exposures.where(kind="bias"))
        found = dark.measure(exposures.where(kind="dark"), products={"bias": zero})
        table = found.tables["frames"]
        for time, level in levels.items():
            single = np.char.startswith(table["name"], f"darks-expos{time}s")
            assert table["median"][single][0] == pytest.approx(level, abs=0.5)
        assert found.quantity("nonlinearity").value < 1
        assert 0.05 < found.quantity("cosmic_ray_rate").value < 0.5

    def test_series_whose_pedestal_drifts(self, real_data):
        exposures = Exposures.scan(real_data / "st402", instrument="st402").where(kind="dark", exptime=1200)
        found = dark.measure(exposures)
        assert found.keys["exptime"] == 1200
        assert (found.planes["count"] >= 3).mean() > 0.95
        assert any("shifted" in note for note in found.provenance.notes)


def test_a_pixel_that_is_rejected_again_is_no_particle() -> None:
    """Noisy and telegraph pixels are rejected in several frames; a particle hits its pixels once."""
    from calibrant.effects._dark_facts import cosmic_rays

    low, high = np.zeros((2, 50, 60), np.uint16)
    high[10, 10:13] = 1  # a track
    high[30, 40] = 3  # a telegraph pixel
    quiet = np.ones(high.shape, bool)
    found = cosmic_rays(low, high, quiet, 100.0)
    assert found.value == pytest.approx(1e6 / (100.0 * (quiet.sum() - 1)))
