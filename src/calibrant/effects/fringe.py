"""Fringes: the light of a spectrum interferes with itself in the detector or a plate before it.

    spectrum = continuum x Fabry-Perot transmission, blurred by line spread and pixel

See docs/effects/fringe.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._etalon_compare import compare
from calibrant.effects._etalon_fit import PLANES, SEARCHED, Columns, Fit, fit, search, splines
from calibrant.effects._etalon_lines import lines
from calibrant.effects._etalon_model import UM, spreads
from calibrant.effects._etalon_peaks import find_peaks, norm_fringe
from calibrant.effects._etalon_tables import (
    Places,
    columns_table,
    crest,
    example_table,
    fringes_table,
    mean,
    points_table,
    quantities,
    units,
    wavelengths_table,
    with_common,
)
from calibrant.effects._etalon_waves import lomb_scargle
from calibrant.effects._slice_pixels import upright
from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Frame
from calibrant.instrument.slices import SliceMap
from calibrant.product import Kind, Product

__all__ = [
    "FORBIDS", "KIND", "NAME", "NEEDS", "REACH", "apply", "compare", "find_peaks", "lines", "lomb_scargle",
    "measure", "norm_fringe", "residual",
]  # fmt: skip

NAME = "fringe"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={
        "data": "Fringe flat: 1 in the mean of each fringe; 1 where no fringes were fitted.",
        "variance": "Of the fringe flat.",
        "continuum": "Light at the peaks of the fringes: frame / continuum is the transmission.",
        "dq": "NO_FLAT_FIELD where a slice has no fitted fringes.",
    },
    quantities={
        "D": "Optical thickness n d; the place is the slice, none: all of them.",
        "depth": "1 - lowest / highest transmission, as observed; mean over the band.",
        "depth_intrinsic": "The same of the plate itself, without line spread and pixel.",
        "R": "Reflectivity of each face.",
        "pivot": "Wavenumber at which phases of columns are told.",
        "chi2": "Median over columns, per degree of freedom.",
    },
)
LEAST = 0.25  # of the rows that a column must have
UNLIKE = 100.0  # chi squared of a pixel from which a note asks whether the map is the right one
CYCLES = 8.0  # fringes that a column must have
POWER = 14.0  # of the strongest wave of one column over the median, by chance
F8 = NDArray[np.float64]
Resolution = float | tuple[Sequence[float], Sequence[float]] | None


@dataclass(frozen=True, eq=False)
class _Taken:
    columns: Columns
    number: NDArray[np.int32]
    col: NDArray[np.int32]


def measure(
    frame: Frame,
    slices: SliceMap,
    *,
    resolution: Resolution = None,
    numbers: Sequence[int] | None = None,
    thickness: float | tuple[float, float] | None = None,
    points: int = 8,
    stretch: float = 3.2,
    margin: int = 1,
    clip: float = 5.0,
) -> Product:
    """Fringes of all columns of all slices: depth, reflectivity, thickness and phase, each with its sigma.

    Parameters
    ----------
    frame : Frame
        (rows, cols), any unit, stray light removed.
    slices : SliceMap
        With wavelengths.
    resolution : float, or (wavelengths [um], resolutions), optional
        wavelength / FWHM of a line. Without it, line spread is not known: depths are as observed, and
        those of the plate itself NaN.
    numbers : sequence of int, optional
        Slices; all by default.
    thickness : float, or (low, high), optional
        um: to begin with (right within a fringe over the band), or where to look for it.
    points : int
        Places along the rows at which depths and phases are told.
    stretch : float
        Fringes per stretch of the continuum's spline.
    margin : int
        Columns at each edge of the slices that are left out.
    clip : float
        Pixels further off the fit than so many sigmas are left out.

    Returns
    -------
    Product
        Planes and quantities of `KIND`; tables ``columns`` (slice, col, pixels, D [um], phase [cycle] at the
        pivot, chi2), ``points`` (slice, col, row, wavelength [um], period [pixel], depth, visibility, R, F,
        depth_intrinsic, visibility_intrinsic, phase [cycle]) and ``fringes`` (means of the slices at each
        row), each with ``..._sigma``; ``example``: the middle column with continuum, fit and peaks.

    Raises
    ------
    OptionError
        If an option has no meaning, or the map no wavelengths.
    ShapeError
        If the map is of another size.
    SelectionError
        If no column has enough light, or no fringes stand out.
    """
    _check(slices, resolution, thickness, (points, stretch, margin, clip))
    record = Record(
        {"thickness": thickness, "points": points, "stretch": stretch, "margin": margin, "clip": clip}
    )
    record.options["dispersion"] = slices.dispersion
    record.options["resolution"] = resolution if isinstance(resolution, float) else repr(resolution)
    taken = _taken(frame, slices, numbers, margin, resolution, record)
    columns = taken.columns
    guess = _thickness(frame, columns, thickness)
    taken = _with_fringes(frame, taken, guess, record)
    columns = taken.columns
    used = columns.weight > 0
    pivot = float(np.round(columns.wavenumber[used].mean()))
    rows = columns.value.shape[1]
    cycles = 2 * guess * float(np.median(columns.slope[used])) * rows
    bases = splines(rows, max(1, round(cycles / stretch))), splines(rows, max(1, points // 2))
    found = fit(columns, guess, pivot, bases, clip)
    at = ((np.arange(points) + 0.5) * rows / points).astype(np.int64)
    places = Places(taken.number, taken.col, at)
    told = points_table(columns, found, places, bases[1], pivot, resolution is not None)
    means = fringes_table(told)
    tables = {"columns": columns_table(found, places), "points": told, "fringes": means}
    tables["wavelengths"] = wavelengths_table(means)
    tables["example"] = example_table(columns, found, places)
    chi2 = float(np.median(found.chi2))
    if columns.weighed and chi2 > UNLIKE:
        record.notes.append(
            f"the fit is far from the light (chi2 {chi2:.0f}): do the map and its wavelengths belong to it?"
        )
    if resolution is None:
        record.notes.append(
            "no resolution was given: depths are as observed, those of the plate are not known"
        )
    return _product(frame, slices, taken, found, tables, pivot, record)


def _check(slices: SliceMap, resolution: Resolution, thickness: Any, rest: tuple[float, ...]) -> None:
    points, stretch, margin, clip = rest
    if slices.wavelength is None:
        raise OptionError("the slice map has no wavelengths", where=slices.name)
    if not (points >= 1 and stretch >= 2 and margin >= 0 and clip > 0):
        raise OptionError(
            "an option of fringes has no meaning",
            where=NAME,
            expected="points >= 1, stretch >= 2, margin >= 0, clip > 0",
            got=f"points {points}, stretch {stretch}, margin {margin}, clip {clip}",
        )
    sizes = np.atleast_1d(np.asarray(thickness if thickness is not None else 1.0, np.float64))
    powers = np.asarray(resolution[1] if isinstance(resolution, tuple) else resolution or 1.0, np.float64)
    if not ((sizes > 0).all() and sizes.size <= 2 and np.all(np.diff(sizes) > 0)):
        raise OptionError(
            "no such thickness", where="thickness", expected="um, or (low, high)", got=thickness
        )
    if not (powers > 0).all():
        raise OptionError("a resolution is positive", where="resolution", got=str(resolution))


def _taken(
    frame: Frame,
    slices: SliceMap,
    numbers: Sequence[int] | None,
    margin: int,
    resolution: Resolution,
    record: Record,
) -> _Taken:
    """Columns of slices with enough good pixels and wavelengths that run one way."""
    values, variance = upright(frame, slices, NAME)
    turned = slices.turned()
    assert turned.wavelength is not None
    planes, number, col = [], [], []
    with np.errstate(invalid="ignore"):
        known = np.isfinite(turned.wavelength) & (turned.wavelength > 0)
    seen = np.isfinite(values)
    for one in turned.numbers if numbers is None else numbers:
        own = turned.mask(one)
        across = np.flatnonzero(own.any(axis=0))
        near = slice(across[0], across[-1] + 1)
        inside = _core(own[:, near], margin) & known[:, near]
        good = inside & seen[:, near]
        cols = np.flatnonzero(good.sum(axis=0) >= LEAST * len(values))
        if not cols.size:
            record.notes.append(f"slice {one}: too few good pixels, left out")
            continue
        straight = _one_way(turned.wavelength[:, near][:, cols].T, inside[:, cols].T)
        if not straight.all():
            left = int((~straight).sum())
            record.notes.append(f"slice {one}: wavelengths turn back in {left} columns, left out")
        cols = cols[straight]
        planes.append(
            [
                *(p[:, near][:, cols].T for p in (values, variance, turned.wavelength) if p is not None),
                good[:, cols].T,
            ]
        )
        number.append(np.full(cols.size, one, np.int32))
        col.append((cols + near.start).astype(np.int32))
    if not sum(len(part) for part in col):
        raise SelectionError(
            "no column of a slice has enough good pixels",
            where=frame.name,
            expected=f"{LEAST:.0%} of its rows, with wavelengths in one order",
        )
    joined = [np.concatenate(parts) for parts in zip(*planes, strict=True)]
    noise = joined[1] if variance is not None else None
    columns = _columns(joined[0], noise, joined[-2], joined[-1], resolution)
    return _Taken(columns, np.concatenate(number), np.concatenate(col))


def _columns(
    value: F8, noise: F8 | None, wavelength: F8, good: NDArray[np.bool_], resolution: Resolution
) -> Columns:
    wavenumber = UM / np.where(good, wavelength, np.nan)
    place = np.arange(value.shape[1], dtype=np.float64)
    for line, there in zip(wavenumber, good, strict=True):  # bad pixels and rows beyond the slice
        line[~there] = np.interp(place[~there], place[there], line[there])
    slope = np.abs(np.gradient(wavenumber, axis=1))
    slope = np.where(slope > 0, slope, np.median(slope, axis=1, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(good, 1.0 if noise is None else 1.0 / noise, 0.0)
    return Columns(
        np.where(good, value, 0.0),
        weight,
        wavenumber,
        slope,
        spreads(UM / wavenumber, resolution),
        noise is not None,
    )


def _core(inside: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    core = inside.copy()
    for step in range(1, margin + 1):
        core[:, step:] &= inside[:, :-step]
        core[:, :-step] &= inside[:, step:]
        core[:, :step] = core[:, inside.shape[1] - step :] = False
    return core


def _one_way(wavelength: F8, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    step = np.where(inside[:, 1:] & inside[:, :-1], np.diff(np.nan_to_num(wavelength), axis=1), 0.0)
    return np.asarray(~((step > 0).any(axis=1) & (step < 0).any(axis=1)))


def _thickness(frame: Frame, columns: Columns, thickness: float | tuple[float, float] | None) -> float:
    """To begin with, cm."""
    if isinstance(thickness, (int, float)):
        return float(thickness) / UM
    between = None if thickness is None else (thickness[0] / UM, thickness[1] / UM)
    found, power = search(columns, between)
    if not power > 1 + POWER / math.sqrt(min(len(columns.value), SEARCHED)):
        raise SelectionError(
            "no fringes stand out of the noise",
            where=frame.name,
            got=f"a wave {power:.1f} times as strong as the median",
            do="give the thickness if they are known to be there",
        )
    return found


def _with_fringes(frame: Frame, taken: _Taken, thickness: float, record: Record) -> _Taken:
    enough = taken.columns.span * 2 * thickness >= CYCLES
    if not enough.any():
        raise SelectionError(
            "no column sees enough fringes",
            where=frame.name,
            expected=f"{CYCLES:g} of them",
            got=f"{float(taken.columns.span.max()) * 2 * thickness:.1f}",
        )
    if enough.all():
        return taken
    record.notes.append(f"{int((~enough).sum())} columns see fewer than {CYCLES:g} fringes, left out")
    old = taken.columns
    planes = {name: getattr(old, name)[enough] for name in PLANES}
    return _Taken(replace(old, **planes), taken.number[enough], taken.col[enough])


def _product(
    frame: Frame,
    slices: SliceMap,
    taken: _Taken,
    found: Fit,
    tables: dict[str, dict[str, NDArray[Any]]],
    pivot: float,
    record: Record,
) -> Product:
    rows, cols = slices.turned().shape
    flat, variance, level = np.ones((rows, cols)), np.zeros((rows, cols)), np.full((rows, cols), np.nan)
    known = np.zeros((rows, cols), bool)
    row, which = np.arange(rows), found.used | (taken.columns.weight > 0)
    for n, col in enumerate(taken.col):
        here = row[which[n]]
        flat[here, col] = 1 + found.fringe[n, here]
        variance[here, col] = found.fringe_variance[n, here]
        level[here, col] = found.continuum[n, here] * (1 + crest(found.fringe[n], here))
        known[here, col] = True
    dq = np.where((slices.turned().ids > 0) & ~known, np.uint32(DQ.NO_FLAT_FIELD), np.uint32(0))
    planes = {
        name: np.ascontiguousarray(slices.upright(plane), np.float32)
        for name, plane in {"data": flat, "variance": variance, "continuum": level}.items()
    }
    planes["dq"] = np.ascontiguousarray(slices.upright(dq), np.uint32)
    tables, told = with_common(tables, quantities(tables, pivot), _common(frame, slices, taken))
    series = Exposures.from_frames([frame])
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys={"detector": frame.exposure.detector},
        epoch=frame.exposure.mid,
        planes=planes,
        tables=tables,
        units=units(frame.unit),
        quantities=told,
        provenance=record.provenance(NAME, series, {}),
    )


def _common(frame: Frame, slices: SliceMap, taken: _Taken) -> float:
    """Error of what was taken from the frame before, such as stray light, as a part of the light."""
    systematic = frame.load().systematic
    if systematic is None:
        return 0.0
    error = np.sqrt(slices.upright(np.asarray(systematic, np.float64))[:, taken.col].T)
    good = (taken.columns.weight > 0) & np.isfinite(error) & (taken.columns.value > 0)
    return float(np.median(error[good] / taken.columns.value[good])) if good.any() else 0.0


# --- removing them ----------------------------------------------------------------------------------------


def apply(frame: Frame, product: Product) -> Frame:
    """The frame divided by the fringe flat.

    Parameters
    ----------
    frame : Frame
        (rows, cols); its fringes must be those of the product: same source, same place in the slices.
    product : Product
        Of `measure`.

    Returns
    -------
    Frame
        Variance divided by the square; the error of the flat goes to `systematic`.

    Raises
    ------
    HistoryError
        If it was done already.
    SelectionError, ShapeError
        If the product does not belong to the frame.
    """
    frame.require(NAME, forbids=FORBIDS)
    if product.kind != NAME:
        raise SelectionError("not fringes", expected=f"a product of kind {NAME}", got=product.kind)
    return _divided(frame, product, NAME)


def _divided(frame: Frame, product: Product, effect: str) -> Frame:
    loaded = frame.load()
    flat = np.asarray(product.data, np.float64)
    if flat.shape != loaded.shape:
        raise ShapeError(
            "the fringes are of another size", where=frame.name, expected=flat.shape, got=loaded.shape
        )
    data = np.asarray(loaded.data) / flat
    error = (data / flat) ** 2 * product.planes["variance"]
    if loaded.systematic is not None:
        error = error + np.asarray(loaded.systematic) / flat**2
    variance = None if loaded.variance is None else np.asarray(loaded.variance) / flat**2
    dq = product.planes["dq"] if loaded.dq is None else np.asarray(loaded.dq) | product.planes["dq"]
    return replace(
        loaded,
        data=data.astype(np.float32),
        variance=None if variance is None else variance.astype(np.float32),
        systematic=error.astype(np.float32),
        dq=dq,
        systematic_from=frame.systematic_from | {product.identity},
        history=(*frame.history, Applied(effect, product.identity, dict(product.provenance.options))),
    )


def residual(frame: Frame, slices: SliceMap, *, least: float = 4.0, **options: Any) -> tuple[Frame, Product]:
    """What a fringe flat left, found in the frame itself and divided out where it stands out.

    Parameters
    ----------
    frame : Frame
        (rows, cols).
    slices : SliceMap
    least : float
        Sigmas of a column's reflectivity below which the column is left as it is.
    **options
        Of `measure`.

    Returns
    -------
    frame : Frame
    product : Product
        Of `measure`, its flat 1 in columns that were left.

    Raises
    ------
    HistoryError
        If it was done already.
    OptionError, SelectionError, ShapeError
        As of `measure`.
    """
    frame.require("fringe_residual")
    found = measure(frame, slices, **options)
    points, columns = found.tables["points"], found.tables["columns"]
    flat, variance = (slices.upright(np.array(found.planes[name])) for name in ("data", "variance"))
    ids, kept = slices.turned().ids, 0
    for number, col in zip(columns["slice"], columns["col"], strict=True):
        here = (points["slice"] == number) & (points["col"] == col)
        value = mean(points["depth"][here], points["depth_sigma"][here], np.zeros(here.sum(), np.int64), 1)
        if not value[0][0] > least * value[1][0]:
            flat[ids[:, col] == number, col], variance[ids[:, col] == number, col] = 1.0, 0.0
            kept += 1
    planes = {**found.planes, "data": slices.upright(flat), "variance": slices.upright(variance)}
    notes = (*found.provenance.notes, f"{kept} of {len(columns['col'])} columns had no fringes left")
    product = replace(found, planes=planes, provenance=replace(found.provenance, notes=notes))
    return _divided(frame, product, "fringe_residual"), product
