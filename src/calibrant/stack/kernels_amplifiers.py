"""Crosstalk between the amplifiers of a detector: all at once, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calibrant.errors import ShapeError

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def _jit(function: _Kernel) -> _Kernel:
    """Compile as a function that only other kernels call: without its doors to Python and C."""
    compiler = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


def _joined(function: _Kernel) -> _Kernel:
    """The same with fused multiply-adds, which round once where two operations round twice."""
    compiler = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, fastmath={"contract"})
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


@_joined
def _less(f: Any, g: Any, p: Any, q: Any, r: Any, s: Any, one: Any, other: Any) -> None:
    """Four sources from two targets: each value is loaded once for eight products."""
    a, b, c, d = f
    e, h, i, j = g
    for k in range(one.shape[0]):
        w, x, y, z = p[k], q[k], r[k], s[k]
        one[k] -= (a * w + b * x) + (c * y + d * z)
        other[k] -= (e * w + h * x) + (i * y + j * z)


@_jit
def _put(line: Any, back: Any, out: Any) -> None:
    if back:
        last = np.uint64(out.shape[0] - 1)  # a signed index could be negative, and would not be vector code
        for k in range(np.uint64(out.shape[0])):
            out[k] = line[last - k]
    else:
        for k in range(out.shape[0]):
            out[k] = line[k]


@_door
def subtract(planes: Any, factors: Any, targets: Any, places: Any, out: Any) -> None:
    """``planes[t] - sum(factors[t, s] * planes[s])`` for the targets t, each at its place.

    Parameters
    ----------
    planes : ndarray
        float32, (amplifiers, rows, columns), C-contiguous.
    factors : ndarray
        float32, (amplifiers, amplifiers), [target][source], all finite.
    targets : ndarray
        int64: the amplifiers that are wanted.
    places : ndarray
        int64, (targets, 4): row and column of the result where each begins, whether its rows and columns run
        backwards there.
    out : ndarray
        float32, (rows, columns) of the result, C-contiguous.
    """
    amplifiers, rows, cols = planes.shape
    whole = -(-amplifiers // 4) * 4
    known = np.zeros((whole, cols), np.float32)
    matrix = np.zeros((amplifiers, whole), np.float32)
    matrix[:, :amplifiers] = factors
    one, other = np.empty(cols, np.float32), np.empty(cols, np.float32)
    for r in range(rows):
        for s in range(amplifiers):
            _without_gaps(planes[s, r], known[s])
        for i in range(0, targets.shape[0], 2):
            j = min(i + 1, targets.shape[0] - 1)  # an odd one is worked on twice
            t, u = targets[i], targets[j]
            one[:] = planes[t, r]
            other[:] = planes[u, r]
            for s in range(0, whole, 4):
                f = matrix[t, s], matrix[t, s + 1], matrix[t, s + 2], matrix[t, s + 3]
                g = matrix[u, s], matrix[u, s + 1], matrix[u, s + 2], matrix[u, s + 3]
                _less(f, g, known[s], known[s + 1], known[s + 2], known[s + 3], one, other)
            for n, line in ((i, one), (j, other)):
                at = places[n, 0] + (rows - 1 - r if places[n, 2] else r)
                _put(line, places[n, 3], out[at, places[n, 1] : places[n, 1] + cols])


@_door
def turn(values: Any, begin: Any, out: Any, to: Any, turned: Any) -> None:
    """Copy a part of an image to a part of another one, its rows or columns backwards if asked.

    Parameters
    ----------
    values, out : ndarray
        float32, (rows, columns), C-contiguous.
    begin, to : tuple of int
        Row and column where the parts begin; the row after the last and the column after the last, of `to`.
    turned : tuple of bool
        Whether rows and columns run backwards.
    """
    top, left, bottom, right = to
    for r in range(bottom - top):
        from_row = begin[0] + (bottom - top - 1 - r if turned[0] else r)
        line = values[from_row, begin[1] : begin[1] + right - left]
        _put(line, turned[1], out[top + r, left:right])


def factors_of(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """The coefficients as `subtract` takes them, [target][source]; 0 where they are not known.

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
    return np.ascontiguousarray(np.nan_to_num(values, posinf=0.0, neginf=0.0).T)


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
    factors = factors_of(matrix)
    if values.ndim != 3 or len(values) != len(factors):
        raise ShapeError(
            "the crosstalk matrix is of other amplifiers",
            expected=f"{len(factors)} planes (amplifiers, rows, columns)",
            got=values.shape,
        )
    amplifiers, rows, cols = values.shape
    out = np.empty((amplifiers * rows, cols), np.float32)
    places = np.zeros((amplifiers, 4), np.int64)
    places[:, 0] = rows * np.arange(amplifiers)
    subtract(values, factors, np.arange(amplifiers), places, out)
    return out.reshape(values.shape)
