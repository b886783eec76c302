"""Ramps: the optimal slope of each pixel of an array that is read many times, with jumps left out.

Generalised least squares on the differences of reads (Brandt 2024, PASP 136, 045004 and 045005); see
docs/effects/ramp.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._library_fit import thin
from calibrant.effects._ramp_fit import Fit, Plane, facts_of, fit_bands, flagged
from calibrant.effects._ramp_pattern import Pattern, design_of, pattern, pattern_of
from calibrant.errors import OptionError, ShapeError, UnitError
from calibrant.frame import Frame
from calibrant.product import Kind, Product, Provenance, Quantity
from calibrant.stats import finite_median

__all__ = ["KIND", "NAME", "Pattern", "measure", "pattern", "pattern_of"]

NAME = "ramp"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("gain",)
METHODS = ("optimal", "fixsen")
KIND = Kind(
    NAME,
    planes={
        "data": "Slope of each pixel.",
        "variance": "Variance of the slope: the sum of the next two.",
        "variance_read": "Its part from read noise.",
        "variance_photon": "Its part from the light itself.",
        "chi2": "Chi squared of the differences about the slope.",
        "count": "Differences of reads that the slope is made of; chi2 has one degree of freedom less.",
        "dq": "JUMP_DET, SATURATED, DO_NOT_USE, and what the frame's own dq says.",
    },
    quantities={
        "slope": "Median slope of a sample of the usable pixels.",
        "reduced_chi2": "Median chi2 by its median expected; 1 if gain and read noise are right.",
        "jumps": "Fraction of the pixels with a jump.",
        "saturated": "Fraction of the pixels with a saturated read.",
        "unusable": "Fraction of the pixels without a slope.",
    },
)
Progress = Callable[[int, int, str], None]


def measure(
    ramp: Frame | NDArray[Any],
    times: Pattern,
    *,
    gain: float | Plane | None = None,
    read_noise: float | Plane | None = None,
    saturation: float | None = None,
    thresholds: tuple[float, float] | None = (20.25, 23.8),
    method: str = "optimal",
    read_dq: NDArray[np.uint8] | None = None,
    marks: NDArray[np.uint8] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """Slopes of a ramp, or of several ramps (integrations) of the same light put together.

    Parameters
    ----------
    ramp : Frame or ndarray
        (reads, rows, cols) or (ramps, reads, rows, cols), adu, counting up; integers or floats. NaN reads are
        left out. An array mapped from a file is read in bands of rows.
    times : Pattern
        Of one ramp: `pattern` or `pattern_of`.
    gain : float or ndarray, optional
        e-/adu, of all pixels or (rows, cols); the frame's own if not given.
    read_noise : float or ndarray, optional
        adu, of a *single* read (not of a difference, nor of an averaged group); the frame's own if not given.
    saturation : float, optional
        adu; reads from there on, and all later ones of their ramp, are left out. The frame's own if not
        given; else the largest number of integers, and none for floats.
    thresholds : tuple of float or None
        Fall of chi squared for which one difference, or two neighbours, are dropped; None: no search.
    method : str
        ``optimal``, or ``fixsen``: lines through the reads, weighted as Fixsen et al. (2000, PASP 112,
        1350); jumps are found in the same way.
    read_dq : ndarray, optional
        uint8 of the shape of `ramp`: reads with DO_NOT_USE or SATURATED are left out. The frame's own if not
        given.
    marks : ndarray, optional
        uint8 of the shape of `ramp`; JUMP_DET and DO_NOT_USE of single reads are added to it.

    Returns
    -------
    Product
        Planes of `KIND`, float32 [adu/s, adu2/s2], count uint16, dq uint32.

    Raises
    ------
    ShapeError, OptionError, UnitError, HistoryError
        If the input does not fit together, or a number has no meaning.
    BudgetError
        If not even a row of all reads fits.
    """
    frame = ramp if isinstance(ramp, Frame) else Frame(ramp)
    if frame.unit != "adu":
        raise UnitError("ramps are fitted in adu", where=frame.name, expected="adu", got=repr(frame.unit))
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    if method not in METHODS:
        raise OptionError(
            "unknown method of ramps", where="method", expected=" or ".join(METHODS), got=method
        )
    values = _cube(frame, times)
    design, reads, unit = design_of(times, values.shape[0] // times.groups)
    given = facts_of(frame, values, gain, read_noise, saturation)
    limits = (math.inf, math.inf) if thresholds is None else thresholds
    if not min(limits) > 0:
        raise OptionError("thresholds of jumps must be positive", where="thresholds", got=thresholds)
    flags = frame.read_dq if read_dq is None else read_dq
    made = fit_bands(
        Fit(
            values, design, reads, unit, *given, limits, method == "fixsen",
            _like(flags, values, "read_dq"), _like(marks, values, "marks"),
        ),
        runner=runner, budget=budget, progress=progress,
    )  # fmt: skip
    made["dq"] = flagged(made.pop("flags"), frame)
    options = {"method": method, "thresholds": thresholds, "saturation": given[2]}
    return _product(frame, made, options, times.groups)


def _cube(frame: Frame, times: Pattern) -> Plane:
    """All reads, one axis of them."""
    data = frame.data if isinstance(frame.data, np.ndarray) else frame.data.load()
    if data.ndim not in (3, 4):
        raise ShapeError(
            "a ramp has an axis of reads", where=frame.name, expected="(reads, rows, cols)", got=data.shape
        )
    if data.shape[-3] != times.groups:
        raise ShapeError(
            "the pattern does not fit the ramp",
            where=frame.name,
            expected=f"{times.groups} groups",
            got=data.shape[-3],
            do="give the times of all groups",
        )
    return data.reshape(-1, *data.shape[-2:])


def _like(flags: Any, values: Plane, name: str) -> Plane | None:
    if flags is None:
        return None
    array: Plane = flags if isinstance(flags, np.ndarray) else flags.load()
    if array.dtype != np.uint8 or array.size != values.size or array.shape[-2:] != values.shape[-2:]:
        raise ShapeError(
            f"{name} does not fit the ramp",
            expected=f"uint8 {values.shape}",
            got=f"{array.dtype} {array.shape}",
        )
    return array.reshape(values.shape)


def _product(frame: Frame, planes: dict[str, Plane], options: dict[str, Any], groups: int) -> Product:
    usable = np.isfinite(planes["data"])
    notes = []
    # Medians of a sample: a quarter of a million pixels or more.
    count, chi2 = thin(planes["count"]), thin(planes["chi2"])
    fits = (count > 2) & np.isfinite(chi2)
    freedom = count[fits] - 1.0
    # Wilson and Hilferty: the median of chi squared.
    ratio = chi2[fits] / (freedom * (1 - 2 / (9 * freedom)) ** 3)
    reduced = float(np.median(ratio)) if ratio.size else math.nan
    if ratio.size and not 0.5 < reduced < 2:
        notes.append(
            f"reads scatter about the slopes with {reduced:.2g} times the variance that gain and read noise "
            "foretell; the gain is in e-/adu, the read noise that of a single read in adu"
        )
    if not usable.any():
        notes.append("no pixel has a slope: every one is saturated, flagged or without finite reads")
    rate = finite_median(thin(planes["data"]))
    dq = planes["dq"]
    units = {"data": "adu/s"} | dict.fromkeys(("variance", "variance_read", "variance_photon"), "adu2/s2")
    return Product(
        NAME,
        instrument=frame.exposure.instrument,
        keys={"detector": frame.exposure.detector, "groups": groups},
        epoch=frame.exposure.mid,
        planes=planes,
        units=units,
        quantities=(
            Quantity("slope", rate, unit="adu/s"),
            Quantity("reduced_chi2", reduced),
            Quantity("jumps", float(np.mean((dq & 4) != 0))),
            Quantity("saturated", float(np.mean((dq & 2) != 0))),
            Quantity("unusable", float(1 - usable.mean())),
        ),
        provenance=Provenance(NAME, options=options, notes=tuple(notes)),
    )
