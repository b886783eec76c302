"""Pairs of darks to scale onto each other: one with published moments, and ones whose noise is known.

The published pair is known by its moments alone: sums, and the coefficients of least-squares polynomials,
whose normal equations the 3rd to 5th moments of the first dark follow. `pair` draws frames that have exactly
these moments, so that every published coefficient comes out of them. They are **not** the original frames.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import least_squares

from calibrant.errors import OptionError
from calibrant.instrument.rules import Model

F8 = NDArray[np.float64]
FILE = Path(__file__).with_suffix(".toml")
TRIES = 20  # draws: one in a hundred has a tail that no transform brings to the moments
PATTERN = (0.6, 0.35, 0.7)
"""Weights of columns, rows and pixels in the logarithm of the dark current."""
SMOOTH = (6.0, 4.0)  # pixels: along columns, along rows
START = (0.6, 8.0, 0.4)
"""Width of the body, height and exponent of the tail, from which the transform is sought."""
CUBIC = 4  # coefficients
PRECISION = 1e-12  # relative, of the moments of a draw


class Light(Model):
    """The light frame: ``slope dark2 + offset + signal + noise``, all in adu.

    Attributes
    ----------
    rows, cols : tuple of int
        First and end of the lit window.
    lines : tuple
        Of the spectrum: column, sigma, height.
    gain : float
        e-/adu, for its photon noise.
    """

    slope: float
    offset: float
    rows: tuple[int, int]
    cols: tuple[int, int]
    continuum: float
    lines: tuple[tuple[float, float, float], ...] = ()
    read_noise: float
    gain: float = Field(gt=0)


class File(Model):
    """How the file of the pair looks: its name, units, times [s], temperatures [C] and bins [pixels]."""

    name: str
    dark: str
    raw: str
    start: str
    cadence: float
    exptime: float
    bin: tuple[int, int]
    temperatures: tuple[float, ...]
    detector_dn: tuple[float, float]
    case_dn: int


class Table(Model):
    """One table of the file: a row for each dark or light, or one; column -> series or number."""

    rows: Literal["darks", "lights", "file"]
    columns: dict[str, str | int | float]


class Design(Model):
    """What is known of the pair, as its file says.

    Attributes
    ----------
    sum_from, sum_squares_from, sum_to : float
        adu, adu^2: over all pixels of the first dark, and of the second one.
    std_mult : float
        adu: std (ddof 0) of what a factor alone leaves.
    coefficients : mapping
        ``add``, ``mult``, ``poly1`` to ``poly3``: highest power first.
    """

    shape: tuple[int, int]
    sum_from: float
    sum_squares_from: float
    sum_to: float
    std_mult: float
    hot_fraction: float = Field(gt=0, lt=1)
    coefficients: dict[str, tuple[float, ...]]
    light: Light
    file: File
    tables: dict[str, Table]

    @cached_property
    def moments(self) -> Moments:
        """The moments that follow."""
        return Moments.of(self)


def load() -> Design:
    """The published pair, as the file beside this module describes it."""
    return Design.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Moments:
    """Moments of a pair of darks.

    Attributes
    ----------
    mean, std : float
        adu, of the first dark.
    third, fourth, fifth : float
        Standardised central moments of the first dark.
    mean_to, std_to : float
        adu, of the second dark.
    covariance : float
        adu^2.
    """

    mean: float
    std: float
    third: float
    fourth: float
    fifth: float
    mean_to: float
    std_to: float
    covariance: float

    @classmethod
    def of(cls, design: Design) -> Moments:
        """From sums and least-squares coefficients.

        With u = (x - mean)/std, the difference of the polynomials of degree 3 and 2 is orthogonal to 1, u
        and u^2, which gives the 3rd, 4th and 5th moment one after the other.
        """
        count = math.prod(design.shape)
        mean, mean_to = design.sum_from / count, design.sum_to / count
        square = design.sum_squares_from / count
        std = math.sqrt(square - mean * mean)
        factor = design.coefficients["mult"][0]
        square_to = design.std_mult**2 + (mean_to - factor * mean) ** 2 + factor**2 * square
        standard = Polynomial([mean, std])
        cubic, quadratic = (polynomial(design.coefficients[name])(standard) for name in ("poly3", "poly2"))
        d0, d1, d2, d3 = (float(value) for value in (cubic - quadratic).coef)
        third = -(d0 + d2) / d3
        fourth = -(d1 + d2 * third) / d3
        fifth = -(d0 + d1 * third + d2 * fourth) / d3
        std_to = math.sqrt(square_to - mean_to**2)
        return cls(mean, std, third, fourth, fifth, mean_to, std_to, factor * square - mean * mean_to)

    @property
    def standardised(self) -> F8:
        """3rd, 4th and 5th."""
        return np.array([self.third, self.fourth, self.fifth])

    def residuals(self, coefficients: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, float]]:
        """Mean and std (ddof 0) of what models up to the 2nd degree leave, adu, by name of the model."""
        x2, y2, xy = self.std**2, self.std_to**2, self.covariance
        factor = coefficients["mult"][0]
        standard = polynomial(coefficients["poly2"])(Polynomial([self.mean, self.std]))
        _, b, c = (float(value) for value in standard.coef)
        explained = b * b + 2 * b * c * self.third + c * c * (self.fourth - 1.0)
        return {
            "add": (0.0, math.sqrt(x2 + y2 - 2 * xy)),
            "mult": (self.mean_to - factor * self.mean, math.sqrt(y2 - 2 * factor * xy + factor**2 * x2)),
            "poly1": (0.0, math.sqrt(y2 - xy * xy / x2)),
            "poly2": (0.0, math.sqrt(y2 - explained)),
        }


def polynomial(coefficients: tuple[float, ...]) -> Any:
    """A polynomial (of a number, an array or another polynomial) from coefficients, highest power first."""
    return Polynomial(coefficients[::-1])


@dataclass(frozen=True, eq=False)
class DarkPair:
    """Two darks with the moments of a design.

    Attributes
    ----------
    dark1, dark2 : array
        (rows, cols), float64, adu.
    noise : array
        (rows, cols), float64, adu: dark2 less the cubic polynomial of dark1; orthogonal to its powers.
    hot : array of bool
        (rows, cols): pixels of the tail.
    model : Polynomial
        The cubic one.
    """

    dark1: F8
    dark2: F8
    noise: F8
    hot: NDArray[np.bool_]
    model: Any

    @property
    def whole(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Both darks as a file holds them: int32, adu, rounded so that their moments change least."""
        first = _rounded(self.dark1, _powers(self.dark1, 5))
        powers = _powers(first, CUBIC)
        noise = self.noise.ravel() - powers @ (powers.T @ self.noise.ravel())
        return first, _rounded(self.model(first) + noise.reshape(first.shape), powers)


def _powers(plane: NDArray[Any], count: int) -> F8:
    """Orthonormal polynomials of the values of a plane: (pixels, count)."""
    values = np.asarray(plane, np.float64).ravel()
    basis, _ = np.linalg.qr(np.vander((values - values.mean()) / values.std(), count))
    return np.asarray(basis)


def _rounded(plane: F8, basis: F8) -> NDArray[np.int32]:
    """Whole numbers near `plane`, int32, whose products with the columns of `basis` stay what they were.

    Rounding to the nearest moves a cubic coefficient by a part in a thousand. So single pixels are moved by
    one more, always the one that helps most, until none helps.
    """
    near = np.rint(plane).ravel()
    left = basis.T @ (near - plane.ravel())
    steps = np.concatenate([basis, -basis])
    while True:
        after = np.sum((left + steps) ** 2, axis=1)
        best = int(np.argmin(after))
        if after[best] >= left @ left:
            return near.astype(np.int32).reshape(plane.shape)
        near[best % near.size] += 1.0 if best < near.size else -1.0
        left = left + steps[best]


def pair(rng: np.random.Generator, design: Design | None = None) -> DarkPair:
    """A pair of darks with exactly the moments of a design, by default those that were published.

    The first dark is a broad body, patterned in rows and columns, with a tail of hot pixels; a transform of
    three parameters brings its 3rd to 5th moments to those wanted. The second is the cubic polynomial of the
    first plus noise that is larger where the dark is, orthogonal to 1, x, x^2, x^3, and scaled to the
    variance of the second. Between moments the shape is free, so other statistics (a degree above 3, the
    effect of a cut) are those of this draw.

    Raises
    ------
    OptionError
        If no such frames exist, or none was found.
    """
    design = design or load()
    dark1, hot = _first(rng, design)
    noise = _noise(dark1, rng, design)
    model = polynomial(design.coefficients["poly3"])
    return DarkPair(dark1, model(dark1) + noise, noise, hot, model)


def _first(rng: np.random.Generator, design: Design) -> tuple[F8, NDArray[np.bool_]]:
    """The first dark, and its hot pixels."""
    moments = design.moments
    for _ in range(TRIES):
        body = _pattern(design.shape, rng)
        hot = rng.random(design.shape) < design.hot_fraction
        tail = np.where(hot, rng.exponential(size=design.shape), 0.0)

        def drawn(logs: F8, body: F8 = body, hot: NDArray[np.bool_] = hot, tail: F8 = tail) -> F8:
            width, height, exponent = np.exp(np.clip(logs, -6.0, 6.0))
            plane = np.exp(width * body) + np.where(hot, height * tail**exponent, 0.0)
            return np.asarray((plane - plane.mean()) / plane.std())

        def departure(logs: F8, drawn: Any = drawn) -> F8:
            found = np.array([np.mean(drawn(logs) ** power) for power in (3, 4, 5)])
            return np.asarray(np.log(np.maximum(found, 1e-3) / moments.standardised))

        fit = least_squares(departure, np.log(START), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=200)
        plane = moments.mean + moments.std * drawn(fit.x)
        if np.abs(fit.fun).max() < PRECISION and plane.min() > 0:
            return plane, hot
    raise OptionError("no dark with these moments was found", where="moments", got=moments.standardised)


def _pattern(shape: tuple[int, int], rng: np.random.Generator) -> F8:
    """Logarithm of the dark current without hot pixels, of mean 0 and std 1: columns, rows, pixels."""
    across = gaussian_filter1d(rng.normal(size=shape[1]), SMOOTH[0])[np.newaxis, :]
    along = gaussian_filter1d(rng.normal(size=shape[0]), SMOOTH[1])[:, np.newaxis]
    parts = (across, along, rng.normal(size=shape))
    plane = sum(weight * part / part.std() for weight, part in zip(PATTERN, parts, strict=True))
    return np.asarray((plane - np.mean(plane)) / np.std(plane))


def _noise(dark1: F8, rng: np.random.Generator, design: Design) -> F8:
    """The departure of the second dark from the cubic polynomial of the first."""
    explained = float(np.var(polynomial(design.coefficients["poly3"])(dark1)))
    left = design.moments.std_to**2 - explained
    if left <= 0:
        raise OptionError("the cubic polynomial varies more than the second dark", where="poly3", got=left)
    powers = _powers(dark1, CUBIC)
    noise = (rng.normal(size=dark1.shape) * np.sqrt(dark1)).ravel()
    for _ in range(2):  # the second time takes the rounding of the first away
        noise -= powers @ (powers.T @ noise)
    noise *= math.sqrt(left) / noise.std()
    return noise.reshape(dark1.shape)


@dataclass(frozen=True, eq=False)
class NoisyPair:
    """Two darks of a known line, with known noise in both.

    Attributes
    ----------
    dark_from, dark_to : array
        (rows, cols), float64, adu, with noise.
    true_from, true_to : array
        (rows, cols), float64, adu, without: true_to = slope true_from + offset.
    sigma_from, sigma_to : array
        (rows, cols), float64, adu: std of the noise of each pixel.
    slope, offset : float
        The line; offset in adu.
    """

    dark_from: F8
    dark_to: F8
    true_from: F8
    true_to: F8
    sigma_from: F8
    sigma_to: F8
    slope: float
    offset: float


def noisy_pair(
    rng: np.random.Generator,
    shape: tuple[int, int] = (62, 341),
    *,
    slope: float = 1.25,
    offset: float = 130.0,
    sigma_from: float | F8 = 80.0,
    sigma_to: float | F8 = 80.0,
    mean: float = 420.0,
    width: float = 0.6,
    outliers: float = 0.0,
) -> NoisyPair:
    """Darks of which each is as noisy as the other: least squares is attenuated, Deming and York are not.

    Parameters
    ----------
    sigma_from, sigma_to : float or array
        adu: Gaussian noise of each dark, one number or one for each pixel, (rows, cols).
    mean : float
        adu, of the first dark; its logarithm is normal, of std `width`.
    outliers : float
        Fraction of pixels of the second dark that jump by 10 to 40 of its sigmas: telegraph pixels.

    Returns
    -------
    NoisyPair
    """
    logarithm = width * _pattern(shape, rng)
    true_from = np.exp(logarithm)
    true_from *= mean / true_from.mean()
    true_to = slope * true_from + offset
    sigmas = [np.broadcast_to(np.asarray(sigma, np.float64), shape) for sigma in (sigma_from, sigma_to)]
    dark_from, dark_to = (
        true + sigma * rng.normal(size=shape)
        for true, sigma in zip((true_from, true_to), sigmas, strict=True)
    )
    jumps = rng.random(shape) < outliers
    dark_to += np.where(jumps, sigmas[1] * rng.uniform(10.0, 40.0, shape), 0.0)
    return NoisyPair(dark_from, dark_to, true_from, true_to, sigmas[0], sigmas[1], slope, offset)
