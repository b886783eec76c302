"""Crosstalk taken away from assembled images: direction of reading, direction of the matrix, bands."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from calibrant.effects import crosstalk, overscan
from calibrant.errors import HistoryError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.product import Product
from calibrant.stack.pixel import apply_steps
from calibrant.stack.source import ArraySource

ROWS, COLS, OVER = 20, 12, 6
NAMES = ("A", "B", "C", "D")


def instrument():
    """Four amplifiers in a square, each read from its own corner of the detector."""
    wide, high = COLS + OVER, ROWS
    amplifiers = []
    for number, name in enumerate(NAMES):
        top, right = divmod(number, 2)
        low, left = 1 + top * high, 1 + right * wide
        across = f"{2 * COLS}:{COLS + 1}" if right else f"1:{COLS}"
        along = f"{2 * ROWS}:{ROWS + 1}" if top else f"1:{ROWS}"
        amplifiers.append(
            Amplifier(
                name=name,
                data=f"[{left}:{left + COLS - 1},{low}:{low + high - 1}]",
                overscan=f"[{left + COLS}:{left + wide - 1},{low}:{low + high - 1}]",
                place=f"[{across},{along}]",
                saturation=60000.0,
                corner=("upper" if top else "lower") + "-" + ("right" if right else "left"),
            )
        )
    return Instrument(name="square", detectors={"0": Detector(amplifiers=tuple(amplifiers))})


def matrix():
    """No symmetry, so that a wrong direction shows; one coefficient is not known."""
    rng = np.random.default_rng(3)
    values = rng.uniform(1e-3, 2e-2, (4, 4)) * np.sign(rng.normal(size=(4, 4)))
    np.fill_diagonal(values, 0)
    return values


def product(values=None, **changes):
    values = matrix() if values is None else values
    camera = instrument()
    exposure = Exposure(shape=(2 * ROWS, 2 * (COLS + OVER)))
    pairs = [(s, t) for s in range(4) for t in range(4) if s != t]
    table = {
        "source": np.array([NAMES[s] for s, _ in pairs]),
        "target": np.array([NAMES[t] for _, t in pairs]),
        "coefficient": np.array([values[s, t] for s, t in pairs]),
        "sigma": np.zeros(len(pairs)),
    }
    amplifiers = crosstalk.amplifiers_table(camera.readouts(exposure), exposure.shape)
    tables = {"crosstalk": table, "amplifiers": amplifiers, **changes}
    return Product("crosstalk", instrument="square", tables=tables)


def light():
    rng = np.random.default_rng(1)
    return rng.uniform(100, 20000, (4, ROWS, COLS))


def raw(values=None):
    """What the camera writes: each amplifier in the order of its reading, with crosstalk, on its level."""
    values = matrix() if values is None else values
    own = light()
    # To the order that is seen: T = S + sum c S, here to first order as the correction takes it.
    mixed = own + np.einsum("srk,st->trk", own, values)
    image = np.zeros((2 * ROWS, 2 * (COLS + OVER)))
    for number in range(4):
        top, right = divmod(number, 2)
        rows = slice(top * ROWS, (top + 1) * ROWS)
        cols = slice(right * (COLS + OVER), (right + 1) * (COLS + OVER))
        image[rows, cols] = 1000 + 10 * number
        image[rows, cols][:, :COLS] += mixed[number]
    return image


def assembled(planes):
    """Planes in the order of reading at their places."""
    image = np.zeros((2 * ROWS, 2 * COLS))
    for number, plane in enumerate(planes):
        top, right = divmod(number, 2)
        turned = plane[:: -1 if top else 1, :: -1 if right else 1]
        image[top * ROWS : (top + 1) * ROWS, right * COLS : (right + 1) * COLS] = turned
    return image


def frame(image=None):
    image = raw() if image is None else image
    exposure = Exposure(kind="light", instrument="square", shape=image.shape)
    before = Frame(image.astype(np.float32), exposure=exposure)
    return overscan.apply(before, instrument=instrument(), skip=(0, 0))


def test_light_comes_out_of_a_mixed_frame():
    """What remains is of the second order in the coefficients, each at most 2e-2: 4e-4 x 12 x 20000."""
    done = crosstalk.apply(frame(), product())
    before = np.abs(frame().data - assembled(light())).max()
    left = np.abs(done.data - assembled(light())).max()
    assert before > 300 and left < 0.02 * before
    assert done.did("crosstalk") and done.history[-1].product == product().identity


def test_the_wrong_direction_of_the_matrix_is_seen():
    """The twin that must fail: the transposed matrix does not take the crosstalk away."""
    done = crosstalk.apply(frame(), product(matrix().T))
    before = np.abs(frame().data - assembled(light())).max()
    assert np.abs(done.data - assembled(light())).max() > 0.5 * before


def test_without_coefficients_nothing_changes():
    before = frame()
    for values in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
        np.testing.assert_array_equal(crosstalk.apply(before, product(values)).data, before.data)


@pytest.mark.parametrize("step", [1, 3, 7, 20, 40])
def test_bands_do_not_change_anything(step):
    """Rows are found again in the mirrored amplifiers, also in a band across the middle."""
    whole = crosstalk.apply(frame(), product()).data
    source = crosstalk.step(Exposure(), product()).wrap(ArraySource(frame().data, frame().dq), Exposure())
    for low in range(0, 2 * ROWS, step):
        rows = slice(low, min(low + step, 2 * ROWS))
        data = np.empty((rows.stop - low, 2 * COLS), np.float32)
        dq = np.empty(data.shape, np.uint32)
        pickle.loads(pickle.dumps(source)).read_into(rows, data, dq)
        np.testing.assert_array_equal(data, whole[rows])


def test_a_band_across_the_middle_of_one_side():
    source = crosstalk.CrosstalkSource(ArraySource(frame().data), crosstalk.Network.of(product()))
    data = np.empty((13, 2 * COLS), np.float32)
    source.read_into(slice(15, 28), data)
    np.testing.assert_array_equal(data, crosstalk.apply(frame(), product()).data[15:28])


def test_through_exposures_is_the_same():
    exposure = Exposure(kind="light", instrument="square", shape=raw().shape)
    raws = Exposures.from_frames([Frame(raw().astype(np.float32), exposure=exposure)], instrument())
    prepared = raws.through(
        overscan.step(raws[0], instrument=instrument(), skip=(0, 0)), crosstalk.step(raws[0], product())
    )
    data = np.empty((2 * ROWS, 2 * COLS), np.float32)
    prepared.sources()[0].read_into(slice(0, 2 * ROWS), data)
    np.testing.assert_array_equal(data, crosstalk.apply(frame(), product()).data)
    assert product().identity in prepared.parents


def test_dead_and_saturated_pixels_keep_to_themselves():
    image = raw()
    image[3, 4] = 65000.0
    before = frame(image)
    data = before.data.copy()
    data[30, 5] = np.nan
    before = before.after(data=data)
    done = crosstalk.apply(before, product())
    assert np.isnan(done.data).sum() == 1 and done.dq[3, 4] & DQ.SATURATED


def test_history_and_products_are_checked():
    with pytest.raises(HistoryError, match="overscan"):
        crosstalk.apply(Frame(raw().astype(np.float32)), product())
    done = crosstalk.apply(frame(), product())
    with pytest.raises(HistoryError, match="already"):
        crosstalk.apply(done, product())
    with pytest.raises(HistoryError):
        crosstalk.apply(frame().after(Applied("flat")), product())
    with pytest.raises(SelectionError, match="not a crosstalk"):
        crosstalk.apply(frame(), Product("gain"))
    with pytest.raises(ShapeError, match="does not fit"):
        crosstalk.apply(frame().after(data=np.zeros((4, 4), np.float32), dq=None), product())
    table = dict(product().tables["crosstalk"])
    table["source"] = np.where(table["source"] == "A", "Z", table["source"])
    with pytest.raises(SelectionError, match="Z"):
        crosstalk.apply(frame(), product(crosstalk=table))


def test_mirrored_bands_are_read_once(monkeypatch):
    """Bands come in groups that share their rows; data and flags are those of the whole frame."""
    image = raw()
    image[3, 4] = image[33, 30] = 65000.0
    exposure = Exposure(kind="light", instrument="square", shape=image.shape)
    lazy = overscan.apply(
        Frame(image.astype(np.float32), exposure=exposure), instrument=instrument(), skip=(0, 0), lazy=True
    )
    whole = crosstalk.apply(lazy.after(data=frame(image).data, dq=frame(image).dq), product())
    source = crosstalk.apply(lazy, product()).data
    groups = source.together(3)
    assert sorted(row for group in groups for band in group for row in range(2 * ROWS)[band]) == list(
        range(2 * ROWS)
    )
    reads = []
    inner = type(source.source).read_into
    monkeypatch.setattr(
        type(source.source), "read_into", lambda self, *args: (reads.append(args[0]), inner(self, *args))
    )
    monkeypatch.setattr("calibrant.stack.pixel._BAND_PIXELS", 3 * 2 * COLS)
    done = apply_steps(Frame(source), [])
    np.testing.assert_array_equal(done.data, whole.data)
    np.testing.assert_array_equal(done.dq, whole.dq)
    assert done.dq.any() and sum(band.stop - band.start for band in reads) == 2 * ROWS


@pytest.mark.parametrize("step", [1, 7, 25, 40])
def test_amplifiers_side_by_side_that_are_read_in_opposite_directions(step, monkeypatch):
    """Rows of the image are then not read at one time: the frame is one group, and bands are the same."""
    corners = ("lower-left", "upper-right", "upper-left", "lower-right")
    table = {**product().tables["amplifiers"], "corner": np.array(corners)}
    other = product(amplifiers=table)
    image = frame().data
    parts, orders = crosstalk.Network.of(other).windows, crosstalk.Network.of(other).orders
    planes = np.stack([image[part][order] for part, order in zip(parts, orders, strict=True)]).astype(float)
    expected = planes - np.einsum("srk,st->trk", planes, matrix())
    source = crosstalk.CrosstalkSource(ArraySource(image), crosstalk.Network.of(other))
    whole = source.load()
    for part, order, plane in zip(parts, orders, expected, strict=True):
        np.testing.assert_allclose(whole[part][order], plane, rtol=1e-5, atol=1e-2)
    data = np.empty_like(whole)
    for low in range(0, 2 * ROWS, step):
        source.read_into(slice(low, min(low + step, 2 * ROWS)), data[low : low + step])
    np.testing.assert_array_equal(data, whole)
    monkeypatch.setattr("calibrant.stack.pixel._BAND_PIXELS", 3 * 2 * COLS)
    np.testing.assert_array_equal(apply_steps(Frame(source), []).data, whole)
