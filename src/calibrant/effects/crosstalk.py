"""Crosstalk: what each amplifier sees of the others that are read at the same moment.

``corrected[target] = raw[target] - sum over sources of c[source][target] * raw[source]``, pixels in the order
of reading; see docs/effects/crosstalk.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import Region, read, regions
from calibrant.effects._assembly import Assembly
from calibrant.effects._crosstalk_fit import Choice, Combined, Seen, coefficients, combined
from calibrant.effects._crosstalk_source import NAME, CrosstalkSource, Network
from calibrant.effects._input import check_products, prepare
from calibrant.effects._sky_sources import chosen
from calibrant.effects._steps import bias_step
from calibrant.effects.common import Progress, Record, begin, bias_for, done_by_steps, facts, product_keys
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Applied, Exposure, Frame
from calibrant.instrument import Readout
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.source import ArraySource, Source

__all__ = [
    "FORBIDS", "KIND", "MATCH_AS", "NAME", "NEEDS", "REACH", "Crosstalk", "CrosstalkSource", "Network",
    "amplifiers_table", "apply", "measure", "step",
]  # fmt: skip

REACH = "amplifier"
NEEDS: tuple[str, ...] = ("overscan",)
FORBIDS: tuple[str, ...] = ("linearity", "dark", "flat", "gain")
KIND = Kind(
    "crosstalk",
    quantities={
        "crosstalk": "Largest coefficient that an amplifier receives; the place is its name.",
        "sources": "Amplifiers whose part in this one was measured.",
    },
)
MATCH_AS = "bias"  # it belongs to the electronics, as the bias does
BRIGHT = 0.2
"""Of the saturation level: the threshold of bright pixels where none is given."""
USUAL = 65535.0  # adu, where no saturation level is known


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    threshold: float | None = None,
    significance: float = 0.0,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    saturation: float | None = None,
    **options: Any,
) -> Product:
    """The matrix of crosstalk from frames with bright sources: spots in one amplifier, or stars.

    Parameters
    ----------
    exposures : Exposures
        Of one detector and setting, adu, through the step of their overscan. Frames without bright pixels
        say nothing, and do no harm. One frame at a time is in memory.
    products : mapping of Product
        ``bias``: subtracted; its structure is the noise of the coefficients otherwise.
    threshold : float, optional
        adu above the background from which on a pixel is bright; a fifth of the saturation level by default.
    significance : float
        Coefficients below this many sigmas are set to 0. By default none is.
    progress, runner, budget
        As everywhere.
    saturation : float, optional
        adu, raw: values from which on pixels are left out; None takes the instrument's.
    **options
        pixels : int, 50. Bright ones that make a source.
        order : int, 2. Of the polynomial that is the background of a target.
        reach : int, 30. Pixels around bright ones in which it is fitted.
        grow : int, 20. Pixels around a target's own sources that are left out.
        clip : float, 5. Sigmas, of pixels about the fit and of frames about their median.

    Returns
    -------
    Product
        Kind ``crosstalk``. Table ``crosstalk``: source, target, coefficient [adu/adu], sigma, frames, chi2;
        NaN where nothing is known. Table ``amplifiers``. Quantities ``crosstalk`` and ``sources``.

    Raises
    ------
    SelectionError
        No exposures, mixed ones, a single amplifier, or no bright pixels in any of them.
    HistoryError
        If a later step was done to the pixels already.
    ShapeError
        If amplifiers are of different sizes.
    OptionError
        If an option has no meaning.
    """
    del runner, budget
    check_products(products)
    given = dict(products or {})
    if not significance >= 0:
        raise OptionError("a significance is a number of sigmas", where="significance", got=significance)
    series = begin(exposures, MATCH_AS, forbids=FORBIDS)
    places = _places(series)
    limit = facts(series, {}, saturation=saturation).saturation
    level = BRIGHT * (limit or USUAL) if threshold is None else threshold
    (choice,) = chosen({"threshold": level, **options}, Choice)
    record = Record({**asdict(choice), "significance": significance, "saturation": saturation})
    bias = bias_for(series, given)
    seen = []
    for done, (exposure, source) in enumerate(zip(series, series.sources(), strict=True), 1):
        steps = () if bias is None else (bias_step(exposure, bias),)
        image = read(prepare(source, steps, limit))
        seen.append(coefficients(np.stack([place.in_order(image) for place in places]), choice))
        if progress is not None:
            progress(done, len(series), NAME)
    _notes(places, seen, choice, record)
    if NAME in done_by_steps(series):
        record.notes.append("the frames had their crosstalk removed: this is what is left of it")
    found = combined(seen, choice.clip)
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        tables={
            NAME: _table(places, found, significance),
            "amplifiers": amplifiers_table(series.instrument.readouts(series[0]), _raw(series)),
        },
        quantities=tuple(_quantities(places, found)),
        provenance=record.provenance(NAME, series, given),
    )


def _raw(series: Exposures) -> tuple[int, int]:
    return series.shape[-2], series.shape[-1]


def _places(series: Exposures) -> tuple[Region, ...]:
    places = regions(series)
    if len(places) < 2:
        raise SelectionError(
            "the detector is read by one amplifier: there is no other to disturb it",
            where=series.instrument.name,
            do="leave this step out",
        )
    sizes = {place.shape for place in places}
    if len(sizes) != 1:
        raise ShapeError(
            "amplifiers that are read together have one size",
            where=NAME,
            got=", ".join(f"{rows} x {cols}" for rows, cols in sorted(sizes)),
        )
    return places


def _notes(places: Sequence[Region], seen: Sequence[Seen], choice: Choice, record: Record) -> None:
    """Name the amplifiers that say nothing: dead ones, and those without enough light.

    Raises
    ------
    SelectionError
        If that is all of them.
    """
    alive = np.any([one.alive for one in seen], axis=0)
    most = np.max([one.bright for one in seen], axis=0)
    if (most < choice.pixels).all():
        best = int(np.argmax(most))
        raise SelectionError(
            "no amplifier has a bright source in any of the frames",
            where=NAME,
            expected=f"{choice.pixels} pixels above {choice.threshold:g} adu that are not saturated",
            got=f"{most[best]} at most, in amplifier {places[best].name}",
            do="take frames with spots or bright stars, or lower the threshold",
        )
    for place, lives, pixels in zip(places, alive, most, strict=True):
        if not lives:
            record.notes.append(f"amplifier {place.name}: no good pixels")
        elif pixels < choice.pixels:
            record.notes.append(
                f"amplifier {place.name}: at most {pixels} pixels above {choice.threshold:g} adu in a frame,"
                f" {choice.pixels} are needed; what others have of it is not known"
            )


def _table(places: Sequence[Region], found: Combined, significance: float) -> dict[str, NDArray[Any]]:
    """One row for each pair of different amplifiers, sources first."""
    names = np.array([place.name for place in places])
    source, target = np.nonzero(~np.eye(len(names), dtype=bool))
    value, sigma = found.coefficient[source, target], found.sigma[source, target]
    with np.errstate(invalid="ignore"):
        value = np.where(np.abs(value) < significance * sigma, 0.0, value)
    return {
        "source": names[source],
        "target": names[target],
        "coefficient": value,
        "sigma": sigma,
        "frames": found.frames[source, target],
        "chi2": found.chi2[source, target],
    }


def _quantities(places: Sequence[Region], found: Combined) -> list[Quantity]:
    quantities = []
    for number, place in enumerate(places):
        values, known = found.coefficient[:, number], np.isfinite(found.coefficient[:, number])
        largest = int(np.argmax(np.where(known, np.abs(values), -1.0)))
        sigma = float(found.sigma[largest, number]) if known.any() else None
        quantities += [
            Quantity(NAME, float(values[largest]) if known.any() else math.nan, sigma, "", place.name),
            Quantity("sources", float(known.sum()), None, "", place.name),
        ]
    return quantities


def amplifiers_table(readouts: tuple[Readout, ...], raw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Table ``amplifiers`` of a Product: their sections, and the corner that each is read from.

    Parameters
    ----------
    readouts : tuple of Readout
        Of the exposure.
    raw : tuple of int
        Rows, columns of the raw image.
    """
    corners = np.array([readout.corner for readout in readouts])
    return {**Assembly.of(readouts, raw).table(), "corner": corners}


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """The correction as a step of `Exposures.through`, after that of the overscan."""

    product: Product

    effect = NAME

    @property
    def parents(self) -> tuple[str, ...]:
        """Identity of the product, for the provenance of what is made of the corrected pixels."""
        return (self.product.identity,)

    @cached_property
    def network(self) -> Network:
        """The product, as the pixels are worked on."""
        return Network.of(self.product)

    def wrap(self, source: Source, exposure: Exposure) -> CrosstalkSource:
        """The source, corrected when it is read."""
        return CrosstalkSource(source, self.network)

    def apply(self, frame: Frame) -> Frame:
        """A whole frame at once; as `calibrant.effects.crosstalk.apply`."""
        return apply(frame, self.product)

    def __call__(self, exposure: Exposure) -> Crosstalk:
        """Itself: it is the same for every exposure."""
        return self


def step(exposure: Exposure, product: Product, **options: Any) -> Crosstalk:
    """The correction of an exposure, to be read lazily."""
    del exposure, options
    return Crosstalk(product)


def apply(frame: Frame, product: Product) -> Frame:
    """The frame less its crosstalk.

    Parameters
    ----------
    frame : Frame
        Assembled, adu above the level of the overscan. Where its data are still a Source, they stay one.
    product : Product
        Table ``crosstalk``: source, target, coefficient [adu/adu], sigma; table ``amplifiers`` as of
        `amplifiers_table`. Coefficients that are NaN are left out.

    Returns
    -------
    Frame
        float32. Errors are as before: what comes from the other amplifiers adds less than 1e-6 of their
        variance.

    Raises
    ------
    HistoryError
        If the overscan is not gone yet, or crosstalk or a later step was done already.
    SelectionError, ShapeError
        If the product does not belong to the frame.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    network = Network.of(product)
    used = int(np.count_nonzero(np.nan_to_num(network.matrix)))
    done = Applied(NAME, product.identity, {"coefficients": used})
    if isinstance(frame.data, Source) and frame.dq is None:
        return frame.after(done, data=CrosstalkSource(frame.data, network))
    frame = frame.load()
    raw = ArraySource(np.asarray(frame.data), None if frame.dq is None else np.asarray(frame.dq), frame.name)
    data = CrosstalkSource(raw, network).load()
    return frame.after(done, data=data)
