"""Pedestal: the zero level of each frame of a camera without overscan, found on pixels that no light reaches.

``frame = light + pattern + shift``: the pattern is that of the dark (with its bias), the shift belongs to the
frame; see docs/effects/pedestal.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._dark_removed import JUMP, LOW, DarkVerdict, dark_removed, floors
from calibrant.effects._input import check_products
from calibrant.effects._levels import bands, read_sample, spread
from calibrant.effects._unlit import Level, cool_pixels, unlit_by_flat, unlit_level
from calibrant.effects.common import Record, begin, label, product_keys
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.instrument.sections import Section, parse_section
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.combine import combine
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.source import Source, load

__all__ = [
    "FORBIDS", "KIND", "NAME", "NEEDS", "REACH", "DarkVerdict", "apply", "dark_removed", "mark", "measure",
    "step",
]  # fmt: skip

NAME = "pedestal"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("bias", "dark", "flat", "gain")
KIND = Kind(
    "pedestal",
    quantities={
        "level": "The level that all frames are brought to; 0 for frames whose dark was removed before.",
        "scatter": "Standard deviation of the frames' levels.",
        "jump": "Largest step of the level between neighbours in time.",
    },
)
MATCH_AS = "bias"
UNLIT_KINDS = frozenset({"bias", "dark"})
MOST = 1000.0  # adu: programs leave a pedestal of a hundred or so; where no pixel stands lower, all saw light
CHARGE_SIGMAS = 5.0

Progress = Callable[[int, int, str], None]
Region = str | Section | NDArray[np.bool_] | None


@dataclass(frozen=True)
class _Found:
    """One frame: how far it stands from the common level."""

    name: str
    shift: float
    sigma: float
    noise: float
    unlit: float
    trusted: bool
    removed: bool


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    region: Region = None,
    jump: float = JUMP,
    nominal: float | None = None,
    gain: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The level of every frame relative to the others, or to the dark that will be subtracted.

    Parameters
    ----------
    exposures : Exposures
        Raw, adu, of one detector, mode and exposure time.
    products : mapping of Product
        ``dark``: with its bias and of the same exposure time [adu], or a rate with ``bias``. Needed for
        frames that were lit; biases and darks alone make their own pattern. ``flat``: shows unlit pixels.
    region : str, slices or array of bool, optional
        Pixels that no light reaches: a FITS section such as ``[1:765,1:20]``, (rows, cols) slices, or a mask.
        Else those that the flat shows, else the darkest rows of each frame; all pixels of biases and darks.
    jump : float
        Largest believable shift, adu: what stands higher is light.
    nominal : float, optional
        Level that is left in frames whose dark was removed before they reached us, adu: used where it cannot
        be measured. The fact ``pedestal`` of the exposure is taken if not given.
    gain : float, optional
        e-/adu, to tell jumps of the electronics from those of charge; the instrument's if not given.

    Returns
    -------
    Product
        Table ``levels``: frame, level, shift, sigma, noise [adu], unlit (fraction of the pixels), trusted,
        removed. Quantities level, scatter, jump [adu].

    Raises
    ------
    SelectionError
        No exposures, mixed ones, or lit frames without a dark.
    OptionError
        If the region cannot be understood.
    """
    check_products(products)
    products = products or {}
    exposures = begin(exposures, MATCH_AS)
    record = Record(options={"jump": jump, "region": region if isinstance(region, str) else None})
    sources = exposures.sources()
    removed = [_was_removed(exposures[i], source, products, jump, record) for i, source in enumerate(sources)]
    unlit = _region(region, sources[0].shape, products)
    pattern, level = _pattern(exposures, sources, removed, products, runner, budget)
    cool = None if pattern is None else cool_pixels(pattern)
    found = []
    for index, source in enumerate(sources):
        exposure = exposures[index]
        whole = unlit is None and exposure.kind in UNLIT_KINDS
        mask = np.ones(source.shape, bool) if whole else unlit
        values = np.asarray(load(source), np.float32)
        base = None if removed[index] else pattern
        one = _one(label(exposure, index), values, base, mask, cool)
        found.append(_believed(replace(one, removed=removed[index]), exposure, jump, nominal))
        if progress is not None:
            progress(index + 1, len(sources), NAME)
    if not (products.get("dark") or all(removed)):
        found, level = _centred(found, level)
    found = _fallback(found, record)
    record.notes += _charge_notes(found, _gain(exposures, gain))
    return _product(exposures, found, level, products, record)


def _was_removed(
    exposure: Exposure, source: Source, products: Mapping[str, Product], jump: float, record: Record
) -> bool:
    """By level and hot pixels if there is a dark to compare with, else by card."""
    card = "dark" in exposure.applied
    if "dark" not in products:
        return card
    verdict = dark_removed(
        source, products["dark"], exptime=exposure.duration, bias=products.get("bias"), jump=jump
    )
    if not verdict.certain:
        return card
    if bool(verdict) != card:
        says = "was removed" if verdict else "is still there"
        record.notes.append(
            f"{label(exposure, 0)}: the dark {says}, whatever the header says: {verdict.reason}"
        )
    return bool(verdict)


def mark(exposure: Exposure, verdict: DarkVerdict) -> Exposure:
    """The exposure with what the pixels say was removed in `Exposure.applied`, whatever its cards said.

    An uncertain verdict leaves the exposure as it is.
    """
    if not verdict.certain:
        return exposure
    return replace(exposure, applied=exposure.applied - {"bias", "dark"} | verdict.removed)


def _region(
    region: Region, shape: Sequence[int], products: Mapping[str, Product]
) -> NDArray[np.bool_] | None:
    if region is None:
        flat = products.get("flat")
        return None if flat is None else unlit_by_flat(flat.data)
    if isinstance(region, np.ndarray):
        if region.shape != tuple(shape):
            raise ShapeError(
                "the unlit region does not fit the frames", expected=tuple(shape), got=region.shape
            )
        return region.astype(bool)
    mask = np.zeros(tuple(shape), bool)
    mask[parse_section(region) if isinstance(region, str) else region] = True
    if not mask.any():
        raise OptionError("the unlit region holds no pixel", where="region", got=region)
    return mask


def _pattern(
    exposures: Exposures,
    sources: Sequence[Source],
    removed: Sequence[bool],
    products: Mapping[str, Product],
    runner: Any,
    budget: int | str,
) -> tuple[NDArray[np.float32] | None, float]:
    """The pattern under the frames, and its level: 0 pattern for frames whose dark is gone already."""
    if all(removed):
        return None, 0.0
    dark = products.get("dark")
    if dark is not None:
        pattern = _dark_plane(dark, products.get("bias"), exposures)
        return pattern, spread(pattern[cool_pixels(pattern)]).median
    lit = [i for i, exposure in enumerate(exposures) if exposure.kind not in UNLIT_KINDS]
    if lit:
        raise SelectionError(
            "the level of a frame that was lit needs the dark's pattern",
            where=label(exposures[lit[0]], lit[0]),
            do="give products={'dark': ...} of the same exposure time",
        )
    return _own_pattern(exposures, sources, runner, budget), 0.0


def _dark_plane(dark: Product, bias: Product | None, exposures: Exposures) -> NDArray[np.float32]:
    plane = np.asarray(dark.data, np.float32)
    times = {exposure.duration for exposure in exposures}
    if dark.unit == "adu":
        own = dark.keys.get("exptime")
        same = own is None or all(t is None or exposures.instrument.same("exptime", t, own) for t in times)
        if not same:
            raise SelectionError(
                "the dark is of another exposure time, and holds its bias",
                expected=f"{own} s",
                got=f"{sorted(str(t) for t in times)}",
                do="give the dark of the frames' own time",
            )
        return plane
    if bias is None or len(times) != 1 or None in times:
        raise SelectionError(
            "a dark rate needs the bias, and frames of one known exposure time, to make a pattern",
            got=f"{'no bias' if bias is None else 'a bias'}, times {sorted(map(str, times))}",
        )
    rate: NDArray[np.float32] = np.asarray(bias.data, np.float32) + plane * np.float32(times.pop())
    return rate


def _own_pattern(
    exposures: Exposures, sources: Sequence[Source], runner: Any, budget: int | str
) -> NDArray[np.float32]:
    """Median of biases or darks that were brought to one level by their medians: zero-mean, adu."""
    rows = bands(sources[0].shape)
    rough = {
        label(exposures[i], i): spread(read_sample(source, rows)).median for i, source in enumerate(sources)
    }
    names = iter(rough.values())
    prepared = [
        exposures[i : i + 1].through(_Shift(value)).sources()[0]
        for i, value in zip(range(len(sources)), names, strict=True)
    ]
    return np.asarray(
        combine(prepared, method="median", reject="none", runner=runner, budget=budget).data, np.float32
    )


@dataclass(frozen=True)
class _Shift:
    """A step that subtracts one number."""

    value: float

    def __call__(self, exposure: Exposure) -> PixelStep:
        return PixelStep(NAME, offset=self.value)


def _one(
    name: str,
    values: NDArray[np.float32],
    pattern: NDArray[np.float32] | None,
    unlit: NDArray[np.bool_] | None,
    cool: NDArray[np.bool_] | None,
) -> _Found:
    residual = values if pattern is None else values - pattern
    try:
        level: Level = unlit_level(residual, unlit, cool)
    except ShapeError as error:
        if unlit is None:  # nobody named a region, and a small frame has too few: its level is not believed
            floor = floors(values)[0] if pattern is None else float(np.nanpercentile(residual, LOW))
            return _Found(name, floor, math.nan, math.nan, 0.0, False, False)
        error.where = name
        raise
    return _Found(
        name,
        level.value,
        level.sigma,
        level.noise,
        level.fraction,
        level.even and math.isfinite(level.value),
        False,
    )


def _believed(found: _Found, exposure: Exposure, jump: float, nominal: float | None) -> _Found:
    """Of frames without their dark: a level that light may have raised gives way to the nominal one."""
    if not found.removed:
        return found
    stated = exposure.keys.get("pedestal") if nominal is None else nominal
    if stated is None:
        return found
    near = found.trusted and abs(found.shift - float(stated)) <= 0.1 * jump
    return found if near else replace(found, shift=float(stated), trusted=True, sigma=math.nan)


def _centred(found: list[_Found], level: float) -> tuple[list[_Found], float]:
    """Shifts about their own median: biases and darks among themselves."""
    kept = [one.shift for one in found if not one.removed]
    middle = float(np.median(kept)) if kept else 0.0
    return [one if one.removed else replace(one, shift=one.shift - middle) for one in found], level + middle


def _fallback(found: list[_Found], record: Record) -> list[_Found]:
    """Frames without believable unlit pixels take the median of the others; with no others, no shift."""
    out = []
    for one in found:
        limit = float(record.options["jump"])
        if one.trusted and (one.removed or abs(one.shift) <= limit):
            out.append(one)
            continue
        others = [o.shift for o in found if o.trusted and o.removed == one.removed and abs(o.shift) <= limit]
        darkest = one.removed and abs(one.shift) <= MOST
        shift = float(np.median(others)) if others else (one.shift if darkest else 0.0)
        sigma = float(np.std(others, ddof=1)) if len(others) > 1 else math.nan
        used = "the level of its neighbours" if others else "the darkest level" if darkest else "no shift"
        record.notes.append(
            f"{one.name}: no pixels that are surely unlit (the darkest stand {one.shift:+.0f} adu off); "
            f"{used} is used"
        )
        out.append(replace(one, shift=shift, sigma=sigma, trusted=False))
    return out


def _gain(exposures: Exposures, gain: float | None) -> float | None:
    return exposures.instrument.nominal(exposures[0])[0] if gain is None else gain


def _charge_notes(found: list[_Found], gain: float | None) -> list[str]:
    """Frames that stand higher *and* are noisier by as much: charge raised them, not the electronics.

    Charge of S adu adds S / gain to the variance of a pixel; a shift of the electronics adds nothing.
    """
    if gain is None or len(found) < 3:
        return []
    shift = np.array([one.shift for one in found])
    variance = np.array([one.noise**2 for one in found])
    middle, quiet = float(np.median(shift)), float(np.median(variance))
    notes = []
    for one, above, more in zip(found, shift - middle, variance - quiet, strict=True):
        expected = above / gain
        floor = CHARGE_SIGMAS * quiet * math.sqrt(2.0 / max(one.unlit * 1e5, 1e3))
        if expected > floor and more > 0.5 * expected:
            notes.append(
                f"{one.name}: stands {above:.0f} adu above the others and is noisier by as much as charge "
                "makes it: light or dark current, not the electronics; better left out of a master"
            )
    return notes


def _product(
    exposures: Exposures,
    found: list[_Found],
    level: float,
    products: Mapping[str, Product],
    record: Record,
) -> Product:
    shift = np.array([one.shift for one in found])
    table: dict[str, NDArray[Any]] = {
        "frame": np.array([one.name for one in found]),
        "level": np.where([one.removed for one in found], shift, shift + level),
        "shift": shift,
        "sigma": np.array([one.sigma for one in found]),
        "noise": np.array([one.noise for one in found]),
        "unlit": np.array([one.unlit for one in found]),
        "trusted": np.array([one.trusted for one in found]),
        "removed": np.array([one.removed for one in found]),
    }
    several = shift.size > 1
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=product_keys(exposures, MATCH_AS),
        epoch=exposures.epoch,
        tables={"levels": table},
        units={f"levels.{name}": "adu" for name in ("level", "shift", "sigma", "noise")},
        quantities=(
            Quantity("level", level, None, "adu"),
            Quantity("scatter", float(np.std(shift, ddof=1)) if several else 0.0, None, "adu"),
            Quantity("jump", float(np.abs(np.diff(shift)).max()) if several else 0.0, None, "adu"),
        ),
        provenance=record.provenance(NAME, exposures, products),
    )


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``data -= shift`` of this exposure; the square of its sigma goes to `systematic`.

    Parameters
    ----------
    exposure : Exposure
        One of those that were measured, known by its file name.
    product : Product
        Of `measure`.

    Raises
    ------
    SelectionError
        If the exposure was not measured.
    """
    if product.kind != NAME:
        raise SelectionError("not a pedestal", expected=f"a product of kind {NAME}", got=product.kind)
    table = product.tables["levels"]
    name = label(exposure, 0)
    rows = np.flatnonzero(np.asarray(table["frame"]).astype(str) == name)
    if rows.size != 1:
        raise SelectionError(
            "the level of this frame was not measured",
            where=name,
            expected=", ".join(str(frame) for frame in table["frame"][:5]),
            do="measure the pedestal of the frames together with this one",
        )
    row = int(rows[0])
    sigma = float(table["sigma"][row])
    return PixelStep(
        effect=NAME,
        product=product.identity,
        offset=float(table["shift"][row]),
        offset_variance=sigma**2 if math.isfinite(sigma) else None,
        options={"shift": float(table["shift"][row])},
        note="" if table["trusted"][row] else "level taken from other frames",
    )


def apply(frame: Frame, product: Product | None = None, **options: Any) -> Frame:
    """The frame brought to the common level.

    Parameters
    ----------
    frame : Frame
        Raw, adu.
    product : Product, optional
        Of `measure`; if not given, the frame is measured alone, with `options` as of `measure`
        (``products={"dark": ...}``).

    Raises
    ------
    HistoryError
        If the pedestal, or a later step, was done already.
    """
    before = {"bias", "dark"} & frame.exposure.applied
    frame.require(NAME, needs=NEEDS, forbids=set(FORBIDS) - before)
    if product is None:
        product = measure(Exposures.from_frames([frame]), **options)
    return apply_steps(frame, [step(frame.exposure, product)])
