"""Amplifier offsets and gain ratios: what is left of steps across the borders of amplifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from calibrant.effects._amplifiers import Region, read, regions
from calibrant.effects._assembly import place_plane, places_table
from calibrant.effects._input import check_products, prepare
from calibrant.effects._interfaces import Levels, interfaces, solve
from calibrant.effects._steps import bias_step
from calibrant.effects.common import Record, begin, bias_for, check_fits, facts, product_keys, versions
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument.sections import Section
from calibrant.product import Kind, Product, Provenance, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.source import Source
from calibrant.stats import MAD_TO_STD

NAME = "amplifier_offsets"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("gain",)
KIND = Kind(
    NAME,
    quantities={
        "offset": "Level of the amplifier that is too high, adu; the mean over the amplifiers is 0.",
        "gain_ratio": "Gain of the amplifier over the median of all, from the flats.",
    },
)
"""Table ``interfaces``: quantity (``offset`` or ``gain_ratio``), one, other (amplifiers), step, sigma (adu,
or ln of the level), rows (that were compared), used. Table ``amplifiers``: name and place of each."""
MATCH_AS = "bias"
SOURCE = 5.0  # sigmas above the sky
GROWN = 4  # pixels about a source that hold its light

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Options:
    width: int = 64
    skip: int = 5
    gradient: bool = True
    limit: float = 5.0
    largest: float = math.inf
    saturation: float | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.skip < 0:
            raise OptionError(
                "a strip has pixels, and skips none or some",
                expected="width >= 1, skip >= 0",
                got=f"width {self.width}, skip {self.skip}",
            )
        if not (self.limit > 0 and self.largest > 0):
            raise OptionError("limits are positive", got=f"limit {self.limit}, largest {self.largest}")


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **options: Any,
) -> Product:
    """Offsets from frames of little light, gain ratios from flats; from whichever of the two are there.

    Strips on either side of a border are compared row by row in the mean of the frames; levels of amplifiers
    are the weighted least-squares solution on the graph that the borders make. Flats are compared in ln, so
    that their light does not count.

    Parameters
    ----------
    exposures : Exposures
        Of one detector, assembled, adu, with the level of the overscan (or bias) taken off. Kind ``flat``
        gives gain ratios; all others (sky, darks) give offsets, after the ratios of the flats are taken out
        of their light.
    products : mapping of Product
        ``bias``: subtracted. Its structure at the borders would be taken for offsets.
    **options
        width : int, 64. Pixels of a strip; at most a quarter of the amplifier.
        skip : int, 5. Pixels next to the border that are left out.
        gradient : bool, True. Take off the slope that the strips on both sides share.
        limit : float, 5. Sigmas from which on a border that disagrees with the others is not used.
        largest : float, adu. Steps of offsets above it are not believed; no limit if not given.
        saturation : float, adu. Pixels from which on are left out; None takes the instrument's.

    Returns
    -------
    Product
        Kind ``amplifier_offsets``: offset [adu] and gain_ratio [] of each amplifier. NaN where no border of
        the amplifier could be used, as for a dead one.

    Raises
    ------
    SelectionError
        A detector with one amplifier, or no exposures, or mixed settings.
    """
    del runner, budget
    check_products(products)
    choice, record = _Options(**options), Record(dict(options))
    series = begin(exposures, MATCH_AS, forbids=FORBIDS)
    amplifiers = regions(series)
    if len(amplifiers) < 2:
        raise SelectionError(
            "the detector is read by one amplifier: there is no border to compare levels across",
            where=series.instrument.name,
            do="leave this step out",
        )
    saturation = facts(series, products or {}, saturation=choice.saturation).saturation
    windows = [amp.window for amp in amplifiers]

    def level(name: str, mean: _Mean) -> Levels:
        largest = choice.largest if name == "offset" else math.inf
        steps = interfaces(
            mean.image(), windows, width=choice.width, skip=choice.skip, gradient=choice.gradient
        )
        return solve(steps, len(amplifiers), limit=choice.limit, largest=largest)

    frames = list(zip(series, _prepared(series, products or {}, saturation), strict=True))
    frames.sort(key=lambda pair: pair[0].kind != "flat")  # stable: flats first, whose ratios the others need
    means, levels = {"gain_ratio": _Mean(), "offset": _Mean()}, {}
    response: NDArray[np.float32] | None = None
    for done, (exposure, source) in enumerate(frames, 1):
        image = read(source)
        if exposure.kind == "flat":
            means["gain_ratio"].add(image, True)
        else:
            if response is None and means["gain_ratio"].frames:
                levels["gain_ratio"] = level("gain_ratio", means["gain_ratio"])
                response = _response(levels["gain_ratio"], windows, image.shape)
            empty = _without_sources(image, windows)
            means["offset"].add(empty if response is None else empty / response, False)
        if progress is not None:
            progress(done, len(series), "frames")
    for name, mean in means.items():
        if mean.frames and name not in levels:
            levels[name] = level(name, mean)
    if "offset" in levels and response is None:
        record.notes.append("offset: without flats, light in the frames leaves its steps of the gains there")
    quantities = [
        q for name, found in levels.items() for q in _quantities(name, found, amplifiers, record, response)
    ]
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        tables={
            "interfaces": _table(levels, amplifiers),
            "amplifiers": places_table([a.readout for a in amplifiers], series.shape),
        },
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, series, products or {}),
    )


def _prepared(series: Exposures, products: Mapping[str, Product], saturation: float | None) -> list[Source]:
    """The frames without their bias, saturated pixels flagged."""
    bias = bias_for(series, products)
    steps = [() if bias is None else (bias_step(exposure, bias),) for exposure in series]
    return [prepare(source, own, saturation) for source, own in zip(series.sources(), steps, strict=True)]


def _without_sources(image: NDArray[np.float32], windows: Sequence[Section]) -> NDArray[np.float32]:
    """The sky of each amplifier: what stands out of it, stars and hits, is NaN with its surroundings."""
    sky = image.copy()
    for window in windows:
        own = sky[window]  # a view
        good = own[np.isfinite(own)]
        if good.size:
            middle = np.median(good)
            bright = own > middle + SOURCE * MAD_TO_STD * np.median(np.abs(good - middle))
            own[binary_dilation(bright, iterations=GROWN)] = np.nan
    return sky


def _response(ratios: Levels, windows: Sequence[Section], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Counts of equal light relative to the mean of the amplifiers, (rows, cols); 1 where it is not known."""
    plane = np.ones(shape, np.float32)
    for window, value in zip(windows, ratios.values, strict=True):
        if math.isfinite(value):
            plane[window] = math.exp(value)
    return plane


class _Mean:
    """Mean image of the frames of a kind, of ln for flats: structure that all share does not average away."""

    def __init__(self) -> None:
        self.frames = 0
        self._total: NDArray[np.float32] = np.zeros(0, np.float32)
        self._count: NDArray[np.uint16] = np.zeros(0, np.uint16)

    def add(self, image: NDArray[np.float32], flat: bool) -> None:
        if flat:
            with np.errstate(invalid="ignore", divide="ignore"):
                image = np.where(image > 0, np.log(image), np.float32(np.nan))
        good = np.isfinite(image)
        # Frames of other light differ by a number, which must not follow where pixels are missing.
        middle = np.float32(np.median(image[good])) if good.any() else np.float32(0.0)
        if not self.frames:
            self._total, self._count = np.zeros_like(image), np.zeros(image.shape, np.uint16)
        self._total += np.where(good, image - middle, np.float32(0.0))
        self._count += good
        self.frames += 1

    def image(self) -> NDArray[np.float32]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self._count > 0, self._total / self._count, np.float32(np.nan))


def _quantities(
    name: str,
    levels: Levels,
    amplifiers: tuple[Region, ...],
    record: Record,
    response: NDArray[np.float32] | None,
) -> list[Quantity]:
    lost = [a.name for a, value in zip(amplifiers, levels.values, strict=True) if not math.isfinite(value)]
    if lost:
        record.notes.append(f"no {name} of amplifiers {', '.join(lost)}: none of their borders could be used")
    rejected = [
        f"{amplifiers[s.one].name}-{amplifiers[s.other].name}"
        for s in levels.interfaces
        if not s.used and math.isfinite(s.step)
    ]
    if rejected:
        record.notes.append(
            f"{name}: borders {', '.join(rejected)} disagree with the others and were left out"
        )
    if levels.parts > 1:
        record.notes.append(
            f"{name}: the amplifiers fall into {levels.parts} groups without a border between"
        )
    if math.isfinite(levels.chi2) and levels.chi2 > 4.0:
        record.notes.append(
            f"{name}: loops of borders do not close (chi2 {levels.chi2:.1f}); sigmas were raised"
        )
    values, sigmas, unit = levels.values, levels.sigma, "adu"
    if name == "offset" and response is not None:  # found in counts of equal gain
        here = np.array([response[amp.window][0, 0] for amp in amplifiers])
        values, sigmas = values * here, sigmas * here
    if name == "gain_ratio":  # equal light gives fewer counts where the gain [e-/adu] is larger
        ratio = np.exp(-values)
        values, sigmas, unit = ratio / np.nanmedian(ratio), ratio / np.nanmedian(ratio) * sigmas, ""
    return [
        Quantity(name, float(value), float(sigma), unit, amp.name)
        for amp, value, sigma in zip(amplifiers, values, sigmas, strict=True)
    ]


def _table(levels: Mapping[str, Levels], amplifiers: tuple[Region, ...]) -> dict[str, NDArray[Any]]:
    rows = [(name, step) for name, level in levels.items() for step in level.interfaces]
    return {
        "quantity": np.array([name for name, _ in rows]),
        "one": np.array([amplifiers[s.one].name for _, s in rows]),
        "other": np.array([amplifiers[s.other].name for _, s in rows]),
        "step": np.array([s.step for _, s in rows], np.float64),
        "sigma": np.array([s.sigma for _, s in rows], np.float64),
        "rows": np.array([s.rows for _, s in rows], np.int64),
        "used": np.array([s.used for _, s in rows], bool),
    }


def corrected_gains(gain: Product, product: Product) -> Product:
    """Gains whose ratios are those of the flats, and whose level is that of the gains.

    Borders in flats give ratios ten times more precise than a photon transfer curve; the curve alone knows
    the level. ``gain_i = ratio_i * median_k(gain_k / ratio_k)``; an amplifier without a ratio keeps its gain.

    Parameters
    ----------
    gain : Product
        Kind ``gain``, [electron/adu].
    product : Product
        Of `measure`, with gain ratios.

    Returns
    -------
    Product
        Kind ``gain``; the sigma is that of the level and of the ratio together.

    Raises
    ------
    SelectionError
        If there is no gain, no ratio, or they share no amplifier.
    """
    if gain.kind != "gain":
        raise SelectionError("only gains can be corrected", expected="a product of kind gain", got=gain.kind)
    ratios = {q.place: q for q in product if q.name == "gain_ratio" and math.isfinite(q.value)}
    own = {q.place: q for q in gain if q.name == "gain"}
    both = [p for p in own if p in ratios and math.isfinite(own[p].value)]
    if not both:
        raise SelectionError(
            "no amplifier has a gain and a gain ratio", do="measure the ratios from flats of this detector"
        )
    levels = np.array([own[p].value / ratios[p].value for p in both])
    level, spread = float(np.median(levels)), float(np.std(levels, ddof=1)) if len(both) > 1 else 0.0
    error = 1.2533 * spread / math.sqrt(len(both))

    def corrected(q: Quantity) -> Quantity:
        if q.name != "gain" or q.place not in ratios:
            return q
        ratio = ratios[q.place]
        relative = math.hypot(error / level, (ratio.sigma or 0.0) / ratio.value)
        value = level * ratio.value
        return replace(q, value=value, sigma=value * relative)

    return replace(
        gain,
        quantities=tuple(corrected(q) for q in gain),
        provenance=Provenance(
            effect=NAME,
            inputs=gain.provenance.inputs,
            parents=(gain.identity, product.identity),
            options=dict(gain.provenance.options),
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            notes=(*gain.provenance.notes, "ratios of amplifiers from flats across their borders"),
        ),
    )


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``data -= offset`` of each amplifier, adu; pixels of an amplifier without one are DO_NOT_USE.

    The uncertainty of an offset is the same for all pixels of an amplifier and goes to `systematic`.

    Raises
    ------
    SelectionError
        If the product has no offsets.
    """
    del exposure
    offsets = {q.place: q for q in product if q.name == "offset"}
    if product.kind != NAME or not offsets:
        raise SelectionError(
            "there are no offsets to subtract",
            expected=f"a product of kind {NAME} measured from sky or dark frames",
            got=product.kind,
        )
    table = product.tables["amplifiers"]
    plane = place_plane(table, {name: q.value for name, q in offsets.items()})
    known = np.isfinite(plane)
    sigma = place_plane(table, {name: q.sigma or 0.0 for name, q in offsets.items()})
    return PixelStep(
        NAME,
        product=product.identity,
        offset=np.where(known, plane, np.float32(0.0)),
        offset_variance=np.where(known, sigma, np.float32(0.0)) ** 2,
        dq=None if known.all() else np.where(known, 0, int(DQ.DO_NOT_USE)).astype(np.uint32),
        requires_unit="adu",
        options={"largest": float(np.nanmax(np.abs(plane)))},
    )


def apply(frame: Frame, product: Product) -> Frame:
    """Subtract the offsets of the amplifiers from an assembled frame in adu.

    Raises
    ------
    HistoryError
        If it was done already, or the frame is in electrons.
    SelectionError
        If the product has no offsets, or is of another detector.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    _check(frame, product)
    return apply_steps(frame, [step(frame.exposure, product)])


def _check(frame: Frame, product: Product) -> None:
    """That the offsets belong to the detector of the frame and have its size."""
    table = product.tables.get("amplifiers")
    if table is None:
        return
    size = int(table["rows"][0]), int(table["cols"][0])
    check_fits(frame, replace(product, planes={"data": np.broadcast_to(np.float32(0.0), size)}))
