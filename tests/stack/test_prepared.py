"""PreparedSource: rows that come ready for combining."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest

from calibrant.errors import ShapeError, UnitError
from calibrant.frame import DQ, NO_DATA, Frame
from calibrant.stack.pixel import PixelStep, PreparedSource, apply_steps
from calibrant.stack.source import ArraySource, Encoding, Source

SHAPE = (60, 31)
FITS_UNSIGNED = Encoding(">i2", zero=32768.0)


@dataclass(frozen=True, eq=False)
class Stored:
    """Big-endian numbers with a BZERO, read into buffers as from a file."""

    raw: np.ndarray
    encoding: Encoding = FITS_UNSIGNED
    dq: np.ndarray | None = None
    name: str = "night/flat.fits"

    @property
    def shape(self):
        return self.raw.shape

    @property
    def has_dq(self):
        return self.dq is not None

    def read_into(self, rows, data, dq=None):
        assert data.dtype == np.dtype(self.encoding.dtype) and data.flags.c_contiguous
        data[...] = self.raw[rows]
        if dq is not None:
            dq[...] = self.dq[rows]


@pytest.fixture
def values():
    return np.random.default_rng(3).integers(900, 65535, SHAPE).astype(np.uint16)


@pytest.fixture
def stored(values):
    return Stored((values ^ 0x8000).view(np.int16).astype(">i2"))


@pytest.fixture
def steps():
    rng = np.random.default_rng(4)
    flat = rng.normal(1, 0.1, SHAPE)
    flat[5, 6] = 0
    return (
        PixelStep("bias", offset=rng.normal(1000, 3, SHAPE), offset_variance=np.ones(SHAPE)),
        PixelStep("noise", read_noise=5.0, gain=2.0),
        PixelStep("dark", offset=rng.normal(0.1, 0.01, SHAPE), offset_factor=60.0),
        PixelStep("flat", divisor=flat, dq=(flat > 1.2).astype(np.uint32) * 4),
        PixelStep("gain", scale=2.0, unit="electron"),
    )


def test_is_a_source(stored):
    source = PreparedSource(stored)
    assert isinstance(source, Source)
    assert (source.name, source.shape) == ("night/flat.fits", SHAPE)
    assert source.encoding == Encoding("=f4") and source.has_dq


def test_rows_are_those_of_the_whole_frame(values, stored, steps):
    """Bands in any order and size, from a file's bytes, equal `apply_steps` on the decoded frame."""
    whole = apply_steps(Frame(values), steps)
    source = PreparedSource(stored, steps)
    for rows in (slice(40, 60), slice(0, 1), slice(7, 39), slice(None), slice(58, 99)):
        shape = whole.data[rows].shape
        data, dq = np.empty(shape, np.float32), np.empty(shape, np.uint32)
        source.read_into(rows, data, dq)
        np.testing.assert_array_equal(data, whole.data[rows])
        np.testing.assert_array_equal(dq, whole.dq[rows])
    np.testing.assert_array_equal(source.load(), whole.data)


def test_scale_multiplies_what_is_read(values, stored, steps):
    whole = apply_steps(Frame(values), steps).data
    np.testing.assert_allclose(PreparedSource(stored, steps, scale=0.125).load(), whole * 0.125, rtol=1e-6)


def test_saturation_is_that_of_the_raw_counts(values, stored, steps):
    dq = np.empty(SHAPE, np.uint32)
    PreparedSource(stored, steps, saturation=60000.0).read_into(slice(None), np.empty(SHAPE, "f4"), dq)
    np.testing.assert_array_equal(dq & DQ.SATURATED != 0, values >= 60000)


def test_flags_of_the_source_are_kept(values, steps):
    flags = np.zeros(SHAPE, np.uint32)
    flags[2, 3] = DQ.HOT
    dq = np.empty(SHAPE, np.uint32)
    source = PreparedSource(ArraySource(values, flags), steps[:1], saturation=65000.0)
    source.read_into(slice(2, 4), np.empty((2, SHAPE[1]), "f4"), dq[:2])
    assert dq[0, 3] & DQ.HOT and not dq[1, 3] & DQ.HOT
    np.testing.assert_array_equal(dq[:2] & DQ.SATURATED != 0, values[2:4] >= 65000)
    source.read_into(slice(0, 4), np.empty((4, SHAPE[1]), "f4"))  # without a dq buffer
    assert flags.sum() == DQ.HOT  # the source's own flags are left alone


@pytest.mark.parametrize("with_dq", [False, True])
def test_nan_is_no_data(with_dq):
    raw = np.ones((2, 3), np.float32)
    raw[1, 2] = np.inf
    source = PreparedSource(ArraySource(raw, np.zeros((2, 3), np.uint32) if with_dq else None))
    data, dq = np.empty((2, 3), "f4"), np.empty((2, 3), "u4")
    source.read_into(slice(None), data, dq)
    assert np.isnan(data[1, 2]) and dq[1, 2] == NO_DATA and dq.sum() == NO_DATA


def test_threads_do_not_share_buffers(stored, steps):
    source = PreparedSource(stored, steps)
    whole = source.load()

    def read(first):
        data = np.empty((4, SHAPE[1]), np.float32)
        source.read_into(slice(first, first + 4), data)
        return np.array_equal(data, whole[first : first + 4], equal_nan=True)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, list(range(56)) * 20))


def test_pickles_after_use(stored, steps):
    source = PreparedSource(stored, steps, scale=2.0)
    before = source.load()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).load(), before)
    assert replace(source, steps=(), scale=1.0).load()[0, 0] == stored.raw[0, 0] + 32768.0


def test_prepared_sources_nest(values, stored, steps):
    """A prepared source is a source: a frame or another one can read it, with its flags."""
    twice = PreparedSource(PreparedSource(stored, steps[:2], saturation=60000.0), steps[2:4])
    data, dq = np.empty(SHAPE, "f4"), np.empty(SHAPE, "u4")
    twice.read_into(slice(None), data, dq)
    np.testing.assert_allclose(data, apply_steps(Frame(values), steps[:4]).data, rtol=1e-6)
    np.testing.assert_array_equal(dq & DQ.SATURATED != 0, values >= 60000)


def test_unit_after_the_steps(stored, steps):
    assert PreparedSource(stored, steps).unit_after == "electron"
    with pytest.raises(UnitError, match=r"night/flat.fits.*noise"):
        PreparedSource(stored, steps[::-1])


def test_steps_that_do_not_fit_are_named_at_once(stored):
    with pytest.raises(ShapeError, match=r"night/flat.fits.*'dark'"):
        PreparedSource(stored, (PixelStep("dark", offset=np.zeros((60, 30))),))
