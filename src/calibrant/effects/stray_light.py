"""Stray light: what shines between the slices of a detector, and therefore under them, too.

``frame = light of the slices + stray light``; pixels that belong to no slice show the second alone; see
docs/effects/stray_light.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._slice_pixels import cuts, quarters
from calibrant.effects._stray_rows import RowKernel, fitted, spread
from calibrant.effects._stray_shepard import Shepard, as_published
from calibrant.effects._stray_wings import blur, edges, spill
from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Frame
from calibrant.instrument.slices import SliceMap
from calibrant.product import Kind, Product, Quantity
from calibrant.stats import mad_std

__all__ = ["FORBIDS", "KIND", "NAME", "NEEDS", "REACH", "RowKernel", "apply", "measure"]

NAME = "stray_light"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("flat",)
KIND = Kind(
    NAME,
    planes={
        "data": "Stray light of each pixel; NaN where no pixel between slices is near.",
        "variance": "Its variance.",
        "spill": "Light of the slices themselves that was taken from the gaps before.",
        "dq": "DO_NOT_USE where the stray light is not known.",
    },
    quantities={
        "level": "Median of a gap without what spills into it; the place is the gap, counted across.",
        "mean": "Mean stray light under the slices; its error is as if all pixels were off together.",
        "blur": "Sigma of the blur across slices, pixels, that explains the spill.",
        "strength": "Of a part of a row kernel, relative to what it was given.",
        "pedestal": "Level that does not depend on the light, of a row kernel.",
    },
)
AUTO = "auto"
METHODS = (AUTO, "shepard", "as_published", "rows")
CLOSE, SAFE = 1, 2  # pixels beside slices beyond which their spill is small
PLAINLY = 2.0  # times: rows knows nothing of light that varies otherwise, where there is no wide gap
ONE_SIGMA = 0.683  # of all lie within
ENOUGH = 0.25  # of the pixels of gaps
FIT = "fit"
SCATTERS = 3.0  # sigmas of the gaps above their level: only brighter pixels scatter
PASSES = 3
BLOCK = 64  # rows of a gap whose mean is compared with what the other gaps say of it
MEDIAN = math.sqrt(math.pi / 2)  # sigma of a median over that of a mean
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Scene:
    """A frame with wavelength along the rows, float64."""

    values: F8
    variance: F8 | None
    ids: NDArray[np.int32]
    gaps: Bools


@dataclass(frozen=True, eq=False)
class _Found:
    stray: F8
    variance: F8
    used: Bools
    quantities: tuple[Quantity, ...] = ()


def measure(
    frame: Frame,
    slices: SliceMap,
    *,
    method: str = AUTO,
    radius: float = 50.0,
    power: float = 1.0,
    disc: bool = True,
    margin: int | None = None,
    wings: float | str | None = FIT,
    kernels: Sequence[RowKernel] = (),
    fit_strength: bool = True,
    clip: float = 5.0,
    least: float = 0.003,
) -> Product:
    """Stray light under the slices of an image slicer, the orders of an echelle, or fibres.

    Parameters
    ----------
    frame : Frame
        (rows, cols), any unit, not flat-fielded.
    slices : SliceMap
        Of the frame's size; negative numbers are light that belongs to no slice.
    method : str
        ``shepard``: interpolated from the gaps with weights that fall with distance; ``rows``: the light of
        the slices spread along rows by `kernels`, and a pedestal; ``as_published``: Shepard's as in the
        notebook, 18 % low, on the whole mask, without errors; ``auto``: shepard, but rows where that
        explains the gaps so much better that its own error is less than half.
    radius, power, disc : float, float, bool
        Of Shepard's weights, ((R - d) / (R d))^k up to R/2 pixels away; within a disc, or a square.
    margin : int, optional
        Pixels beside slices that count as lit: 1, and 2 for rows, for which a few gaps are enough.
    wings : float, str or None
        Sigma in pixels of the blur across slices, whose spill is taken from the gaps; ``fit`` finds it.
    kernels : sequence of RowKernel, optional
        For ``rows``; by default a Lorentzian of 100 pixels.
    fit_strength : bool
        Whether strengths of `kernels` are fitted in the gaps, or taken as they are.
    clip : float
        Sigmas; pixels of the gaps further off, such as hot ones, are left out.
    least : float
        Part of Shepard's weights that must lie on good pixels of gaps.

    Returns
    -------
    Product
        Planes of `KIND` in the unit of the frame (variance: squared), float32; table ``cuts``: three rows of
        value, stray, sigma and spill, and which pixels of gaps were used.

    Raises
    ------
    OptionError
        If an option has no meaning.
    ShapeError
        If the map is of another size.
    SelectionError
        If no pixel lies between slices.
    """
    _check_options(method, margin, wings, clip, least)
    if method == AUTO:
        given = {"radius": radius, "power": power, "disc": disc, "least": least}
        rows = {"kernels": kernels, "fit_strength": fit_strength}
        return _better(frame, slices, {"margin": margin, "wings": wings, "clip": clip}, given, rows)
    margin = margin if margin is not None else SAFE if method == "rows" else CLOSE
    loaded = frame.load()
    if len(loaded.shape) != 2:
        raise ShapeError("stray light is measured on images of two axes", where=frame.name, got=frame.shape)
    slices.check_fits(loaded.shape, frame.name)
    published = method == "as_published"
    scene = _scene(loaded, slices, 0 if published else margin, published)
    if published:
        found = _Found(as_published(scene.values, scene.gaps, radius, power), np.zeros(0), scene.gaps)
        return _product(
            loaded, slices, scene, found, np.zeros(scene.ids.shape), (0.0, 0.0), _record(locals())
        )
    shepard = Shepard(scene.ids.shape, radius, power, disc)
    taken, doubt, sigma = _spilled(scene, _far(scene, slices), shepard, wings, clip)
    clean = replace(scene, values=np.where(scene.ids == 0, scene.values - taken, scene.values))
    gaps = slices.upright(slices.gap_numbers())
    if method == "rows":
        found = _by_rows(clean, kernels or (RowKernel(),), gaps, fit_strength, clip, taken)
    else:
        found = _by_distance(clean, shepard, gaps, clip, least, doubt)
    return _product(loaded, slices, clean, found, taken, sigma, _record(locals()))


def _better(
    frame: Frame, slices: SliceMap, both: dict[str, Any], near: dict[str, Any], along: dict[str, Any]
) -> Product:
    """Of the two methods that which explains the gaps better; rows needs wide gaps, but not all."""
    first = measure(frame, slices, method="shepard", **both, **near)
    if not slices.gaps(SAFE if both["margin"] is None else both["margin"]).any():
        return first
    second = measure(frame, slices, method="rows", **both, **along)
    one, other = (product.quantity("mean").sigma or math.inf for product in (first, second))
    if PLAINLY * other < one:
        return _with_note(second, f"rows, of error {other:.2g}: shepard would be off by {one:.2g}")
    return _with_note(first, f"shepard, of error {one:.2g}: rows would be off by {other:.2g}")


def _with_note(product: Product, note: str) -> Product:
    old = product.provenance
    return replace(product, provenance=replace(old, notes=(note, *old.notes)))


def _check_options(
    method: str, margin: int | None, wings: float | str | None, clip: float, least: float
) -> None:
    if method not in METHODS:
        raise OptionError("unknown method", where="method", expected=" or ".join(METHODS), got=method)
    if not ((margin is None or margin >= 0) and clip > 0 and 0 <= least < 1):
        raise OptionError(
            "an option of stray light has no meaning",
            where="stray_light",
            expected="margin >= 0, clip > 0, 0 <= least < 1",
            got=f"margin {margin}, clip {clip}, least {least}",
        )
    number = isinstance(wings, (int, float)) and 0 < wings < math.inf
    if not (wings is None or wings == FIT or number):
        raise OptionError(
            "wings are a blur in pixels", where="wings", expected="fit, pixels or None", got=wings
        )


def _record(options: dict[str, Any]) -> Record:
    names = ("method", "radius", "power", "disc", "margin", "wings", "fit_strength", "clip", "least")
    return Record({name: options[name] for name in names})


def _scene(frame: Frame, slices: SliceMap, margin: int, everything: bool) -> _Scene:
    """Good pixels of gaps; `everything`: whatever is no slice, as published."""
    values = slices.upright(np.asarray(frame.data, np.float64))
    gaps = slices.ids == 0 if everything else slices.gaps(margin)
    good = np.isfinite(np.asarray(frame.data))
    if frame.dq is not None:
        good &= (np.asarray(frame.dq) & np.uint32(DQ.DO_NOT_USE)) == 0
    gaps = slices.upright(gaps & good)
    if not gaps.any():
        raise SelectionError(
            "no good pixel lies between the slices: stray light cannot be told from theirs",
            where=frame.name,
            do="give a smaller margin, or a map with gaps",
        )
    variance = None
    if frame.variance is not None:
        variance = slices.upright(np.asarray(frame.variance, np.float64))
        gaps = gaps & np.isfinite(variance)
    if not everything:
        values = np.where(slices.upright(good), values, np.nan)
    return _Scene(values, variance, slices.upright(slices.ids), gaps)


def _far(scene: _Scene, slices: SliceMap) -> _Scene:
    """Pixels of gaps where spill is small, and what is wrong with it smaller still; all, if they are few."""
    gaps = scene.gaps & slices.upright(slices.gaps(SAFE))
    return replace(scene, gaps=gaps) if gaps.sum() > ENOUGH * scene.gaps.sum() else scene


def _spilled(
    scene: _Scene, far: _Scene, shepard: Shepard, wings: float | str | None, clip: float
) -> tuple[F8, F8, tuple[float, float]]:
    """What of the light of slices is in the gaps, how far off that may be; sigma of its blur, its error."""
    nothing = np.zeros(scene.values.shape)
    if wings is None:
        return nothing, nothing, (0.0, 0.0)
    taken, doubt, sigma, under = nothing, nothing, (0.0, 0.0), nothing
    inside: Bools = scene.ids != 0
    ends = edges(inside)
    for _ in range(PASSES):
        light = scene.values - under
        sigma = (float(wings), 0.0) if wings != FIT else blur(light, inside, far.gaps, ends)
        if sigma[0] == 0:
            return nothing, nothing, sigma
        taken, doubt = spill(light, inside, ends, sigma[0])
        used = _without_outliers(far, scene.values - taken, shepard, clip)
        under = np.nan_to_num(shepard(scene.values - taken, used)[0])
    return taken, doubt, sigma


def _without_outliers(scene: _Scene, values: F8, shepard: Shepard, clip: float) -> Bools:
    """Pixels of gaps that are as their neighbours are: hot ones would shine on all around them."""
    used = scene.gaps
    for _ in range(PASSES):
        rest = (values - shepard(values, used)[0])[used]
        middle, sigma = np.nanmedian(rest), float(mad_std(rest[np.isfinite(rest)]))
        kept = used.copy()
        kept[used] = ~(np.abs(rest - middle) > clip * sigma)
        used = kept if sigma > 0 else used
    return used


def _by_distance(
    scene: _Scene, shepard: Shepard, numbers: NDArray[np.int32], clip: float, least: float, doubt: F8
) -> _Found:
    used = _without_outliers(scene, scene.values, shepard, clip)
    variance = scene.variance
    if variance is None:
        rest = (scene.values - shepard(scene.values, used)[0])[used]
        variance = np.full(scene.values.shape, float(mad_std(rest[np.isfinite(rest)])) ** 2)
    stray, support, error = shepard(scene.values, used, variance)
    assert error is not None
    error += _model_error(_left_out(scene, shepard, numbers, used), numbers, used) ** 2
    error += np.maximum(np.nan_to_num(shepard(doubt**2, used)[0]), 0.0)  # edges may be off alike
    bare = support < least
    stray[bare] = error[bare] = np.nan
    return _Found(stray, error, used)


def _left_out(scene: _Scene, shepard: Shepard, numbers: NDArray[np.int32], used: Bools) -> F8:
    """What each gap shows above what the gaps beside it say: every other gap is left out in turn."""
    rest = np.full(scene.values.shape, np.nan)
    for odd in (0, 1):
        here = used & (numbers % 2 == odd)
        rest[here] = (scene.values - shepard(scene.values, used & ~here)[0])[here]
    return rest


def _model_error(rest: F8, numbers: NDArray[np.int32], used: Bools) -> float:
    """How far stretches of gaps lie from the model: what the noise of pixels leaves out.

    Light that slices spill, structure finer than the distance of gaps, and wrong maps all show up here.
    """
    blocks = np.broadcast_to(np.arange(len(rest))[:, None] // BLOCK, rest.shape)
    good = used & np.isfinite(rest) & (numbers > 0)
    place = numbers[good] * (int(blocks.max()) + 1) + blocks[good]
    count = np.bincount(place)
    means = (np.bincount(place, rest[good]) / np.maximum(count, 1))[count > BLOCK // 2]
    return float(np.quantile(np.abs(means), ONE_SIGMA)) if means.size else 0.0


def _by_rows(
    scene: _Scene,
    kernels: Sequence[RowKernel],
    numbers: NDArray[np.int32],
    fit_strength: bool,
    clip: float,
    taken: F8,
) -> _Found:
    """The light of slices spread along their rows; strengths and pedestal from the gaps."""
    gap_values = scene.values[scene.gaps]
    floor = float(np.median(gap_values)) + SCATTERS * float(mad_std(gap_values))
    with np.errstate(invalid="ignore"):
        lit = (scene.ids != 0) & (scene.values > floor)
    stray = np.zeros(scene.values.shape)
    for _ in range(PASSES):  # stray light itself scatters no more
        parts = spread(np.where(lit, scene.values - stray, taken), kernels)
        fixed = np.zeros(stray.shape) if fit_strength else np.sum(parts, axis=0)
        free = [*(parts if fit_strength else []), np.ones(stray.shape)]
        strengths, covariance, used = fitted(scene.values - fixed, free[:-1], scene.gaps, numbers, clip)
        stray = fixed + np.sum([s * part for s, part in zip(strengths, free, strict=True)], axis=0)
    error = np.zeros(stray.shape)
    for i, one in enumerate(free):
        for j, other in enumerate(free):
            error += covariance[i, j] * one * other
    error += _model_error(scene.values - stray, numbers, used) ** 2
    return _Found(stray, error, used, _numbers(strengths, covariance))


def _numbers(strengths: F8, covariance: F8) -> tuple[Quantity, ...]:
    sigmas = np.sqrt(np.diag(covariance))
    made = [
        Quantity("strength", float(value), float(sigma), "", str(n))
        for n, (value, sigma) in enumerate(zip(strengths[:-1], sigmas[:-1], strict=True), 1)
    ]
    return (*made, Quantity("pedestal", float(strengths[-1]), float(sigmas[-1])))


def _product(
    frame: Frame,
    slices: SliceMap,
    scene: _Scene,
    found: _Found,
    taken: F8,
    wide: tuple[float, float],
    record: Record,
) -> Product:
    unit = frame.unit
    planes = {"data": found.stray, "spill": taken}
    if found.variance.size:
        planes["variance"] = found.variance
    rows = quarters(len(scene.ids))
    shown = {
        "value": slices.upright(np.asarray(frame.data)),
        "stray": found.stray,
        "spill": taken,
        "used": found.used,
    }
    shown["sigma"] = np.sqrt(planes.get("variance", np.full(taken.shape, np.nan)))
    record.options["dispersion"] = slices.dispersion
    back = {name: np.ascontiguousarray(slices.upright(plane), np.float32) for name, plane in planes.items()}
    unknown = np.isnan(back["data"])
    dq = np.where(unknown, np.uint32(DQ.DO_NOT_USE), np.uint32(0))
    if unknown.any():
        record.notes.append(f"{int(unknown.sum())} pixels are far from any gap: their stray light is unknown")
    left_out = int((scene.gaps & ~found.used).sum())
    if left_out:
        record.notes.append(
            f"{left_out} of {int(scene.gaps.sum())} pixels of gaps stand out, and were left out"
        )
    quantities = [
        *_levels(scene, found.used, slices, unit),
        _mean(found, scene.ids > 0, unit),
        *(replace(one, unit=unit if one.name == "pedestal" else "") for one in found.quantities),
    ]
    if wide[0] > 0:
        quantities.append(Quantity("blur", wide[0], wide[1] or None, "pixel"))
    squared = "/".join(f"{part}2" for part in unit.split("/")) if unit else ""
    series = Exposures.from_frames([frame])
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys={"detector": frame.exposure.detector},
        epoch=frame.exposure.mid,
        planes={**back, "dq": dq},
        tables={"cuts": cuts(rows, slices, shown)},
        units={
            **{f"cuts.{name}": unit for name in shown if name != "used"},
            "data": unit,
            "spill": unit,
            "variance": squared,
            "dq": "",
        },
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, series, {}),
    )


def _mean(found: _Found, under: Bools, unit: str) -> Quantity:
    """Of the slices; what is wrong with the model may be wrong everywhere, and does not average out."""
    known = under & np.isfinite(found.stray)
    if not known.any():
        return Quantity("mean", math.nan, None, unit)
    error = math.sqrt(found.variance[known].mean()) if found.variance.size else None
    return Quantity("mean", float(found.stray[known].mean()), error, unit)


def _levels(scene: _Scene, used: Bools, slices: SliceMap, unit: str) -> list[Quantity]:
    """Median of each gap, and its error from the scatter of the pixels."""
    numbers = slices.upright(slices.gap_numbers())
    made = []
    for number in range(1, int(numbers.max(initial=0)) + 1):
        values = scene.values[used & (numbers == number)]
        if values.size > 1:
            error = MEDIAN * float(mad_std(values)) / math.sqrt(values.size)
            made.append(Quantity("level", float(np.median(values)), error, unit, f"gap {number}"))
    return made


def apply(frame: Frame, product: Product) -> Frame:
    """The frame without its stray light.

    Parameters
    ----------
    frame : Frame
        (rows, cols), in the unit that was measured.
    product : Product
        Of `measure`.

    Returns
    -------
    Frame
        Also the gaps; the variance of the stray light goes to `systematic`; pixels whose stray light is not
        known are NaN and flagged.

    Raises
    ------
    HistoryError
        If it was done already, or a flat was divided out.
    SelectionError, ShapeError, UnitError
        If the product does not belong to the frame.
    """
    frame.require(NAME, forbids=FORBIDS)
    if product.kind != NAME:
        raise SelectionError("not stray light", expected=f"a product of kind {NAME}", got=product.kind)
    loaded = frame.load()
    stray = np.asarray(product.planes["data"])
    if stray.shape != loaded.shape:
        raise ShapeError(
            "the stray light is of another size", where=frame.name, expected=stray.shape, got=loaded.shape
        )
    if product.units.get("data", frame.unit) != frame.unit:
        raise UnitError(
            "the stray light is in another unit",
            where=frame.name,
            expected=product.units["data"],
            got=frame.unit,
        )
    error = product.planes.get("variance")
    systematic = loaded.systematic
    if error is not None:
        systematic = np.asarray(error) if systematic is None else np.asarray(systematic) + error
    dq = product.planes["dq"] if loaded.dq is None else np.asarray(loaded.dq) | product.planes["dq"]
    return replace(
        loaded,
        data=np.asarray(loaded.data) - stray,
        systematic=systematic,
        dq=dq,
        systematic_from=frame.systematic_from | {product.identity},
        history=(*frame.history, Applied(NAME, product.identity, dict(product.provenance.options))),
    )
