"""Superbias: what each pixel of an infrared array shows right after the reset, from many ramps.

See docs/effects/superbias.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._ramp_mean import (
    Mean,
    edge_of,
    flags_of,
    good_reads,
    middle_rows,
    pattern_keys,
    robust_mean,
    row_bands,
    scatter_of,
    taken_off,
    top_of,
)
from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import DQ, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.run import parse_budget
from calibrant.stats import MAD_TO_STD

NAME = "superbias"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("linearity", "ramp_linearity", "dark_ramp", "ramp", "gain")
MATCH_AS = "dark"
NOISY = 5.0  # times the typical scatter: a bias that is doubtful
Method = Literal["first", "intercept"]
KIND = Kind(
    NAME,
    planes={
        "data": "Level of each pixel in the first group, or at the reset.",
        "variance": "Its variance, from the scatter of the ramps; unknown of a single one.",
        "count": "Ramps that it is of.",
        "dq": "UNRELIABLE_BIAS where it scatters, NO_DATA without a ramp; reference pixels.",
    },
    quantities={
        "level": "Median level; the place is the output.",
        "pattern": "Robust scatter from pixel to pixel.",
        "noise": "Median standard deviation from ramp to ramp: reset noise and read noise.",
        "unreliable": "Fraction of the pixels that are flagged.",
    },
)
Progress = Callable[[int, int, str], None]
Planes = dict[str, NDArray[Any]]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    method: Method = "first",
    saturation: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The robust mean of the first group of ramps, or of where their slopes meet the reset.

    Parameters
    ----------
    exposures : Exposures
        Ramps of one detector and read pattern, in the dark or in little light; files and integrations.
    products : mapping of Product
        None is used.
    method : {"first", "intercept"}
        ``intercept``: the first group less its time since the reset times the slope from the first to the
        last group, which is free of dark current and light; the more groups, the less noise it adds.
    saturation : float, optional
        adu; by default that of header or instrument file. Reads from there on are left out.

    Returns
    -------
    Product
        Planes of `KIND`: float32 [adu, adu2], count uint16, dq uint32; quantities [adu].

    Raises
    ------
    SelectionError
        If the ramps are mixed, or too short.
    OptionError
        For an unknown method.
    BudgetError
        If not even a row of all first groups fits.
    """
    del runner
    check_products(products)
    if method not in ("first", "intercept"):
        raise OptionError("unknown method", where="method", expected="first or intercept", got=method)
    ramps = exposures.ramps()
    refuse_mixed(ramps)
    top = top_of(exposures, ramps, saturation)
    share = np.array([_share(one, method) for one in ramps])
    record = Record({"method": method, "saturation": top}, known=True)
    planes = _walked(ramps, share, top, parse_budget(budget), progress)
    record.notes += remarks_of(ramps)
    edge = edge_of(exposures, ramps[0])
    noise = np.sqrt(planes["variance"] * planes["count"])
    light = ~edge & np.isfinite(noise)
    typical = float(np.median(noise[light])) if light.any() else np.inf
    planes["dq"] = flags_of(planes["count"], edge, noise > NOISY * typical, DQ.UNRELIABLE_BIAS)
    total = sum(one.integrations for one in ramps)
    if not np.isfinite(planes["data"][~edge]).any():
        record.notes.append("no pixel has a level: all are saturated, flagged or without finite reads")
    if total < 3:
        record.notes.append(f"{total} ramps show no outlier: three or more are advised")
    output = np.where(edge, -1, exposures.instrument.clock(ramps[0].exposure).output_of())
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=pattern_keys(exposures, ramps[0], MATCH_AS),
        epoch=exposures.epoch,
        planes=planes,
        units={"data": "adu", "variance": "adu2"},
        quantities=tuple(_quantities(planes, noise, output)),
        provenance=record.provenance(NAME, exposures, {}),
    )


def _share(ramp: Ramp, method: Method) -> float:
    """Time from the reset to the first group, in units of the time from the first to the last."""
    if method == "first":
        return 0.0
    if ramp.groups < 2:
        raise SelectionError("an intercept needs two groups", where=ramp.name, got=ramp.groups)
    frames, skip = (int(ramp.exposure.get(key) or more) for key, more in (("nframes", 1), ("groupgap", 0)))
    return (frames + 1) / 2 / ((ramp.groups - 1) * (frames + skip))


def _walked(
    ramps: Sequence[Ramp], share: NDArray[Any], top: float, budget: int, progress: Progress | None
) -> Planes:
    """Mean, variance and count of all rows."""
    shape = ramps[0].shape[2:]
    kinds = {"data": "f4", "variance": "f4", "count": "u2"}
    planes: Planes = {name: np.empty(shape, kind) for name, kind in kinds.items()}
    part = float(np.average(share, weights=[one.integrations for one in ramps]))
    typical = [scatter_of(stack) for stack in _stacks(ramps, middle_rows(ramps), share, top)]
    for rows in row_bands(ramps, 2, budget):
        stacks = _stacks(ramps, rows, share, top)
        level, *rise = (robust_mean(one, far) for one, far in zip(stacks, typical, strict=True))
        for name, plane in zip(planes, _intercept(part, level, *rise), strict=True):
            planes[name][rows] = plane
        if progress is not None:
            progress(rows.stop, shape[0], NAME)
    return planes


def _stacks(ramps: Sequence[Ramp], rows: slice, share: NDArray[Any], top: float) -> list[NDArray[np.float32]]:
    """Levels of the first group (integrations, rows, cols); what had gathered until then, if it is wanted."""
    first = [good_reads(one, rows, top, slice(0, 1))[:, 0] for one in ramps]
    if not share.any():
        return [np.concatenate(first)]
    rises = [
        np.float32(part) * (good_reads(one, rows, top, slice(-1, None))[:, 0] - level)
        for one, level, part in zip(ramps, first, share, strict=True)
    ]
    return [np.concatenate(first), np.concatenate(rises)]


def _intercept(part: float, level: Mean, rise: Mean | None = None) -> Mean:
    """The level less what had gathered, of which cosmic rays are left out by its own, smaller scatter.

    Both share the first read: its noise is half of that of the rise, which is `part` of the rise to the last
    group, and so their covariance is ``-variance(rise) / (2 part)`` at most.
    """
    if rise is None:
        return level
    mean = level.mean - rise.mean
    variance = level.variance + rise.variance * np.float32(1 + 1 / part)
    return Mean(mean, variance, np.where(np.isfinite(mean), level.ramps, 0).astype(np.uint16))


def _quantities(planes: Planes, noise: NDArray[Any], output: NDArray[Any]) -> Iterator[Quantity]:
    places = {"": output >= 0, **{str(k + 1): output == k for k in range(int(output.max()) + 1)}}
    for place, here in places.items():
        level = planes["data"][here]
        level = level[np.isfinite(level)].astype(np.float64)
        if level.size == 0:
            continue
        middle = float(np.median(level))
        width = MAD_TO_STD * float(np.median(np.abs(level - middle)))
        yield Quantity("level", middle, 1.2533 * width / level.size**0.5, "adu", place)
        yield Quantity("pattern", width, width / (2.0 * level.size) ** 0.5, "adu", place)
        known = noise[here & np.isfinite(noise)]
        if known.size:
            yield Quantity("noise", float(np.median(known)), None, "adu", place)
        flagged = (planes["dq"][here] & np.uint32(DQ.UNRELIABLE_BIAS)) != 0
        yield Quantity("unreliable", float(flagged.mean()), None, "", place)


def apply(frame: Frame, product: Product) -> Frame:
    """The ramp less the superbias; saturated reads stay flagged in `read_dq`.

    Parameters
    ----------
    frame : Frame
        (groups, rows, cols) or (integrations, groups, rows, cols), adu.
    product : Product
        Of `measure`; its variance is added to `systematic`.

    Raises
    ------
    HistoryError
        If it was done already, or a later step was.
    ShapeError, UnitError, SelectionError
        If the product does not fit.
    """
    if product.kind != NAME:
        raise SelectionError("not a superbias", expected=f"a product of kind {NAME}", got=product.kind)
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    return taken_off(frame, product, product.data, product.planes["variance"])
