"""The a matrix of a detector, from those of its amplifiers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import listed
from calibrant.errors import OptionError, SelectionError
from calibrant.product import Product
from calibrant.stats import MAD_TO_STD

Matrix = NDArray[np.float64]

TABLE = "a_matrix"
LIMIT = 5.0  # sigmas; amplifiers whose a00 is farther from the others' are left out


@dataclass(frozen=True, eq=False)
class Lags:
    """What the flats say of a detector.

    Attributes
    ----------
    a, sigma : (lags, lags) float64
        Mean of the amplifiers and its standard error, lags (rows, cols) >= 0 [1/electron].
    amplifiers : mapping
        a00 of each amplifier and its sigma [1/electron].
    chi2 : float
        Reduced, of the amplifiers about the mean; NaN for a single one.
    model : str
        Of the photon transfer curve.
    notes : tuple of str
    """

    a: Matrix
    sigma: Matrix
    amplifiers: Mapping[str, tuple[float, float]]
    chi2: float
    model: str
    notes: tuple[str, ...]


def detector_lags(product: Product, lags: int | None = None) -> Lags:
    """Mean a matrix of the amplifiers, weighted by their errors.

    Parameters
    ----------
    product : Product
        Of kind gain, with the table ``a_matrix``: amplifier, i, j, a, sigma [1/electron].
    lags : int, optional
        Lags 0 .. lags - 1 of those in the table.

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a matrix in it.
    OptionError
        If there are not as many lags.
    """
    found = _matrices(product, lags)
    amplifiers = {name: (float(a[0, 0]), float(sigma[0, 0])) for name, (a, sigma) in found.items()}
    good = [name for name, (a, sigma) in found.items() if np.isfinite(a).all() and (sigma > 0).all()]
    notes = []
    if dead := [name for name in found if name not in good]:
        notes.append(f"no a matrix, left out: {listed(dead)}")
    if not good:
        raise SelectionError(
            "no amplifier has an a matrix",
            where=TABLE,
            got=listed(dead),
            do="measure the gain of flats again",
        )
    odd = _odd({name: amplifiers[name] for name in good})
    if odd:
        notes.append(
            f"a00 more than {LIMIT:g} sigma from that of the other amplifiers, left out: {listed(odd)}"
        )
        good = [name for name in good if name not in odd]
    a, sigma = (np.stack([found[name][part] for name in good]) for part in (0, 1))
    weight = sigma**-2.0
    mean = (weight * a).sum(axis=0) / weight.sum(axis=0)
    pulls = (a - mean) / sigma
    chi2 = float(np.square(pulls).sum() / (mean.size * (len(good) - 1))) if len(good) > 1 else math.nan
    model = str(product.provenance.options.get("model", "unknown"))
    return Lags(mean, weight.sum(axis=0) ** -0.5, amplifiers, chi2, model, tuple(notes))


def _matrices(product: Product, lags: int | None) -> dict[str, tuple[Matrix, Matrix]]:
    """a and sigma of each amplifier, NaN where the table has no row."""
    table = product.tables.get(TABLE)
    if table is None:
        raise SelectionError(
            "the gain was measured without covariances",
            where="gain",
            expected=f"a table {TABLE}",
            do="measure it from pairs of flats at three levels or more",
        )
    i, j = (np.asarray(table[name], int) for name in "ij")
    most = int(min(i.max(initial=-1), j.max(initial=-1))) + 1
    size = most if lags is None else lags
    if not 2 <= size <= most:
        raise OptionError("there are not as many lags", where="lags", expected=f"2 to {most}", got=size)
    inside = (i < size) & (j < size)
    names = np.asarray(table["amplifier"]).astype(str)
    found = {}
    for name in dict.fromkeys(names.tolist()):
        here = inside & (names == name)
        both = np.full((2, size, size), np.nan)
        for plane, column in zip(both, ("a", "sigma"), strict=True):
            plane[i[here], j[here]] = table[column][here]
        found[name] = both[0], both[1]
    return found


def _odd(amplifiers: Mapping[str, tuple[float, float]]) -> list[str]:
    """Amplifiers of another a00 than most, by their own errors and the scatter of all."""
    if len(amplifiers) < 4:
        return []
    value, sigma = np.array(list(amplifiers.values())).T
    off = np.abs(value - np.median(value))
    width = np.hypot(sigma, MAD_TO_STD * np.median(off))
    return [name for name, far in zip(amplifiers, off > LIMIT * width, strict=True) if far]
