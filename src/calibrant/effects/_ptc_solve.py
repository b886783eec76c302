"""Least squares with weights from the model itself: what maximum likelihood asks of measured variances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
Model = Callable[[F8], tuple[F8, F8]]  # parameters -> values (m,), derivatives (m, p)
Sigma = Callable[[F8], F8]  # values of the model -> their standard errors (m,)

STEPS = 60
SETTLED = 1e-4  # sigmas: a step that is shorter ends the iteration


class Solution(NamedTuple):
    """Parameters (p,), their covariance (p, p), and the model at them, (m,)."""

    parameters: F8
    covariance: F8
    values: F8


def solve(model: Model, sigma: Sigma, observed: F8, start: F8) -> Solution | None:
    """Gauss-Newton with weights renewed at each step; the first parameter stays positive.

    Weights from the measured variances would favour those that came out small, a bias of about 2/n; weights
    from the model do not, and for variances of normal values this is the maximum of the likelihood.

    Parameters
    ----------
    model, sigma : callable
        As typed above.
    observed : array
        (m,).
    start : array
        (p,).

    Returns
    -------
    Solution or None
        None if the points do not determine the parameters.
    """
    parameters = start
    values, slopes = model(parameters)
    for _ in range(STEPS):
        width = sigma(values)
        residual = (observed - values) / width
        found = _step(slopes / width[:, np.newaxis], residual)
        if found is None:
            return None
        step, covariance, length = found
        fraction = 1.0
        while fraction > 1e-6:
            trial = parameters + fraction * step
            if trial[0] > 0:
                values, slopes = model(trial)
                new = (observed - values) / width
                # Within rounding of the best, a sum of squares no longer says which is better.
                if new @ new <= (residual @ residual) * (1.0 + 1e-9) + 1e-12 or length < 1e-3:
                    break
            fraction /= 2.0
        else:
            return None
        parameters = trial
        if length < SETTLED:
            return Solution(parameters, covariance, values)
    return Solution(parameters, covariance, values) if length < 1e-2 else None


def _step(slopes: F8, residual: F8) -> tuple[F8, F8, float] | None:
    """The step of Gauss and Newton, the covariance, and the length of the step in sigmas."""
    scale = np.sqrt(np.einsum("ij,ij->j", slopes, slopes))
    if not (np.isfinite(scale).all() and (scale > 0).all() and np.isfinite(residual).all()):
        return None
    scaled = slopes / scale
    normal = scaled.T @ scaled
    try:
        np.linalg.cholesky(normal)
        inverse = np.linalg.inv(normal)
    except np.linalg.LinAlgError:
        return None
    gradient = scaled.T @ residual
    step = inverse @ gradient
    length = math.sqrt(max(float(gradient @ step), 0.0))
    return step / scale, inverse / np.multiply.outer(scale, scale), length
