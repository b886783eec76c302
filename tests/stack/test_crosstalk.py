"""The crosstalk kernel against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import ShapeError
from calibrant.stack import kernels_amplifiers
from calibrant.stack.kernels_amplifiers import crosstalk


def formula(planes, matrix):
    """In float64: coefficients and values that are no numbers take nothing away."""
    known = np.nan_to_num(np.asarray(planes, float), nan=0.0, posinf=0.0, neginf=0.0)
    return planes - np.einsum("srk,st->trk", known, np.nan_to_num(matrix))


def case(amps, seed=1):
    rng = np.random.default_rng(seed)
    planes = rng.normal(1000, 300, (amps, 7, 33)).astype(np.float32)
    planes[0, 2, 3], planes[-1, 4, 5] = np.nan, np.inf
    matrix = rng.normal(0, 1e-2, (amps, amps))
    matrix[rng.random((amps, amps)) < 0.3] = 0
    matrix[rng.random((amps, amps)) < 0.1] = np.nan
    np.fill_diagonal(matrix, 0)
    return planes, matrix


@pytest.mark.parametrize("amps", [1, 2, 5, 16])
def test_kernel_is_the_formula(amps):
    planes, matrix = case(amps)
    np.testing.assert_allclose(crosstalk(planes, matrix), formula(planes, matrix), rtol=2e-6)


def test_python_form_is_the_formula(monkeypatch):
    for name, kernel in vars(kernels_amplifiers).copy().items():
        if hasattr(kernel, "py_func"):
            monkeypatch.setattr(kernels_amplifiers, name, kernel.py_func)
    planes, matrix = case(3)
    with np.errstate(invalid="ignore"):
        done = crosstalk(planes, matrix)
    np.testing.assert_allclose(done, formula(planes, matrix), rtol=2e-6)


def test_the_matrix_is_source_by_target():
    """Amplifier 0 is bright; only amplifier 1 sees it. The transposed matrix would correct the bright one."""
    planes = np.zeros((2, 1, 4), np.float32)
    planes[0, 0, 1] = 1000
    planes[1, 0, 1] = 3
    done = crosstalk(planes, np.array([[0, 3e-3], [0, 0]]))
    assert done[1, 0, 1] == 0 and done[0, 0, 1] == 1000
    assert crosstalk(planes, np.array([[0, 0], [3e-3, 0]]))[1, 0, 1] == 3


def test_input_is_left_alone():
    planes, matrix = case(4)
    before = planes.copy()
    crosstalk(planes, matrix)
    np.testing.assert_array_equal(planes, before)


@pytest.mark.parametrize(("planes", "matrix"), [((3, 2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2, 2), (2, 3))])
def test_matrices_that_do_not_fit_are_refused(planes, matrix):
    with pytest.raises(ShapeError):
        crosstalk(np.zeros(planes, np.float32), np.zeros(matrix))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_amplifiers_are_turned(turned, compiled, monkeypatch):
    if not compiled:
        for name, kernel in vars(kernels_amplifiers).copy().items():
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(kernels_amplifiers, name, kernel.py_func)
    rng = np.random.default_rng(2)
    planes = rng.normal(1000, 300, (2, 4, 5)).astype(np.float32)
    matrix = np.array([[0, 1e-2], [3e-2, 0]])
    flips = slice(None, None, -1 if turned[0] else 1), slice(None, None, -1 if turned[1] else 1)
    image = np.full((9, 13), -1, np.float32)
    image[1:5, 1:6], image[4:8, 7:12] = planes[0], planes[1][flips]
    places = np.array([[1, 1, 0, 0], [4, 7, *turned]])
    kernels_amplifiers.subtract(image, kernels_amplifiers.factors_of(matrix), places, 4, 5)
    expected = formula(planes, matrix)
    np.testing.assert_allclose(image[1:5, 1:6], expected[0], rtol=2e-6)
    np.testing.assert_allclose(image[4:8, 7:12][flips], expected[1], rtol=2e-6)
    image[1:5, 1:6] = image[4:8, 7:12] = -1
    assert (image == -1).all()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_lines_are_those_of_numpy(dtype, compiled, monkeypatch):
    if not compiled:
        for name, kernel in vars(kernels_amplifiers).copy().items():
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(kernels_amplifiers, name, kernel.py_func)
    rng = np.random.default_rng(5)
    values = rng.normal(1500, 5, (9, 70)).astype(dtype)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[3] = np.nan
    counts, means = np.empty(9, np.int64), np.empty(9)
    with np.errstate(invalid="ignore"):
        squares = kernels_amplifiers.line_moments(values, counts, means)
    good = np.arange(9) != 3
    np.testing.assert_array_equal(counts, np.isfinite(values).sum(axis=1))
    np.testing.assert_allclose(means[good], np.nanmean(values[good], axis=1, dtype=float), rtol=1e-14)
    assert np.isnan(means[3])
    off = values[good].astype(float) - means[good, None]
    assert squares == pytest.approx(np.nansum(off**2), rel=1e-12)
