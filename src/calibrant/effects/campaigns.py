"""Campaigns: one source seen through the slices of a detector in two or more campaigns; what changed?

``b = gain E(x - edge) P(x - structure) + pedestal``: the light of slices and their structure are told apart
from each other and from what lies under both; see docs/effects/campaigns.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._campaign_changes import change_table, edges, gap_table
from calibrant.effects._campaign_fit import Stack, fitted, noise
from calibrant.effects._campaign_words import drifts, mean_of, model_table, quantities, sentence, together
from calibrant.effects.common import Progress, Record
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.exposures.sources import same_readout
from calibrant.frame import DQ, Frame, iso_time
from calibrant.instrument.slices import SliceMap
from calibrant.product import Kind, Product, Quantity

NAME = "campaigns"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={
        "frame_*": "A campaign as it was given, NaN where it is not good; the name of the campaign follows.",
        "change_*": "Per cent by which it lies above the reference, NaN where the ratio is unstable.",
        "sigma_*": "Sigma of the change, per cent.",
        "slices": "Number of the slice of each pixel.",
    },
    quantities={
        "gain": "Light relative to the reference, mean of the slices; the place is the campaign.",
        "edge": "Shift of the edges of slices across, pixels.",
        "structure": "Shift of the structure within slices across, pixels.",
        "dispersion": "Shift along the dispersion, pixels, from fringes and other lines.",
        "phase": "The same in fringes.",
        "pedestal": "Level that does not depend on the light of the slice.",
        "pedestal_change": "Its difference to that of the reference.",
        "core_change": "Median change of the cores of slices, per cent.",
        "edge_change": "Median of their edges, per cent.",
        "gap_level": "Median of the gaps as they are, mean of all gaps.",
        "gap_background": "The same without what slices spill into them.",
        "gain_drift": "Change of the gain per day.",
    },
)
DAY = 86_400e6  # microseconds
F8 = NDArray[np.float64]


def measure(
    frames: Mapping[str, Frame],
    slices: SliceMap,
    *,
    reference: str | None = None,
    reach: float = 4.0,
    unstable: float = 5.0,
    border: float = 2.0,
    any_readout: bool = False,
    progress: Progress | None = None,
) -> Product:
    """Compare frames of one source: change, gain, shifts of edges and of structure, pedestals, gaps.

    Parameters
    ----------
    frames : mapping of Frame
        Name of the campaign -> (rows, cols) in one unit; two or more, in the order of the tables.
    slices : SliceMap
        Of the frames' size.
    reference : str, optional
        The campaign that the others are held against; the first if not given.
    reach : float
        Columns; structure has moved by less.
    unstable : float
        Sigmas; where the reference is nearer to 0, a per cent change means nothing.
    border : float
        Columns of a slice on each side that are its edge.
    any_readout : bool
        Whether campaigns of different detector, mode, gain setting, binning or band are compared at all.
    progress : callable, optional
        (done, total, what).

    Returns
    -------
    Product
        Planes and quantities of `KIND`; tables ``model`` (slice, campaign), ``change`` (slice, campaign,
        part), ``gaps`` (gap, campaign) and ``trend`` (campaign); shifts in pixels, levels in the unit of the
        frames. Its notes say in words what changed.

    Raises
    ------
    SelectionError
        If there are fewer than two campaigns, they were read out differently, or no slice has light in all.
    ShapeError, UnitError
        If sizes or units differ.
    OptionError
        If an option has no meaning, or `reference` names none of the campaigns.
    """
    names = tuple(frames)
    base = _checked(frames, slices, reference, (reach, unstable, border))
    if not any_readout:
        same_readout({name: frame.exposure for name, frame in frames.items()}, "campaigns")
    turned = slices.turned()
    record = Record({"reference": names[base], "reach": reach, "unstable": unstable, "border": border})
    record.options["dispersion"] = slices.dispersion
    stack = _stack(frames, slices)
    found, light = fitted(stack, turned, base, reach, record.notes, progress)
    first = next(iter(frames.values()))
    model = model_table(found, names, base)
    trend = together(model, names)
    changes, planes = change_table(stack, turned, base, edges(turned, border), unstable)
    tables = {"trend": trend, "model": model, "change": changes, "gaps": gap_table(stack, turned, light)}
    _complete(trend, tables, frames)
    record.notes[:0] = [sentence(trend, k, names[base], first.unit) for k in range(len(names)) if k != base]
    record.notes += _unstable(changes)
    given = {n: np.where(stack.good[k], stack.values[k], np.nan) for k, n in enumerate(names)}
    planes = {f"frame_{name}": plane for name, plane in given.items()} | planes
    return _product(frames, slices, planes, tables, record)


def _checked(
    frames: Mapping[str, Frame], slices: SliceMap, reference: str | None, options: tuple[float, ...]
) -> int:
    if len(frames) < 2:
        raise SelectionError("a comparison needs two campaigns or more", got=", ".join(frames) or "none")
    if not all(0 < value < math.inf for value in options):
        raise OptionError(
            "reach, unstable and border are positive", where="campaigns", got=", ".join(map(str, options))
        )
    if reference is not None and reference not in frames:
        raise OptionError(
            "there is no such campaign", where="reference", expected=", ".join(frames), got=reference
        )
    units = {name: frame.unit for name, frame in frames.items()}
    if len(set(units.values())) > 1:
        told = ", ".join(f"{name} in {unit or 'no unit'}" for name, unit in units.items())
        raise UnitError("campaigns in different units cannot be compared", got=told)
    for name, frame in frames.items():
        if len(frame.shape) != 2:
            raise ShapeError("campaigns are images of two axes", where=name, got=frame.shape)
        slices.check_fits(frame.shape, name)
    return 0 if reference is None else list(frames).index(reference)


def _stack(frames: Mapping[str, Frame], slices: SliceMap) -> Stack:
    """Frames with wavelength along the rows, 0 where they are not good."""
    shape = (len(frames), *slices.turned().shape)
    values, variance, good = np.zeros(shape), np.ones(shape), np.zeros(shape, bool)
    for k, frame in enumerate(frames.values()):
        loaded = frame.load()
        plane = slices.upright(np.asarray(loaded.data, np.float64))
        good[k] = np.isfinite(plane)
        if loaded.dq is not None:
            good[k] &= (slices.upright(np.asarray(loaded.dq)) & np.uint32(DQ.DO_NOT_USE)) == 0
        if loaded.variance is not None:
            stated = slices.upright(np.asarray(loaded.variance, np.float64))
            good[k] &= np.isfinite(stated) & (stated > 0)
            variance[k] = np.where(good[k], stated, 1.0)
        values[k] = np.where(good[k], plane, 0.0)
        if loaded.variance is None:
            variance[k] = noise(values[k], good[k])
    return Stack(values, variance, good, tuple(frames))


def _complete(trend: dict[str, Any], tables: Mapping[str, Any], frames: Mapping[str, Frame]) -> None:
    """Times, changes and levels of gaps beside the numbers of the joint model."""
    starts = [frame.exposure.mid for frame in frames.values()]
    trend["time"] = np.array(["" if mid is None else iso_time(mid) for mid in starts])
    change, gaps = tables["change"], tables["gaps"]
    for part in ("core", "edge"):
        pairs = [
            _mean(change, "median", "sigma", (change["campaign"] == name) & (change["part"] == part))
            for name in frames
        ]
        trend[f"{part}_change"], trend[f"{part}_change_sigma"] = np.array(pairs).T
    for column, what in (("level", "gap_level"), ("background", "gap_background")):
        sigma = "sigma" if column == "level" else "background_sigma"
        pairs = [_mean(gaps, column, sigma, gaps["campaign"] == name) for name in frames]
        trend[what], trend[f"{what}_sigma"] = np.array(pairs).T


def _mean(table: Mapping[str, Any], value: str, sigma: str, here: Any) -> tuple[float, float]:
    return mean_of(table[value][here], table[sigma][here]) if np.any(here) else (math.nan, math.nan)


def _unstable(change: Mapping[str, Any]) -> list[str]:
    count = int(np.sum(change["unstable"]))
    if not count:
        return []
    every = count + int(np.sum(change["pixels"]))
    return [f"{count} of {every} ratios of pixels are unstable, the reference being near zero, and left out"]


def _product(
    frames: Mapping[str, Frame],
    slices: SliceMap,
    planes: Mapping[str, F8],
    tables: Mapping[str, Any],
    record: Record,
) -> Product:
    first = next(iter(frames.values()))
    series = Exposures.from_frames(list(frames.values()))
    back = {name: np.ascontiguousarray(slices.upright(p), np.float32) for name, p in planes.items()}
    trend = tables["trend"]
    found = quantities(trend, first.unit)
    for name, unit in (
        ("core_change", "%"),
        ("edge_change", "%"),
        ("gap_level", first.unit),
        ("gap_background", first.unit),
    ):
        rows = zip(trend["campaign"], trend[name], trend[f"{name}_sigma"], strict=True)
        found += [Quantity(name, float(v), float(s), unit, str(c)) for c, v, s in rows if math.isfinite(v)]
    mids = [frame.exposure.mid for frame in frames.values()]
    found += drifts(trend, np.array([math.nan if mid is None else mid / DAY for mid in mids]), first.unit)
    units = {name: first.unit if name.startswith("frame_") else "%" for name in back}
    levels = {"model": ("pedestal", "pedestal_change"), "trend": ("pedestal", "pedestal_change")}
    units |= {f"{table}.{column}": first.unit for table, columns in levels.items() for column in columns}
    units |= {"gaps.level": first.unit, "gaps.background": first.unit, "change.median": "%"}
    known = [mid for mid in mids if mid is not None]
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys={"detector": first.exposure.detector},
        epoch=known[len(known) // 2] if known else None,
        planes={**back, "slices": np.asarray(slices.ids)},
        units={**units, "slices": ""},
        tables=tables,
        quantities=tuple(found),
        provenance=record.provenance(NAME, series, {}),
    )
