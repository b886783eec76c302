"""Read noise: measured on ramps, and the step that gives a frame its variance.

``variance = read_noise**2 + max(data, 0) / gain`` in adu squared, for data whose bias was subtracted and
whose dark was not: dark electrons make noise too; see docs/effects/read_noise.md.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import place_plane, places_table
from calibrant.effects._input import check_products
from calibrant.effects._ramp_noise import Method, Options
from calibrant.effects._ramp_noise_trend import trend
from calibrant.effects.common import Record, begin, product_keys
from calibrant.errors import ConfigError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps

__all__ = ["KIND", "NAME", "apply", "factor", "measure", "step", "steps", "trend"]

NAME = "read_noise"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("dark", "flat", "gain")
KIND = Kind(
    "read_noise",
    planes={
        "read_noise": "Standard deviation of one frame, of a ramp of one read, in each pixel.",
        "read_noise_variance": "Of ramps: the square of its standard error.",
        "count": "Of ramps: differences, or degrees of freedom of lines, that it was made of.",
        "dq": "Of ramps: flags of all files; DO_NOT_USE where there is no number.",
        "uncorrected": "Of ramps, intermediate: before any correction, of a difference of two groups (CDS).",
    },
    quantities={
        "read_noise": "Standard deviation of one frame, or read; the place is the amplifier, or output.",
        "read_noise_reference": "The same of reference pixels.",
        "reference_ratio": "Noise of reference pixels by that of the others.",
        "temporal_noise": "Of ramps: scatter of pixels from read to read, mean of boxes.",
        "spatial_noise": "Of ramps: scatter of differences within boxes, mean of boxes.",
        "spatial_to_temporal": "The ratio of both: 1 for white noise, less where many pixels drift together.",
        "line_to_difference": "Noise about lines by that of differences: more than 1 where levels drift.",
        "nframes": "Frames that a group of the ramps averages; the noise is that of one.",
    },
)
Convention = Literal["read", "group", "cds"]
MATCH_AS = "bias"
SAME_GAIN = 0.01  # relative difference of amplifiers that one gain may stand for

Progress = Callable[[int, int, str], None]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    read_noise: float | None = None,
    level_sigma: float = 0.0,
    per_pixel: bool = True,
    method: Method | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **options: Any,
) -> Product:
    """The read noise of ramps as measured; of frames as given, else of the bias, the overscan, or nominal.

    Parameters
    ----------
    exposures : Exposures
        Of one detector and mode. Of frames no pixel is read. Ramps in the dark have one read pattern; their
        numbers of groups and integrations may differ.
    method : str, optional
        Of ramps, ``stack`` if not given: the clipped scatter of all differences of groups. ``ramp``: of those
        of each file, and the mean over files. ``residual``: the scatter about straight lines, broken at
        jumps, which half the number of frames determines as well; slow drifts are in it.
    **options
        Of ramps: see `calibrant.effects._ramp_noise.Options`, names as in `jwst_reffiles`.
    products : mapping of Product
        ``bias`` with its quantity, and plane, read_noise [adu]; ``overscan``; ``gain`` for nominal values,
        which are in electrons.
    read_noise : float, optional
        adu; before all others.
    level_sigma : float
        Uncertainty of the overscan level under a pixel, adu, added in quadrature. It is in the noise of
        biases already, and not in a nominal read noise.
    per_pixel : bool
        Whether the bias's plane is used, for the pixels that are clearly noisier than the others.

    Returns
    -------
    Product
        Quantity read_noise [adu] for each amplifier, and the plane read_noise [adu] where it is known. Of
        ramps always that of a single read, whatever was measured; see `KIND` for its further planes.

    Raises
    ------
    ConfigError
        If no read noise is known.
    OptionError
        If it is negative or not a number; for an option that means nothing.
    SelectionError
        If ramps are of several kinds (what differs is told file by file), or too short.
    """
    check_products(products)
    if method is not None or _are_ramps(exposures):
        from calibrant.effects._ramp_noise_product import measured

        own = _ramp_options(options)
        engine = {"progress": progress, "runner": runner, "budget": budget}
        return measured(exposures, method or "stack", own, products=products or {}, **engine)
    if options:
        raise OptionError("these options are of ramps", where=NAME, got=", ".join(options))
    del progress, runner, budget
    exposures = begin(exposures, MATCH_AS)
    products = products or {}
    if read_noise is not None:
        known: _Known = {"": float(read_noise)}, {}, "given"
    else:
        known = _known(exposures, products, per_pixel)
    values, planes, source = known
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(
                "a read noise must be a number, not below 0",
                where=name or NAME,
                expected=">= 0 adu",
                got=value,
            )
    values = {name: math.hypot(value, level_sigma) for name, value in values.items()}
    if level_sigma:
        planes = {name: np.hypot(plane, np.float32(level_sigma)) for name, plane in planes.items()}
    record = Record(options={"source": source, "level_sigma": level_sigma})
    used = {name: product for name, product in products.items() if name == source}
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=product_keys(exposures, MATCH_AS),
        epoch=exposures.epoch,
        planes=planes,
        units=dict.fromkeys(planes, "adu"),
        quantities=tuple(Quantity(NAME, value, None, "adu", name) for name, value in values.items()),
        provenance=record.provenance(NAME, exposures, used),
    )


def _are_ramps(exposures: Exposures) -> bool:
    """Whether they are read up the ramp."""
    return bool(len(exposures)) and (
        exposures.instrument.layout.form == "ramp" or len(exposures[0].shape or ()) > 2
    )


def _ramp_options(options: Mapping[str, Any]) -> Options:
    known = Options.__dataclass_fields__
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise OptionError(
                f"the read noise of ramps has no option {name!r}",
                expected=None if near else ", ".join(known),
                do=f"did you mean {near[0]!r}?" if near else None,
            )
    return Options(**options)


_Known = tuple[dict[str, float], dict[str, NDArray[Any]], str]


def _known(exposures: Exposures, products: Mapping[str, Product], per_pixel: bool) -> _Known:
    for source in ("bias", "overscan"):
        product = products.get(source)
        if product is None:
            continue
        values = {q.place: q.value for q in product if q.name == NAME and math.isfinite(q.value)}
        if values:
            plane = product.planes.get(NAME) if source == "bias" and per_pixel else None
            return values, {} if plane is None else {NAME: _smoothed(plane, product, values)}, source
    return _nominal(exposures, products)


def _smoothed(plane: NDArray[Any], product: Product, values: Mapping[str, float]) -> NDArray[np.float32]:
    """The bias's map with its sampling error taken out: a shrinkage towards the one number.

    The standard deviation of n frames is uncertain by 1 / sqrt(2 (n - 1)) of itself, more than normal pixels
    differ by. Only pixels beyond 3 of these sigmas keep their own noise: weights from such a map would
    otherwise favour the pixels that were quiet by chance.
    """
    counts = product.planes.get("count")
    n = float(np.median(counts)) if counts is not None else float(max(len(product.provenance.inputs), 2))
    typical = np.float32(values.get("", float(np.median(list(values.values())))))
    limit = 1.0 + 3.0 / math.sqrt(2.0 * max(n - 1.0, 1.0))
    noisy = np.isfinite(plane) & (plane > limit * typical)
    return np.where(noisy, plane, typical).astype(np.float32)


def _nominal(exposures: Exposures, products: Mapping[str, Product]) -> _Known:
    """From header or instrument file, in electrons, by the gain."""
    readouts = exposures.instrument.readouts(exposures[0])
    gain = products.get("gain")
    nominal = exposures.instrument.nominal(exposures[0])
    gains = {} if gain is None else {q.place: q.value for q in gain if q.name == "gain"}
    values = {}
    several = len(readouts) > 1 and all(readout.read_noise is not None for readout in readouts)
    for readout in readouts if several else readouts[:1]:
        noise = readout.read_noise if several else nominal[1]
        own = gains.get(readout.name, readout.gain if several else nominal[0])
        if noise is None or own is None:
            raise ConfigError(
                f"no {'read noise' if noise is None else 'gain'} is known: "
                "neither the header nor the instrument file states one",
                where=exposures.instrument.name,
                do="take biases, add it to the detector in the instrument file, or give read_noise=...",
            )
        values[readout.name if several else ""] = noise / own
    planes: dict[str, NDArray[Any]] = {}
    if several and len(set(values.values())) > 1:
        planes[NAME] = place_plane(places_table(readouts, exposures[0].shape), values)
    return values, planes, "nominal"


def factor(of: Convention = "read", nframes: int = 1) -> float:
    """Noise of a value in units of that of a single read, white noise.

    Parameters
    ----------
    of : str
        ``read``; ``group``, the average of `nframes` reads; ``cds``, the difference of two groups, as the
        reference files of JWST hold it.

    Raises
    ------
    OptionError
        If it is none of these, or the number is below 1.
    """
    squares = {"read": 1.0, "group": 1.0 / max(nframes, 1), "cds": 2.0 / max(nframes, 1)}
    if of not in squares or nframes < 1:
        raise OptionError(
            "a read noise is of a read, of a group of nframes reads, or of the difference of two groups",
            where="of",
            expected="read, group or cds; nframes >= 1",
            got=(of, nframes),
        )
    return math.sqrt(squares[of])


def step(
    exposure: Exposure,
    product: Product,
    *,
    gain: float | Product | None = None,
    per_pixel: bool = True,
    of: Convention = "read",
    nframes: int = 1,
) -> PixelStep:
    """Variance of read noise, and of photons where the gain is known.

    Parameters
    ----------
    exposure : Exposure
        Its own gain is taken where `gain` is not given.
    product : Product
        Of `measure`, or a bias: plane or quantity read_noise [adu].
    gain : float or Product, optional
        e-/adu. Without any, only the read noise is known, and the variance is a lower limit.
    per_pixel : bool
        Use the plane, if there is one.
    of, nframes : str, int
        What the values of the frame are: see `factor`. The product is of single frames, or reads.

    Raises
    ------
    SelectionError
        If the product says nothing of read noise, or the amplifiers are of different gain.
    """
    value = _gain(exposure, gain)
    plane = product.planes.get(NAME) if per_pixel else None
    values = [q.value for q in product if q.name == NAME]
    if plane is None and not values:
        raise SelectionError(
            f"the {product.kind} says nothing of the read noise", do="give a bias, or measure it"
        )
    noise: NDArray[Any] | float
    if plane is None:
        noise = float(np.median(values))
    elif product.kind == "bias":
        noise = _smoothed(plane, product, {q.place: q.value for q in product if q.name == NAME})
    else:
        noise = np.asarray(plane, np.float32)
    single = factor(of, nframes)
    options: dict[str, Any] = {"gain": value}
    if single != 1 or of != "read":
        noise = noise * single if isinstance(noise, float) else noise * np.float32(single)
        options |= {"of": of, "nframes": nframes}
    return PixelStep(
        NAME,
        product=product.identity,
        read_noise=noise,
        gain=value,
        options=options,
        note="" if value is not None else "the gain is not known: the variance lacks the photon noise",
    )


def _gain(exposure: Exposure, gain: float | Product | None) -> float | None:
    if not isinstance(gain, Product):
        return exposure.gain if gain is None else float(gain)
    values = np.array([q.value for q in gain if q.name == "gain" and math.isfinite(q.value)])
    if values.size == 0:
        raise SelectionError("the product says nothing of the gain", got=gain.kind)
    if np.ptp(values) > SAME_GAIN * values.mean():
        raise SelectionError(
            "the amplifiers are of different gain, and one number cannot give their photon noise",
            got=", ".join(f"{value:.3f}" for value in values),
            do="use read_noise.steps, which brings them to one gain and back",
        )
    return float(values.mean())


def steps(
    exposure: Exposure,
    product: Product,
    *,
    gain: float | Product | None = None,
    per_pixel: bool = True,
    of: Convention = "read",
    nframes: int = 1,
) -> tuple[PixelStep, ...]:
    """As `step`, also for amplifiers of different gain: these take two steps, exact for each amplifier.

    The first brings all counts to those of the mean gain, ``data *= gain / mean``; the second adds the noise
    there and takes data and variance back.
    """
    if not isinstance(gain, Product) or "amplifiers" not in gain.tables:
        return (step(exposure, product, gain=gain, per_pixel=per_pixel, of=of, nframes=nframes),)
    values = {q.place: q.value for q in gain if q.name == "gain"}
    known = [value for value in values.values() if math.isfinite(value)]  # a dead amplifier has none
    mean = float(np.mean(known)) if known else math.nan
    if len(known) == len(values) and np.ptp(known) <= SAME_GAIN * mean:
        return (step(exposure, product, gain=mean, per_pixel=per_pixel, of=of, nframes=nframes),)
    ratio = place_plane(gain.tables["amplifiers"], {name: value / mean for name, value in values.items()})
    here = step(exposure, product, gain=mean, per_pixel=per_pixel, of=of, nframes=nframes)
    assert here.read_noise is not None
    there = PixelStep(f"{NAME}.equalise", product=gain.identity, divisor=1 / ratio, options={"gain": mean})
    return there, replace(here, read_noise=np.asarray(here.read_noise * ratio, np.float32), divisor=ratio)


def apply(
    frame: Frame,
    product: Product,
    *,
    gain: float | Product | None = None,
    per_pixel: bool = True,
    of: Convention = "read",
    nframes: int = 1,
) -> Frame:
    """The frame with a variance plane.

    Parameters
    ----------
    frame : Frame
        adu, with its bias subtracted and its dark not.
    product, gain, per_pixel, of, nframes
        As of `step`.

    Raises
    ------
    HistoryError
        If it was done already, or dark, flat or gain were.
    """
    frame.require(NAME, needs=NEEDS, forbids=set(FORBIDS) - frame.exposure.applied)
    done = steps(frame.exposure, product, gain=gain, per_pixel=per_pixel, of=of, nframes=nframes)
    return apply_steps(frame, list(done))
