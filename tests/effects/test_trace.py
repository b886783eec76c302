"""Traces: between pixels, within their errors, through hot pixels and gaps; spectra without jumps."""

from __future__ import annotations

from dataclasses import replace
from math import erf

import numpy as np
import pytest

from calibrant.effects import trace
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.frame import DQ, Frame
from calibrant.instrument.slices import Line, slice_map

SHAPE = 400, 130
LINES = {n + 1: Line((20.0 + 24 * n, 0.3, -4.0), (5.3, 0.44), 19.0, 0.19) for n in range(5)}
SLICES = slice_map(LINES, SHAPE, blind=4)
ROWS = np.arange(SHAPE[0])
U = (ROWS - 199.5) / 200
SIGMA = 0.95
WIDE = np.vectorize(erf)


def centre(number=3, alpha=0.23):
    return np.polynomial.polynomial.polyval(U, LINES[number].centre) + alpha / 0.19


def source(level=200.0, number=3, alpha=0.23):
    """Light of a point in one slice, summed over pixels; weaker in its neighbours."""
    edges = np.arange(SHAPE[1] + 1) - 0.5
    light = np.zeros(SHAPE)
    for other, part in ((number, 1.0), (number - 1, 0.2), (number + 1, 0.3)):
        x = (edges - centre(other, alpha)[:, None]) / SIGMA / np.sqrt(2)
        light += level * part * np.diff(0.5 * WIDE(x), axis=1)
    return np.where(SLICES.ids > 0, light, 0.0)


def taken(light, rng, read=0.5):
    variance = np.maximum(light, 0) / 5 + read**2
    values = light + rng.normal(0, 1, light.shape) * np.sqrt(variance)
    return Frame(values.astype(np.float32), variance=variance.astype(np.float32), unit="adu/s")


def column(product, name="col"):
    return np.asarray(product.tables["trace"][name])


def test_a_trace_of_one_alpha_lies_between_pixels():
    frame = taken(source(), np.random.default_rng(1))
    found = trace.measure(frame, SLICES, method="alpha", alpha=0.23, numbers=[3])
    assert np.abs(column(found) - centre()).max() < 1e-9
    everywhere = trace.measure(frame, SLICES, method="alpha")
    assert set(everywhere.tables["trace"]["slice"]) == {1, 2, 3, 4, 5}


def test_the_centre_of_a_source_is_found_within_its_error():
    rng, pulls = np.random.default_rng(2), []
    for _ in range(30):
        found = trace.measure(taken(source(40.0), rng), SLICES, degree=3)
        assert set(found.tables["trace"]["slice"]) == {3}
        pulls.append(((column(found) - centre()) / column(found, "sigma"))[::80])
        assert np.abs(column(found) - centre()).max() < 0.1
    assert 0.75 < np.std(pulls) < 1.3
    twin = (np.array(pulls) * column(found, "sigma")[::80] + 0.2) / column(found, "sigma")[::80]
    assert np.abs(twin.mean()) > 3


def test_hot_pixels_dead_rows_and_lost_light_do_not_move_it():
    rng = np.random.default_rng(3)
    frame = taken(source(), rng)
    data, dq = frame.data.copy(), np.zeros(SHAPE, np.uint32)
    for row in range(0, SHAPE[0], 7):
        data[row, int(centre()[row]) + 5] = 5000.0  # one in seven rows is brightest there
    data[100:140] = rng.normal(0, 0.5, (40, SHAPE[1]))
    data[200:230] = np.nan
    dq[250, :] = DQ.DO_NOT_USE
    found = trace.measure(replace(frame, data=data, dq=dq), SLICES)
    assert np.abs(column(found) - centre()).max() < 0.05
    assert not column(found, "used")[105:135].any() and not column(found, "used")[200:230].any()
    assert trace.KIND.quantities.keys() >= {q.name for q in found}
    assert "spans them" in found.provenance.notes[0]
    published = trace.measure(replace(frame, data=data, dq=dq), SLICES, method="as_published")
    assert np.abs(column(published) - centre()).max() > 4  # it follows each of them


def test_the_published_trace_is_the_brightest_pixel():
    frame = taken(source(), np.random.default_rng(4))
    found = trace.measure(frame, SLICES, method="as_published")
    only = np.where(SLICES.ids == 3, frame.data, 0.0)
    assert np.array_equal(column(found), only.argmax(axis=1))
    assert trace.brightest(frame, SLICES) == 3 and trace.brightest(frame, SLICES, 1) == 4
    with pytest.raises(SelectionError, match="from the brightest"):
        trace.brightest(frame, SLICES, 3)


def test_a_spectrum_has_no_jumps_and_honest_errors():
    rng = np.random.default_rng(5)
    light = source()
    quiet = Frame(light.astype(np.float32), unit="adu/s")
    along = trace.measure(quiet, SLICES, method="alpha", alpha=0.23, numbers=[3])
    true = 200.0 * erf(3.0 / SIGMA / np.sqrt(2))
    wide = trace.extract(quiet, SLICES, along, width=6.0).tables["spectrum"]
    assert np.abs(wide["value"] / true - 1).max() < 1e-3
    narrow = trace.extract(quiet, SLICES, along).tables["spectrum"]["value"]
    jumps = light[ROWS, np.round(centre()).astype(int)]
    assert np.abs(np.diff(narrow)).max() / narrow.mean() < 0.005 < 0.05 < np.ptp(jumps) / jumps.mean()
    assert np.ptp(narrow) / narrow.mean() < 0.035
    assert np.isnan(wide["sigma"]).all()
    pulls = []
    for _ in range(10):
        made = trace.extract(taken(light, rng), SLICES, along, width=6.0).tables["spectrum"]
        pulls.append((made["value"] - wide["value"]) / made["sigma"])
    assert 0.95 < np.std(pulls) < 1.05
    assert np.allclose(made["wavelength"], 5.3 + 0.44 * U, atol=1e-9)


def test_a_whole_column_is_taken_as_it_is():
    frame = taken(source(), np.random.default_rng(6))
    along = trace.measure(frame, SLICES, method="as_published")
    made = trace.extract(frame, SLICES, along).tables["spectrum"]
    there = np.isfinite(made["value"])
    cols = column(along).astype(int)
    assert np.allclose(made["value"][there], frame.data[ROWS, cols][there], rtol=1e-6)
    assert np.allclose(made["sigma"][there] ** 2, frame.variance[ROWS, cols][there], rtol=1e-6)


def test_bad_pixels_are_no_values():
    frame = taken(source(), np.random.default_rng(7))
    data = frame.data.copy()
    data[50, int(centre()[50])] = np.nan
    along = trace.measure(frame, SLICES)
    made = trace.extract(replace(frame, data=data), SLICES, along, width=4.0)
    assert np.isnan(made.tables["spectrum"]["value"][50]) and "no value" in made.provenance.notes[0]
    beyond = trace.measure(frame, SLICES, method="alpha", alpha=1.7, numbers=[3])
    assert np.isnan(trace.extract(frame, SLICES, beyond, width=6.0).tables["spectrum"]["value"]).all()


def test_dispersion_along_columns_gives_the_same():
    frame = taken(source(), np.random.default_rng(8))
    turned = replace(frame, data=frame.data.T.copy(), variance=frame.variance.T.copy())
    one, other = trace.measure(frame, SLICES), trace.measure(turned, SLICES.transposed())
    assert np.array_equal(column(one), column(other))


def test_maps_without_alpha_and_frames_without_variance_do():
    frame = replace(taken(source(), np.random.default_rng(9)), variance=None)
    found = trace.measure(frame, replace(SLICES, alpha=None), degree=3)
    assert np.abs(column(found) - centre()).max() < 0.05


def test_what_cannot_be_is_refused():
    frame = taken(source(), np.random.default_rng(10))
    with pytest.raises(OptionError, match="method"):
        trace.measure(frame, SLICES, method="middle")
    with pytest.raises(OptionError, match="no meaning"):
        trace.measure(frame, SLICES, fwhm=0)
    with pytest.raises(OptionError, match="alpha"):
        trace.measure(frame, replace(SLICES, alpha=None), method="alpha")
    with pytest.raises(ShapeError, match="slice map"):
        trace.measure(Frame(np.ones((3, 4), np.float32)), SLICES)
    with pytest.raises(SelectionError, match="no such slice"):
        trace.measure(frame, SLICES, numbers=[9])
    dark = replace(frame, data=np.random.default_rng(1).normal(0, 0.5, SHAPE).astype(np.float32))
    with pytest.raises(SelectionError, match="lost"):
        trace.measure(replace(dark, variance=np.full(SHAPE, 0.25, np.float32)), SLICES, numbers=[3])
    with pytest.raises(SelectionError, match="good pixel"):
        trace.measure(replace(frame, data=np.full(SHAPE, np.nan, np.float32)), SLICES)
    found = trace.measure(frame, SLICES)
    with pytest.raises(OptionError, match="positive"):
        trace.extract(frame, SLICES, found, width=0)
    with pytest.raises(SelectionError, match="not a trace"):
        trace.extract(frame, SLICES, replace(found, kind="bias"))


def test_the_frame_and_the_centre_of_each_row_are_kept():
    data = source()
    data[7, 3] = np.nan
    found = trace.measure(taken(data, np.random.default_rng(6)), SLICES)
    image, own, used = found.planes["image"], column(found, "centre"), column(found, "used")
    assert np.isnan(image[7, 3]) and np.nanmax(image) > 50
    assert np.isfinite(own[used]).all() and 0 < np.std(own[used] - column(found)[used]) < 0.1
