"""Dark slopes: the rate at which each pixel of an array fills in the dark, from many ramps.

See docs/effects/dark_slope.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._ramp_slopes import Band, bands, facts_of
from calibrant.effects._verdicts import trend
from calibrant.effects.common import Record, product_keys
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import refuse_mixed, remarks_of
from calibrant.frame import DQ, NO_DATA
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.run import parse_budget
from calibrant.stats import MAD_TO_STD

NAME = "dark_slope"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
MATCH_AS = "dark"
FAR = 5.0  # sigmas of a ramp's slope about the median of all: it is left out
FEW = 3  # ramps, of which a median shows no outlier
KIND = Kind(
    NAME,
    planes={
        "data": "Slope in the dark.",
        "variance": "Variance of the slope, as read noise and photons foretell it.",
        "scatter": "Standard deviation of the slopes of the ramps.",
        "count": "Ramps that the slope is of.",
        "dq": "NO_DATA where no ramp has a slope; SATURATED; reference pixels.",
    },
    quantities={
        "dark": "Median slope of the pixels; the place is the output.",
        "dark_electrons": "The same in electrons, where the gain is known.",
        "width": "Robust scatter of the slopes from pixel to pixel.",
        "noise": "Median standard deviation of the slopes from ramp to ramp.",
        "reduced_chi2": "Scatter from ramp to ramp over its variance, squared; 1 if the noise is understood.",
    },
)
Progress = Callable[[int, int, str], None]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The map of dark slopes of a detector.

    Parameters
    ----------
    exposures : Exposures
        Ramps in the dark of one detector and read pattern; several files and integrations.
    products : mapping of Product
        None is used.
    gain, read_noise, saturation : float, optional
        e-/adu; adu of a single read; adu. By default those of header or instrument file, the read noise that
        of the reads themselves.

    Returns
    -------
    Product
        Planes of `KIND` [adu/s, adu2/s2], and quantities.

    Raises
    ------
    SelectionError
        If the ramps are mixed, or have one group only.
    OptionError
        If a number has no meaning.
    """
    del runner
    check_products(products)
    ramps = exposures.ramps()
    refuse_mixed(ramps)
    record = Record()
    facts = facts_of(exposures, ramps, record.notes, gain=gain, read_noise=read_noise, saturation=saturation)
    known_gain = not record.notes
    shape = ramps[0].shape[2:]
    kinds = {"data": "f4", "variance": "f4", "scatter": "f4", "count": "u2", "dq": "u4"}
    planes: dict[str, NDArray[Any]] = {name: np.zeros(shape, kind) for name, kind in kinds.items()}
    size = parse_budget(budget)
    known = ramps[0].exposure
    edge = np.ones(shape, bool)
    edge[exposures.instrument.reference(known).active((shape[0], shape[1]))] = False
    output = np.where(edge, -1, exposures.instrument.clock(known).output_of())
    many = sum(ramp.integrations for ramp in ramps)
    rows = np.zeros((2, many, shape[0], int(output.max()) + 1))  # whatever the bands, sums are the same
    for band in bands(exposures, ramps, facts, budget=size, progress=progress, search=False):
        for name, plane in _mean(band).items():
            planes[name][band.rows] = plane
        rows[:, :, band.rows] = _drift(band, planes["data"][band.rows], output[band.rows], rows.shape[3])
    record.notes += remarks_of(ramps)
    planes["dq"][edge] |= np.uint32(DQ.REFERENCE_PIXEL | DQ.NON_SCIENCE)
    record.options |= {"gain": facts.gain, "read_noise": facts.read_noise, "saturation": facts.saturation}
    if not np.isfinite(planes["data"][~edge]).any():
        record.notes.append("no pixel has a slope: all are saturated, flagged or without finite reads")
    if many == 1:
        record.notes.append("of one ramp: what all pixels drift together is not in the error of the dark")
    quantities = _quantities(planes, output, rows.sum(axis=2), facts.gain if known_gain else None)
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys={key: value for key, value in product_keys(exposures, MATCH_AS).items() if key != "shape"},
        epoch=exposures.epoch,
        planes=planes,
        units={"data": "adu/s", "variance": "adu2/s2", "scatter": "adu/s"},
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, exposures, {}),
    )


def _mean(band: Band) -> dict[str, NDArray[Any]]:
    """Mean of the ramps weighted by read noise alone, outliers left out, with their scatter."""
    with np.errstate(invalid="ignore", divide="ignore"):
        good = np.isfinite(band.slope) & (band.variance > 0)
        if len(band.slope) >= FEW:
            slope = np.where(good, band.slope, np.nan)
            middle = _median(slope)
            good &= np.abs(slope - middle) <= FAR * np.sqrt(band.variance)
        n = good.sum(axis=0)
        mean = np.where(good, band.slope, 0.0).sum(axis=0) / n
        variance = np.where(good, band.variance, 0.0).sum(axis=0) / n**2
        square = np.where(good, (band.slope - mean) ** 2, 0.0).sum(axis=0)
        scatter = np.sqrt(square / np.where(n > 1, n - 1, np.nan))
    dq = np.where(n == 0, np.uint32(NO_DATA), np.uint32(0))
    dq[band.saturated.any(axis=0)] |= np.uint32(DQ.SATURATED)
    found = {"data": mean, "variance": variance, "scatter": scatter, "count": n, "dq": dq}
    return {name: np.where(n == 0, np.nan, plane) if name[0] in "dvs" and name != "dq" else plane
            for name, plane in found.items()}  # fmt: skip


def _drift(band: Band, mean: NDArray[Any], output: NDArray[Any], outputs: int) -> NDArray[np.float64]:
    """Sums of what slopes of each ramp differ from the mean, and their numbers, (2, ramps, rows, outputs)."""
    height = len(mean)
    found = np.zeros((2, len(band.slope), height, outputs))
    place = output + outputs * np.arange(height)[:, None]
    for number, (slope, variance) in enumerate(zip(band.slope, band.variance, strict=True)):
        apart = slope - mean
        near = (np.abs(apart) <= FAR * np.sqrt(variance)) & (output >= 0)
        for k, weights in enumerate((apart[near], None)):
            found[k, number] = np.bincount(place[near], weights, height * outputs).reshape(height, outputs)
    return found


def _shared(drift: NDArray[np.float64]) -> float:
    """Standard error of a mean over ramps, of what their pixels drift together; 0 where it is not known."""
    total, count = drift
    each = total[count > 0] / count[count > 0]
    return float(each.std(ddof=1)) / math.sqrt(each.size) if each.size > 1 else 0.0


def _median(slope: NDArray[Any]) -> NDArray[Any]:
    """Over ramps, NaN left out: the lower of the two middle ones."""
    order = np.sort(slope, axis=0)
    n = np.isfinite(order).sum(axis=0)
    middle: NDArray[Any] = np.take_along_axis(order, (np.maximum(n, 1) - 1)[None] // 2, axis=0)[0]
    return middle


def _quantities(
    planes: Mapping[str, NDArray[Any]], output: NDArray[Any], drift: NDArray[np.float64], gain: float | None
) -> Iterator[Quantity]:
    """Of all outputs, and of each; `drift` as of `_drift`."""
    places = {"": output >= 0, **{str(k + 1): output == k for k in range(int(output.max()) + 1)}}
    for place, here in places.items():
        use = here & np.isfinite(planes["data"])
        values = planes["data"][use]
        if values.size == 0:
            continue
        dark = float(np.median(values))
        width = MAD_TO_STD * float(np.median(np.abs(values - dark)))
        # Of a median of pixels, or of the mean of ramps where they drift together: 1/f noise does that.
        own = drift.sum(axis=2) if not place else drift[:, :, int(place) - 1]
        sigma = max(1.2533 * width / math.sqrt(values.size), _shared(own))
        yield Quantity("dark", dark, sigma, "adu/s", place)
        if gain is not None:
            yield Quantity("dark_electrons", dark * gain, sigma * gain, "electron/s", place)
        yield Quantity("width", width, width / math.sqrt(2.0 * values.size), "adu/s", place)
        several = use & np.isfinite(planes["scatter"])
        if several.any():
            scatter, n = planes["scatter"][several], planes["count"][several]
            yield Quantity("noise", float(np.median(scatter)), None, "adu/s", place)
            ratio = (n - 1) * scatter**2 / (planes["variance"][several] * n)
            freedom = n - 1.0
            # medians of chi squared, as Wilson and Hilferty have them: hot pixels do not count
            yield Quantity(
                "reduced_chi2",
                float(np.median(ratio / (freedom * (1 - 2 / (9 * freedom)) ** 3))),
                None,
                "",
                place,
            )


def history(products: Sequence[Product]) -> Product:
    """Dark slopes of detectors against their epochs: the tables ``trend`` and ``verdict``."""
    return trend(products, NAME)
