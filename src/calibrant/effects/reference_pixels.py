"""Reference pixels: their levels in time, against active pixels, and which of them cannot be trusted.

See docs/effects/reference_pixels.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import _reference_tables as tables
from calibrant.effects._input import check_products
from calibrant.effects._reference_layout import Layout, layout
from calibrant.effects._reference_levels import region_levels, streams
from calibrant.effects._reference_read import (
    Floats,
    Integration,
    group_time,
    seconds,
    start_of,
    walk,
)
from calibrant.effects._reference_unstable import Unstable, Watch
from calibrant.effects._verdicts import Limit, check_limits, judged, trend
from calibrant.effects.common import Record, product_keys
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument.clock import Border, Clock
from calibrant.product import Kind, Product, Provenance
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.run import parse_budget

NAME = "reference_pixels"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
MATCH_AS = "dark"
KIND = Kind(
    NAME,
    planes={
        "dq": "REFERENCE_PIXEL and NON_SCIENCE; unstable ones BAD_REF_PIXEL, those of two levels TELEGRAPH.",
        "scatter": "Standard deviation of each reference pixel within ramps, less the level of its region.",
        "deviation": "How far it is from the others of its region, sigmas: scatter, range or correlation.",
    },
    quantities={
        "level": "Mean level of the reference pixels of one side, output and parity of columns.",
        "noise": "Noise of a single read of one of its pixels, about the mean of its row.",
        "excess": "Variance of its level within ramps beyond the error of the mean that the noise foretells.",
        "excess_read": "The same of changes from read to read, halved.",
        "drift": "Slope of its level within ramps.",
        "settling": "How far the first group lies off the line through the later half of the ramp.",
        "settled_after": "Groups until it stays within three sigma of that line.",
        "active_noise": "Noise of a single read of an active pixel of an output, about the mean of its row.",
        "reference_noise": "The same of its reference pixels.",
        "noise_ratio": "reference_noise over active_noise.",
        "dark_slope": "Slope of active less reference pixels.",
        "excess_active": "Excess variance of the level of active pixels, their dark_slope taken off.",
        "excess_reference": "Excess variance of the level of the reference pixels of an output.",
        "excess_difference": "The same of active less reference: what a correction by their mean leaves.",
        "instability": "Rms change of active less reference from read to read, over the square root of 2.",
        "tracking": "Change of active pixels per change of the reference.",
        "correlation": "Of active and reference levels within ramps.",
        "parity": "Even less odd columns of the reference pixels of an output.",
        "excess_parity": "Its excess variance.",
        "sides": "Top less bottom of them.",
        "excess_sides": "Its excess variance.",
        "unstable": "Fraction of the reference pixels that are flagged BAD_REF_PIXEL.",
        "telegraph": "Fraction of the reference pixels that jump between two levels.",
    },
)
Progress = Callable[[int, int, str], None]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    threshold: float = 5.0,
    limits: Mapping[str, Limit] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """How stable reference pixels are, and how stable active pixels are, of ramps in the dark.

    Parameters
    ----------
    exposures : Exposures
        Ramps of one detector, size and read pattern; several files and integrations.
    products : mapping of Product
        None is used.
    threshold : float
        Sigmas from the other pixels of its region beyond which a reference pixel is unstable.
    limits : mapping, optional
        Name of a quantity -> its largest absolute value, or the lowest and the highest, for the table
        ``verdict``.

    Returns
    -------
    Product
        Plane ``dq`` (uint32); quantities of `KIND`, whose places are regions (``bottom 1 even``), outputs
        (``1``) or the array; tables ``levels``, ``outputs``, ``allan``, ``settling``, ``covariance``,
        ``lags``, ``regions``, ``pixels``, ``verdict``.

    Raises
    ------
    SelectionError
        If the frames are no ramps, are mixed, or have no reference pixels.
    OptionError
        If a limit or the threshold has no meaning.
    """
    del runner
    check_products(products)
    ramps = exposures.ramps()
    refuse_mixed(ramps)
    one = ramps[0].exposure
    instrument = exposures.instrument
    where = layout(instrument.clock(one), instrument.reference(one), ramps[0].name)
    made = of_ramps(
        ramps, where, threshold=threshold, limits=limits, progress=progress, budget=parse_budget(budget)
    )
    record = Record(dict(made.provenance.options), [*made.provenance.notes, *remarks_of(ramps)])
    return replace(
        made,
        instrument=instrument.name,
        keys={key: value for key, value in product_keys(exposures, MATCH_AS).items() if key != "shape"},
        epoch=exposures.epoch,
        provenance=record.provenance(NAME, exposures, {}),
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What the walk over all ramps gives, in one line per ramp."""

    ramps: list[Integration]
    means: Floats
    medians: Floats
    kept: Floats
    pixels: Unstable


def of_ramps(
    ramps: Sequence[Ramp],
    where: Layout,
    *,
    threshold: float = 5.0,
    limits: Mapping[str, Limit] | None = None,
    progress: Progress | None = None,
    budget: int = 512_000_000,
) -> Product:
    """As `measure`, of ramps and the `layout` of their pixels."""
    if not threshold > 0:
        raise OptionError("the threshold must be positive", where="threshold", got=threshold)
    allowed = check_limits(limits, list(KIND.quantities))
    found = _gathered(ramps, where, budget, progress)
    series = streams(where, found.ramps, found.means, found.kept)
    bad = found.pixels.bad(threshold)
    first = start_of(found.ramps)
    time = np.array([seconds(one, first) for one in found.ramps])
    made = tables.outputs(series)
    step = group_time(ramps[0].exposure, where)
    quantities = (
        *tables.whole_quantities(where, found.ramps, found.pixels, bad),
        *tables.output_quantities(where, series, found.ramps, made),
        *tables.region_quantities(where, series, found.ramps),
    )
    product = Product(
        NAME,
        planes={"dq": _flags(where, found.pixels, bad), **tables.pixel_planes(where, found.pixels)},
        units={**tables.UNITS, "scatter": "adu"},
        quantities=quantities,
        tables={
            "regions": tables.regions_table(where, bad),
            "levels": tables.levels_table(where, found.ramps, time, found.means, found.medians, series),
            "outputs": tables.outputs_table(found.ramps, time, made),
            "allan": tables.allan_table(made, step),
            "settling": tables.settling_table(where, series),
            "covariance": tables.covariance_table(made),
            "lags": tables.lags_table(made),
            "pixels": tables.pixels_table(where, found.pixels, bad),
        },
        provenance=Provenance(
            NAME,
            options={"threshold": threshold, "limits": {name: list(pair) for name, pair in allowed.items()}},
            notes=tuple(_notes(where, ramps, found)),
        ),
    )
    return judged(product, allowed)


def _gathered(ramps: Sequence[Ramp], where: Layout, budget: int, progress: Progress | None) -> _Found:
    groups, many = max(ramp.shape[1] for ramp in ramps), len(where.regions)
    of_region = [np.flatnonzero(where.region_of == i) for i in range(many)]
    watch = Watch(where.region_of)
    light, means, medians, kept = [], [], [], []
    for one in walk(ramps, where, budget=budget, progress=progress):
        found = [region_levels(one.reference[:, here]) for here in of_region]
        own = np.empty_like(one.reference)
        for here, region in zip(of_region, found, strict=True):
            own[:, here] = region.own
        watch.add(own)
        means.append(_padded(np.array([region.mean for region in found]).T, groups))
        medians.append(_padded(np.array([region.median for region in found]).T, groups))
        kept.append([region.kept for region in found])
        light.append(
            replace(
                one,
                reference=np.zeros((0, 0), np.float32),
                active=_padded(one.active, groups),
                time=_padded(one.time[:, None], groups)[:, 0],
            )
        )
    return _Found(light, np.array(means), np.array(medians), np.array(kept), watch.result())


def _padded(values: NDArray[Any], groups: int) -> Floats:
    """With NaN for groups that only longer ramps have."""
    return np.pad(values, ((0, groups - len(values)), (0, 0)), constant_values=np.nan)


def _flags(where: Layout, pixels: Unstable, bad: NDArray[np.bool_]) -> NDArray[np.uint32]:
    dq = np.zeros(where.region.shape, np.uint32)
    flags = np.full(len(bad), np.uint32(DQ.REFERENCE_PIXEL | DQ.NON_SCIENCE))
    flags[bad] |= np.uint32(DQ.BAD_REF_PIXEL)
    flags[pixels.telegraph > 0] |= np.uint32(DQ.TELEGRAPH)
    dq[where.pixels] = flags
    return dq


def _notes(where: Layout, ramps: Sequence[Ramp], found: _Found) -> list[str]:
    """What the reader should know."""
    notes = []
    sides = ("bottom", "top", "left", "right")
    without = [side for side, width in zip(sides, where.border, strict=True) if width == 0]
    if without:
        notes.append(f"there are no reference pixels at the {', '.join(without)} of this image")
    for one in found.ramps:
        name, lost = (
            ramps[one.file].name,
            int(np.isnan(one.active[: ramps[one.file].shape[1]]).all(axis=1).sum()),
        )
        if one.count.sum() == 0:
            notes.append(
                f"{name}: no active pixel can be used in integration {one.number}: all are saturated"
            )
        elif lost:
            notes.append(f"{name}: {lost} groups of integration {one.number} cannot be used")
    if found.means.shape[1] < 4:
        notes.append("ramps of fewer than four groups say little of single reference pixels")
    if len(found.ramps) < 3:
        notes.append("errors of levels, drifts and excesses need three ramps or more")
    return notes


def history(products: Sequence[Product]) -> Product:
    """What several epochs of detectors say: each quantity in time, and the last epoch against all before.

    Parameters
    ----------
    products : sequence of Product
        Of `measure`, three of a detector or more for a verdict.

    Returns
    -------
    Product
        Kind ``reference_pixels_trend`` with the tables ``trend`` (detector, epoch [us since 1970], quantity,
        place, value, sigma) and ``verdict`` (of the last epoch of each detector, as of `measure`).
    """
    return trend(products, NAME)


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``dq |= flags of reference pixels``.

    Raises
    ------
    SelectionError
        If the product is none of reference pixels.
    """
    if product.kind != NAME:
        raise SelectionError("no reference pixels", expected=f"a product of kind {NAME}", got=product.kind)
    return PixelStep(NAME, product=product.identity, dq=product.planes["dq"])


def apply(frame: Frame, product: Product) -> Frame:
    """The frame with its reference pixels flagged; its data stay.

    Raises
    ------
    HistoryError
        If it was done already.
    ShapeError
        If the product is of another size.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    if product.planes["dq"].shape != frame.shape[-2:]:
        raise ShapeError(
            "the reference pixels do not fit the frame", where=frame.name, expected=frame.shape[-2:],
            got=product.planes["dq"].shape, do="take those of the same detector and subarray",
        )  # fmt: skip
    return apply_steps(frame, [step(frame.exposure, product)])


__all__ = [
    "KIND", "NAME", "Border", "Clock", "apply", "history", "layout", "measure", "of_ramps",
    "step",
]  # fmt: skip
