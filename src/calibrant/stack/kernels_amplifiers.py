"""Amplifiers of a detector: crosstalk between them, all at once, and the lines of their overscan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calibrant.errors import ShapeError

FULL = 64
"""Buffers are of a multiple of so many values: what is left after the last whole vectors costs the most."""

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def _jit(function: _Kernel) -> _Kernel:
    """Compile as a function that only other kernels call: without its doors to Python and C."""
    compiler = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


def _joined(function: _Kernel) -> _Kernel:
    """The same with fused multiply-adds, which round once where two operations round twice."""
    compiler = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, fastmath={"contract"})
    return cast("_Kernel", compiler(function))


def _summing(function: _Kernel) -> _Kernel:
    """The same with sums in any order, as vector code makes them."""
    compiler = njit(
        nogil=True, error_model="numpy", no_cpython_wrapper=True, fastmath={"contract", "reassoc", "nsz"}
    )
    return cast("_Kernel", compiler(function))


def _door(function: _Kernel) -> _Kernel:
    """Compile on first use, keep on disk, and let other threads run meanwhile."""
    compiler = njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


@_jit
def _without_gaps(row: Any) -> None:
    """0 for NaN and infinities: what is not known takes nothing from the others."""
    for k in range(row.shape[0]):
        x = row[k]
        row[k] = x if x - x == np.float32(0) else np.float32(0)


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


@_summing
def _count_and_sum(line: Any) -> Any:
    count, total = 0, 0.0
    for k in range(line.shape[0]):
        good = line[k] == line[k]
        count += 1 if good else 0
        total += np.float64(line[k]) if good else 0.0
    return count, total


@_summing
def _squares(line: Any, mean: Any) -> Any:
    total = 0.0
    for k in range(line.shape[0]):
        off = np.float64(line[k]) - mean
        total += off * off if line[k] == line[k] else 0.0
    return total


@_jit
def _row(places: Any, n: Any, r: Any, rows: Any) -> Any:
    """Row of the image where the amplifier's row r, in the order of reading, lies."""
    return places[n, 0] + (rows - 1 - r if places[n, 2] else r)


@_door
def subtract(image: Any, factors: Any, places: Any, rows: Any, cols: Any) -> None:
    """``values[t] - sum(factors[t, s] * values[s])`` for all amplifiers t of an image, in place.

    Parameters
    ----------
    image : ndarray
        float32, (rows, columns), C-contiguous.
    factors : ndarray
        float32, (amplifiers, amplifiers), [target][source], all finite.
    places : ndarray
        int64, (amplifiers, 4): row and column of the image where each begins, whether its rows and columns
        are read backwards.
    rows, cols : int
        Of each amplifier.
    """
    amplifiers = factors.shape[0]
    whole, width = -(-amplifiers // 4) * 4, -(-cols // FULL) * FULL
    known = np.zeros((whole, width), np.float32)
    matrix = np.zeros((amplifiers, whole), np.float32)
    matrix[:, :amplifiers] = factors
    one, other = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for r in range(rows):
        # All sources before the first target is written: its pixels are sources too.
        for s in range(amplifiers):
            line = image[_row(places, s, r, rows), places[s, 1] : places[s, 1] + cols]
            _put(line, places[s, 3], known[s, :cols])
            _without_gaps(known[s])
        for i in range(0, amplifiers, 2):
            j = min(i + 1, amplifiers - 1)  # an odd one is worked on twice
            mine = image[_row(places, i, r, rows), places[i, 1] : places[i, 1] + cols]
            yours = image[_row(places, j, r, rows), places[j, 1] : places[j, 1] + cols]
            _put(mine, places[i, 3], one[:cols])
            _put(yours, places[j, 3], other[:cols])
            for s in range(0, whole, 4):
                f = matrix[i, s], matrix[i, s + 1], matrix[i, s + 2], matrix[i, s + 3]
                g = matrix[j, s], matrix[j, s + 1], matrix[j, s + 2], matrix[j, s + 3]
                _less(f, g, known[s], known[s + 1], known[s + 2], known[s + 3], one, other)
            _put(one[:cols], places[i, 3], mine)
            _put(other[:cols], places[j, 3], yours)


@_door
def line_moments(values: Any, counts: Any, means: Any) -> float:
    """Count and mean of the numbers of each line, NaN left out; the sum of their squares about those means.

    Parameters
    ----------
    values : ndarray
        float32 or float64, (lines, values), C-contiguous.
    counts, means : ndarray
        int64 and float64, (lines,): filled; the mean of nothing is NaN.
    """
    squares = 0.0
    for r in range(values.shape[0]):
        counts[r], total = _count_and_sum(values[r])
        means[r] = total / counts[r]
        squares += _squares(values[r], means[r])
    return squares


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
    values = np.array(planes, np.float32, order="C")
    factors = factors_of(matrix)
    if values.ndim != 3 or len(values) != len(factors):
        raise ShapeError(
            "the crosstalk matrix is of other amplifiers",
            expected=f"{len(factors)} planes (amplifiers, rows, columns)",
            got=values.shape,
        )
    amplifiers, rows, cols = values.shape
    places = np.zeros((amplifiers, 4), np.int64)
    places[:, 0] = rows * np.arange(amplifiers)
    subtract(values.reshape(-1, cols), factors, places, rows, cols)
    return values
