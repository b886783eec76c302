"""A smooth surface through an image: a polynomial or a spline through medians of boxes, without outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from calibrant.effects._sky_sources import box_medians, boxes
from calibrant.errors import OptionError, SelectionError
from calibrant.stats import mad_std

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Model = Literal["polynomial", "spline"]

CLIP = 4.0  # sigmas, of boxes about the surface
ITERATIONS = 6


@dataclass(frozen=True)
class Form:
    """What the surface is.

    Attributes
    ----------
    model : {"polynomial", "spline"}
        A polynomial of two coordinates, or a cubic spline.
    order : int
        Of the polynomial; of a spline, how many pieces each side has.
    surface_box : int or None
        Pixels of the boxes; a sixteenth of the shorter side if None.
    """

    model: Model = "polynomial"
    order: int = 3
    surface_box: int | None = None

    def __post_init__(self) -> None:
        if self.model not in ("polynomial", "spline"):
            raise OptionError("a surface is a polynomial or a spline", where="model", got=repr(self.model))
        if self.order < (self.model == "spline") or (self.surface_box is not None and self.surface_box < 1):
            raise OptionError(
                "order and boxes of a surface are too small",
                got=f"order {self.order}, box {self.surface_box}",
            )

    def size(self, shape: tuple[int, ...]) -> int:
        """Pixels of a box."""
        return self.surface_box or max(4, min(shape) // 16)

    def bases(
        self, rows: NDArray[Any], cols: NDArray[Any], shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """Functions of rows (n, terms) and of columns (m, terms), and which of their products take part."""
        y, x = (2.0 * (at + 0.5) / n - 1.0 for at, n in zip((rows, cols), shape, strict=True))
        if self.model == "polynomial":
            along, across = legvander(y, self.order), legvander(x, self.order)
            powers = np.add.outer(np.arange(self.order + 1), np.arange(self.order + 1))
            return along, across, powers <= self.order
        knots = np.concatenate([[-1.0] * 3, np.linspace(-1.0, 1.0, self.order + 1), [1.0] * 3])
        along, across = (BSpline.design_matrix(at, knots, 3).toarray() for at in (y, x))
        return along, across, np.ones((along.shape[1], across.shape[1]), np.bool_)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A surface, its error, and the boxes that it goes through.

    Attributes
    ----------
    surface, variance : ndarray
        float32, (rows, cols): from the scatter of the boxes about the surface.
    rest : ndarray
        (boxes, boxes): medians less the surface; NaN where there was nothing.
    scatter : float
        Robust standard deviation of the rest.
    """

    surface: F4
    variance: F4
    rest: F8
    scatter: float


def fit(image: F4, form: Form) -> Fitted:
    """The surface through an image.

    Parameters
    ----------
    image : ndarray
        float32, (rows, cols); NaN pixels are left out.
    form : Form

    Raises
    ------
    SelectionError
        If fewer boxes have good pixels than the surface has coefficients.
    """
    size = form.size(image.shape)
    middles = [0.5 * (edges[1:] + edges[:-1] - 1) for edges in boxes(image.shape, size)]
    along, across, taken = form.bases(middles[0], middles[1], image.shape)
    design = np.einsum("ri,cj->rcij", along, across)[:, :, taken]
    values = box_medians(image, size).astype(np.float64)
    coefficients, covariance, good = _solve(design, values)
    rest = values - design @ coefficients
    every = form.bases(np.arange(image.shape[0]), np.arange(image.shape[1]), image.shape)
    square = np.zeros(taken.shape)
    square[taken] = coefficients
    surface = (every[0] @ square @ every[1].T).astype(np.float32)
    error = np.einsum("rct,ts,rcs->rc", design, covariance, design)
    rows, cols = (np.clip(np.searchsorted(e, np.arange(n), "right") - 1, 0, len(e) - 2)
                  for e, n in zip(boxes(image.shape, size), image.shape, strict=True))  # fmt: skip
    variance = error.astype(np.float32)[np.ix_(rows, cols)]
    return Fitted(surface, variance, rest, float(mad_std(rest[good])))


def _solve(design: F8, values: F8) -> tuple[F8, F8, NDArray[np.bool_]]:
    """Least squares without outliers: coefficients, their covariance, and the boxes that were used."""
    terms, good = design.shape[-1], np.isfinite(values)
    for _ in range(ITERATIONS):
        if good.sum() <= terms:
            raise SelectionError(
                "too few pixels are left for a smooth surface",
                where="surface",
                expected=f"more than {terms} boxes with good pixels",
                got=str(int(good.sum())),
                do="take a lower order or smaller boxes, or more frames",
            )
        a = design[good]
        inverse = np.linalg.pinv(a.T @ a, hermitian=True)
        coefficients = inverse @ (a.T @ values[good])
        rest = np.where(np.isfinite(values), values - design @ coefficients, np.inf)
        inside = np.abs(rest) <= CLIP * max(float(mad_std(rest[good])), 1e-12)
        if inside.sum() <= terms or (inside == good).all():
            break
        good = inside
    freedom = max(1, int(good.sum()) - terms)
    variance = float(np.square(rest[good]).sum()) / freedom
    return coefficients, inverse * variance, good
