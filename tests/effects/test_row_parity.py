"""Row parity: gain and offset found with honest errors, fringes kept; the published filter bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import row_parity
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument.slices import Line, slice_map

ROWS, COLS = 512, 76
SLICES = slice_map({n: Line((18.0 + 24 * (n - 1), 0.3, -4.0), (5.3, 0.44), 19.0, 0.19) for n in (1, 2, 3)},
                   (ROWS, COLS), blind=4)  # fmt: skip
SIGN = (1.0 - 2.0 * (np.arange(ROWS) % 2))[:, None]
PERIOD = np.linspace(7.0, 12.7, ROWS)
FRINGES = np.cos(np.cumsum(2 * np.pi / PERIOD))[:, None]


def light(depth=0.1):
    return (
        np.where(SLICES.ids > 0, 600.0, 20.0) * (1 + depth * FRINGES) * np.linspace(1.2, 0.8, ROWS)[:, None]
    )


def taken(true, rng, gain=0.0, offset=0.0, noise=0.6):
    values = true * (1 + gain * SIGN) + offset * SIGN + rng.normal(0, noise, true.shape)
    variance = np.full(true.shape, noise**2, np.float32)
    return Frame(values.astype(np.float32), variance=variance, unit="adu/s", exposure=Exposure(kind="light"))


def pulls(mode, counts, depth=0.1, **truth):
    rng = np.random.default_rng(5)
    found = {name: [] for name in truth}
    for _ in range(counts):
        product = row_parity.measure(taken(light(depth), rng, **truth), slices=SLICES, mode=mode)
        for quantity in product:
            if quantity.place:
                found[quantity.name].append((quantity.value - truth[quantity.name]) / quantity.sigma)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(("mode", "truth"), [
    ("gain", {"gain": 0.01}), ("offset", {"offset": 3.0}), ("both", {"gain": 0.005, "offset": -2.0}),
])  # fmt: skip
def test_gain_and_offset_are_found_within_their_errors(mode, truth):
    for values in pulls(mode, 40, depth=0.0, **truth).values():
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size) + 0.1
        assert 0.8 < values.std() < 1.25


def test_the_errors_notice_a_wrong_model():
    """The twin: an offset taken for a gain is far off in units of sigma."""
    wrong = pulls("gain", 5, depth=0.0, gain=0.0, offset=3.0)["gain"]
    assert abs(wrong.mean()) > 5


@pytest.mark.parametrize("period", [7.0, 8.0, 9.8, 12.7, 40.0])
def test_fringes_keep_their_amplitude(period):
    wave = np.cos(2 * np.pi * (np.arange(ROWS) + 0.3) / period)[:, None]
    true = np.where(SLICES.ids > 0, 600.0, 20.0) * (1 + 0.1 * wave)
    frame = taken(true, np.random.default_rng(2), gain=0.01, noise=0.1)
    done = row_parity.apply(frame, row_parity.measure(frame, slices=SLICES))
    inside = SLICES.mask(2)[:, 42]  # a column that stays inside
    kept = np.polyfit(wave[inside, 0], done.data[inside, 42] / 600.0, 1)[0]
    assert kept == pytest.approx(0.1, rel=0.01)
    assert row_parity.transfer(period) == pytest.approx(np.cos(np.pi / period) ** 2)


def test_a_corrected_frame_is_the_light_and_says_what_it_costs():
    true = light()
    frame = taken(true, np.random.default_rng(3), gain=0.01, offset=4.0)
    product = row_parity.measure(frame, slices=SLICES, mode="both")
    done = row_parity.apply(frame, product)
    assert np.std((done.data - true)[SLICES.ids > 0]) == pytest.approx(0.6, rel=0.02)
    assert done.did("row_parity") and done.systematic_from == {product.identity}
    factor = 1 / (1 + 0.01 * SIGN[:, 0])
    assert np.allclose(done.variance[:, 40] / frame.variance[:, 40], factor**2, rtol=1e-3)
    assert 0 < done.systematic.max() < 0.36
    parts, example = product.tables["parts"], product.tables["example"]
    assert np.allclose(parts["before"], 0.01 + 4 / 600, atol=2e-3) and np.abs(parts["after"]).max() < 5e-4
    assert np.allclose(example["after"], done.data[:, example["col"][0]])
    with pytest.raises(HistoryError):
        row_parity.apply(done, product)


def test_alternating_columns_and_the_image_as_a_whole():
    frame = taken(light(0.0), np.random.default_rng(4), gain=0.02)
    turned = replace(frame, data=frame.data.T.copy(), variance=None)
    whole = row_parity.measure(turned, axis="cols", slices=None)
    assert row_parity.measure(frame).quantities[0].value == pytest.approx(whole.quantities[0].value)
    done = row_parity.apply(turned, whole)
    assert np.std(done.data.T[:, 20] - light(0.0)[:, 20]) < 0.7


def test_hot_and_missing_pixels_do_not_matter():
    rng = np.random.default_rng(6)
    frame = taken(light(0.0), rng, gain=0.01)
    data, dq = frame.data.copy(), np.zeros(frame.shape, np.uint32)
    data[rng.random(data.shape) < 0.01] += 5e4
    data[rng.random(data.shape) < 0.01] = np.nan
    dq[100:104] = DQ.DO_NOT_USE
    data[100:104] = -1e9
    found = row_parity.measure(replace(frame, data=data, dq=dq), slices=SLICES)
    for quantity in found:
        assert abs(quantity.value - 0.01) < 5 * quantity.sigma


def test_a_slice_without_pixels_is_said_and_left_out():
    frame = taken(light(), np.random.default_rng(7))
    data = frame.data.copy()
    data[SLICES.ids == 2] = np.nan
    found = row_parity.measure(replace(frame, data=data), slices=SLICES)
    assert {q.place for q in found} == {"1", "3", ""}
    assert any("slice 2" in note for note in found.provenance.notes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binomial_is_the_published_filter(dtype):
    values = np.random.default_rng(8).normal(500, 50, (40, 30)).astype(dtype)
    published = values.copy()
    for row in range(1, 39):
        published[row] = (values[row - 1] + 2 * values[row] + values[row + 1]) / 4
    done = row_parity.binomial(Frame(values, variance=np.ones((40, 30), np.float32)))
    assert done.data.dtype == dtype and np.array_equal(done.data, published)
    assert np.allclose(done.variance[1:-1], 3 / 8) and np.all(done.variance[[0, -1]] == 1)


def test_binomial_along_columns_is_that_of_the_turned_frame():
    frame = taken(light(), np.random.default_rng(8))
    turned = replace(frame, data=frame.data.T.copy(), variance=frame.variance.T.copy())
    one, other = row_parity.binomial(frame), row_parity.binomial(turned, axis="cols")
    assert np.array_equal(one.data, other.data.T) and np.array_equal(one.variance, other.variance.T)
    with pytest.raises(OptionError, match="unknown word"):
        row_parity.binomial(frame, axis="both")


def test_binomial_weakens_fringes_as_its_transfer_says():
    rows = np.arange(400)
    wave = np.cos(2 * np.pi * rows / 8.0)
    done = row_parity.binomial(Frame(np.tile(wave[:, None], (1, 3))))
    assert np.std(done.data[8:-8, 0]) / np.std(wave[8:-8]) == pytest.approx(
        row_parity.transfer(8.0), rel=1e-6
    )


def test_what_cannot_be_is_refused():
    frame = taken(light(), np.random.default_rng(9))
    with pytest.raises(OptionError, match="unknown word"):
        row_parity.measure(frame, mode="ratio")
    with pytest.raises(ShapeError, match="slice map"):
        row_parity.measure(replace(frame, data=frame.data[:-1], variance=None), slices=SLICES)
    with pytest.raises(SelectionError, match="too few rows"):
        row_parity.measure(Frame(np.ones((4, 5), np.float32)))
    offset = row_parity.measure(frame, mode="offset")
    with pytest.raises(UnitError, match="another unit"):
        row_parity.apply(replace(frame, unit="electron/s"), offset)
    with pytest.raises(ShapeError, match="another size"):
        row_parity.apply(Frame(np.ones((4, 5), np.float32), unit="adu/s"), offset)
    with pytest.raises(OptionError, match="positive"):
        row_parity.transfer(0.0)
