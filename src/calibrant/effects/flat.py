"""Flat: the response of every pixel to even light, relative to the median of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import common
from calibrant.effects._flat_light import Light, gain_of, look, patterns
from calibrant.effects._input import check_products, prepare
from calibrant.effects._steps import dark_time, flat_step, light_steps, name_of
from calibrant.errors import HistoryError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.combine import Noise
from calibrant.stack.pixel import PixelStep, PreparedSource, apply_steps
from calibrant.stack.reject import Rejection

NAME = "flat"
REACH = "pixel"
NEEDS: tuple[str, ...] = ("bias",)  # or a dark that held it
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    "flat",
    planes={
        "data": "Response relative to the median, at least the floor.",
        "variance": "Variance of data from the scatter of the frames.",
        "propagated": "Variance of data from the noise model.",
        "systematic": "Variance of data from bias and dark.",
        "count": "Frames that were used.",
        "dq": "Flags.",
    },
    quantities={
        "level": "Mean over the frames of their median counts above bias and dark, adu.",
        "level_scatter": "Standard deviation of these levels, per cent: of the lamp, not of the flat.",
        "scatter": "How far patterns of single frames depart from the flat, per cent, pixel noise removed.",
        "gain": "From the noise of the frames, e-/adu; only where it was not known.",
    },
)

BRIGHT = 95.0  # per cent of a column along a slit that are fainter than its bright part

ADVISED_SCATTER = 2.0
"""Per cent between frames from which on something is wrong with lamp, sky or shutter."""


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: common.Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    method: Literal["mean", "median"] = "mean",
    reject: Rejection | str = "auto",
    scale: Literal["median", "none"] = "median",
    **options: Any,
) -> Product:
    """Master flat of one filter.

    Each frame loses its bias and dark while it is read, is divided by its own median, and only then combined:
    frames of different light would otherwise not be comparable, and a median would pick one of them.

    Parameters
    ----------
    exposures : Exposures
        Frames of one detector, setting and filter, adu; of several exposure times and levels if wanted.
    products : mapping of Product
        ``bias`` and ``dark``, or a ``dark`` that holds its bias; not needed if the exposures come through
        these steps already. ``gain`` and ``read_noise`` for the noise model.
    progress, runner, budget
        As of `calibrant.stack.combine.combine`.
    method : {"mean", "median"}
    reject : Rejection or str
        ``"auto"``: limits from the noise model about the median below 12 frames or for levels that
        differ, 3-sigma clipping otherwise.
    scale : {"median", "none"}
        ``"none"`` combines the counts as they are, for comparison with other software.
    **options
        floor : float, 0.05. Smaller responses, zero and negative ones count as unlit, and are flagged.
        unlit : "hold" or "leave". Unlit pixels are divided by the floor, or left as they are: behind the jaws
        of a slit there is nothing but noise, which a division would blow up.
        against : "median", "column" or "row". What the floor is a fraction of: the median of the image, or
        the bright part (95 %) of each column or row, for spectra whose lamp is not of one brightness.
        saturation : float, adu. Raw values from which on a pixel is saturated; None takes the instrument's.
        gain, read_noise : float, e-/adu and adu. Before those of products and instrument.

    Returns
    -------
    Product
        Kind ``flat``, dimensionless, median 1.

    Raises
    ------
    SelectionError
        Mixed filters or settings; no frame that is neither saturated nor dark.
    HistoryError
        If nothing takes the bias away, or a flat was divided out already.
    """
    check_products(products)
    given = dict(products or {})
    choice = _Options(**options)
    record = common.Record({"method": method, "reject": common.text(reject), "scale": scale, **vars(choice)})
    series = common.begin(exposures, NAME, forbids=("flat", "gain"), of_kind=True, notes=record.notes)
    facts = common.facts(
        series, given, gain=choice.gain, read_noise=choice.read_noise, saturation=choice.saturation
    )
    sources = prepared(series, given, facts.saturation)
    light = look(sources, progress)
    series, sources, light = _usable(series, sources, light, record)
    record.notes += common.advice(series, NAME)
    noise, excess, gain = _noise(series, light, facts, given, record)
    levels = light.level if scale == "median" else np.full(light.level.size, light.level.mean())
    combined = common.stack(
        [PreparedSource(s, scale=float(1.0 / v)) for s, v in zip(sources, levels, strict=True)],
        method=method,
        reject=_rejection(reject, light, record),
        noise=[
            Noise(read_noise=float(np.hypot(noise, excess * v)), gain=gain, scale=float(1.0 / v), **dark)
            for v, dark in zip(levels, _dark_light(series, given), strict=True)
        ],
        runner=runner,
        budget=budget,
        progress=progress,
    )
    planes = _planes(combined, len(series), choice, given, series, levels)
    scatter = patterns(sources, light, planes["data"])
    return Product(
        kind=NAME,
        instrument=series[0].instrument,
        keys=common.product_keys(series, NAME),
        epoch=series.epoch,
        planes=planes,
        units={name: "" for name in ("data", "variance", "propagated", "systematic") if name in planes},
        tables={"frames": _table(series, light, scatter)},
        quantities=tuple(_quantities(light, scatter, record, None if facts.gain else gain)),
        provenance=record.provenance(NAME, series, given),
    )


@dataclass(frozen=True)
class _Options:
    floor: float = 0.05
    unlit: Literal["hold", "leave"] = "hold"
    against: Literal["median", "column", "row"] = "median"
    saturation: float | None = None
    gain: float | None = None
    read_noise: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.floor < 1:
            raise OptionError("the floor of a flat lies between 0 and 1", where="floor", got=self.floor)
        if self.unlit not in ("hold", "leave"):
            raise OptionError("unlit is hold or leave", where="unlit", got=repr(self.unlit))
        if self.against not in ("median", "column", "row"):
            raise OptionError("against is median, column or row", where="against", got=repr(self.against))

    def floors(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """The smallest response that counts as light, for each pixel of a flat of median 1."""
        if self.against == "median":
            return np.full((1, 1), self.floor, np.float32)
        axis = 0 if self.against == "column" else 1
        bright = np.nanpercentile(data, BRIGHT, axis=axis, keepdims=True)
        return (self.floor * bright).astype(np.float32)


def prepared(
    series: Exposures, products: Mapping[str, Product], saturation: float | None
) -> list[PreparedSource]:
    """Sources that lose bias and dark while they are read; saturated pixels are flagged before that.

    Raises
    ------
    HistoryError
        If nothing takes the bias away.
    """
    bias, dark = products.get("bias"), products.get("dark")
    whole = dark is not None and bool(dark.keys.get("includes_bias"))
    if bias is not None and whole:
        raise HistoryError(
            "the dark holds its bias, and a bias was given too", do="give one of the two, or a dark rate"
        )
    found = []
    done = bias is not None or whole or common.done_by_steps(series) & {"bias", "pedestal"}
    for exposure, source in zip(series, series.sources(), strict=True):
        if not done and not exposure.applied & {"bias", "dark"}:
            raise HistoryError(
                "a flat needs its bias removed before it is normalised",
                where=name_of(exposure),
                do="give a bias, or a dark of this exposure time that holds it",
            )
        found.append(prepare(source, light_steps(exposure, bias, dark), saturation))
    return found


def _usable(
    series: Exposures, sources: Sequence[PreparedSource], light: Light, record: common.Record
) -> tuple[Exposures, list[PreparedSource], Light]:
    """The frames that hold light and are not saturated; the others are named in a note."""
    names = [name_of(exposure) for exposure in series]
    for bad, why in ((light.saturated, "saturated"), (light.unlit, "without light")):
        if bad.any():
            record.notes.append(
                f"left out, {why}: " + ", ".join(n for n, b in zip(names, bad, strict=True) if b)
            )
    good = light.usable
    if not good.any():
        what = "all pixels are saturated" if light.saturated.all() else "there is no light"
        raise SelectionError(
            f"{what} in every flat" if light.saturated.all() or light.unlit.all() else "no flat is usable",
            where=", ".join(names[:3]) + (", ..." if len(names) > 3 else ""),
            got=f"{light.saturated.sum()} saturated and {light.unlit.sum()} unlit of {len(names)} frames",
            do="take flats of about half of the saturation level",
        )
    index = np.flatnonzero(good)
    return series.take(index.tolist()), [sources[int(i)] for i in index], light.only(index)


def _noise(
    series: Exposures,
    light: Light,
    facts: common.Facts,
    products: Mapping[str, Product],
    record: common.Record,
) -> tuple[float, float, float]:
    """Read noise [adu], relative scatter beyond pixel noise, gain [e-/adu] for the limits and variances."""
    noise = facts.read_noise
    if noise is None:
        noise = 0.0
        record.notes.append("the read noise is unknown, and was taken as zero against the noise of the light")
    gain = facts.gain
    if gain is None:
        gain = gain_of(light, noise)
        record.notes.append(
            "the gain is unknown: 1 e-/adu was assumed"
            if gain is None
            else f"the gain was unknown: {gain:.3g} e-/adu from the noise of successive frames"
        )
    gain = gain or 1.0
    excess = light.excess(noise, gain)
    if excess > 0:
        record.notes.append(
            f"frames differ by {100 * excess:.2g} % beyond their noise: limits were widened by that"
        )
    return noise, excess, gain


def _rejection(reject: Rejection | str, light: Light, record: common.Record) -> Rejection | str:
    if reject != "auto":
        return reject
    n = light.level.size
    # One scatter serves frames of one level only; fainter frames are noisier after scaling.
    even = light.level.max() < 1.3 * light.level.min()
    return common.default_rejection(n if even else min(n, common.FEW - 1))


def _dark_light(series: Exposures, products: Mapping[str, Product]) -> list[dict[str, Any]]:
    """What the noise model adds to the light: the electrons of the dark that was subtracted."""
    dark = products.get("dark")
    if dark is None:
        return [{} for _ in series]
    if dark.unit == "adu":
        plane = np.maximum(dark.data - np.float32(dark.quantity("level").value), 0)
        return [{"background": plane} for _ in series]
    return [{"background": dark.data, "background_factor": dark_time(exposure)} for exposure in series]


def _planes(
    combined: common.Stacked,
    n: int,
    choice: _Options,
    products: Mapping[str, Product],
    series: Exposures,
    levels: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """Normalise by the median of the good pixels; what is below the floor is unlit."""
    dq = common.reliable(combined, n, DQ.UNRELIABLE_FLAT)
    good = np.isfinite(combined.data) & ((dq & np.uint32(DQ.DO_NOT_USE)) == 0)
    middle = np.float32(np.median(combined.data[good])) if good.any() else np.float32(np.nan)
    if not middle > 0:
        raise SelectionError("the flat holds no light", expected="a median above zero", got=float(middle))
    data = combined.data / middle
    errors = {"variance": combined.variance if n > 1 else None, "propagated": combined.propagated}
    planes = {"data": data}
    planes |= {name: plane / middle**2 for name, plane in errors.items() if plane is not None}
    common_error = _common_error(products, series, levels)
    if common_error is not None:
        planes["systematic"] = (common_error / middle**2).astype(np.float32)
    floors = np.broadcast_to(choice.floors(np.where(good, data, np.nan)), data.shape)
    low = good & ~(data >= floors)
    data[low] = floors[low] if choice.unlit == "hold" else 1.0
    dq[low] |= np.uint32(DQ.UNRELIABLE_FLAT)
    data[~good] = 1.0
    dq[~good] |= np.uint32(NO_DATA | DQ.NO_FLAT_FIELD)
    return {**planes, "count": combined.count, "dq": dq}


def _common_error(
    products: Mapping[str, Product], series: Exposures, levels: NDArray[np.float64]
) -> NDArray[Any] | None:
    """Variance of the scaled flat from bias and dark, which all frames share; at the mean of the times."""
    total: NDArray[Any] | None = None
    middle = series[len(series) // 2]
    for step in light_steps(middle, products.get("bias"), products.get("dark")):
        if step.offset_variance is not None:
            part = np.asarray(step.offset_variance) * np.float32(step.offset_factor**2)
            total = part if total is None else total + part
    if total is None:
        return None
    shared: NDArray[Any] = np.maximum(total, 0) * np.float32(np.mean(1.0 / levels) ** 2)
    return shared


def _quantities(
    light: Light, scatter: NDArray[np.float64], record: common.Record, gain: float | None
) -> list[Quantity]:
    n, level = light.level.size, float(light.level.mean())
    spread = float(light.level.std(ddof=1)) if n > 1 else None
    found = [Quantity("level", level, None if spread is None else spread / n**0.5, "adu")]
    if gain is not None:
        found.append(Quantity("gain", gain, None, "electron/adu"))
    if spread is None:
        return found
    found.append(Quantity("level_scatter", 100.0 * spread / level, None, "%"))
    worst = float(np.sqrt(np.mean(scatter**2)))
    found.append(Quantity("scatter", worst, None, "%"))
    if worst >= ADVISED_SCATTER:
        record.notes.append(
            f"the patterns of the frames differ by {worst:.1f} %: {ADVISED_SCATTER:g} % or more is a problem"
        )
    return found


def _table(series: Exposures, light: Light, scatter: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """One line per frame, in order of time: name, start, level [adu], departure of its pattern [%]."""
    return {
        "name": np.array([common.label(e, i) for i, e in enumerate(series)]),
        "start": np.array([-1 if e.start is None else e.start for e in series], np.int64),
        "level": light.level,
        "scatter": scatter,
    }


def step(exposure: Exposure, product: Product, *, after: Collection[Product | str] = ()) -> PixelStep:
    """``data /= flat``, with the variance of the flat as systematic.

    Parameters
    ----------
    exposure : Exposure
        Of the frame.
    product : Product
        Kind ``flat``.
    after : collection
        Accepted as by the other steps; errors of bias and dark in the flat are taken as independent of those
        in the frame, which is an upper bound.
    """
    return flat_step(product)


def apply(frame: Frame, product: Product) -> Frame:
    """Divide a frame by a master flat.

    Parameters
    ----------
    frame : Frame
        (rows, cols), adu or electron, with its bias subtracted.
    product : Product
        Kind ``flat``.

    Returns
    -------
    Frame
        float32, unit unchanged; held and unknown responses are flagged.

    Raises
    ------
    HistoryError
        If the bias is still there, or the flat was divided out before.
    ShapeError, SelectionError, UnitError
        If the flat does not fit the frame.
    """
    frame.require(NAME, forbids=FORBIDS)
    common.require_bias(frame, NAME)
    common.check_fits(frame, product)
    return apply_steps(frame, [step(frame.exposure, product)])
