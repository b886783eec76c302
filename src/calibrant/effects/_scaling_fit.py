"""Least squares from one dark to another: offset, factor, polynomials; all of them from the same triangles.

A polynomial is a Chebyshev series in u = (x - centre) / half, u within -1 ... 1. The matrix
[T_0(u) ... T_n(u), y] of each block of the image is reduced to a triangle (QR) once: what is fitted to any
set of blocks, to all but one fold, or of any lower degree, follows from the triangles alone, and so does its
residual sum of squares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError

Vector = NDArray[np.float64]

CONDITION = (
    1e8  # of the column-scaled raw powers: beyond it half of the digits of their coefficients are lost
)
SINGULAR = 1e13  # of the scaled basis
LARGEST = 1e100  # the square of a larger value is none that can be summed


@dataclass(frozen=True)
class Scale:
    """u = (x - centre) / half, [adu]; u of the pixels used lies within -1 ... 1."""

    centre: float
    half: float

    @classmethod
    def of(cls, x: Vector) -> Scale:
        """The scale of values that are not all the same."""
        low, high = float(x.min()), float(x.max())
        return cls((low + high) / 2.0, (high - low) / 2.0)

    def __call__(self, x: NDArray[Any]) -> Vector:
        """The scaled values, dimensionless, of the shape of x; NaN of what cannot be computed with."""
        values = np.asarray(x, np.float64)
        return np.asarray((np.where(np.abs(values) < LARGEST, values, np.nan) - self.centre) / self.half)

    def powers(self, degree: int) -> list[list[Fraction]]:
        """Coefficients of T_0 ... T_degree in raw powers of x, lowest first; exact, so nothing cancels."""
        u = [-Fraction(self.centre) / Fraction(self.half), 1 / Fraction(self.half)]
        found = [[Fraction(1)], u]
        for _ in range(degree - 1):
            doubled = [Fraction(0)] * (len(found[-1]) + 1)
            for k, value in enumerate(found[-1]):
                doubled[k] += 2 * u[0] * value
                doubled[k + 1] += 2 * u[1] * value
            for k, value in enumerate(found[-2]):
                doubled[k] -= value
            found.append(doubled)
        return found[: degree + 1]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model fitted: dark_to = f(dark_from).

    Attributes
    ----------
    name : str
    rank : int
        -1 offset, 0 factor, n degree of the polynomial.
    coefficients : ndarray
        Of raw powers, highest first, float64, [adu^(1 - power)].
    covariance, block_covariance : ndarray
        Of the coefficients; from independent pixels, and from blocks of the image (pixels may be correlated).
    series : ndarray
        Chebyshev coefficients of f, T_0 first, float64, [adu].
    scale : Scale
    condition, raw_condition : float
        Of the matrix fitted, and of column-scaled raw powers.
    weights : ndarray or None
        Weights of the pixels used, 0 ... 1, where the model gives any.
    facts : dict
        Further numbers: noise scale, temperature factor ...; name -> (value, sigma or None, unit).
    """

    name: str
    rank: int
    coefficients: Vector
    covariance: NDArray[np.float64]
    block_covariance: NDArray[np.float64]
    series: Vector
    scale: Scale
    condition: float = 1.0
    raw_condition: float = 1.0
    weights: Vector | None = None
    facts: dict[str, tuple[float, float | None, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sigma(self) -> Vector:
        """Standard errors of the coefficients, from independent pixels."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def scaled(self) -> Vector:
        """What was fitted in the scaled basis, highest first; offset and factor are as they are."""
        return self.coefficients if self.rank < 1 else self.series[::-1]

    def __call__(self, x: NDArray[Any]) -> Vector:
        """f(x) [adu], of the shape of x."""
        return np.asarray(chebyshev.chebval(self.scale(x), self.series))

    def slope(self, x: NDArray[Any]) -> Vector:
        """df/dx, dimensionless, of the shape of x."""
        return np.asarray(chebyshev.chebval(self.scale(x), chebyshev.chebder(self.series)) / self.scale.half)

    def variance(self, x: NDArray[Any]) -> Vector:
        """Variance of f(x) by the errors of the coefficients [adu2], of the shape of x."""
        to_series = _raw_to_series(self.scale, self.rank)
        values = chebyshev.chebvander(self.scale(x), max(self.rank, 1)) @ to_series
        return np.asarray(np.einsum("...i,ij,...j->...", values, self.covariance, values))


def _raw_to_series(scale: Scale, rank: int) -> NDArray[np.float64]:
    """Matrix from the errors of coefficients (highest first) to errors of the Chebyshev coefficients."""
    if rank == -1:
        return np.array([[1.0], [0.0]])
    if rank == 0:
        return np.array([[scale.centre], [scale.half]])
    matrix = np.zeros((rank + 1, rank + 1))
    x = np.array([scale.centre, scale.half])
    column = np.array([1.0])
    for power in range(rank + 1):
        matrix[: power + 1, rank - power] = column
        column = chebyshev.chebmul(column, x)
    return matrix


def to_raw(series: Vector, scale: Scale) -> tuple[Vector, NDArray[np.float64]]:
    """Coefficients of raw powers, highest first, of a Chebyshev series; and the matrix between the two."""
    degree = len(series) - 1
    powers = scale.powers(degree)
    matrix = np.zeros((degree + 1, degree + 1))
    exact = [Fraction(0)] * (degree + 1)
    for k, (value, polynomial) in enumerate(zip(series, powers, strict=True)):
        for power, coefficient in enumerate(polynomial):
            matrix[degree - power, k] = float(coefficient)
            exact[degree - power] += Fraction(float(value)) * coefficient
    return np.array([float(value) for value in exact]), matrix


# --- triangles --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Triangles:
    """The matrix [T_0(u) ... T_degree(u), y] of every block of the image, reduced by QR.

    Attributes
    ----------
    blocks : tuple of ndarray
        One upper triangle for each block, (at most degree + 2, degree + 2), float64.
    counts : ndarray of int
        Pixels of each block.
    """

    blocks: tuple[NDArray[np.float64], ...]
    counts: NDArray[np.intp]
    scale: Scale
    degree: int

    @classmethod
    def of(cls, x: Vector, y: Vector, labels: NDArray[np.intp], degree: int) -> Triangles:
        """From the pixels used, (n,) each; `labels` say the block of each."""
        scale, degree = Scale.of(x), max(degree, 1)
        order = np.argsort(labels, kind="stable")
        _, first = np.unique(labels[order], return_index=True)
        blocks = []
        groups = np.split(order, first[1:])
        for group in groups:
            matrix = np.column_stack([chebyshev.chebvander(scale(x[group]), degree), y[group]])
            triangle: Any = np.linalg.qr(matrix, mode="r")
            blocks.append(triangle)
        return cls(tuple(blocks), np.array([len(group) for group in groups]), scale, degree)

    def rows(self, which: Iterable[int] | None = None) -> NDArray[np.float64]:
        """The triangles of some blocks, or of all, as rows of one small matrix."""
        chosen = self.blocks if which is None else [self.blocks[k] for k in which]
        return np.vstack(chosen)


@dataclass(frozen=True, eq=False)
class Design:
    """A linear model: Chebyshev coefficients = fixed + free @ parameters."""

    fixed: Vector
    free: NDArray[np.float64]

    @classmethod
    def of(cls, rank: int, scale: Scale) -> Design:
        """y = x + a; y = a x; or a polynomial."""
        x = np.array([scale.centre, scale.half])
        if rank == -1:
            return cls(x, np.array([[1.0], [0.0]]))
        if rank == 0:
            return cls(np.zeros(2), x[:, None])
        return cls(np.zeros(rank + 1), np.eye(rank + 1))


def solve(rows: NDArray[np.float64], design: Design) -> tuple[Vector, NDArray[np.float64], float]:
    """Parameters, inverse of the normal matrix, and condition number of the columns scaled to unit length.

    Raises
    ------
    OptionError
        If the pixels do not tell all parameters.
    """
    size = len(design.fixed)
    matrix, target = rows[:, :size] @ design.free, rows[:, -1] - rows[:, :size] @ design.fixed
    length = np.linalg.norm(matrix, axis=0)
    if matrix.shape[0] < matrix.shape[1] or not (length > 0).all():
        raise _untold(matrix.shape[1])
    q, r = np.linalg.qr(matrix / length)
    singular = np.linalg.svd(r, compute_uv=False)
    if singular[-1] * SINGULAR < singular[0]:
        raise _untold(matrix.shape[1])
    inverse = np.linalg.inv(r) / length[:, None]
    return inverse @ (q.T @ target), inverse @ inverse.T, float(singular[0] / singular[-1])


def _untold(parameters: int) -> OptionError:
    return OptionError(
        "the pixels do not tell all coefficients of the model",
        expected=f"more than {parameters} different values in the first dark",
        do="take a lower degree",
    )


def squares(rows: NDArray[np.float64], series: Vector) -> float:
    """Sum of squared residuals of the pixels behind the rows [adu2]."""
    return float(np.sum((rows[:, : len(series)] @ series - rows[:, -1]) ** 2))


def least_squares(triangles: Triangles, rank: int, name: str) -> Fitted:
    """Offset (rank -1), factor (0) or polynomial (n) with least squares, every pixel alike.

    Raises
    ------
    SelectionError
        If there are not more pixels than coefficients.
    OptionError
        If the pixels do not tell them.
    """
    design = Design.of(rank, triangles.scale)
    parameters, count = design.free.shape[1], int(triangles.counts.sum())
    if count <= parameters:
        raise SelectionError(
            f"too few pixels for {name}", expected=f"more than {parameters}", got=count, do="use more pixels"
        )
    rows = triangles.rows()
    found, inverse, condition = solve(rows, design)
    series = design.fixed + design.free @ found
    variance = squares(rows, series) / (count - parameters)
    blocked = inverse @ _scores(triangles, design, series) @ inverse
    coefficients, raw_condition = found, condition
    matrix = np.eye(parameters)
    if rank >= 1:
        coefficients, matrix = to_raw(series, triangles.scale)
        raw_condition = _raw_condition(rows[:, : rank + 1], triangles.scale)
    notes = _conditioned(name, raw_condition, condition) if rank >= 1 else ()
    return Fitted(
        name,
        rank,
        np.asarray(coefficients, np.float64),
        matrix @ (variance * inverse) @ matrix.T,
        matrix @ blocked @ matrix.T,
        series,
        triangles.scale,
        condition,
        raw_condition,
        notes=notes,
    )


def _scores(triangles: Triangles, design: Design, series: Vector) -> NDArray[np.float64]:
    """Sum over blocks of the outer product of their scores: pixels of one block may be correlated."""
    parameters = design.free.shape[1]
    total = np.zeros((parameters, parameters))
    for block in triangles.blocks:
        matrix = block[:, : len(series)]
        score = (matrix @ design.free).T @ (block[:, -1] - matrix @ series)
        total += np.outer(score, score)
    number = len(triangles.blocks)
    return total * (number / (number - parameters) if number > parameters else np.nan)


def _raw_condition(matrix: NDArray[np.float64], scale: Scale) -> float:
    """Condition number of the raw powers, columns scaled to unit length as `numpy.polyfit` does."""
    raw = matrix @ _raw_to_series(scale, matrix.shape[1] - 1)
    return float(np.linalg.cond(raw / np.linalg.norm(raw, axis=0)))


def _conditioned(name: str, raw: float, scaled: float) -> tuple[str, ...]:
    if raw < CONDITION:
        return ()
    return (
        f"{name}: the condition number of raw powers is {raw:.1e} ({scaled:.1e} in the scaled basis, which "
        "is used); its coefficients hold together only with all their digits: take a lower degree",
    )


def held_out(
    triangles: Triangles, folds: Sequence[NDArray[np.intp]], rank: int
) -> tuple[Vector, NDArray[np.intp]]:
    """Sum of squares of each fold under the fit to all others [adu2], and its pixels; NaN without a fit."""
    design = Design.of(rank, triangles.scale)
    found, counts = [], []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(triangles.blocks)), fold)
        try:
            parameters, _, _ = solve(triangles.rows(rest), design)
        except OptionError:
            found.append(np.nan)
        else:
            found.append(squares(triangles.rows(fold), design.fixed + design.free @ parameters))
        counts.append(int(triangles.counts[fold].sum()))
    return np.array(found), np.array(counts, np.intp)
