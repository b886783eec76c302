"""What masters refuse, and what they leave out by name."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import (
    _input,
    bias,
    cosmic_rays,
    dark,
    defects,
    flat,
    gain,
    overscan,
    pedestal,
    read_noise,
)
from calibrant.errors import OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.exposures.facade import combine
from calibrant.frame import Exposure, Frame
from calibrant.product import Product
from calibrant.stack.pixel import PixelStep
from calibrant.stack.source import ArraySource, Encoding

SHAPE = (24, 32)


def frame(index, *, data=None, kind="bias", unit="adu", duration=0.0, start=None, **facts):
    if data is None:
        data = np.random.default_rng(index).normal(1000, 5, SHAPE).astype(np.float32)
    exposure = Exposure(
        kind,
        start=index * 10**7 if start is None else start,
        identifier=f"f{index}",
        duration=duration,
        gain=1.0,
        unit=unit,
        **facts,
    )
    return Frame(data, unit=unit, exposure=exposure)


def series(*frames):
    return Exposures.from_frames(frames)


class TestUnits:
    @pytest.mark.parametrize("measure", [bias.measure, gain.nominal, read_noise.measure])
    def test_frames_in_electrons_among_those_in_adu(self, measure):
        mixed = series(frame(0), frame(1, unit="electron"), frame(2))
        with pytest.raises(UnitError, match="f1: is in electron already; raw adu expected"):
            measure(mixed)

    def test_a_unit_that_nobody_knows(self):
        with pytest.raises(UnitError, match="f0: is in parsec; raw adu expected"):
            _input.check_units(_Headers("parsec", "adu"), ("adu",))

    def test_several_units_that_could_each_be_used(self):
        mixed = series(frame(0), frame(1, unit="electron"))
        with pytest.raises(UnitError, match="several units: adu in f0; electron in f1"):
            cosmic_rays.measure(mixed)

    def test_the_unit_of_frames_in_memory_is_that_before_the_steps(self):
        steps = series(frame(0), frame(1)).through(lambda e: PixelStep("gain", scale=2.0, unit="electron"))
        _input.check_units(steps, ("adu",))
        electrons = series(frame(0, unit="electron")).through(lambda e: PixelStep("level", offset=1.0))
        with pytest.raises(UnitError, match="electron"):
            _input.check_units(electrons, ("adu",))


class _Headers(Exposures):
    """Exposures known by headers alone."""

    def __init__(self, *units):
        super().__init__()
        self.units = units

    def __iter__(self):
        return (Exposure(path=f"f{i}", unit=unit) for i, unit in enumerate(self.units))

    def __getitem__(self, index):
        return list(self)[index]


class TestKinds:
    def test_mixed(self):
        mixed = series(frame(0), frame(1), frame(2, kind="dark", duration=5.0))
        with pytest.raises(SelectionError, match=r"f2: .*mixed kinds: expected bias, got 2 bias, 1 dark"):
            bias.measure(mixed)

    @pytest.mark.parametrize(("measure", "kind"), [(bias.measure, "dark"), (dark.measure, "light")])
    def test_another(self, measure, kind):
        with pytest.raises(SelectionError, match=f"another kind: .*got 3 {kind}; select kind="):
            measure(series(*(frame(i, kind=kind, duration=5.0) for i in range(3))))

    def test_unknown_and_own_words_are_taken(self):
        bias.measure(series(*(frame(i, kind="unknown") for i in range(3))))
        _input.check_kinds(series(frame(0, kind="twilight"), frame(1, kind="unknown")), "flat")
        with pytest.raises(SelectionError, match="mixed"):
            _input.check_kinds(series(frame(0, kind="twilight"), frame(1, kind="flat")), "flat")

    def test_effects_that_serve_all_kinds(self):
        mixed = series(frame(0), frame(1, kind="light", duration=9.0))
        assert gain.nominal(mixed).quantity("gain").value == 1.0
        assert read_noise.measure(mixed, read_noise=3.0).quantity("read_noise").value == 3.0

    def test_combine_tells_of_mixed_kinds(self):
        mixed = combine([frame(0), frame(1), frame(2, kind="dark")])
        assert mixed.history[-1].note == "3 images; of mixed kinds: 2 bias, 1 dark"
        assert combine([frame(0), frame(1)]).history[-1].note == "2 images"


class TestFramesThatHoldNothing:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_are_left_out_by_name(self, value):
        bad = frame(7, data=np.full(SHAPE, value, np.float32))
        good = [frame(i) for i in range(4)]
        made = bias.measure(series(*good, bad))
        assert "left out, without any good pixel: f7" in made.provenance.notes
        assert len(made.provenance.inputs) == 4
        np.testing.assert_array_equal(made.data, bias.measure(series(*good)).data)

    def test_none_left(self):
        bad = [frame(i, data=np.full(SHAPE, np.nan, np.float32)) for i in range(2)]
        with pytest.raises(SelectionError, match=r"f0, f1: no bias .*without any good pixel"):
            bias.measure(series(*bad))

    def test_integers_are_not_read(self):
        class Unreadable(ArraySource):
            def read_into(self, rows, data, dq=None):
                raise AssertionError

        assert _input._any_good(Unreadable(np.zeros(SHAPE, np.uint16)))

    def test_a_few_good_pixels_are_enough(self):
        data = np.full(SHAPE, np.nan, np.float32)
        data[-1, -1] = 1.0
        assert _input._any_good(ArraySource(data))

    @pytest.mark.parametrize(
        ("value", "why"), [(65535, "all pixels are saturated"), (0, r"all pixels are constant \(0 adu\)")]
    )
    def test_constant_flats_are_no_copies(self, value, why):
        flats = [
            frame(i, data=np.full(SHAPE, value, np.uint16), kind="flat", duration=1.0, start=0)
            for i in range(3)
        ]
        with pytest.raises(SelectionError, match=why):
            flat.measure(series(*flats), products={"bias": zero()})

    def test_constant_copies_among_good_frames_are_left_out(self):
        flats = [
            frame(i, data=np.full(SHAPE, 65535, np.uint16), kind="flat", duration=1.0, start=0)
            for i in range(2)
        ]
        rng = np.random.default_rng(1)
        lit = [
            frame(i, data=rng.poisson(9000, SHAPE).astype(np.uint16), kind="flat", duration=1.0)
            for i in range(2, 6)
        ]
        made = flat.measure(series(*flats, *lit), products={"bias": zero()}, read_noise=1.0)
        assert "left out, all pixels are saturated (65535 adu): f0, f1" in made.provenance.notes
        assert len(made.provenance.inputs) == 4

    def test_true_copies_are_refused(self):
        one, data = frame(0, start=0), np.array(frame(0).data)
        with pytest.raises(SelectionError, match=r"f0, f1: the same pixels .*leave the copies out"):
            bias.measure(series(one, frame(1, data=data, start=0), frame(2)))

    def test_saturated_flats_of_a_camera_without_a_stated_saturation(self):
        flats = [frame(i, data=np.full(SHAPE, 65535, np.uint16), kind="flat", duration=1.0) for i in range(3)]
        with pytest.raises(SelectionError, match="all pixels are saturated in every flat"):
            flat.measure(series(*flats), products={"bias": zero()})

    def test_the_largest_value_of_a_converter(self):
        assert _input.ceiling(ArraySource(np.zeros(SHAPE, np.uint16))) == 65535
        assert _input.ceiling(ArraySource(np.zeros(SHAPE, np.float32))) is None

        class Unsigned(ArraySource):
            encoding = Encoding(">i2", zero=32768.0)

        assert _input.ceiling(Unsigned(np.zeros(SHAPE, ">i2"))) == 65535


def zero():
    return Product("bias", planes={"data": np.zeros(SHAPE, np.float32)}, units={"data": "adu"})


@pytest.mark.parametrize(
    "measure",
    [
        bias.measure, dark.measure, flat.measure, gain.measure, gain.nominal, read_noise.measure,
        cosmic_rays.measure, defects.measure, overscan.measure, pedestal.measure,
    ],
)  # fmt: skip
def test_misspelt_products(measure):
    with pytest.raises(OptionError, match="no product called 'bais'; did you mean 'bias'"):
        measure(series(frame(0)), products={"bais": zero()})


def test_products_unlike_any():
    with pytest.raises(OptionError, match="expected overscan, pedestal, bias"):
        _input.check_products({"zzz": zero()})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_frame_without_good_pixels_has_no_cosmic_rays(value):
    bad = frame(0, data=np.full(SHAPE, value, np.float32), kind="light")
    done = cosmic_rays.apply(bad)
    assert done.history[-1].note == "no good pixel"
    assert not done.dq.any()


def test_infinite_pixels_do_not_disturb_the_search():
    data = np.random.default_rng(3).normal(1000, 5, SHAPE).astype(np.float32)
    data[3, 3:6] = np.inf
    data[15, 20] += 900
    hit, _ = cosmic_rays.find(frame(0, data=data, kind="light"))
    assert hit[15, 20]
    assert not hit[3, 3:6].any()
