"""The fused kernel against its specification: what pixel steps mean, said in NumPy, effect by effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrant.frame import DQ, NO_DATA, Frame
from calibrant.stack import pixel_kernels
from calibrant.stack.pixel import Curve, PixelStep, apply_steps
from calibrant.stack.pixel_program import take
from calibrant.stack.source import Encoding, decode

ENCODINGS = {
    "u1": Encoding("=u1"),
    "u2": Encoding("=u2"),
    "fits u2": Encoding(">i2", zero=32768.0),
    "fits i2": Encoding(">i2"),
    "fits i2 blank": Encoding(">i2", blank=-7),
    "scaled i2": Encoding(">i2", scale=0.5, zero=-3.0),
    "u2 blank": Encoding("<u2", zero=1.0, blank=40000),
    "u1 blank": Encoding("=u1", zero=-128.0, blank=5),
    "i4": Encoding("=i4"),
    "fits i4 blank": Encoding(">i4", scale=0.25, blank=-77777),
    "f4": Encoding("=f4"),
    "fits f4": Encoding(">f4"),
    "scaled f4": Encoding(">f4", scale=2.0, zero=0.5),
    "f8": Encoding(">f8"),
    "i8": Encoding("=i8"),
    "i1": Encoding("=i1"),
}


@dataclass(frozen=True, eq=False)
class Stored:
    """Stored numbers with any encoding: a file's face without a file."""

    raw: np.ndarray
    encoding: Encoding
    dq: np.ndarray | None = None
    name: str = "stored"

    @property
    def shape(self):
        return self.raw.shape

    @property
    def has_dq(self):
        return self.dq is not None

    def read_into(self, rows, data, dq=None):
        assert data.dtype.str == np.dtype(self.encoding.dtype).str
        data[...] = self.raw[rows]
        if dq is not None:
            dq[...] = self.dq[rows]


def full(plane, shape):
    """A plane as a float64 image."""
    return np.broadcast_to(np.asarray(plane, np.float64), shape)


def reference(raw, encoding, steps, variance=None, systematic=None, dq=None):
    """Data, variance, systematic (float64, None where unknown) and dq after `steps`, effect by effect."""
    with np.errstate(all="ignore"):
        data = decode(raw, encoding).astype(np.float32).astype(np.float64)
        shape = data.shape
        if variance is None and any(s.read_noise is not None or s.gain is not None for s in steps):
            variance = np.zeros(shape)
        carries = any(s.offset_variance is not None or s.divisor_variance is not None for s in steps)
        if systematic is None and carries:
            systematic = np.zeros(shape)
        dq = np.zeros(shape, np.uint32) if dq is None else dq.copy()
        bad = ~np.isfinite(data)
        data = np.where(bad, np.nan, data)
        dq[bad] |= np.uint32(NO_DATA)
        for step in steps:
            data, variance, systematic = one_step(step, data, variance, systematic, dq)
        bad = ~np.isfinite(data)
        dq[bad] |= np.uint32(DQ.DO_NOT_USE)
        planes = [None if p is None else np.where(bad, np.nan, p) for p in (data, variance, systematic)]
    return (*planes, dq)


def one_step(step, data, variance, systematic, dq):
    """One step; `dq` is changed in place."""
    shape = data.shape
    if step.saturation is not None:
        dq[data >= step.saturation] |= np.uint32(DQ.SATURATED)
    if step.curve is not None:
        data, stretch = curved(step.curve, data, dq)
        variance = None if variance is None else variance * stretch**2
        systematic = None if systematic is None else systematic * stretch**2
    if step.offset is not None:
        data = data - full(step.offset, shape) * step.offset_factor
    if step.offset_variance is not None:
        systematic = systematic + full(step.offset_variance, shape) * step.offset_factor**2
    if step.read_noise is not None or step.gain is not None:
        read_noise = 0.0 if step.read_noise is None else full(step.read_noise, shape)
        photons = 0.0 if step.gain is None else np.maximum(data, 0) / step.gain
        variance = variance + read_noise**2 + photons
    if step.divisor is not None:
        divisor = full(step.divisor, shape)
        bad = ~np.isfinite(divisor) | (divisor == 0)
        dq[bad] |= np.uint32(DQ.DO_NOT_USE | step.divisor_flag)
        divisor = np.where(bad, np.nan, divisor)
        data = data / divisor
        variance = None if variance is None else variance / divisor**2
        if systematic is not None:
            own = 0.0 if step.divisor_variance is None else full(step.divisor_variance, shape)
            systematic = (systematic + data**2 * own) / divisor**2
    data = data * step.scale
    variance = None if variance is None else variance * step.scale**2
    systematic = None if systematic is None else systematic * step.scale**2
    if step.dq is not None:
        dq |= np.broadcast_to(step.dq, shape).astype(np.uint32)
    return data, variance, systematic


def curved(curve, data, dq):
    """Data with the curves added, and 1 + slope; `dq` is changed in place."""
    index = np.broadcast_to(curve.index, data.shape)
    total, stretch = data.copy(), np.ones(data.shape)
    for number, table in enumerate(curve.table.astype(np.float64)):
        own = index == number
        nodes = curve.start[number] + curve.spacing[number] * np.arange(table.size)
        x = data[own]
        total[own] = x + np.where(np.isnan(x), np.nan, np.interp(x, nodes, table))
        place = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, table.size - 2)
        slope = np.diff(table)[place] / curve.spacing[number]
        stretch[own] = 1 + np.where((x >= nodes[0]) & (x <= nodes[-1]), slope, 0.0)
        if curve.saturation is not None:
            dq[own] |= np.where(x >= curve.saturation[number], DQ.SATURATED, 0).astype(np.uint32)
        dq[own] |= np.where((x < curve.low[number]) | (x > curve.high[number]), curve.flag, 0).astype(
            np.uint32
        )
    return total, stretch


def stored_numbers(rng, encoding, shape):
    """Numbers of an encoding, with its blank or NaN and infinity among them."""
    dtype = np.dtype(encoding.dtype)
    if dtype.kind == "f":
        raw = rng.integers(-4000, 4000, shape).astype(dtype)
        raw[rng.random(shape) < 0.1] = np.nan
        raw[rng.random(shape) < 0.1] = np.inf
        return raw
    info = np.iinfo(dtype)
    raw = rng.integers(max(info.min, -4000), min(info.max, 4000), shape, endpoint=True).astype(dtype)
    if encoding.zero == 32768.0:
        raw = rng.integers(-32768, -28000, shape).astype(dtype)
    if encoding.blank is not None:
        raw[rng.random(shape) < 0.2] = encoding.blank
    return raw


def plane(rng, shape, *, low=0, high=100, bad=()):
    """A plane in one of the forms that broadcast; values are exact in float32, some of them bad."""
    rows, cols = shape
    forms = [(rows, cols), (rows, cols), (rows, 1), (1, cols), (cols,), ()]
    form = forms[rng.integers(len(forms))]
    if form == ():
        return float(rng.integers(low, high)) + 0.25
    values = rng.integers(low, high, form) + 0.25
    for wrong in bad:
        values[rng.random(form) < 0.05] = wrong
    return values.astype(rng.choice(["f4", "f8", ">f4"]))


def random_step(rng, shape, number):
    """A step whose data can be computed exactly in float32: powers of two where it multiplies."""
    maybe = lambda value: value if rng.random() < 0.5 else None  # noqa: E731
    offset = maybe(plane(rng, shape, bad=(np.nan,)))
    divisor = None
    if rng.random() < 0.5:
        divisor = rng.choice(
            [0.5, 1.0, 2.0, -1.0, 0.0, np.nan, np.inf], shape, p=[0.3, 0.3, 0.2] + [0.05] * 4
        )
    return PixelStep(
        f"effect {number}",
        offset=offset,
        offset_factor=float(rng.choice([0.5, 1.0, 2.0, -1.0])),
        offset_variance=None if offset is None else maybe(plane(rng, shape)),
        divisor=divisor,
        divisor_variance=None if divisor is None else maybe(plane(rng, shape, high=3)),
        divisor_flag=DQ(rng.choice([DQ.NO_FLAT_FIELD, DQ.NO_GAIN_VALUE])),
        scale=float(rng.choice([1.0, 1.0, 2.0, 0.5])),
        read_noise=maybe(plane(rng, shape, high=10)),
        gain=maybe(float(rng.choice([0.5, 1.0, 2.0]))),
        dq=maybe(rng.integers(0, 1 << 32, shape, dtype=np.uint32)),
        saturation=maybe(float(rng.integers(0, 4000))),
    )


def agree(frame, expected):
    data, variance, systematic, dq = expected
    np.testing.assert_array_equal(frame.data, data.astype(np.float32))
    np.testing.assert_array_equal(frame.dq, dq)
    for ours, theirs in ((frame.variance, variance), (frame.systematic, systematic)):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def random_case(seed, encoding, number):
    """A frame with a random start and random steps, and what the specification makes of it."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 6)), int(rng.integers(1, 40)))
    raw = stored_numbers(rng, encoding, shape)
    steps = [random_step(rng, shape, i) for i in range(number)]
    start = {
        name: values if rng.random() < 0.4 else None
        for name, values in (
            ("variance", rng.integers(0, 50, shape).astype(np.float32)),
            ("systematic", rng.integers(0, 50, shape).astype(np.float32)),
            ("dq", rng.integers(0, 1 << 32, shape, dtype=np.uint32)),
        )
    }
    frame = Frame(Stored(raw, encoding), **start)
    return frame, steps, reference(raw, encoding, steps, **start)


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 4))
def test_kernel_is_the_specification(encoding, seed, number):
    frame, steps, expected = random_case(seed, encoding, number)
    agree(apply_steps(frame, steps), expected)


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
def test_python_form_is_the_specification(encoding, monkeypatch):
    """The same source, not compiled: what numba would hide (wrapping, out-of-range rows) would show here."""
    for name, kernel in vars(pixel_kernels).copy().items():
        if hasattr(kernel, "py_func"):
            monkeypatch.setattr(pixel_kernels, name, kernel.py_func)
    with np.errstate(all="ignore"):
        for seed in range(5):
            frame, steps, expected = random_case(seed, encoding, 3)
            agree(apply_steps(frame, steps), expected)


def random_curve(rng, shape, index):
    """Powers of two, so that float32 finds the same place between the same nodes."""
    amps, nodes = 3, int(rng.integers(2, 12))
    low = rng.integers(-4000, 0, amps).astype(np.float32)
    return Curve(
        table=rng.integers(-40, 40, (amps, nodes)).astype(np.float32),
        start=rng.integers(-2000, 2000, amps).astype(np.float32),
        spacing=(2.0 ** rng.integers(4, 9, amps)).astype(np.float32),
        low=np.where(rng.random(amps) < 0.3, np.nan, low).astype(np.float32),
        high=rng.integers(0, 4000, amps).astype(np.float32),
        index=index,
        flag=DQ(rng.choice([DQ.NONLINEAR, DQ.OUTLIER])),
        saturation=rng.integers(0, 4000, amps).astype(np.float32) if rng.random() < 0.5 else None,
    )


def curve_case(seed):
    """A frame, steps with curves before and after noise, and what the specification makes of it."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 6)), int(rng.integers(1, 40)))
    forms = [shape, (1, shape[1]), (shape[0], 1), ()]
    steps = []
    for number in range(2):
        form = forms[rng.integers(4)]
        index = 2 if form == () else rng.integers(0, 3, form).astype(np.uint8)
        noise = 3.0 if rng.random() < 0.5 else None
        own = 2.0 if rng.random() < 0.5 else None
        curve = random_curve(rng, shape, index)
        steps.append(
            PixelStep(f"curve {number}", curve=curve, offset=1.0, offset_variance=own, read_noise=noise)
        )
    raw = stored_numbers(rng, ENCODINGS["f4"], shape)
    start = {"variance": rng.integers(1, 50, shape).astype(np.float32)} if rng.random() < 0.5 else {}
    frame = Frame(Stored(raw, ENCODINGS["f4"]), **start)
    return frame, steps, reference(raw, ENCODINGS["f4"], steps, **start)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_curves_are_the_specification(seed):
    frame, steps, expected = curve_case(seed)
    agree(apply_steps(frame, steps), expected)


def test_curves_in_python(monkeypatch):
    for name, kernel in vars(pixel_kernels).copy().items():
        if hasattr(kernel, "py_func"):
            monkeypatch.setattr(pixel_kernels, name, kernel.py_func)
    with np.errstate(all="ignore"):
        for seed in range(20):
            frame, steps, expected = curve_case(seed)
            agree(apply_steps(frame, steps), expected)


def test_many_steps_take_several_parts():
    """More planes than the kernel's tuple holds."""
    frame, steps, expected = random_case(5, ENCODINGS["f4"], 12)
    with np.errstate(all="ignore"):
        ours = apply_steps(frame, steps)
    good = np.isfinite(expected[0])
    np.testing.assert_allclose(ours.data[good], expected[0][good], rtol=1e-5)
    np.testing.assert_array_equal(ours.dq, expected[3])


def test_flag_numbers_are_those_of_the_frame():
    assert pixel_kernels.DO_NOT_USE == DQ.DO_NOT_USE and pixel_kernels.SATURATED == DQ.SATURATED
    assert pixel_kernels.NO_DATA == NO_DATA


def taken(raw, encoding, amplifiers, levels, given, shape):
    """What `take` means: each amplifier less its levels, at its place, turned; and its flags."""
    data, dq = np.full(shape, -1.0, np.float32), np.full(shape, 7, np.uint32)
    by_row, by_column, limits = levels
    values = decode(raw, encoding).astype(np.float32)
    for a, (first, cols, top, left, up, back) in enumerate(amplifiers):
        own = values[:, first : first + cols]
        less = own - by_row[a][:, None] - by_column[a, :cols]
        flags = np.broadcast_to(given[:, first : first + cols], own.shape).copy()
        flags[own >= limits[a]] |= np.uint32(DQ.SATURATED)
        flags[np.isnan(less)] |= np.uint32(NO_DATA)
        at = slice(top, top + len(own)), slice(left, left + cols)
        turned = slice(None, None, -1 if up else 1), slice(None, None, -1 if back else 1)
        data[at], dq[at] = less[turned], flags[turned]
    return data, dq


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("encoding", ["u2", "fits u2", "fits i2 blank", "i4", "f4", "u1"])
def test_amplifiers_are_taken(encoding, compiled, monkeypatch):
    rng = np.random.default_rng(4)
    form = ENCODINGS[encoding]
    raw = stored_numbers(rng, form, (5, 23))
    amplifiers = np.array([[1, 8, 0, 3, 0, 1], [12, 6, 6, 0, 1, 0]], np.int64)
    levels = (
        rng.integers(0, 50, (2, 5)).astype(np.float32),
        rng.integers(0, 9, (2, 8)).astype(np.float32),
        np.array([2000.0, np.nan], np.float32),
    )
    levels[0][1, 2] = np.nan
    if not compiled:
        for name, kernel in vars(pixel_kernels).copy().items():
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(pixel_kernels, name, kernel.py_func)
    for marks in (np.zeros((1, 23), np.uint32), rng.integers(0, 1 << 20, (5, 23), dtype=np.uint32)):
        data, dq = np.full((11, 12), -1.0, np.float32), np.full((11, 12), 7, np.uint32)
        with np.errstate(invalid="ignore"):
            take((raw, marks), form, amplifiers, levels, (data, dq))
            expected = taken(raw, form, amplifiers, levels, marks, data.shape)
        finite = np.isfinite(expected[0])
        np.testing.assert_array_equal(data[finite], expected[0][finite])
        np.testing.assert_array_equal(np.isnan(data), np.isnan(expected[0]))
        np.testing.assert_array_equal(dq, expected[1])
        alone = np.full((11, 12), -1.0, np.float32)
        with np.errstate(invalid="ignore"):
            take((raw, marks), form, amplifiers, levels, (alone, None))
        np.testing.assert_array_equal(alone, data)
