"""Flatness: structure by slice and row, whether it follows the slice, and ratios of sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import flatness
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import Frame
from calibrant.instrument.slices import Line, slice_map

SHAPE = 400, 130
LINES = {n + 1: Line((20.0 + 24 * n, 0.3, -4.0), (5.3, 0.44), 19.0, 0.19) for n in range(5)}
SLICES = slice_map(LINES, SHAPE, blind=4)
ALPHA = np.nan_to_num(SLICES.alpha)
SLOPE = np.linspace(1.3, 0.8, SHAPE[0])[:, None]


def lamp(depth=0.35):
    waves = depth * np.sin(2 * np.pi * ALPHA / 1.1) + 0.5 * depth * np.sin(2 * np.pi * ALPHA / 0.55 + 1)
    return np.where(SLICES.ids > 0, 600 * (1 + waves), 0.0) * SLOPE


def even(level=30.0):
    return np.where(SLICES.ids > 0, level, 0.0) * SLOPE


def taken(light, rng):
    variance = np.maximum(light, 1.0) / 1500
    values = light + rng.normal(0, 1, light.shape) * np.sqrt(variance)
    return Frame(values.astype(np.float32), variance=variance.astype(np.float32), unit="adu/s")


def quantity(product, name, place=""):
    return next(q for q in product if q.name == name and q.place == place)


def test_structure_follows_the_slice_and_not_the_columns():
    found = flatness.measure(taken(lamp(), np.random.default_rng(1)), SLICES)
    along, across = quantity(found, "correlation_alpha"), quantity(found, "correlation_column")
    assert along.value > 0.99
    assert across.value < 0.8


def test_a_defect_of_columns_stays_in_the_columns():
    """The twin: structure of the detector is told from that of the source."""
    columns = 1 + 0.2 * np.random.default_rng(2).normal(size=SHAPE[1])
    found = flatness.measure(taken(even(600.0) * columns, np.random.default_rng(3)), SLICES)
    assert quantity(found, "correlation_column").value > 0.99
    assert quantity(found, "correlation_alpha").value < 0.8


def test_rms_is_that_of_the_source_without_the_noise():
    found = flatness.measure(taken(lamp(), np.random.default_rng(4)), SLICES)
    core = np.linspace(-0.38, 0.38, 2000) * 19 * 0.19
    profile = 1 + 0.35 * np.sin(2 * np.pi * core / 1.1) + 0.175 * np.sin(2 * np.pi * core / 0.55 + 1)
    rms = np.median([q.value for q in found if q.name == "rms"])
    assert rms == pytest.approx(profile.std() / profile.mean(), rel=0.1)
    flat = flatness.measure(taken(even(), np.random.default_rng(5)), SLICES)
    assert all(q.value < 4 * max(q.sigma, 2e-4) for q in flat if q.name == "rms")
    assert set(found.tables["rows"]["row"]) == {99, 199, 299}
    assert set(found.tables["profiles"]) == {"slice", "row", "alpha", "value", "sigma"}
    cuts = found.tables["cuts"]
    assert set(cuts["row"]) == {99, 199, 299} and set(cuts["slice"]) >= {0, 1, 5}
    assert np.mean(cuts["value"][cuts["slice"] > 0]) == pytest.approx(600, rel=0.1)


def test_a_frame_without_variance_is_measured_too():
    frame = replace(taken(lamp(), np.random.default_rng(6)), variance=None)
    assert quantity(flatness.measure(frame, SLICES), "correlation_alpha").value > 0.99


def test_ratio_of_two_sources_and_what_was_expected():
    rng = np.random.default_rng(7)
    strong, weak = taken(lamp(), rng), taken(even(), rng)
    found = flatness.ratio(strong, weak, SLICES, transmissions=[(0.8, 0.01), (25.0, 0.2)], over=[(1.0, 0.02)])
    true = 600 / 30
    total = quantity(found, "ratio")
    assert abs(total.value - true) < 0.05 * true  # the waves do not cancel in the core
    exact = flatness.ratio(taken(even(600.0), rng), weak, SLICES)
    assert abs(quantity(exact, "ratio").value - true) < 4 * quantity(exact, "ratio").sigma < 0.01 * true
    expected = quantity(found, "expected")
    assert expected.value == pytest.approx(20.0)
    assert expected.sigma == pytest.approx(20.0 * np.hypot(np.hypot(0.01 / 0.8, 0.2 / 25), 0.02))
    beside = exact.tables["cuts"]
    assert np.median((beside["first"] / beside["second"])[beside["slice"] == 3]) == pytest.approx(
        true, rel=0.02
    )
    assert quantity(found, "pull").value == pytest.approx(
        (total.value - 20.0) / np.hypot(total.sigma, expected.sigma)
    )


def test_pulls_of_a_ratio_are_of_unit_width():
    rng = np.random.default_rng(8)
    pulls = []
    for _ in range(20):
        found = flatness.ratio(taken(even(600.0), rng), taken(even(), rng), SLICES)
        pulls += [(q.value - 20.0) / q.sigma for q in found if q.name == "ratio" and q.place]
    assert 0.8 < np.std(pulls) < 1.25


def test_dark_slices_are_left_out_and_said():
    frame = taken(lamp(), np.random.default_rng(9))
    data = frame.data.copy()
    data[SLICES.ids == 2], data[SLICES.ids == 4] = np.nan, 0.0
    found = flatness.measure(replace(frame, data=data), SLICES)
    assert list(found.tables["slices"]["slice"]) == ["1", "3", "5"]
    assert len(found.provenance.notes) == 2


def test_dispersion_along_columns_gives_the_same():
    frame = taken(lamp(), np.random.default_rng(10))
    turned = replace(frame, data=frame.data.T.copy(), variance=frame.variance.T.copy())
    one, other = flatness.measure(frame, SLICES), flatness.measure(turned, SLICES.transposed())
    assert [q.value for q in one] == pytest.approx([q.value for q in other])


def test_what_cannot_be_is_refused():
    frame = taken(lamp(), np.random.default_rng(11))
    with pytest.raises(OptionError, match="outside"):
        flatness.measure(frame, SLICES, rows=[400])
    with pytest.raises(OptionError, match="alpha"):
        flatness.measure(frame, replace(SLICES, alpha=None))
    with pytest.raises(ShapeError, match="slice map"):
        flatness.measure(Frame(np.ones((3, 4), np.float32)), SLICES)
    with pytest.raises(SelectionError, match="no slice has light"):
        flatness.measure(replace(frame, data=np.zeros(SHAPE, np.float32)), SLICES)
    with pytest.raises(UnitError, match="ratio"):
        flatness.ratio(frame, replace(frame, unit="adu"), SLICES)
    with pytest.raises(SelectionError, match="both"):
        flatness.ratio(frame, replace(frame, data=np.full(SHAPE, np.nan, np.float32)), SLICES)
    with pytest.raises(OptionError, match="positive"):
        flatness.ratio(frame, frame, SLICES, transmissions=[(0.0, 0.1)])
