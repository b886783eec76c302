"""Lines of an etalon: each of them fitted, all at once, and the spacing of all in wavenumber."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._etalon_model import FWHM, UM
from calibrant.effects._etalon_peaks import find_peaks
from calibrant.effects.common import versions
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.product import Product, Provenance, Quantity
from calibrant.stats import mad_std

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDS = 40
SHAPES = {"gauss": 4, "pseudo_voigt": 5}
NODES = np.array([-0.906179845938664, -0.5384693101056831, 0.0, 0.5384693101056831, 0.906179845938664]) / 2
PARTS = np.array([0.23692688505618908, 0.47862867049936647, 0.5688888888888889, 0.47862867049936647,
                  0.23692688505618908]) / 2  # fmt: skip
CLIP = 6.0


def lines(
    wavelength: F8,
    value: F8,
    sigma: F8 | None = None,
    *,
    shape: str = "gauss",
    thres: float = 0.1,
    min_dist: int = 4,
    degree: int = 1,
) -> Product:
    """Centre, height, width and light of each line of an etalon's spectrum, and their spacing in wavenumber.

    Parameters
    ----------
    wavelength : ndarray
        float64, (n,), um, in one direction.
    value : ndarray
        float64, (n,): light of each pixel; NaN is left out.
    sigma : ndarray, optional
        float64, (n,); without it, errors are of the scatter about the fit.
    shape : str
        ``gauss``, or ``pseudo_voigt``: a part of it a Lorentzian of the same width. Both are integrated over
        the pixel, on a level of their own.
    thres, min_dist : float, int
        Of `find_peaks`, which finds the lines.
    degree : int
        Of the polynomial of wavenumber against order; 1: even spacing.

    Returns
    -------
    Product
        Table ``lines``: order, wavelength [um], wavenumber [1/cm], fwhm [um], height, level, part (of the
        Lorentzian), each with ``..._sigma``; chi2; good (converged, within its window). Quantities:
        ``spacing`` [1/cm] at the middle, ``D`` [um], ``scatter`` [1/cm] of centres about the spacing.

    Raises
    ------
    ShapeError, OptionError, SelectionError
        If lengths differ, an option has no meaning, or fewer than degree + 2 lines are found.
    """
    wave, y = np.asarray(wavelength, np.float64), np.asarray(value, np.float64)
    if not (wave.ndim == 1 and wave.shape == y.shape and (sigma is None or np.shape(sigma) == y.shape)):
        raise ShapeError("a spectrum has one axis", expected=wave.shape, got=y.shape)
    if shape not in SHAPES or degree < 1:
        raise OptionError(
            "no such lines", where=shape, expected=" or ".join(SHAPES) + ", degree >= 1", got=degree
        )
    peaks = find_peaks(y, thres, min_dist)
    peaks = peaks[(peaks > 1) & (peaks < len(y) - 2)]
    if len(peaks) < degree + 2:
        raise SelectionError(
            "too few lines stand out", expected=f"{degree + 2} at least", got=str(len(peaks))
        )
    found, covariance, chi2, good = _fitted(
        y, None if sigma is None else np.asarray(sigma, np.float64), peaks, shape
    )
    table = _table(wave, found, covariance)
    table |= {"chi2": chi2, "good": good & np.isfinite(table["wavelength_sigma"])}
    quantities, table["order"] = _spacing(table, degree)
    return Product(
        "etalon_lines",
        tables={"lines": table},
        units={f"lines.{n}": u for n, u in (("wavelength", "um"), ("wavenumber", "1/cm"), ("fwhm", "um"))},
        quantities=quantities,
        provenance=Provenance("fringe", options={"shape": shape, "degree": degree}, versions=versions()),
    )


def _fitted(y: F8, sigma: F8 | None, peaks: NDArray[np.int64], shape: str) -> tuple[F8, F8, F8, Bools]:
    """Levenberg-Marquardt on all lines: (height, centre, fwhm, level[, part]) in samples."""
    gaps = np.diff(peaks)
    reach = np.minimum(np.r_[gaps[0], gaps], np.r_[gaps, gaps[-1]]) / 2
    half = int(np.ceil(reach.max()))
    away = np.arange(-half, half + 1)
    at = np.clip(peaks[:, None] + away, 0, len(y) - 1)
    inside = (
        (np.abs(away) <= reach[:, None]) & (peaks[:, None] + away >= 0) & (peaks[:, None] + away < len(y))
    )
    noise = np.ones(y.shape) if sigma is None else sigma
    with np.errstate(invalid="ignore"):
        inside &= np.isfinite(y[at]) & np.isfinite(noise[at]) & (noise[at] > 0)
    light, weight = np.where(inside, np.nan_to_num(y[at]), 0.0), np.zeros(at.shape)
    weight[inside] = noise[at][inside] ** -2.0
    low = np.where(inside, light, np.inf).min(axis=1)
    given = np.stack([y[peaks] - low, np.zeros(len(peaks)), np.clip(reach / 2, 2.0, 8.0), low], axis=1)
    if shape == "pseudo_voigt":
        given = np.c_[given, np.full(len(peaks), 0.2)]
    damping, place = np.full(len(peaks), 1e-2), np.broadcast_to(away.astype(np.float64), at.shape)
    best = (weight * (light - _profile(place, given)) ** 2).sum(axis=1)
    for _ in range(ROUNDS):
        normal, right = _equations(place, light, weight, given)
        diagonal = np.einsum("nii->ni", normal)
        damped = normal + damping[:, None, None] * diagonal[:, :, None] * np.eye(given.shape[1])
        damped += 1e-12 * np.maximum(diagonal.max(axis=1), 1e-300)[:, None, None] * np.eye(given.shape[1])
        tried = given + np.linalg.solve(damped, right[:, :, None])[:, :, 0]
        tried[:, 2] = np.clip(tried[:, 2], 0.3, 4.0 * half)
        tried[:, 4:] = np.clip(tried[:, 4:], 0.0, 1.0)
        now = (weight * (light - _profile(place, tried)) ** 2).sum(axis=1)
        better = now <= best
        given, best = np.where(better[:, None], tried, given), np.where(better, now, best)
        damping = np.clip(np.where(better, 0.2 * damping, 8 * damping), 1e-12, 1e6)
    covariance = np.linalg.pinv(_equations(place, light, weight, given)[0], hermitian=True)
    free = np.maximum(inside.sum(axis=1) - given.shape[1], 1)
    chi2 = best / free
    scale = chi2 if sigma is None else np.maximum(chi2, 1.0)
    found = given.copy()
    found[:, 1] += peaks
    good = (np.abs(given[:, 1]) < reach) & (given[:, 0] > 0) & (inside.sum(axis=1) > given.shape[1])
    return found, covariance * scale[:, None, None], chi2, good


def _profile(place: F8, given: F8) -> F8:
    """Lines summed over pixels, by five points in each (Gauss-Legendre)."""
    height, centre, fwhm, level = (given[:, k, None] for k in range(4))
    made = np.zeros(place.shape)
    for node, part in zip(NODES, PARTS, strict=True):
        square = ((place + node - centre) / fwhm) ** 2
        one = np.exp(-0.5 * FWHM**2 * square)
        if given.shape[1] > 4:
            one += given[:, 4, None] * (1 / (1 + 4 * square) - one)
        made += part * one
    return level + height * made


def _equations(place: F8, light: F8, weight: F8, given: F8) -> tuple[F8, F8]:
    now = _profile(place, given)
    slopes = []
    for k in range(given.shape[1]):
        step = np.zeros(given.shape)
        step[:, k] = 1e-5 * np.maximum(np.abs(given[:, k]), 1e-2)
        slopes.append(
            (_profile(place, given + step) - _profile(place, given - step)) / (2 * step[:, k, None])
        )
    j = np.stack(slopes, axis=2)
    normal = np.einsum("nr,nri,nrj->nij", weight, j, j, optimize=True)
    return normal, np.einsum("nr,nri->ni", weight * (light - now), j)


def _table(wave: F8, found: F8, covariance: F8) -> dict[str, NDArray[np.generic]]:
    """Lines in wavelengths: the scale at each centre by a smooth curve through the pixels."""
    sample = np.arange(len(wave), dtype=np.float64)
    centre = np.interp(found[:, 1], sample, wave)
    scale = np.abs(np.interp(found[:, 1], sample, np.gradient(wave)))
    error = np.sqrt(np.maximum(np.einsum("nii->ni", covariance), 0.0))
    table: dict[str, NDArray[np.generic]] = {
        "wavelength": centre,
        "wavelength_sigma": error[:, 1] * scale,
        "wavenumber": UM / centre,
        "wavenumber_sigma": UM / centre**2 * error[:, 1] * scale,
        "fwhm": found[:, 2] * scale,
        "fwhm_sigma": error[:, 2] * scale,
    }
    for k, name in ((0, "height"), (3, "level"), (4, "part")):
        there = k < found.shape[1]
        table[name] = found[:, k] if there else np.zeros(len(found))
        table[f"{name}_sigma"] = error[:, k] if there else np.zeros(len(found))
    return table


def _spacing(
    table: dict[str, NDArray[np.generic]], degree: int
) -> tuple[tuple[Quantity, ...], NDArray[np.int64]]:
    """Orders by counting lines, gaps included, and a polynomial through their wavenumbers.

    Errors are at least those of the scatter: lines of a real etalon are not spaced as evenly as they are
    measured.
    """
    number, sigma = np.asarray(table["wavenumber"], float), np.asarray(table["wavenumber_sigma"], float)
    steps = np.diff(number)
    typical = float(np.median(steps))
    order = np.r_[0, np.cumsum(np.round(steps / typical))].astype(np.int64)
    order -= order[len(order) // 2]
    fine = np.asarray(table["good"], bool)
    scale, scatter, good = max(float(np.abs(order).max()), 1.0), 0.0, fine
    design = np.vander(order / scale, degree + 1, increasing=True)
    for _ in range(5):
        error = np.hypot(sigma, scatter)
        weight = np.where(good & (error > 0), 1 / np.where(error > 0, error, 1.0), 0.0)
        weight, value = np.nan_to_num(weight), np.where(good, number, 0.0)
        covariance = np.linalg.pinv((design * weight[:, None] ** 2).T @ design)
        through = covariance @ (design * weight[:, None] ** 2).T @ value
        rest = number - design @ through
        wide = float(mad_std(rest[good]))
        scatter = math.sqrt(max(wide**2 - float(np.median(sigma[good] ** 2)), 0.0))
        kept = fine & (np.abs(rest) < CLIP * np.hypot(sigma, wide))
        good = kept if kept.sum() > degree + 1 else good
    spacing, its = abs(float(through[1])) / scale, float(np.sqrt(covariance[1, 1])) / scale
    told = (
        Quantity("spacing", spacing, its, "1/cm"),
        Quantity("D", UM / (2 * spacing), UM / (2 * spacing**2) * its, "um"),
        Quantity("scatter", wide, None, "1/cm"),
    )
    return told, order if typical > 0 else -order
