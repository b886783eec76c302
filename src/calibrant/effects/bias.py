"""Bias: the zero level of every pixel, and the read noise, from frames of zero seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import common
from calibrant.effects._amplifiers import regions
from calibrant.effects._input import check_products
from calibrant.effects._levels import Survey, levelled, survey
from calibrant.effects._steps import bias_step
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument.sections import Section
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.combine import Noise
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.reject import Rejection
from calibrant.stats import finite_median, std_bias

NAME = "bias"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("dark", "flat", "gain")
KIND = Kind(
    "bias",
    planes={
        "data": "Zero level of each pixel, adu.",
        "variance": "Variance of data from the scatter of the frames, adu2.",
        "propagated": "Variance of data from the read noise, adu2.",
        "read_noise": "Standard deviation of one frame in each pixel, corrected for small samples, adu.",
        "count": "Frames that were used.",
        "dq": "Flags.",
    },
    quantities={
        "level": "Mean over pixels and frames, clipped at 4 sigma, adu.",
        "read_noise": "From differences of successive frames, clipped at 4 sigma, over sqrt(2), adu.",
        "pixel_std_median": "Median over the pixels of the plain standard deviation (n - 1) of the frames, "
        "adu: it holds the drift of the level, and small samples make it too low.",
        "pixel_noise_median": "Median over the pixels of the plane read_noise, adu.",
        "drift": "Slope of the level over the series, adu per frame.",
        "drift_range": "Highest less lowest level of a frame, adu.",
        "first_offset": "Level of the first frame less the mean of the others, adu.",
    },
)


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: common.Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    method: Literal["mean", "median"] = "mean",
    reject: Rejection | str = "auto",
    level: Literal["keep", "common"] = "keep",
) -> Product:
    """Master bias, with the read noise of each pixel from the same pass.

    Parameters
    ----------
    exposures : Exposures
        Zero-second frames of one detector and setting, adu, raw or after overscan or pedestal.
    products : mapping of Product, optional
        ``read_noise`` or ``gain``, used for a single frame only; several frames show their own read noise.
    progress : callable, optional
        ``progress(done, total, what)``.
    runner, budget
        As of `calibrant.stack.combine.combine`.
    method : {"mean", "median"}
    reject : Rejection or str
        ``"auto"``: limits from the measured read noise about the median below 12 frames, 3-sigma clipping
        from 12 on, none for one or two frames.
    level : {"keep", "common"}
        ``"common"`` shifts each frame to the mean level of the series, for cameras whose level jumps.

    Returns
    -------
    Product
        Kind ``bias``; planes float32 (rows, cols) in adu, see `KIND`; table ``frames``.

    Raises
    ------
    SelectionError, ShapeError, HistoryError
        If the exposures do not belong together, or were calibrated already.

    Notes
    -----
    The propagated variance is R^2/n for a mean and f(n)^2 R^2/n for a median, with the read noise R measured
    from the differences of successive frames and the exact factor f of `calibrant.stats.median_factor`.
    """
    check_products(products)
    products = products or {}
    record = common.Record({"method": method, "reject": common.text(reject), "level": level})
    series = common.begin(exposures, NAME, forbids=FORBIDS, of_kind=True, notes=record.notes)
    record.notes += common.advice(series, NAME)
    sources = series.sources()
    levels = survey(sources, parts=_parts(series), progress=progress)
    noise = _read_noise(levels, common.facts(series, products), record)
    if level == "common":
        sources = levelled(sources, levels.mean)
    combined = common.stack(
        sources,
        method=method,
        reject=common.default_rejection(len(series)) if reject == "auto" else reject,
        noise=None if noise is None else Noise(read_noise=noise, gain=math.inf),  # no photons in a bias
        runner=runner,
        budget=budget,
        progress=progress,
    )
    planes, units = _planes(combined, len(series))
    return Product(
        kind=NAME,
        instrument=series[0].instrument,
        keys=common.product_keys(series, NAME),
        epoch=series.epoch,
        planes=planes,
        units=units,
        tables={"frames": _table(series, levels)},
        quantities=tuple(_quantities(levels, combined, planes)),
        provenance=record.provenance(NAME, series, products),
    )


def _parts(series: Exposures) -> dict[str, Section]:
    """Pixels of each amplifier by name, where a detector has more than one; else nothing."""
    found = regions(series)
    return {region.name: region.window for region in found} if len(found) > 1 else {}


def _read_noise(levels: Survey, known: common.Facts, record: common.Record) -> float | None:
    if math.isfinite(levels.noise):
        return levels.noise
    if known.read_noise is None:
        record.notes.append("the read noise is unknown: one frame does not show it, and none was given")
    else:
        record.notes.append("one frame does not show its noise: the nominal read noise was used")
    return known.read_noise


def _planes(combined: common.Stacked, n: int) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    planes: dict[str, NDArray[Any]] = {"data": combined.data}
    if n > 1:
        planes["variance"] = combined.variance
        planes["read_noise"] = (combined.scatter / std_bias(combined.count)).astype(np.float32)
    if combined.propagated is not None:
        planes["propagated"] = combined.propagated
    planes["count"] = combined.count
    planes["dq"] = common.reliable(combined, n, DQ.UNRELIABLE_BIAS)
    units = {"data": "adu", "variance": "adu2", "propagated": "adu2", "read_noise": "adu"}
    return planes, {name: unit for name, unit in units.items() if name in planes}


def _quantities(
    levels: Survey, combined: common.Stacked, planes: Mapping[str, NDArray[Any]]
) -> list[Quantity]:
    found = [Quantity("level", float(levels.mean.mean()), _mean_error(levels.mean), "adu")]
    if levels.mean.size < 2:
        return found
    found.append(Quantity("read_noise", levels.noise, levels.noise_sigma, "adu"))
    found += [
        Quantity("read_noise", noise, noise / math.sqrt(2.0 * pixels * levels.pair_noise.size), "adu", place)
        for place, (noise, pixels) in levels.parts.items()
    ]
    found.append(Quantity("pixel_std_median", finite_median(combined.scatter), None, "adu"))
    found.append(Quantity("pixel_noise_median", finite_median(planes["read_noise"]), None, "adu"))
    return found + _drift(levels.mean)


def _mean_error(levels: NDArray[np.float64]) -> float | None:
    return float(levels.std(ddof=1) / math.sqrt(levels.size)) if levels.size > 1 else None


def _drift(levels: NDArray[np.float64]) -> list[Quantity]:
    """Slope per frame with its uncertainty, range, and what sets the first frame apart."""
    n = levels.size
    found = [Quantity("drift_range", float(np.ptp(levels)), None, "adu")]
    others = levels[1:]
    spread = float(others.std(ddof=1)) * math.sqrt(1.0 + 1.0 / others.size) if others.size > 1 else None
    found.append(Quantity("first_offset", float(levels[0] - others.mean()), spread, "adu"))
    index = np.arange(n) - (n - 1) / 2.0
    slope = float(index @ levels / (index @ index))
    left = levels - levels.mean() - slope * index
    sigma = math.sqrt(float(left @ left) / (n - 2) / float(index @ index)) if n > 2 else None
    return [Quantity("drift", slope, sigma, "adu"), *found]


def _table(series: Exposures, levels: Survey) -> dict[str, NDArray[Any]]:
    """One line per frame in order of time: name, start, level, offset from the mean, noise to the next."""
    noise = np.append(levels.pair_noise, np.nan)
    return {
        "name": np.array([common.label(e, i) for i, e in enumerate(series)]),
        "start": np.array([-1 if e.start is None else e.start for e in series], np.int64),
        "level": levels.mean,
        "offset": levels.mean - levels.mean.mean(),
        "noise": noise,
    }


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``data -= bias``, with the variance of the bias as systematic.

    Parameters
    ----------
    exposure : Exposure
        Of the frame.
    product : Product
        Kind ``bias``, adu.
    """
    return bias_step(exposure, product)


def apply(frame: Frame, product: Product) -> Frame:
    """Subtract a master bias from a frame in adu.

    Parameters
    ----------
    frame : Frame
        (rows, cols), adu.
    product : Product
        Kind ``bias``.

    Returns
    -------
    Frame
        float32, adu; the variance of the bias is in `systematic`.

    Raises
    ------
    HistoryError
        If the bias was subtracted before, or a later effect was applied.
    ShapeError, SelectionError, UnitError
        If the bias does not fit the frame.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    common.check_fits(frame, product)
    return apply_steps(frame, [step(frame.exposure, product)])
