from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from calibrant.effects import bias, dark, flat
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product, Quantity

SHAPE = (64, 128)
GAIN, NOISE, ZERO = 1.5, 6.0, 1000.0
ROWS, COLS = np.mgrid[: SHAPE[0], : SHAPE[1]]
TRUTH = (1 - 0.3 * ((COLS - 64) / 64.0) ** 2) * (1 + 0.02 * np.sin(ROWS))


def frame(light, start=0, pattern=TRUTH, seed=0, **facts):
    rng = np.random.default_rng(seed + start // 10**6)
    counts = ZERO + rng.poisson(np.maximum(light * pattern, 0) * GAIN) / GAIN + rng.normal(0, NOISE, SHAPE)
    facts = {"gain": GAIN, "read_noise": NOISE * GAIN, "filter": "V", "duration": 2.0, **facts}
    exposure = Exposure("flat", start=start, identifier=f"f{start // 10**7}", **facts)
    return Frame(np.clip(np.round(counts), 0, 65535).astype(np.uint16), exposure=exposure)


def series(lights=(20000.0,) * 5, **facts):
    return Exposures.from_frames([frame(v, start=i * 10**7, **facts) for i, v in enumerate(lights)])


@pytest.fixture
def zero():
    return Product(
        "bias",
        planes={"data": np.full(SHAPE, ZERO, np.float32), "propagated": np.full(SHAPE, 3.6, np.float32)},
        units={"data": "adu", "propagated": "adu2"},
        quantities=(Quantity("read_noise", NOISE, unit="adu"),),
    )


@pytest.fixture
def current(zero):
    return Product(
        "dark",
        planes={"data": np.full(SHAPE, 50, np.float32), "propagated": np.full(SHAPE, 0.01, np.float32)},
        units={"data": "adu/s", "propagated": "adu2/s2"},
    )


def test_truth_of_one_level(zero):
    found = flat.measure(series(), products={"bias": zero})
    np.testing.assert_allclose(found.data, TRUTH / np.median(TRUTH), rtol=0.03)
    assert np.median(found.data) == pytest.approx(1, abs=1e-6)
    assert found.unit == ""
    assert found.keys["filter"] == "V"
    assert found.quantity("level").value == pytest.approx(20000 * np.median(TRUTH), rel=1e-3)
    assert found.quantity("level_scatter").value < 0.2
    assert found.quantity("scatter").value < 0.1
    np.testing.assert_allclose(
        found.planes["systematic"], 3.6 / found.quantity("level").value ** 2, rtol=0.01
    )


def test_levels_that_differ_are_scaled_first(zero):
    found = flat.measure(series((5000.0, 10000.0, 20000.0, 40000.0)), products={"bias": zero})
    assert np.std(found.data / TRUTH * np.median(TRUTH)) < 0.006
    assert found.quantity("level_scatter").value > 50
    assert found.quantity("scatter").value < 0.2


def test_the_dark_is_removed_by_time(zero, current):
    lights = [frame(v + 50 * t / TRUTH, start=i * 10**7, duration=t) for i, (v, t) in enumerate(
        [(8000.0, 10.0), (8000.0, 40.0), (8000.0, 20.0)]
    )]  # fmt: skip
    found = flat.measure(Exposures.from_frames(lights), products={"bias": zero, "dark": current})
    assert found.quantity("level_scatter").value < 0.3
    assert set(found.provenance.parents) == {zero.identity, current.identity}


def test_frames_that_come_prepared(zero):
    through = series().through(partial(bias.step, product=zero))
    found = flat.measure(through)
    np.testing.assert_allclose(found.data, flat.measure(series(), products={"bias": zero}).data, rtol=1e-6)
    assert found.provenance.parents == (zero.identity,)


def test_a_dark_that_holds_its_bias(zero):
    whole = Product(
        "dark",
        keys={"exptime": 2.0, "includes_bias": True},
        planes={"data": np.full(SHAPE, ZERO, np.float32)},
        units={"data": "adu"},
        quantities=(Quantity("level", ZERO),),
    )
    found = flat.measure(series(), products={"dark": whole})
    np.testing.assert_allclose(found.data, flat.measure(series(), products={"bias": zero}).data, rtol=1e-6)
    with pytest.raises(HistoryError, match="give one of the two"):
        flat.measure(series(), products={"dark": whole, "bias": zero})


class TestScatterBetweenFrames:
    def test_patterns_that_differ_are_noted(self, zero):
        tilt = 1 + 0.08 * (COLS - 64) / 64
        frames = [
            frame(20000.0, start=i * 10**7, pattern=TRUTH * (tilt if i % 2 else 2 - tilt)) for i in range(6)
        ]
        found = flat.measure(Exposures.from_frames(frames), products={"bias": zero})
        expected = 100 * np.std(tilt) * np.sqrt(6 / 5)
        assert found.quantity("scatter").value == pytest.approx(expected, rel=0.06)  # blocks of 32 columns
        assert any("2 % or more is a problem" in note for note in found.provenance.notes)
        assert (found.planes["count"] >= 5).mean() > 0.95  # limits widened: light is not thrown away

    def test_pixel_noise_is_not_scatter(self, zero):
        faint = flat.measure(series((300.0,) * 6), products={"bias": zero})
        assert faint.quantity("scatter").value < 0.7  # single pixels scatter by 8 %
        assert not any("problem" in note for note in faint.provenance.notes)


class TestPixels:
    def test_floor_zero_and_negative(self, zero):
        pattern = TRUTH.copy()
        pattern[10, 10], pattern[20, 20] = 0.0, 0.01
        found = flat.measure(series(pattern=pattern), products={"bias": zero})
        for pixel in ((10, 10), (20, 20)):
            assert found.data[pixel] == np.float32(0.05)
            assert found.planes["dq"][pixel] & DQ.UNRELIABLE_FLAT
        assert (found.planes["dq"] != 0).sum() == 2
        assert (found.data > 0).all()

    def test_no_data(self, zero):
        dq = np.zeros(SHAPE, np.uint32)
        dq[3, 4] = DQ.DO_NOT_USE
        frames = [replace(f, dq=dq) for f in series().frames()]
        found = flat.measure(Exposures.from_frames(frames), products={"bias": zero})
        assert found.data[3, 4] == 1
        assert found.planes["dq"][3, 4] & DQ.NO_FLAT_FIELD
        assert found.planes["dq"][3, 4] & DQ.DO_NOT_USE

    def test_saturated_pixels_of_one_frame_are_left_out(self, zero):
        frames = list(series(saturation=60000.0).frames())
        frames[0].data[5, 5] = 65535
        found = flat.measure(Exposures.from_frames(frames), products={"bias": zero}, reject="none")
        assert found.planes["count"][5, 5] == 4
        assert found.data[5, 5] == pytest.approx(TRUTH[5, 5] / np.median(TRUTH), rel=0.03)


class TestFrames:
    def test_saturated_frames_are_left_out_by_name(self, zero):
        found = flat.measure(
            series((20000.0, 20000.0, 90000.0, 20000.0), saturation=60000.0), products={"bias": zero}
        )
        assert "left out, saturated: f2" in found.provenance.notes
        assert list(found.tables["frames"]["name"]) == ["f0", "f1", "f3"]
        assert len(found.provenance.inputs) == 3

    def test_all_saturated(self, zero):
        with pytest.raises(SelectionError, match="all pixels are saturated in every flat"):
            flat.measure(series((90000.0,) * 3, saturation=60000.0), products={"bias": zero})

    def test_without_light(self, zero):
        with pytest.raises(SelectionError, match="there is no light in every flat"):
            flat.measure(series((-500.0,) * 3), products={"bias": replace(zero, planes={
                **zero.planes, "data": np.full(SHAPE, ZERO + 50, np.float32)})})  # fmt: skip

    def test_mixed_filters(self, zero):
        mixed = Exposures.from_frames([frame(2e4), frame(2e4, start=10**7, filter="R")])
        with pytest.raises(SelectionError, match="mixed filter"):
            flat.measure(mixed, products={"bias": zero})

    def test_no_bias(self):
        with pytest.raises(HistoryError, match="bias removed before it is normalised"):
            flat.measure(series())

    def test_another_size(self, zero):
        with pytest.raises(ShapeError):
            flat.measure(
                series(), products={"bias": replace(zero, planes={"data": np.ones((4, 4), np.float32)})}
            )

    @pytest.mark.parametrize("floor", [0.0, 1.0, -1])
    def test_floor_that_means_nothing(self, zero, floor):
        with pytest.raises(OptionError, match="floor"):
            flat.measure(series(), products={"bias": zero}, floor=floor)

    def test_advice(self, zero):
        found = flat.measure(series((2e4,) * 3), products={"bias": zero})
        assert "made of 3 frames; at least 5 are advised for a flat" in found.provenance.notes
        assert set(found.planes) <= set(flat.KIND.planes)
        assert {q.name for q in found} <= set(flat.KIND.quantities)


def test_unknown_gain_is_measured(zero):
    frames = series((20000.0,) * 6, gain=None, read_noise=None)
    found = flat.measure(frames, products={"bias": zero})
    assert found.quantity("gain").value == pytest.approx(GAIN, rel=0.05)
    known = flat.measure(series((20000.0,) * 6), products={"bias": zero})
    assert np.median(found.planes["propagated"] / known.planes["propagated"]) == pytest.approx(1, rel=0.06)


class TestApply:
    master = Product(
        "flat",
        keys={"filter": "V"},
        planes={"data": np.full(SHAPE, 0.5, np.float32), "propagated": np.full(SHAPE, 1e-4, np.float32)},
        units={"data": ""},
    )

    def light(self, zero, **facts):
        return bias.apply(frame(0.0, **facts), zero)

    def test_divides(self, zero):
        done = flat.apply(self.light(zero), self.master)
        np.testing.assert_allclose(done.data, self.light(zero).data * 2, rtol=1e-6)
        expected = (3.6 + done.data**2 * 1e-4) / 0.25
        np.testing.assert_allclose(done.systematic, expected, rtol=1e-5)
        with pytest.raises(HistoryError, match="applied already"):
            flat.apply(done, self.master)

    def test_needs_the_bias_removed(self):
        with pytest.raises(HistoryError, match="needs the bias"):
            flat.apply(frame(0.0), self.master)

    def test_after_a_dark_that_held_the_bias(self):
        whole = Product(
            "dark",
            keys={"exptime": 2.0, "includes_bias": True},
            planes={"data": np.full(SHAPE, ZERO, np.float32)},
            units={"data": "adu"},
            quantities=(Quantity("level", ZERO),),
        )
        assert flat.apply(dark.apply(frame(0.0), whole), self.master).did("flat")

    def test_another_filter(self, zero):
        with pytest.raises(SelectionError, match="another filter"):
            flat.apply(self.light(zero, filter="R"), self.master)


@pytest.mark.real
def test_real(real_data):
    exposures = Exposures.scan(real_data / "stl1001", instrument="stl1001").where(temperature=-5)
    zero = bias.measure(exposures.where(kind="bias"))
    current = dark.measure(exposures.where(kind="dark", exptime=60), products={"bias": zero})
    found = flat.measure(exposures.where(kind="flat"), products={"bias": zero, "dark": current})
    assert found.quantity("level").value == pytest.approx(18650, rel=0.01)
    assert found.quantity("scatter").value < 0.1
    assert 0.1 < found.quantity("level_scatter").value < 0.5
    assert np.percentile(found.data, [1, 99]) == pytest.approx([1, 1], abs=0.2)


@pytest.mark.parametrize(("unlit", "wanted"), [("hold", 0.15), ("leave", 1.0)])
def test_unlit_pixels_are_held_or_left(unlit: str, wanted: float) -> None:
    """Behind the jaws of a slit a division would only blow up the noise."""
    rng = np.random.default_rng(5)
    light = np.full((40, 60), 8000.0)
    light[:10] = 200.0
    frames = [
        Frame(
            (1000 + rng.poisson(light)).astype(np.float32),
            exposure=Exposure(kind="flat", gain=1.0, duration=5.0, start=i * 10**7),
        )
        for i in range(5)
    ]
    bias = Product("bias", planes={"data": np.full((40, 60), 1000.0, np.float32)}, units={"data": "adu"})
    made = flat.measure(
        Exposures.from_frames(frames), products={"bias": bias}, floor=0.15, unlit=unlit, read_noise=1.0
    )
    assert np.allclose(made.data[:10], wanted)
    assert (made.planes["dq"][:10] & np.uint32(DQ.UNRELIABLE_FLAT)).all()
    assert not (made.planes["dq"][10:] & np.uint32(DQ.UNRELIABLE_FLAT)).any()


def test_light_along_a_slit_is_held_against_the_slit() -> None:
    """A lamp that is faint at one end of a spectrum is lit there; the jaws are dark at its bright end."""
    rng = np.random.default_rng(6)
    light = np.linspace(500.0, 20000.0, 60) * np.ones((40, 1))
    light[:10] *= 0.1
    frames = [
        Frame(
            (1000 + rng.poisson(light)).astype(np.float32),
            exposure=Exposure(kind="flat", gain=1.0, duration=5.0, start=i * 10**7),
        )
        for i in range(5)
    ]
    bias = Product("bias", planes={"data": np.full((40, 60), 1000.0, np.float32)}, units={"data": "adu"})
    options = {"floor": 0.25, "unlit": "leave", "read_noise": 1.0}
    exposures, products = Exposures.from_frames(frames), {"bias": bias}
    made = flat.measure(exposures, products=products, against="column", **options)
    low = (made.planes["dq"] & np.uint32(DQ.UNRELIABLE_FLAT)) != 0
    assert low[:10].all()
    assert not low[10:].any()
    # Against the median of the image the faint end would be lost.
    plain = flat.measure(exposures, products=products, **options)
    assert (plain.planes["dq"][10:] & np.uint32(DQ.UNRELIABLE_FLAT)).any()


def test_frames_at_the_level_of_the_bias_hold_no_light() -> None:
    """A median of a tenth of a count above the bias, in noise of thirty, is no lamp."""
    rng = np.random.default_rng(8)
    frames = [
        Frame(
            rng.normal(1000.1, 32.0, (60, 80)).astype(np.float32),
            exposure=Exposure(kind="flat", gain=1.0, duration=5.0, start=i * 10**7),
        )
        for i in range(5)
    ]
    bias = Product("bias", planes={"data": np.full((60, 80), 1000.0, np.float32)}, units={"data": "adu"})
    with pytest.raises(SelectionError, match="there is no light in every flat"):
        flat.measure(Exposures.from_frames(frames), products={"bias": bias}, read_noise=5.0)


@pytest.mark.parametrize(("level", "lit"), [(0.3, False), (0.7, False), (1.4, True), (5.0, True)])
def test_light_is_a_level_above_the_noise_of_a_pixel(level: float, lit: bool) -> None:
    """Level in units of the noise of a single pixel; one frame or several, the answer is the same."""
    rng = np.random.default_rng(5)
    frames = [
        Frame(
            rng.normal(1000 + 32 * level, 32.0, (200, 300)).astype(np.float32),
            exposure=Exposure(kind="flat", gain=1.0, duration=5.0, start=i * 10**7),
        )
        for i in range(4)
    ]
    bias = Product("bias", planes={"data": np.full((200, 300), 1000.0, np.float32)}, units={"data": "adu"})
    for some in (frames, frames[:1]):
        exposures = Exposures.from_frames(some)
        if lit:
            made = flat.measure(exposures, products={"bias": bias}, read_noise=31.0)
            assert np.median(made.data) == pytest.approx(1.0, abs=0.02)
        else:
            with pytest.raises(SelectionError, match="there is no light in every flat"):
                flat.measure(exposures, products={"bias": bias}, read_noise=31.0)
