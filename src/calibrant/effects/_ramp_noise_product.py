"""Read noise of ramps as a product: maps, numbers of outputs, and boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_noise import HEIGHTS, METHODS, STRIP, Method, Options, Planes, Scatter
from calibrant.effects._ramp_noise_boxes import clipped_mean, edges_of, spatial, temporal
from calibrant.effects._ramp_noise_census import census
from calibrant.effects._ramp_noise_factors import factors
from calibrant.effects.common import Record, product_keys
from calibrant.errors import BudgetError, ConfigError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import DQ
from calibrant.instrument.clock import Border, Clock
from calibrant.product import Product, Quantity
from calibrant.stack.plan import megabytes
from calibrant.stack.run import default_runner, parse_budget
from calibrant.stats import clipped_stats

NAME = "read_noise"
KIND = "dark"
Progress = Callable[[int, int, str], None]
ASIDE = np.uint32(
    DQ.DO_NOT_USE | DQ.NON_SCIENCE | DQ.REFERENCE_PIXEL | DQ.DEAD | DQ.HOT | DQ.TELEGRAPH | DQ.SATURATED
)
"""Pixels that numbers of outputs and boxes leave out."""
NOTHING = np.uint32(DQ.DO_NOT_USE | DQ.NON_SCIENCE)
BAND = 40_000_000  # bytes that a worker holds at most, where a strip fits
PLANES = 32  # bytes per pixel of what comes out, and of what is made of it
FACTS = ("telescope", "fastaxis", "slowaxis", "substrt1", "substrt2")


@dataclass(frozen=True, eq=False)
class Place:
    """Which pixels belong together: the output of each, those that see light, and all flags.

    Attributes
    ----------
    outputs : ndarray
        (rows, cols) int16, from 0.
    active : ndarray
        (rows, cols) bool: no reference pixel.
    dq : ndarray
        (rows, cols) uint32 of all files.
    """

    outputs: NDArray[np.int16]
    active: NDArray[np.bool_]
    dq: NDArray[np.uint32]

    @cached_property
    def numbers(self) -> list[int]:
        """Outputs, from 0."""
        return sorted({*self.outputs[0].tolist(), *self.outputs[:, 0].tolist()})

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Pixels that numbers of outputs and boxes are made of."""
        good: NDArray[np.bool_] = self.active & ((self.dq & ASIDE) == 0)
        return good


def measured(
    exposures: Exposures,
    method: Method,
    options: Options,
    *,
    products: Mapping[str, Product],
    progress: Progress | None,
    runner: Any,
    budget: int | str,
) -> Product:
    """The read noise of ramps; see `calibrant.effects.read_noise.measure`."""
    if method not in METHODS:
        raise OptionError(
            "unknown method of read noise", where="method", expected=", ".join(METHODS), got=method
        )
    ramps = exposures.ramps()
    refuse_mixed(ramps)
    record = Record(options={"method": method, **asdict(options), **_facts(ramps[0])}, known=True)
    ramps = _useful(ramps, method, record)
    place = place_of(exposures, ramps)
    saturation = exposures.instrument.nominal(exposures[0]).saturation
    if saturation is None and ramps[0].dtype == np.uint16:
        saturation = 65535.0  # the end of the counter
    task = Scatter(
        ramps, method, options, place.good, edges_of(place.outputs[0], options.box),
        math.inf if saturation is None or options.as_published else saturation,
    )  # fmt: skip
    raw = run(task, progress=progress, runner=runner, budget=budget)
    record.notes += remarks_of(ramps)
    return _product(exposures, task, raw, place, record, products)


def _useful(ramps: list[Ramp], method: Method, record: Record) -> list[Ramp]:
    """Ramps that have a difference; what is left out, or left over, is told."""
    least = 3 if method == "residual" else 2
    short = [ramp.name for ramp in ramps if ramp.groups < least]
    if len(short) == len(ramps):
        raise SelectionError(
            f"read noise by the method {method!r} needs ramps of {least} groups or more",
            where=ramps[0].name,
            got=f"{ramps[0].groups}",
            do="give longer ramps",
        )
    record.notes += [f"left out: {name}: fewer than {least} groups" for name in short]
    kept = [ramp for ramp in ramps if ramp.groups >= least]
    odd = sorted({ramp.groups for ramp in kept if ramp.groups % 2})
    if odd and method != "residual" and record.options["group_diff_type"] == "independent":
        told = ", ".join(map(str, odd))
        record.notes.append(f"the last group of ramps with an odd number of groups ({told}) has no partner")
    return kept


def place_of(exposures: Exposures, ramps: list[Ramp]) -> Place:
    """Outputs, reference pixels and flags of the array."""
    shape = (ramps[0].shape[2], ramps[0].shape[3])
    exposure, instrument = ramps[0].exposure, exposures.instrument
    try:
        clock, border = instrument.clock(exposure), instrument.reference(exposure)
    except ConfigError:
        clock, border = Clock(*shape, outputs=1), Border()
    active = np.zeros(shape, bool)
    active[border.active(shape)] = True
    dq = np.zeros(shape, np.uint32)
    for ramp in ramps:
        flags = ramp.dq()
        if flags is not None:
            dq |= flags
    dq[~active] |= np.uint32(DQ.REFERENCE_PIXEL)
    return Place(clock.output_of(), active, dq)


def run(task: Scatter, *, progress: Progress | None, runner: Any, budget: int | str) -> Planes:
    """All bands: planes (rows, cols), and the moments of all strips."""
    rows, cols = task.ramps[0].shape[2:]
    reads = [ramp.shape[0] * ramp.shape[1] for ramp in task.ramps]
    held = sum(reads) if task.method == "residual" else max(reads)
    steps = sum(len(pairs) for pairs in task.pairs)
    hands = default_runner(runner)
    height = _height((rows, cols), 9 * held + 8 * steps, hands.workers, parse_budget(budget))
    bands = [(first, min(first + height, rows)) for first in range(0, rows, height)]
    out: Planes = {}
    moments = []
    for number, (band, made) in enumerate(hands.map(task, bands), 1):
        moments += list(made.pop("moments", ()))
        for name, plane in made.items():
            out.setdefault(name, np.empty((rows, cols), np.float32))[band] = plane
        if progress is not None:
            progress(number, len(bands), "read noise")
    if moments:
        out["moments"] = np.stack(moments)
    return out


def _height(shape: tuple[int, int], work: int, workers: int, budget: int) -> int:
    """Rows of a band: a strip, or what fits of it.

    Raises
    ------
    BudgetError
        If not even a row fits.
    """
    rows, cols = shape
    out = rows * cols * PLANES
    for height in HEIGHTS:
        band = height * cols * work
        if out + workers * band <= budget and (band <= BAND or height <= STRIP):
            return height
    raise BudgetError(
        "the memory budget is too small for the read noise of these ramps, even row by row",
        where="budget",
        expected=f"at least {megabytes(out + workers * cols * work)}",
        got=megabytes(budget),
        do="give a larger budget, or fewer workers",
    )


def _product(
    exposures: Exposures, task: Scatter, raw: Planes, place: Place, record: Record,
    products: Mapping[str, Product],
) -> Product:  # fmt: skip
    options, nframes = task.options, _nframes(exposures)
    # Of single reads: of a difference there are two groups, and a group averages frames.
    scale = math.sqrt(1.0 if options.as_published else nframes)
    scale /= 1.0 if task.method == "residual" else math.sqrt(2.0)
    structure = tuple((ramp.shape[0], ramp.shape[1]) for ramp in task.ramps)
    drift = _drift(task, raw, place)
    offered = raw.pop("offered")
    whole = task.method == "residual" or bool(offered.min() == offered.max())
    bias, scatter = factors(structure, task.method, options, whole).at(offered)
    del offered
    if options.save_intermediate:
        raw["uncorrected"] = raw["noise"].copy()
    noise = raw.pop("noise")
    noise *= np.float32(scale)
    if not options.as_published:
        noise /= bias
    variance = noise * scatter
    np.square(variance, out=variance)
    place.dq[~np.isfinite(noise)] |= NOTHING
    planes: Planes = {
        NAME: noise,
        f"{NAME}_variance": variance,
        "count": raw.pop("count").astype(np.uint32),
        "dq": place.dq,
    }
    good = place.good  # made once, before two threads ask for it
    with ThreadPoolExecutor(1) as beside:
        counted = beside.submit(census, noise, good, place.outputs, ~place.active)
        tables, quantities = _boxes(task, raw, planes, place, nframes)
        levels, tables["histogram"] = counted.result()
    quantities = [*levels, *drift, *quantities, Quantity("nframes", float(nframes))]
    if options.save_intermediate:
        planes |= {name: raw[name] for name in raw if name.startswith(("cds", "uncorrected"))}
    if options.single_value:
        _single(planes, place, options)
    bad = int((~np.isfinite(planes[NAME])).sum())
    if bad:
        record.notes.append(f"{bad} pixels have no read noise: fewer than two good differences")
    record.options |= {"convention": "single read, adu", "nframes": nframes}
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=_keys(exposures, options),
        epoch=exposures.epoch,
        planes=planes,
        units={
            name: "adu2" if name.endswith("variance") else "" if name in ("count", "dq") else "adu"
            for name in planes
        },
        tables=tables,
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, exposures, products),
    )


def _keys(exposures: Exposures, options: Options) -> dict[str, Any]:
    """What must match, and the convention, which no exposure has."""
    match = exposures.instrument.match
    keys = product_keys(exposures, NAME if NAME in match else KIND, convention="single read")
    keys.pop("shape", None)
    for key in ("subarray", "readpatt"):
        if getattr(options, key) is not None:
            keys[key] = getattr(options, key)
    return keys


def _nframes(exposures: Exposures) -> int:
    return int(exposures[0].keys.get("nframes") or 1)


def _facts(ramp: Ramp) -> dict[str, Any]:
    """What a reference file says of the place of its pixels, and of the read pattern."""
    keys = ramp.exposure.keys
    return {name: keys.get(name) for name in FACTS} | {"files_subarray": keys.get("subarray")}


def _drift(task: Scatter, raw: Planes, place: Place) -> list[Quantity]:
    """Noise about lines by noise of differences: slow drifts are in the first, and not in the other."""
    if task.method != "residual":
        return []
    structure = tuple((ramp.shape[0], ramp.shape[1]) for ramp in task.ramps)
    steps = Options(group_diff_type="consecutive", **_clip(task.options))
    own = factors(structure, "stack", steps).mean[-1]
    differences = raw["cds"] / math.sqrt(2.0) / own
    bias = factors(structure, "residual", task.options).mean[-1]
    good = place.good & np.isfinite(raw["noise"]) & (differences > 0)
    return [Quantity("line_to_difference", *clipped_mean(raw["noise"][good] / bias / differences[good]))]


def _clip(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("clipping_sigma", "max_clipping_iters", "centre")}


def _boxes(
    task: Scatter, raw: Planes, planes: Planes, place: Place, nframes: int
) -> tuple[dict[str, dict[str, NDArray[Any]]], list[Quantity]]:
    """Spatial and temporal noise of all boxes, and of the outputs."""
    options = task.options
    if "moments" not in raw:
        return {}, []
    clip = options.clipping_sigma, options.max_clipping_iters
    # Boxes are made of differences whatever the method of the map.
    single = math.sqrt((1.0 if options.as_published else nframes) / 2.0)
    inside, inside_sigma = (
        one * single for one in spatial(raw["moments"], task.good.shape[0], options.box, *clip)
    )
    over, over_sigma = temporal(planes[NAME], planes[f"{NAME}_variance"], place.good, task.edges, options.box)
    down, across = inside.shape
    row = np.repeat(np.arange(down) * options.box, across)
    col = np.tile(task.edges[:, 0], down)
    table: dict[str, NDArray[Any]] = {
        "row": row,
        "col": col,
        "output": place.outputs[row, col].astype(np.int32) + 1,
        "temporal": over.ravel(),
        "temporal_sigma": over_sigma.ravel(),
        "spatial": inside.ravel(),
        "spatial_sigma": inside_sigma.ravel(),
        "ratio": (inside / over).ravel(),
    }
    outputs = np.unique(table["output"])
    found = []
    for name in ["", *(map(str, outputs) if len(outputs) > 1 else ())]:
        mask = np.isfinite(table["ratio"]) & ((table["output"] == int(name or 0)) | (name == ""))
        for column, unit in (("temporal", "adu"), ("spatial", "adu"), ("ratio", "")):
            found.append(
                _mean(f"{column}_noise" if unit else "spatial_to_temporal", table[column][mask], unit, name)
            )
    return {"boxes": table}, found


def _mean(name: str, values: NDArray[np.float64], unit: str, place: str) -> Quantity:
    """Of boxes, with what they differ by as its error."""
    if not values.size:
        return Quantity(name, math.nan, None, unit, place)
    sigma = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else None
    return Quantity(name, float(values.mean()), sigma, unit, place)


def _single(planes: Planes, place: Place, options: Options) -> None:
    """One number everywhere, of the output that windows are read by: the first one."""
    several = len(place.numbers) > 1
    chosen = place.outputs == 0 if several else np.ones(place.outputs.shape, bool)
    stats = clipped_stats(
        planes[NAME][chosen], sigma=options.clipping_sigma, iterations=options.max_clipping_iters
    )
    planes[NAME] = np.full_like(planes[NAME], stats.mean)
    planes[f"{NAME}_variance"] = np.full_like(planes[NAME], stats.std**2 / max(stats.n, 1))
