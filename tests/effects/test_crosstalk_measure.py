"""Crosstalk measured on four amplifiers that are read from four corners: direction, masks, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import crosstalk
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Applied, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.stack.pixel import PixelStep

ROWS, COLS, NOISE, LIGHT = 64, 48, 4.0, 30_000.0
NAMES = ("A", "B", "C", "D")
PAIRS = [(s, t) for s in range(4) for t in range(4) if s != t]
SEED = 7


def camera():
    """Four amplifiers in a square, each read from its own corner of the detector."""
    amplifiers = []
    for number, name in enumerate(NAMES):
        top, right = divmod(number, 2)
        place = f"[{right * COLS + 1}:{(right + 1) * COLS},{top * ROWS + 1}:{(top + 1) * ROWS}]"
        corner = f"{'upper' if top else 'lower'}-{'right' if right else 'left'}"
        amplifiers.append(Amplifier(name=name, data=place, saturation=60_000.0, corner=corner))
    return Instrument(name="square", detectors={"0": Detector(amplifiers=tuple(amplifiers))})


def matrix(scale=1.0):
    """No symmetry, so that a wrong direction shows; coefficients of both signs."""
    rng = np.random.default_rng(3)
    values = scale * rng.uniform(1e-4, 1e-3, (4, 4)) * np.sign(rng.normal(size=(4, 4)))
    np.fill_diagonal(values, 0)
    return values


def spots(rng, level=LIGHT):
    """Five discs at places that are not symmetric, (rows, cols), in the order of reading."""
    row, col = np.ogrid[:ROWS, :COLS]
    plane = np.zeros((ROWS, COLS))
    for _ in range(5):
        y, x = rng.uniform(6, ROWS - 6), rng.uniform(6, COLS - 6)
        plane[np.hypot(row - y, col - x) < 5] = level
    return plane


def image(planes, values, rng, slope=0.02):
    """The assembled image of light in the order of reading, with crosstalk, levels and noise."""
    mixed = planes + np.einsum("srk,st->trk", planes, values)
    mixed += 1000 + np.arange(4)[:, None, None] * 10 + slope * np.arange(COLS)
    whole = np.zeros((2 * ROWS, 2 * COLS), np.float32)
    for number, plane in enumerate(mixed + rng.normal(0, NOISE, mixed.shape)):
        top, right = divmod(number, 2)
        turned = plane[:: -1 if top else 1, :: -1 if right else 1]
        whole[top * ROWS : (top + 1) * ROWS, right * COLS : (right + 1) * COLS] = turned
    return whole


def series(values=None, frames=1, lit=range(4), change=None, seed=SEED):
    """`frames` frames with spots in each amplifier of `lit`; `change` works on the planes of each."""
    rng = np.random.default_rng(seed)
    values = matrix() if values is None else values
    found = []
    for number in list(lit) * frames:
        planes = np.zeros((4, ROWS, COLS))
        planes[number] = spots(rng)
        if change is not None:
            change(planes, number, rng)
        found.append(image(planes, values, rng))
    return exposed(found)


def exposed(images):
    frames = [
        Frame(data, exposure=Exposure(kind="light", instrument="square", start=10**6 * n, shape=data.shape))
        for n, data in enumerate(images)
    ]
    return Exposures.from_frames(frames, camera())


def found(product, column="coefficient"):
    """As a matrix [source][target]."""
    values = np.full((4, 4), np.nan)
    table = product.tables["crosstalk"]
    for source, target, value in zip(table["source"], table["target"], table[column], strict=True):
        values[NAMES.index(source), NAMES.index(target)] = value
    return values


def pulls(product, values):
    off = ~np.eye(4, dtype=bool)
    return ((found(product) - values) / found(product, "sigma"))[off]


def test_the_matrix_is_found_source_first_and_in_the_order_of_reading():
    got = pulls(crosstalk.measure(series(frames=3)), matrix())
    assert np.abs(got).max() < 4 and 0.4 < got.std() < 1.6


@pytest.mark.parametrize("wrong", ["transposed", "not turned"])
def test_the_wrong_direction_is_seen(wrong):
    """The twins that must fail: source and target exchanged; corners of reading that are not minded."""
    if wrong == "transposed":
        got = pulls(crosstalk.measure(series()), matrix().T)
    else:
        amps = [
            Amplifier(**{**a.model_dump(), "corner": "lower-left"})
            for a in camera().detectors["0"].amplifiers
        ]
        plain = Instrument(name="square", detectors={"0": Detector(amplifiers=tuple(amps))})
        exposures = series()
        got = pulls(crosstalk.measure(Exposures.from_frames(exposures.frames(), plain)), matrix())
    assert np.nanmax(np.abs(got)) > 20


def test_pulls_are_of_unit_width():
    many = np.concatenate([pulls(crosstalk.measure(series(seed=s, frames=2)), matrix()) for s in range(12)])
    assert 0.85 < many.std() < 1.15 and abs(many.mean()) < 0.3


def test_stars_in_all_amplifiers_at_once():
    """Sources that are bright together are told apart, and a target's own stars are left out."""

    def everywhere(planes, number, rng):
        for other in range(4):
            row, col = np.ogrid[:ROWS, :COLS]
            y, x = rng.uniform(5, ROWS - 5), rng.uniform(5, COLS - 5)
            planes[other] += 25_000 * (np.hypot(row - y, col - x) < 4) + 300 * (
                np.hypot(row - x, col - y) < 3
            )

    got = pulls(crosstalk.measure(series(frames=4, change=everywhere), grow=4, pixels=20), matrix())
    assert np.abs(got).max() < 4.5 and got.std() < 1.8


def test_what_is_not_significant_is_set_to_nothing_if_asked():
    values = matrix()
    values[0, 1:] = 0
    plain = crosstalk.measure(series(values))
    strict = crosstalk.measure(series(values), significance=4.0)
    assert (found(plain)[0, 1:] != 0).all() and (found(strict)[0, 1:] == 0).all()
    assert found(strict)[2, 1] == found(plain)[2, 1] != 0
    assert (found(strict, "sigma")[0, 1:] > 0).all()


def test_one_frame_that_is_wrong_is_left_out():
    rng = np.random.default_rng(2)
    images = [np.asarray(frame.data) for frame in series(frames=4).frames()]
    planes = np.zeros((4, ROWS, COLS))
    planes[1] = spots(rng)
    images.append(image(planes, 3 * matrix(), rng))
    product = crosstalk.measure(exposed(images))
    assert found(product, "frames")[1, [0, 2, 3]].tolist() == [4, 4, 4]
    assert np.abs(pulls(product, matrix())).max() < 4


def test_saturated_sources_are_left_out():
    """A saturated spot has crosstalk of more charge than it shows."""

    def saturate(planes, number, rng):
        planes[number][:20, :20] = 90_000

    exposures = series(change=saturate)
    images = [np.minimum(np.asarray(f.data), 61_000) for f in exposures.frames()]
    assert np.abs(pulls(crosstalk.measure(exposed(images)), matrix())).max() < 4.5
    fooled = crosstalk.measure(exposed(images), saturation=1e6, threshold=10_000)
    assert np.abs(pulls(fooled, matrix())).max() > 10


def test_a_dead_amplifier_and_one_without_light_are_named():
    exposures = series(lit=[0, 1, 3])
    images = [np.array(f.data) for f in exposures.frames()]
    for data in images:
        data[ROWS:, COLS:] = np.nan  # D
    product = crosstalk.measure(exposed(images))
    assert np.isnan(found(product)[2:]).all() and np.isnan(found(product)[:, 3]).all()
    assert np.abs(((found(product) - matrix()) / found(product, "sigma"))[:2, 2]).max() < 4
    told = " ".join(product.provenance.notes)
    assert "amplifier D: no good pixels" in told and "amplifier C: at most 0 pixels above" in told
    assert np.isnan(product.quantity("crosstalk", "D").value)
    assert product.quantity("sources", "C").value == 2
    kept = crosstalk.Network.of(product)
    assert np.isfinite(np.nan_to_num(kept.matrix)).all()


def test_nothing_bright_is_refused_with_an_amplifier_named():
    dark = exposed([image(np.zeros((4, ROWS, COLS)), matrix(), np.random.default_rng(n)) for n in range(2)])
    with pytest.raises(SelectionError, match=r"no amplifier has a bright source.*amplifier [A-D]"):
        crosstalk.measure(dark)
    few = series(lit=[0])
    with pytest.raises(SelectionError, match="amplifier A"):
        crosstalk.measure(few, pixels=2000)
    crosstalk.measure(few, threshold=10_000)


def test_bad_input():
    with pytest.raises(SelectionError):
        crosstalk.measure(Exposures())
    with pytest.raises(OptionError):
        crosstalk.measure(series(), threshold=-1)
    with pytest.raises(OptionError):
        crosstalk.measure(series(), pixels=0)
    with pytest.raises(OptionError, match="did you mean 'reach'"):
        crosstalk.measure(series(), raech=3)
    with pytest.raises(OptionError):
        crosstalk.measure(series(), significance=-1)
    with pytest.raises(HistoryError, match="flat"):
        crosstalk.measure(series().through(lambda exposure: PixelStep("flat", divisor=2.0)))
    alone = Instrument(name="one")
    plain = Exposures.from_frames(series().frames(), alone)
    with pytest.raises(SelectionError, match="one amplifier"):
        crosstalk.measure(plain)
    places = {"A": f"[1:20,1:{2 * ROWS}]", "B": f"[21:{2 * COLS},1:{2 * ROWS}]"}
    uneven = tuple(Amplifier(name=name, data=place) for name, place in places.items())
    odd = Instrument(name="odd", detectors={"0": Detector(amplifiers=uneven)})
    with pytest.raises(ShapeError, match="one size"):
        crosstalk.measure(Exposures.from_frames(series().frames(), odd))


def test_what_is_left_after_the_correction():
    """Measured on one set, taken from another: no coefficient is left that is sure."""
    product = crosstalk.measure(series(frames=3))
    others = series(frames=3, seed=SEED + 1)
    before = crosstalk.measure(others)
    assert (np.abs(pulls(before, 0.0)) > 10).sum() > 8
    corrected = [
        crosstalk.apply(Frame(f.data, exposure=f.exposure).after(Applied("overscan")), product).data
        for f in others.frames()
    ]
    after = crosstalk.measure(exposed(corrected))
    width = np.hypot(found(after, "sigma"), found(product, "sigma"))[~np.eye(4, dtype=bool)]
    assert np.abs(found(after)[~np.eye(4, dtype=bool)] / width).max() < 4
