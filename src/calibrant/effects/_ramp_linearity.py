"""The curve of each pixel from its mean ramp: least squares on the differences of reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
ROUNDS = 5  # of Gauss and Newton
INVERSE = 5  # steps of Newton to the signal of a given light
LEVEL_OFF = 0.6  # of the first rises: a smaller rise is saturation
LARGEST = 4.0  # signal by its scale: no pixel that has a curve goes there
FLATTEST = 0.2  # least slope of a curve that can be believed


def fit(mean: Array, whole: Mask, times: Array, order: int, scale: float) -> dict[str, Array]:
    """Coefficients of ``L(u) = u + c2 u^2 + c3 u^3 = a t`` of many pixels.

    The zero level is where the curve meets the reset (t = 0): what gathered before the first read is
    ``u(a t_0)``. Differences of a mean ramp are independent of each other where photons make the noise.

    Parameters
    ----------
    mean : ndarray
        (groups, pixels) adu above the first group.
    whole : ndarray of bool
        (groups, pixels) reads that no ramp lacks.
    times : ndarray
        (groups,) s since the reset.
    order : int
        2 or 3.
    scale : float
        adu, that make the numbers about one.

    Returns
    -------
    dict
        c2, c3 [1/adu, 1/adu^2] and variance_c2, variance_c3, covariance; valid_high and saturation [adu above
        the zero level]; residual (rms of the differences, adu); each (pixels,), NaN where there is none.
    """
    use, levelled = _straight(mean, whole)
    t = times / times[-1]
    rises = np.where(use, np.diff(np.nan_to_num(mean), axis=0), 0.0) / scale
    parameters = np.zeros((order, mean.shape[1]))
    first = np.minimum(np.argmax(use, axis=0), 2)
    parameters[0] = np.take_along_axis(rises, first[None], axis=0)[0] / (t[1] - t[0])
    u = None
    for _ in range(ROUNDS):
        u, jacobian = _model(parameters, t, u)
        left = np.where(use, rises - np.diff(u, axis=0), 0.0)
        slopes = np.where(use, np.diff(jacobian, axis=1), 0.0)
        normal = np.einsum("ikp,jkp->pij", slopes, slopes)
        inverse = _inverted(normal)
        change = np.einsum("pij,jkp,kp->ip", inverse, slopes, left)
        parameters = np.clip(parameters + change, -LARGEST, LARGEST)
    u, _ = _model(parameters, t, u)
    left = np.where(use, rises - np.diff(u, axis=0), 0.0)
    freedom = use.sum(axis=0) - order
    square = (left**2).sum(axis=0) / np.where(freedom > 0, freedom, np.nan)
    return _scaled(parameters, inverse * square[:, None, None], u, use, levelled, square, scale)


def _straight(mean: Array, whole: Mask) -> tuple[Mask, Mask]:
    """Differences before the pixel fills up, (groups - 1, pixels); and pixels that do."""
    rises = np.diff(mean, axis=0)
    good = whole[1:] & whole[:-1] & np.isfinite(rises)
    start = np.median(np.where(good[:3], rises[:3], 0.0), axis=0)
    good &= (rises > LEVEL_OFF * start) & (start > 0)
    use = np.logical_and.accumulate(good, axis=0)
    levelled = ~use[-1]
    # The last rise before may be cut short already.
    ahead = np.vstack([use[1:], np.ones((1, use.shape[1]), bool)])
    return use & ahead, levelled


def _model(parameters: Array, t: Array, start: Array | None = None) -> tuple[Array, Array]:
    """Signal (groups, pixels), and how it changes with each parameter (parameters, groups, pixels)."""
    light = parameters[0] * t[:, None]
    u = light if start is None else start
    for _ in range(INVERSE if start is None else 2):
        curve, steep = _curve(parameters, u)
        u = np.clip(u - (curve - light) / steep, -LARGEST, LARGEST)
    _, steep = _curve(parameters, u)
    changes = [t[:, None] / steep]
    for power in range(2, len(parameters) + 1):
        changes.append(-(u**2 if power == 2 else u**2 * u) / steep)
    return u, np.array(changes)


def _curve(parameters: Array, u: Array) -> tuple[Array, Array]:
    """L(u), and its slope, which is kept from getting lost."""
    curve, steep = np.zeros_like(u), np.zeros_like(u)
    for power in range(len(parameters), 1, -1):  # Horner
        factor = parameters[power - 1]
        curve = (curve + factor) * u
        steep = (steep + power * factor) * u
    curve = (curve + 1) * u
    steep += 1
    return curve, np.maximum(steep, FLATTEST)


def _inverted(normal: Array) -> Array:
    """Inverses; zeros where there is none."""
    size = np.trace(normal, axis1=1, axis2=2)
    one = np.eye(normal.shape[1])
    empty = ~(np.isfinite(normal).all(axis=(1, 2)) & (size > 0))
    safe = np.where(empty[:, None, None], one, normal)
    singular = np.abs(np.linalg.det(safe)) < 1e-30
    safe[singular] = one
    inverse: Array = np.linalg.inv(safe)
    inverse[empty | singular] = 0.0
    return inverse


def _scaled(
    parameters: Array, covariance: Array, u: Array, use: Mask, levelled: Mask, square: Array, scale: float
) -> dict[str, Any]:
    """Results in adu; NaN where the curve cannot be believed."""
    last = use.sum(axis=0)  # index of the last read in use
    high = np.take_along_axis(u, last[None], axis=0)[0]
    _, steep = _curve(parameters, high)
    good = (
        np.isfinite(square) & (parameters[0] > 0) & (steep > FLATTEST) & np.isfinite(parameters).all(axis=0)
    )
    cubic = len(parameters) > 2
    none = np.zeros(len(high))
    found = {
        "c2": parameters[1] / scale,
        "c3": parameters[2] / scale**2 if cubic else none,
        "variance_c2": covariance[:, 1, 1] / scale**2,
        "variance_c3": covariance[:, 2, 2] / scale**4 if cubic else none,
        "covariance": covariance[:, 1, 2] / scale**3 if cubic else none,
        "valid_high": high * scale,
        "saturation": np.where(levelled, high * scale, np.nan),
        "residual": np.sqrt(np.maximum(square, 0)) * scale,
    }
    return {name: np.where(good, plane, np.nan) for name, plane in found.items()}
