"""Fringe frame: the pattern that lines of the night sky make in a thin detector, and taking it from images.

The pattern belongs to detector and filter, its strength to the moment; see docs/effects/fringe_frame.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, median_filter

from calibrant.effects._assembly import place_plane, places_table
from calibrant.effects._fringe_fit import Amplitude, Boxes, amplitude
from calibrant.effects._input import check_products
from calibrant.effects._sky_frames import (
    FLATS,
    SkyFrame,
    combine_sky,
    first_levels,
    flags,
    frames_table,
    sky_frames,
    with_sky,
)
from calibrant.effects._sky_sources import F4, Search, chosen, sources
from calibrant.effects._sky_surface import Form, fit
from calibrant.effects._steps import check_kind
from calibrant.effects.common import Progress, Record, Stacked, check_fits, product_keys
from calibrant.errors import HistoryError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Frame
from calibrant.product import Kind, Product, Quantity, Table
from calibrant.stats import mad_std

NAME = "fringe_frame"
REACH = "frame"
NEEDS: tuple[str, ...] = ("flat",)  # or a sky flat
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={
        "data": "Fringes over the mean sky, of mean 0; NaN where they are not known.",
        "variance": "Variance of data from the noise of the frames.",
        "count": "Frames that saw the sky in the pixel.",
        "dq": "Flags.",
    },
    quantities={
        "strength": "Standard deviation of the fringes over the sky, per cent, noise removed.",
        "level": "Mean over the frames of their sky.",
        "variation": "Scatter from frame to frame of fringes over sky, relative to its mean, per cent.",
    },
)
MATCH_AS = "flat"
WEAK = 0.2  # of the median amplitude: frames below it would add noise and no fringes
SURE = 3.0
AROUND = 5  # pixels of the boxes whose median a pixel is held against: fringes are wider
STANDS_OUT = 5.0  # sigmas
OUTLIER = 8.0  # sigmas: pixels that say nothing about the strength of fringes


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    minimum: int = 3,
    passes: int = 3,
    method: Literal["median", "mean"] = "median",
    order: int = 3,
    **options: Any,
) -> Product:
    """The pattern of fringes from dithered exposures of one filter.

    Parameters
    ----------
    exposures : Exposures
        Science frames of one detector, setting and filter, adu or electron.
    products : mapping of Product
        ``flat`` or ``sky_flat``, ``illumination``, ``bias``, ``dark``, where the exposures do not come
        through their steps.
    progress, runner, budget
        As of `calibrant.stack.combine.combine`.
    minimum : int
        Frames that are needed.
    passes : int
        How often sources are looked for, and amplitudes fitted.
    method : {"median", "mean"}
    order : int
        Of the polynomial that is taken away as large-scale light.
    **options
        sigma, box, grow: as of `calibrant.effects.sky_flat.measure`.
        boxes : int, 30 000; small : int, 3; large : int. Where amplitudes are fitted: places, half sizes.
        clip : float, 3; iterations : int, 20; seed : int, 0. Of that fit.

    Returns
    -------
    Product
        Kind ``fringe_frame``, dimensionless. Table ``frames``: frame, level, noise, masked, amplitude and
        sigma [unit of the frames], ratio (amplitude over level).

    Raises
    ------
    SelectionError
        Too few frames, mixed ones, no sky without sources.
    HistoryError
        If frames are not flat-fielded, or their zero level is not taken off.
    OptionError
        If an option has no meaning.
    """
    check_products(products)
    given, (search, places) = dict(products or {}), chosen(options, Search, Boxes)
    if passes < 1:
        raise OptionError("sources are looked for once at least", where="passes", got=passes)
    told = {**asdict(search), **asdict(places), "minimum": minimum, "passes": passes, "order": order}
    record = Record({**told, "method": method})
    series, frames = sky_frames(exposures, NAME, given, record, least=minimum, flat=True)
    how = {"method": method, "progress": progress, "runner": runner, "budget": budget}
    kept, frames = list(range(len(frames))), first_levels(frames)
    scales = [1 / frame.level for frame in frames]
    combined = combine_sky(frames, scales, offset=True, **how)
    pattern, strengths = _pattern(combined, order), []
    places_of = _places(series, combined.data.shape)
    owner = _owner(places_of)
    for _ in range(passes):
        looked = [
            _looked_at(frame, pattern, combined.propagated, search, places, owner, shared)
            for frame, shared in zip(frames, _shared(frames, scales, method), strict=True)
        ]
        frames, strengths = [frame for frame, _ in looked], [one for _, one in looked]
        good = _usable(frames, strengths, record, minimum)
        kept, frames = [kept[n] for n in good], [frames[n] for n in good]
        strengths = [strengths[n] for n in good]
        mean = float(np.mean([s.value / f.level for s, f in zip(strengths, frames, strict=True)]))
        scales = [mean / one.value for one in strengths]
        combined = combine_sky(frames, scales, offset=True, **how)
        pattern = _pattern(combined, order)
        strengths = [replace(s, value=s.value / mean, sigma=s.sigma / mean) for s in strengths]
    series = series.take(kept)
    dq = flags(combined, len(frames), record, frames)
    dq[~np.isfinite(pattern)] |= np.uint32(DQ.UNRELIABLE_FLAT)
    tables = {} if places_of is None else {"amplifiers": places_of}
    return _product(series, given, frames, strengths, combined, pattern, dq, tables, record)


def _places(series: Exposures, shape: tuple[int, ...]) -> Table | None:
    """The amplifiers of the images as a table, if they are those that the instrument knows."""
    table = places_table(series.instrument.readouts(series[0]), series.shape[-2:])
    return table if (int(table["rows"][0]), int(table["cols"][0])) == shape else None


def _owner(table: Table | None) -> NDArray[np.int16] | None:
    """The amplifier of each pixel, a number; None if there is one."""
    if table is None or len(table["name"]) == 1:
        return None
    return place_plane(table, {str(name): n for n, name in enumerate(table["name"])}, np.int16)


def _looked_at(
    frame: SkyFrame,
    pattern: F4,
    variance: F4 | None,
    search: Search,
    places: Boxes,
    owner: NDArray[np.int16] | None,
    shared: float,
) -> tuple[SkyFrame, Amplitude]:
    """The frame with its sources found where the fringes are taken away, and how strong these are."""
    image = frame.image()
    first = amplitude(image, pattern, variance, places, amplifiers=owner, robust=True)
    rough = first.value if math.isfinite(first.value) else 0.0
    # Pixels and columns that stand out of the pattern are bad, and no sources whose wings must be masked;
    # what is wider is a source that was there in most frames.
    odd = ~np.isfinite(pattern)
    thin = odd & ~binary_opening(odd, np.ones((2, 2)))
    plain = image - np.float32(rough) * np.nan_to_num(pattern)
    frame = frame.looked_at(np.where(thin, np.float32(frame.level), plain), search)
    sky = frame.without_sources(image)
    return frame, amplitude(sky, pattern, variance, places, amplifiers=owner, shared=shared)


def _shared(frames: Sequence[SkyFrame], scales: Sequence[float], method: str) -> list[float]:
    """Covariance of a pixel of each frame with that of their mean or median: noise squared times weight."""
    if method == "mean":
        return [f.noise**2 * scale / len(frames) for f, scale in zip(frames, scales, strict=True)]
    # A value moves the median by its density there, which is as 1/noise.
    total = sum(1 / (f.noise * scale) for f, scale in zip(frames, scales, strict=True))
    return [f.noise / total for f in frames]


def _usable(
    frames: Sequence[SkyFrame], strengths: Sequence[Amplitude], record: Record, least: int
) -> list[int]:
    """Places of the frames with sky and fringes; the others are named in notes."""
    seen = with_sky(frames, "fringe frame", record, least)
    values = np.array([strengths[n].value for n in seen])
    usual = float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan
    strong = [n for n in seen if strengths[n].value > max(WEAK * usual, 0.0)]
    if len(strong) < least:
        raise SelectionError(
            "too few frames show fringes",
            where=NAME,
            expected=f"{least} frames",
            got=str(len(strong)),
            do="take frames of a filter that lets the lines of the sky pass, or leave this step out",
        )
    if len(strong) < len(seen):
        weak = [frames[n].name for n in seen if n not in strong]
        record.notes.append("left out, hardly any fringes: " + ", ".join(weak))
    return strong


def _pattern(combined: Stacked, order: int) -> F4:
    """What was combined, less its large-scale part and its mean; NaN where it is not fringes.

    That is where no frame saw the sky, and where a pixel stands out of its neighbours: a bad one does so in
    every frame, with fringes or without, and would be taken for them.
    """
    data = np.where(combined.count > 0, combined.data, np.float32(np.nan))
    data = data - fit(data, Form(order=order)).surface
    rest = data - median_filter(np.nan_to_num(data), AROUND)
    assert combined.propagated is not None
    with np.errstate(invalid="ignore"):
        data[np.abs(rest) > STANDS_OUT * np.sqrt(combined.propagated)] = np.nan
    pattern: F4 = data - np.float32(np.nanmean(data, dtype=np.float64))
    return pattern


def _product(
    series: Exposures,
    products: Mapping[str, Product],
    frames: Sequence[SkyFrame],
    strengths: Sequence[Amplitude],
    combined: Stacked,
    pattern: F4,
    dq: NDArray[np.uint32],
    tables: Mapping[str, Table],
    record: Record,
) -> Product:
    assert combined.propagated is not None
    levels = np.array([frame.level for frame in frames])
    ratios = np.array([s.value / f.level for s, f in zip(strengths, frames, strict=True)])
    strength, sigma = _strength(pattern)
    if not strength > SURE * sigma:
        record.notes.append("no fringes are seen: the pattern is no stronger than its noise")
    unit = series[0].unit
    columns = ("frames.level", "frames.noise", "frames.amplitude", "frames.sigma")
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        planes={"data": pattern, "variance": combined.propagated, "count": combined.count, "dq": dq},
        units={"data": "", "variance": "", **dict.fromkeys(columns, unit)},
        tables={
            "frames": frames_table(
                frames,
                amplitude=[s.value for s in strengths],
                sigma=[s.sigma for s in strengths],
                ratio=ratios,
            ),
            **tables,
        },
        quantities=(
            Quantity("strength", 100 * strength, 100 * sigma, "%"),
            Quantity("level", float(levels.mean()), float(levels.std(ddof=1) / len(levels) ** 0.5), unit),
            Quantity("variation", 100 * float(ratios.std(ddof=1) / ratios.mean()), None, "%"),
        ),
        provenance=record.provenance(NAME, series, products),
    )


def _strength(pattern: F4) -> tuple[float, float]:
    """Standard deviation of the pattern without its noise, and the error that noise makes of it.

    From products of neighbours, whose noise is independent and drops out of their mean.
    """
    limit = OUTLIER * float(mad_std(pattern))
    with np.errstate(invalid="ignore"):
        values = np.where(np.abs(pattern) < limit, pattern, np.nan).astype(np.float64)
    pairs = [values[1:] * values[:-1], values[:, 1:] * values[:, :-1]]
    known = np.concatenate([pair[np.isfinite(pair)] for pair in pairs])
    if known.size < 2:
        return 0.0, math.inf
    noise = float(np.nanvar(values)) / math.sqrt(known.size)
    power = max(float(known.mean()), 0.0)
    return math.sqrt(power), math.sqrt(noise) if power < noise else noise / (2.0 * math.sqrt(power))


def fitted(frame: Frame, product: Product, **options: Any) -> Amplitude:
    """How strong the fringes of a product are in a frame.

    Parameters
    ----------
    frame : Frame
        Flat-fielded.
    product : Product
        Kind ``fringe_frame``.
    **options
        sigma, box, grow, boxes, small, large, clip, iterations, seed: as of `measure`.

    Returns
    -------
    Amplitude
        In the unit of the frame; NaN if too few pixels are free of sources.
    """
    search, places = chosen(options, Search, Boxes)
    loaded = frame.load()
    image = np.array(loaded.data, np.float32)
    if loaded.dq is not None:
        image[(np.asarray(loaded.dq) & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) != 0] = np.nan
    pattern, variance = product.data, product.planes.get("variance")
    owner = _owner(product.tables.get("amplifiers"))
    found = amplitude(image, pattern, variance, places, amplifiers=owner, robust=True)
    for _ in range(2):
        if not math.isfinite(found.value):
            break
        mask = sources(image - np.float32(found.value) * np.nan_to_num(pattern), search)
        sky = np.where(mask, np.float32(np.nan), image)
        found = amplitude(sky, pattern, variance, places, amplifiers=owner)
    return found


def apply(frame: Frame, product: Product, **options: Any) -> Frame:
    """The frame less its fringes: the pattern times the amplitude that fits.

    Parameters
    ----------
    frame : Frame
        Flat-fielded, in any unit.
    product : Product
        Kind ``fringe_frame`` of the same detector and filter.
    **options
        As of `fitted`.

    Returns
    -------
    Frame
        `systematic` has the error of pattern and amplitude; pixels where the pattern is not known stay as
        they are, flagged UNRELIABLE_FLAT. The history has amplitude and sigma, in the unit of the frame.

    Raises
    ------
    HistoryError
        If it was done already, or no flat was divided out.
    SelectionError
        If too few pixels are free of sources, or the product does not belong to the frame.
    ShapeError
        If it is of another size.
    """
    frame.require(NAME, forbids=FORBIDS)
    if not any(frame.did(kind) for kind in FLATS):
        raise HistoryError(
            "fringes can be taken from flat-fielded frames only",
            where=frame.name,
            do="apply the flat before the fringe frame",
        )
    check_kind(product, NAME, "")
    check_fits(frame, product)
    found = fitted(frame, product, **options)
    if not math.isfinite(found.value):
        raise SelectionError(
            "too few pixels are free of sources to fit the fringes",
            where=frame.name,
            do="leave this step out for the frame, or raise sigma",
        )
    return _subtracted(frame.load(), product, found)


def _subtracted(frame: Frame, product: Product, found: Amplitude) -> Frame:
    pattern, value = np.nan_to_num(product.data), np.float32(found.value)
    error = np.square(pattern) * np.float32(found.sigma**2)
    error += np.nan_to_num(product.planes["variance"]) * value**2
    unknown = ~np.isfinite(product.data)
    dq = np.zeros(pattern.shape, np.uint32) if frame.dq is None else np.array(frame.dq, np.uint32)
    dq[unknown] |= np.uint32(DQ.UNRELIABLE_FLAT)
    told = {"amplitude": found.value, "sigma": found.sigma, "boxes": found.boxes, "unit": frame.unit}
    note = f"amplitude {found.value:.4g} +- {found.sigma:.2g} {frame.unit} in {found.boxes} boxes"
    return frame.after(
        Applied(NAME, product.identity, told, note),
        data=np.asarray(frame.data, np.float32) - value * pattern,
        systematic=error if frame.systematic is None else np.asarray(frame.systematic, np.float32) + error,
        systematic_from=frame.systematic_from | {product.identity},
        dq=dq,
    )
