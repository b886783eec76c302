"""The kernel of slices is the formula: model, derivatives and their products, by NumPy and by differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.special import ndtr

from calibrant.stack import kernels_slices
from calibrant.stack.kernels_slices import EDGES, FEW, OWN, PEDESTAL

M, S = 28, 34
FIRST, PER_KNOT = -7.0, 2.0


def case():
    rng = np.random.default_rng(1)
    rows, cols = np.mgrid[:20, -5:6]
    across, along = cols.ravel() + 0.3, rows.ravel() + 2.0 + 0.05 * cols.ravel()
    weights = rng.uniform(0.5, 2.0, across.size) * (rng.random(across.size) > 0.1)
    own = np.array([1.02, 0.1, 0.3, -0.2, 8.0, FIRST, PER_KNOT])
    edges, structure = np.array([-4.2, 4.4, 0.9]), rng.uniform(0.8, 1.2, S)
    values = rng.normal(600, 30, across.size)
    return across, along, values, weights, own, edges, structure, rng.uniform(550, 650, M)


def seen(across, along, own, edges, structure, spectrum):
    """The model without its pedestal."""
    gain, edge, moved, dispersion = own[:4]
    level = BSpline(np.arange(-3.0, M + 1), spectrum, 3)(along - dispersion)
    inner = BSpline(np.arange(-3.0, S + 1), structure, 3)((across - moved - FIRST) * PER_KNOT)
    lit = ndtr((across - edge - edges[0]) / edges[2]) - ndtr((across - edge - edges[1]) / edges[2])
    return gain * level * lit * inner


def derivatives(across, along, own, edges, structure, spectrum):
    """By edges, own parameters, spectrum and structure, (n, parameters), by differences."""
    parts = [edges, own, spectrum, structure]
    columns = []
    for number, size in ((0, EDGES), (1, OWN), (2, M), (3, S)):
        for i in range(size):
            pair = []
            for sign in (-1, 1):
                moved = [part.copy() for part in parts]
                moved[number][i] += sign * 1e-5
                away = moved[1][PEDESTAL]
                pair.append(seen(across, along, moved[1], moved[0], moved[3], moved[2]) + away)
            columns.append((pair[1] - pair[0]) / 2e-5)
    return np.stack(columns, axis=1)


def sums():
    shapes = (M, 4), (M, FEW), (M, S), (FEW, FEW), (S, FEW), (S, 4), (FEW,), (M,), (S,)
    return tuple(np.zeros(shape) for shape in shapes)


@pytest.mark.parametrize("python", [False, True])
def test_equations_are_those_of_the_model(python, monkeypatch):
    if python:
        for name, kernel in vars(kernels_slices).copy().items():
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(kernels_slices, name, kernel.py_func)
    across, along, values, weights, *state = case()
    made, light = sums(), np.empty(across.size)
    total = kernels_slices.equations(across, along, values, weights, *state, made, light)
    model = seen(across, along, *state)
    off = (values - model - state[0][PEDESTAL]) * weights
    np.testing.assert_allclose(light, model, rtol=1e-12)
    assert total == pytest.approx(off @ off, rel=1e-12)
    slopes = derivatives(across, along, *state) * weights[:, None]
    normal, right = slopes.T @ slopes, off @ slopes
    few, by_s, by_p = slice(0, FEW), slice(FEW, FEW + M), slice(FEW + M, None)
    close = {"rtol": 1e-5, "atol": 1e-5 * np.abs(normal).max() ** 0.5}
    np.testing.assert_allclose(made[1], normal[by_s, few], **close)
    np.testing.assert_allclose(made[2], normal[by_s, by_p], **close)
    np.testing.assert_allclose(made[3], np.triu(normal[few, few]), **close)
    np.testing.assert_allclose(made[4], normal[by_p, few], **close)
    for band, whole in ((made[0], normal[by_s, by_s]), (made[5], normal[by_p, by_p])):
        for i in range(4):
            np.testing.assert_allclose(band[: len(band) - i, i], np.diag(whole, i), **close)
    for gradient, part in ((made[6], few), (made[7], by_s), (made[8], by_p)):
        np.testing.assert_allclose(gradient, right[part], **close)
