"""Crosstalk between the amplifiers of a detector: all at once, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calibrant.errors import ShapeError

TOGETHER = 4
"""Sources that are subtracted in one sweep over a row: one at a time, the row itself would take the time."""

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def _jit(function: _Kernel) -> _Kernel:
    """Compile as a function that only other kernels call: without its doors to Python and C."""
    compiler = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


def _door(function: _Kernel) -> _Kernel:
    """Compile on first use, keep on disk, and let other threads run meanwhile."""
    compiler = njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


@_jit
def _without_gaps(row: Any, out: Any) -> None:
    """Values, and 0 for NaN and infinities: what is not known takes nothing from the others."""
    for k in range(row.shape[0]):
        x = row[k]
        out[k] = x if x - x == np.float32(0) else np.float32(0)


@_jit
def _less(a: Any, p: Any, b: Any, q: Any, c: Any, r: Any, d: Any, s: Any, out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] -= (a * p[k] + b * q[k]) + (c * r[k] + d * s[k])


@_door
def subtract(planes: Any, sources: Any, factors: Any, targets: Any, out: Any) -> None:
    """``out[i] = planes[t] - sum(factors[t, j] * planes[sources[t, j]])``, t = targets[i].

    Parameters
    ----------
    planes : ndarray
        float32, (amplifiers, rows, columns), C-contiguous.
    sources, factors : ndarray
        int64 and float32, (amplifiers, a multiple of `TOGETHER`); see `listed`.
    targets : ndarray
        int64: the amplifiers that are wanted.
    out : ndarray
        float32, (len(targets), rows, columns), C-contiguous.
    """
    amplifiers, rows, cols = planes.shape
    known = np.empty((amplifiers, cols), np.float32)
    for r in range(rows):
        for s in range(amplifiers):
            _without_gaps(planes[s, r], known[s])
        for i in range(targets.shape[0]):
            t = targets[i]
            out[i, r, :] = planes[t, r]
            for j in range(0, factors.shape[1], TOGETHER):
                f, n = factors[t], sources[t]
                _less(
                    f[j], known[n[j]], f[j + 1], known[n[j + 1]],
                    f[j + 2], known[n[j + 2]], f[j + 3], known[n[j + 3]], out[i, r],
                )  # fmt: skip


def listed(matrix: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each target the sources that reach it, and their coefficients; without those that are 0 or NaN.

    Parameters
    ----------
    matrix : ndarray
        (amplifiers, amplifiers), [source][target], dimensionless.

    Raises
    ------
    ShapeError
        If it is not square.
    """
    values = np.asarray(matrix, np.float32)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ShapeError("crosstalk is a square matrix", expected="amplifiers x amplifiers", got=values.shape)
    found = [np.flatnonzero(np.isfinite(column) & (column != 0)) for column in values.T]
    most = -(-max(map(len, found), default=0) // TOGETHER) * TOGETHER
    sources = np.zeros((len(found), most), np.int64)
    factors = np.zeros((len(found), most), np.float32)
    for target, own in enumerate(found):
        sources[target, : len(own)] = own
        factors[target, : len(own)] = values[own, target]
    return sources, factors


def crosstalk(planes: NDArray[Any], matrix: NDArray[Any]) -> NDArray[np.float32]:
    """Amplifiers less what they see of each other: ``T - sum over sources of c[source][target] * S``.

    Parameters
    ----------
    planes : ndarray
        (amplifiers, rows, columns), each in the order in which it is read: pixels of one place in the array
        were read at the same moment. Of one unit, above the level without light. NaN and infinity stay, and
        take nothing from the others.
    matrix : ndarray
        (amplifiers, amplifiers), [source][target]; coefficients that are 0 or NaN are left out.

    Returns
    -------
    ndarray
        float32, of the shape and unit of `planes`.

    Raises
    ------
    ShapeError
        If the matrix is not of as many amplifiers.
    """
    values = np.ascontiguousarray(planes, np.float32)
    sources, factors = listed(matrix)
    if values.ndim != 3 or len(values) != len(factors):
        raise ShapeError(
            "the crosstalk matrix is of other amplifiers",
            expected=f"{len(factors)} planes (amplifiers, rows, columns)",
            got=values.shape,
        )
    out = np.empty_like(values)
    subtract(values, sources, factors, np.arange(len(values)), out)
    return out
