"""Frames of the sky made ready: what is checked of them, their zero level, sources masked, their sky.

What sky flats, illumination corrections and fringe frames share. Frames stay in their files; of each, a mask
of one bit a pixel is kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import read
from calibrant.effects._input import prepare
from calibrant.effects._sky_sources import F4, Mask, Search, sources
from calibrant.effects._steps import check_kind, error_plane, flat_step, light_steps, name_of
from calibrant.effects.common import (
    Progress,
    Record,
    Stacked,
    begin,
    default_rejection,
    done_by_steps,
    facts,
    label,
    reliable,
    stack,
)
from calibrant.errors import HistoryError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA
from calibrant.product import Product
from calibrant.stack.combine import Noise
from calibrant.stack.pixel import PixelStep, PreparedSource
from calibrant.stack.source import Encoding, Source
from calibrant.stats import mad_std

NO_SKY = frozenset({"bias", "dark", "flat", "arc"})
UNITS = ("adu", "electron")
FLATS = ("flat", "sky_flat")
FREE = 0.1  # of the pixels of a frame: with fewer free of sources it is not used
STILL = 0.5  # of the pixels of a source: if more lie under sources in most frames, the telescope stood still
DEAD = 0.5  # of the usual response
SAMPLE = 1 << 20  # pixels that the level of a frame is taken of


@dataclass(frozen=True, eq=False)
class SkyFrame:
    """One frame: where it is read from, and what is known of its sky.

    Attributes
    ----------
    source : PreparedSource
        Above its zero level; divided by a flat where one is needed.
    name : str
    level : float
        Median of the pixels that are free of sources, in the unit of the frame.
    noise : float
        Standard deviation of a pixel of the sky.
    mask : ndarray or None
        Packed bits of the pixels that are no sky; None: not looked for yet.
    masked : float
        Part of all pixels.
    """

    source: PreparedSource
    name: str
    level: float = math.nan
    noise: float = math.nan
    mask: NDArray[np.uint8] | None = None
    masked: float = 0.0

    def image(self) -> F4:
        """The pixels, float32; NaN where flagged, not where sources are."""
        return read(self.source)

    def without_sources(self, image: F4) -> F4:
        """An image of the frame, NaN where sources are, too."""
        if self.mask is None:
            return image
        return np.where(unpacked(self.mask, self.source.shape), np.float32(np.nan), image)

    def looked_at(self, image: F4, search: Search) -> SkyFrame:
        """The frame with sources, level and noise as of an image of it without structure of the detector."""
        mask = sources(image, search)
        free = image[~mask]
        if not free.size:
            return replace(self, mask=np.packbits(mask), masked=1.0)
        steps = np.diff(np.where(mask, np.float32(np.nan), image), axis=1)
        steps = steps[np.isfinite(steps)]
        noise = float(mad_std(steps)) / math.sqrt(2.0) if steps.size else math.nan
        return replace(
            self, level=float(np.median(free)), noise=noise, mask=np.packbits(mask), masked=float(mask.mean())
        )

    def masked_source(self, *steps: PixelStep, scale: float = 1.0) -> PreparedSource:
        """As a source to be combined: sources flagged, `steps` done, multiplied by `scale`."""
        inner: Source = self.source if self.mask is None else MaskedSource(self.source, self.mask)
        return PreparedSource(inner, steps, scale, unit=self.source.unit_after)


@dataclass(frozen=True, eq=False)
class MaskedSource:
    """A source whose masked pixels are flagged DO_NOT_USE."""

    source: PreparedSource
    mask: NDArray[np.uint8]

    has_dq = True
    encoding = Encoding("=f4")

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns."""
        return self.source.shape

    def read_into(self, rows: slice, data: F4, dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` and `dq` with these rows."""
        self.source.read_into(rows, data, dq)
        if dq is not None:
            width = self.shape[1]
            first, stop = rows.start * width, rows.stop * width
            bits = np.unpackbits(self.mask[first // 8 : -(-stop // 8)])[first % 8 :][: stop - first]
            dq[bits.reshape(dq.shape).view(np.bool_)] |= np.uint32(DQ.DO_NOT_USE)


def unpacked(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> Mask:
    """The bits of a mask as an image."""
    count = shape[0] * shape[1]
    return np.unpackbits(mask, count=count).reshape(shape).view(np.bool_)


def sky_frames(
    exposures: Exposures,
    effect: str,
    products: Mapping[str, Product],
    record: Record,
    *,
    least: int,
    flat: bool,
    saturation: float | None = None,
) -> tuple[Exposures, list[SkyFrame]]:
    """Frames of the sky in order of time, checked; above their zero level, and flat-fielded if wanted.

    Parameters
    ----------
    effect : str
        What is made of them, for messages.
    least : int
        Frames that are needed.
    flat : bool
        Whether they must be flat-fielded, or must not.

    Raises
    ------
    SelectionError
        Too few frames, calibrations among them, mixed filters or settings.
    HistoryError
        If the zero level is not taken off, or flats are not divided out (or are, and must not be).
    """
    what = effect.replace("_", " ")
    if least < 2:
        raise OptionError(
            f"a {what} needs two frames at least, to tell sky from sources", where="minimum", got=least
        )
    for exposure in exposures:
        if exposure.kind in NO_SKY:
            raise SelectionError(
                f"a {what} is made of exposures of the sky",
                where=name_of(exposure),
                got=exposure.kind,
                do="select science frames of one filter",
            )
    series = begin(exposures, "flat", forbids=() if flat else FLATS, units=UNITS, notes=record.notes)
    if len(series) < least:
        raise SelectionError(
            f"too few frames for a {what}: sources and sky cannot be told apart",
            where=effect,
            expected=f"{least} dithered frames or more",
            got=str(len(series)),
            do="take more frames, or allow fewer with minimum",
        )
    limit = facts(series, {}, saturation=saturation).saturation
    _check_history(series, what, products, flat)
    found = []
    for index, (exposure, source) in enumerate(zip(series, series.sources(), strict=True)):
        steps = light_steps(exposure, products.get("bias"), products.get("dark"))
        if flat:
            steps += tuple(flat_like(products[kind]) for kind in (*FLATS, "illumination") if kind in products)
        found.append(SkyFrame(prepare(source, steps, limit), label(exposure, index)))
    return series, found


def _check_history(series: Exposures, what: str, products: Mapping[str, Product], flat: bool) -> None:
    done = done_by_steps(series) | set(products)
    for exposure in series:
        known = done | exposure.applied
        if not known & {"bias", "dark", "pedestal"}:
            raise HistoryError(
                f"a {what} needs frames without their zero level",
                where=name_of(exposure),
                do="give a bias, or the frames through its step",
            )
        if flat and not known & set(FLATS):
            raise HistoryError(
                f"a {what} needs frames that are flat-fielded",
                where=name_of(exposure),
                do="give a flat, or the frames through its step",
            )


def flat_like(product: Product) -> PixelStep:
    """``data /= product``, for anything that is a relative response: flat, sky flat, illumination."""
    if product.kind == "flat":
        return flat_step(product)
    check_kind(product, product.kind, "")
    return PixelStep(
        effect=product.kind,
        product=product.identity,
        divisor=product.data,
        divisor_variance=error_plane(product),
        dq=product.planes.get("dq"),
    )


def first_levels(frames: Sequence[SkyFrame]) -> list[SkyFrame]:
    """The frames with the median of all their pixels as a first guess of the sky.

    Raises
    ------
    SelectionError
        If a frame holds no light.
    """
    found = []
    for frame in frames:
        image = frame.image().ravel()
        values = image[:: max(1, image.size // SAMPLE) | 1]
        values = values[np.isfinite(values)]
        level = float(np.median(values)) if values.size else math.nan
        if not level > 0:
            raise SelectionError(
                "a frame holds no light of the sky",
                where=frame.name,
                expected="a median above zero",
                got=f"{level:.3g}",
                do="leave it out",
            )
        found.append(replace(frame, level=level, noise=float(mad_std(values))))
    return found


def with_sky(frames: Sequence[SkyFrame], what: str, record: Record, least: int) -> list[int]:
    """Places of the frames that have pixels free of sources; the others are named in a note.

    Raises
    ------
    SelectionError
        If too few are left.
    """
    full = [frame for frame in frames if not (frame.masked < 1 - FREE and frame.level > 0)]
    if full:
        record.notes.append("left out, hardly a pixel is free of sources: " + ", ".join(f.name for f in full))
    good = [n for n, frame in enumerate(frames) if frame not in full]
    if len(good) < least:
        raise SelectionError(
            f"too few frames have pixels that are free of sources for a {what}",
            where=", ".join(f.name for f in full[:3]),
            expected=f"{least} frames with {100 * FREE:g} % of their pixels free",
            got=str(len(good)),
            do="take emptier fields, or raise sigma",
        )
    return good


def combine_sky(
    frames: Sequence[SkyFrame],
    scales: Sequence[float],
    *,
    offset: bool,
    method: str,
    progress: Progress | None,
    runner: Any,
    budget: str | int,
) -> Stacked:
    """The frames, less their sky if wanted, times their scales, without sources, as one."""
    made = []
    for frame, scale in zip(frames, scales, strict=True):
        steps = (PixelStep("sky", offset=frame.level),) if offset else ()
        made.append(frame.masked_source(*steps, scale=float(scale)))
    noise = [
        Noise(read_noise=max(frame.noise, 1e-9), gain=math.inf, scale=float(scale))
        for frame, scale in zip(frames, scales, strict=True)
    ]
    return stack(
        made,
        method=method,
        # Frames of different sky are of different noise: their scatter is not that of any of them.
        reject=default_rejection(min(len(made), 11)),
        noise=noise,
        runner=runner,
        budget=budget,
        progress=progress,
    )


def flags(combined: Stacked, n: int, record: Record, frames: Sequence[SkyFrame]) -> NDArray[np.uint32]:
    """Flags of what was made of `n` frames, and notes of pixels that sources covered.

    UNRELIABLE_FLAT where less than half of the frames saw the sky, no data where none did.
    """
    dq = reliable(combined, n, DQ.UNRELIABLE_FLAT)
    covered = combined.count * 2 < n
    never = combined.count == 0
    dq[never] |= np.uint32(NO_DATA)
    if covered.any():
        record.notes.append(
            f"{int(covered.sum())} pixels were under sources, or bad, in more than half of the frames"
            f" ({int(never.sum())} in all of them): they are flagged"
        )
    usual = float(np.mean([frame.masked for frame in frames]))
    if usual > 0 and float(covered.mean()) > STILL * usual:
        record.notes.append(
            "the frames are hardly dithered: most of the pixels of a source are under it in most frames"
        )
    return dq


def frames_table(frames: Sequence[SkyFrame], **columns: Collection[float]) -> dict[str, NDArray[Any]]:
    """Table ``frames``: frame, level and noise [unit of the frames], masked; and further columns."""
    return {
        "frame": np.array([frame.name for frame in frames]),
        "level": np.array([frame.level for frame in frames]),
        "noise": np.array([frame.noise for frame in frames]),
        "masked": np.array([frame.masked for frame in frames]),
        **{name: np.array(list(values), np.float64) for name, values in columns.items()},
    }


def sky_response(
    frames: Sequence[SkyFrame], what: str, search: Search, passes: int, record: Record, least: int, **how: Any
) -> tuple[list[int], list[SkyFrame], Stacked]:
    """What the detector makes of an even sky, found together with the sources that must not be in it.

    Each pass divides the frames by the response of the pass before, so that structure of the detector is not
    taken for sources, looks for sources, and combines again without them, each frame over its sky.

    Returns
    -------
    tuple
        Places of the frames that were used, these frames, and the response (median of the sky about 1).
    """
    kept, used = list(range(len(frames))), first_levels(frames)
    combined = combine_sky(used, [1 / f.level for f in used], offset=False, **how)
    for _ in range(passes):
        dead = combined.data < DEAD  # their noise, divided, would look like sources
        used = [
            frame.looked_at(np.where(dead, np.float32(frame.level), frame.image() / combined.data), search)
            for frame in used
        ]
        good = with_sky(used, what, record, least)
        kept, used = [kept[n] for n in good], [used[n] for n in good]
        combined = combine_sky(used, [1 / f.level for f in used], offset=False, **how)
    return kept, used, combined
