"""Sky flat: the response of every pixel to the night sky, from dithered exposures with their sources masked.

See docs/effects/sky_flat.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._sky_frames import flags, flat_like, frames_table, sky_frames, sky_response
from calibrant.effects._sky_sources import Search, chosen
from calibrant.effects._steps import check_kind
from calibrant.effects.common import Progress, Record, Stacked, check_fits, product_keys, require_bias
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps

NAME = "sky_flat"
REACH = "pixel"
NEEDS: tuple[str, ...] = ("bias",)  # or a dark that held it
FORBIDS: tuple[str, ...] = ("flat",)
KIND = Kind(
    NAME,
    planes={
        "data": "Response to the sky relative to the median, at least the floor.",
        "variance": "Variance of data from the scatter of the frames.",
        "propagated": "Variance of data from the noise of the frames.",
        "count": "Frames that saw the sky in the pixel.",
        "dq": "Flags.",
    },
    quantities={
        "level": "Mean over the frames of their sky.",
        "level_scatter": "Standard deviation of these levels, per cent.",
        "masked": "Mean part of the pixels of a frame that is under sources, or bad, per cent.",
        "noise": "Median over the pixels of the error of the flat, per cent.",
    },
)
MATCH_AS = "flat"
FLOOR = 0.05


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    minimum: int = 3,
    passes: int = 2,
    method: Literal["median", "mean"] = "median",
    saturation: float | None = None,
    **options: Any,
) -> Product:
    """Flat of one filter from the sky of science frames.

    Parameters
    ----------
    exposures : Exposures
        Dithered science frames of one detector, setting and filter, adu or electron; not flat-fielded.
    products : mapping of Product
        ``bias`` and ``dark``, where the exposures do not come through their steps.
    progress, runner, budget
        As of `calibrant.stack.combine.combine`.
    minimum : int
        Frames that are needed.
    passes : int
        How often sources are looked for.
    method : {"median", "mean"}
    saturation : float, optional
        adu, raw; None takes the instrument's.
    **options
        sigma : float, 4. Limit of sources, in noise of the smoothed image.
        box : int, 48. Pixels of the boxes of the background that they are sought above.
        grow : int, 6. Pixels around them that are masked too.

    Returns
    -------
    Product
        Kind ``sky_flat``, dimensionless, median 1; table ``frames``.

    Raises
    ------
    SelectionError
        Too few frames, calibrations among them, mixed filters or settings, no sky without sources.
    HistoryError
        If the zero level is not taken off, or a flat was divided out already.
    OptionError
        If an option has no meaning.
    """
    check_products(products)
    given, (search,) = dict(products or {}), chosen(options, Search)
    if passes < 1:
        raise OptionError("sources are looked for once at least", where="passes", got=passes)
    record = Record({**asdict(search), "minimum": minimum, "passes": passes, "method": method})
    series, frames = sky_frames(
        exposures, NAME, given, record, least=minimum, flat=False, saturation=saturation
    )
    how = {"method": method, "progress": progress, "runner": runner, "budget": budget}
    kept, frames, combined = sky_response(frames, "sky flat", search, passes, record, minimum, **how)
    series = series.take(kept)
    planes = _planes(combined, flags(combined, len(frames), record, frames))
    levels = np.array([frame.level for frame in frames])
    unit = series[0].unit
    noise = 100 * float(np.sqrt(np.median(planes["propagated"][planes["count"] > 0])))
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        planes=planes,
        units={
            **dict.fromkeys(("data", "variance", "propagated"), ""),
            **dict.fromkeys(("frames.level", "frames.noise"), unit),
        },
        tables={"frames": frames_table(frames)},
        quantities=(
            Quantity("level", float(levels.mean()), float(levels.std(ddof=1) / len(levels) ** 0.5), unit),
            Quantity("level_scatter", 100 * float(levels.std(ddof=1) / levels.mean()), None, "%"),
            Quantity("masked", 100 * float(np.mean([frame.masked for frame in frames])), None, "%"),
            Quantity("noise", noise, None, "%"),
        ),
        provenance=record.provenance(NAME, series, given),
    )


def _planes(combined: Stacked, dq: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
    """Normalised by the median of the good pixels; what is below the floor is held there, and flagged."""
    good = np.isfinite(combined.data) & ((dq & np.uint32(DQ.DO_NOT_USE)) == 0)
    middle = np.float32(np.median(combined.data[good])) if good.any() else np.float32(np.nan)
    if not middle > 0:
        raise SelectionError("the sky flat holds no light", where=NAME, got=float(middle))
    data = combined.data / middle
    low = good & ~(data >= FLOOR)
    data[low], data[~good] = FLOOR, 1.0
    dq[low] |= np.uint32(DQ.UNRELIABLE_FLAT)
    dq[~good] |= np.uint32(NO_DATA | DQ.NO_FLAT_FIELD)
    assert combined.propagated is not None
    errors = {"variance": combined.variance, "propagated": combined.propagated}
    planes = {name: plane / middle**2 for name, plane in errors.items()}
    return {"data": data, **planes, "count": combined.count, "dq": dq}


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``data /= sky flat``; its error goes to `systematic`.

    Raises
    ------
    SelectionError
        If the product is no sky flat.
    """
    del exposure
    check_kind(product, NAME, "")
    return flat_like(product)


def apply(frame: Frame, product: Product) -> Frame:
    """The frame divided by the sky flat.

    Raises
    ------
    HistoryError
        If it or a flat was divided out already, or the zero level is still there.
    SelectionError, ShapeError
        If the product does not belong to the frame.
    """
    frame.require(NAME, forbids=FORBIDS)
    require_bias(frame, "a sky flat")
    check_fits(frame, product)
    return apply_steps(frame, [step(frame.exposure, product)])
