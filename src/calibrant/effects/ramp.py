"""Ramps: the optimal slope of each pixel of an array that is read many times, with jumps left out.

Generalised least squares on the differences of reads (Brandt 2024, PASP 136, 045004 and 045005); see
docs/effects/ramp.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._library_fit import thin
from calibrant.effects._ramp_fit import Facts, Fit, Plane, facts_of, fit_bands, flagged, plane_of
from calibrant.effects._ramp_pattern import Pattern, design_of, pattern, pattern_of
from calibrant.effects._ramp_read import Reads, design_of_ramps, flags_of, flags_of_pixels
from calibrant.effects._ramp_slopes import facts_of as facts_of_ramps
from calibrant.effects._ramp_slopes import pattern_of as pattern_of_ramp
from calibrant.effects.common import Record, product_keys
from calibrant.errors import OptionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import refuse_mixed, remarks_of
from calibrant.frame import DQ, Frame
from calibrant.product import Kind, Product, Provenance, Quantity
from calibrant.stats import finite_median

__all__ = ["KIND", "NAME", "Pattern", "measure", "pattern", "pattern_of"]

NAME = "ramp"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("gain",)
MATCH_AS = "dark"
METHODS = ("optimal", "fixsen")
REFERENCE = np.uint32(DQ.REFERENCE_PIXEL)
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


@dataclass(frozen=True, eq=False)
class _Wanted:
    """How all pixels are fitted."""

    method: str
    thresholds: tuple[float, float] | None
    runner: Any
    budget: int | str
    progress: Progress | None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OptionError(
                "unknown method of ramps", where="method", expected=" or ".join(METHODS), got=self.method
            )
        if not min(self.limits) > 0:
            raise OptionError("thresholds of jumps must be positive", where="thresholds", got=self.thresholds)

    @property
    def limits(self) -> tuple[float, float]:
        """Thresholds of the search for jumps; infinite for none."""
        return (math.inf, math.inf) if self.thresholds is None else self.thresholds

    def planes(
        self,
        values: Plane | Reads,
        design: tuple[Plane, Plane, float],
        facts: Facts,
        dq: Plane | Reads | None,
        marks: Plane | None = None,
    ) -> dict[str, Plane]:
        """All planes; `flags` instead of dq."""
        made = Fit(values, *design, *facts, self.limits, self.method == "fixsen", dq, marks)
        return fit_bands(made, runner=self.runner, budget=self.budget, progress=self.progress)

    def options(self, saturation: float) -> dict[str, Any]:
        """For the provenance."""
        return {"method": self.method, "thresholds": self.thresholds, "saturation": saturation}


def measure(
    ramp: Frame | NDArray[Any] | Exposures,
    times: Pattern | None = None,
    *,
    products: Mapping[str, Product] | None = None,
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
    """Slopes of a ramp, or of several ramps (integrations, files) of the same light put together.

    Parameters
    ----------
    ramp : Exposures, Frame or ndarray
        Ramps of one detector and read pattern, read from their files in bands of rows; or (reads, rows, cols)
        or (ramps, reads, rows, cols), adu, counting up; integers or floats. NaN reads are left out. An array
        mapped from a file is read in bands of rows.
    times : Pattern
        Of one ramp: `pattern` or `pattern_of`. Exposures know it themselves.
    products : mapping of Product
        Of exposures: ``read_noise``, the plane of that name, where `read_noise` is not given.
    gain : float or ndarray, optional
        e-/adu, of all pixels or (rows, cols); that of the frame, of header or instrument file if not given.
    read_noise : float or ndarray, optional
        adu, of a *single* read (not of a difference, nor of an averaged group); the frame's own if not given,
        of exposures that of the reads themselves.
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
        given; exposures have theirs.
    marks : ndarray, optional
        uint8 of the shape of `ramp`; JUMP_DET and DO_NOT_USE of single reads are added to it. Not of
        exposures.

    Returns
    -------
    Product
        Planes of `KIND`, float32 [adu/s, adu2/s2], count uint16, dq uint32.

    Raises
    ------
    ShapeError, OptionError, UnitError, HistoryError
        If the input does not fit together, or a number has no meaning.
    SelectionError
        If the ramps of exposures are mixed, or have one group only.
    BudgetError
        If not even a row of all reads fits.
    """
    wanted = _Wanted(method, thresholds, runner, budget, progress)
    if isinstance(ramp, Exposures):
        if not (times is None and read_dq is None and marks is None):
            raise OptionError("exposures have times and flags of their own", where="times, read_dq, marks")
        return _of_exposures(ramp, products, wanted, gain, read_noise, saturation)
    frame = ramp if isinstance(ramp, Frame) else Frame(ramp)
    if frame.unit != "adu":
        raise UnitError("ramps are fitted in adu", where=frame.name, expected="adu", got=repr(frame.unit))
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    if times is None:
        raise OptionError("the times of the groups are not known", where="times", do="give a pattern(...)")
    values = _cube(frame, times)
    design = design_of(times, values.shape[0] // times.groups)
    facts = facts_of(frame, values, gain, read_noise, saturation)
    flags = frame.read_dq if read_dq is None else read_dq
    made = wanted.planes(
        values, design, facts, _like(flags, values, "read_dq"), _like(marks, values, "marks")
    )
    made["dq"] = flagged(made.pop("flags"), frame)
    return _product(
        made,
        [],
        instrument=frame.exposure.instrument,
        keys={"detector": frame.exposure.detector, "groups": times.groups},
        epoch=frame.exposure.mid,
        provenance=Provenance(NAME, options=wanted.options(facts[2])),
    )


def _of_exposures(
    exposures: Exposures,
    products: Mapping[str, Product] | None,
    wanted: _Wanted,
    gain: float | Plane | None,
    read_noise: float | Plane | None,
    saturation: float | None,
) -> Product:
    check_products(products)
    used = {
        name: one for name, one in (products or {}).items() if name == "read_noise" and read_noise is None
    }
    ramps, record = exposures.ramps(), Record(known=True)
    refuse_mixed(ramps)
    for one in exposures:
        Frame(np.empty(0), exposure=one).require(NAME, needs=NEEDS, forbids=FORBIDS)
    times = [pattern_of_ramp(one, exposures) for one in ramps]
    noise = used["read_noise"].planes["read_noise"] if used else read_noise
    told = facts_of_ramps(
        exposures, ramps, record.notes, gain=_middle(gain), read_noise=_middle(noise), saturation=saturation
    )
    values = Reads(ramps)
    facts = (
        plane_of("gain", told.gain if gain is None else gain, values.shape[1:], "> 0 e-/adu"),
        plane_of("read_noise", told.read_noise if noise is None else noise, values.shape[1:], "> 0 adu"),
        told.saturation,
    )
    made = wanted.planes(values, design_of_ramps(ramps, times), facts, flags_of(ramps))
    border = exposures.instrument.reference(ramps[0].exposure)
    record.notes += remarks_of(ramps)
    made["dq"] = made.pop("flags").astype(np.uint32) | flags_of_pixels(ramps, border)
    record.options |= wanted.options(told.saturation) | {"gain": told.gain, "read_noise": told.read_noise}
    keys = {name: value for name, value in product_keys(exposures, MATCH_AS).items() if name != "shape"}
    return _product(
        made,
        record.notes,
        instrument=exposures.instrument.name,
        keys=keys | {"groups": max(one.groups for one in times)},
        epoch=exposures.epoch,
        provenance=record.provenance(NAME, exposures, used),
    )


def _middle(given: float | Plane | None) -> float | None:
    """The number that stands for a map."""
    if given is None:
        return None
    known = np.asarray(given, np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size else math.nan


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


def _product(planes: dict[str, Plane], notes: list[str], **facts: Any) -> Product:
    """With what the planes tell as a whole; reference pixels do not count."""
    dq = planes["dq"]
    light = (dq & REFERENCE) == 0
    usable = np.isfinite(planes["data"]) & light
    # Medians of a sample: a quarter of a million pixels or more.
    count, chi2, seen = (thin(plane) for plane in (planes["count"], planes["chi2"], light))
    fits = (count > 2) & np.isfinite(chi2) & seen
    freedom = count[fits] - 1.0
    # Wilson and Hilferty: the median of chi squared.
    ratio = chi2[fits] / (freedom * (1 - 2 / (9 * freedom)) ** 3)
    reduced = float(np.median(ratio)) if ratio.size else math.nan
    told = list(notes)
    if ratio.size and not 0.5 < reduced < 2:
        told.append(
            f"reads scatter about the slopes with {reduced:.2g} times the variance that gain and read noise "
            "foretell; the gain is in e-/adu, the read noise that of a single read in adu"
        )
    if not usable.any():
        told.append("no pixel has a slope: every one is saturated, flagged or without finite reads")
    many = max(int(light.sum()), 1)
    units = {"data": "adu/s"} | dict.fromkeys(("variance", "variance_read", "variance_photon"), "adu2/s2")
    return Product(
        NAME,
        planes=planes,
        units=units,
        quantities=(
            Quantity("slope", finite_median(thin(planes["data"])[seen]), unit="adu/s"),
            Quantity("reduced_chi2", reduced),
            Quantity("jumps", float(((dq & 4 != 0) & light).sum()) / many),
            Quantity("saturated", float(((dq & 2 != 0) & light).sum()) / many),
            Quantity("unusable", float(1 - usable.sum() / many)),
        ),
        **facts | {"provenance": replace(facts["provenance"], notes=tuple(told))},
    )
