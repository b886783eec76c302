"""Dark: the counts that a pixel collects without light, as a rate, or with its bias at one exposure time."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import common
from calibrant.effects._dark_facts import dark_quantities
from calibrant.effects._dark_fit import Group, RateFit, fit_rates
from calibrant.effects._input import check_products
from calibrant.effects._levels import levelled, survey
from calibrant.effects._steps import TIME_TOLERANCE, dark_step, dark_time, error_plane, longest_time, name_of
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.product import Kind, Product
from calibrant.stack.combine import Noise
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.reject import Rejection
from calibrant.stack.source import ArraySource, Source

NAME = "dark"
REACH = "pixel"
NEEDS: tuple[str, ...] = ("bias",)  # only for rates without a bias plane
FORBIDS: tuple[str, ...] = ("flat", "gain")
KIND = Kind(
    "dark",
    planes={
        "data": "Rate of dark counts, adu/s; or dark and bias together, adu, at the time in the keys.",
        "variance": "Variance of data from the scatter of the frames.",
        "propagated": "Variance of data from the noise model.",
        "systematic": "Variance of data from the bias that was subtracted.",
        "bias": "Zero level from the fit of a line, adu; only where no bias was given.",
        "bias_propagated": "Variance of the plane bias from the noise model, adu2.",
        "covariance": "Covariance of data and bias, adu2/s.",
        "count": "Frames that were used.",
        "dq": "Flags.",
    },
    quantities={
        "rate": "Median over the pixels, adu/s.",
        "level": "Median level of the frames of one exposure time, bias included, adu.",
        "noise": "Noise of a typical pixel in one frame, from successive differences, adu.",
        "intercept": "Of the line through the median levels against time, adu.",
        "slope": "Of the same line, adu/s.",
        "nonlinearity": "Largest departure from that line, per cent of the highest level.",
        "cosmic_ray_rate": "Hits per second and million pixels: groups of high values, less low ones.",
        "hot_fraction": "Pixels more than 10 robust sigmas above the median.",
        "time_min": "Shortest dark time, s.",
        "time_max": "Longest dark time, s.",
        "frames_per_second": "Frames over sum of times, 1/s: how an error of the bias enters the rate.",
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
    level: Literal["auto", "keep", "common"] = "auto",
    gain: float | None = None,
    read_noise: float | None = None,
) -> Product:
    """Master dark.

    With a bias: the rate in adu/s, the sum of counts over the sum of dark times of the frames that survive.
    Without: dark and bias together if all frames are of one time (never to be scaled), or bias and rate
    fitted in each pixel if there are two or more times.

    Parameters
    ----------
    exposures : Exposures
        Frames of one detector, setting and temperature, adu; of several exposure times if wanted.
    products : mapping of Product, optional
        ``bias``; ``gain``, ``read_noise`` for the noise model.
    progress, runner, budget
        As of `calibrant.stack.combine.combine`.
    method : {"mean", "median"}
        Of frames of one time.
    reject : Rejection or str
        ``"auto"``: limits from the noise model about the median below 12 frames of one time, 3-sigma clipping
        from 12 on. Between times a value is held against what the others predict.
    level : {"auto", "keep", "common"}
        ``"common"`` shifts frames of one time to their mean level; ``"auto"`` does so, and notes it, if their
        levels differ by more than half the noise of a pixel.
    gain, read_noise : float, optional
        e-/adu and adu, before those of products and instrument.

    Returns
    -------
    Product
        Kind ``dark``; unit ``adu/s``, or ``adu`` with the keys ``exptime`` and ``includes_bias``.

    Raises
    ------
    SelectionError, ShapeError, HistoryError
        If the exposures do not belong together, or had their dark removed already.
    HeaderError
        If an exposure time is missing.
    """
    check_products(products)
    given = dict(products or {})
    record = common.Record({"method": method, "reject": common.text(reject), "level": level})
    series = common.begin(
        exposures, NAME, forbids=("bias", "dark", *FORBIDS), of_kind=True, notes=record.notes
    )
    record.notes += common.advice(series, NAME)
    work = _Work(
        series, _times(series), common.bias_for(series, given), given, record, reject, method, progress,
        {"runner": runner, "budget": budget, "progress": progress},
    )  # fmt: skip
    work.prepare(gain, read_noise, level)
    distinct = work.groups()
    if work.bias is None and len(distinct) == 1:
        planes, units, rejects = _with_bias(work)
    elif len(distinct) == 1:
        planes, units, rejects = _one_time(work)
    else:
        planes, units, rejects = _several_times(work, distinct)
    keys = common.product_keys(series, NAME)
    if work.bias is None:
        keys |= {"includes_bias": True} | ({"exptime": work.times[0]} if len(distinct) == 1 else {})
    quantities = dark_quantities(
        planes, units["data"], work.times, work.levels, rejects if work.rejects(distinct) else None
    )
    return Product(
        kind=NAME,
        instrument=series[0].instrument,
        keys=keys,
        epoch=series.epoch,
        planes=planes,
        units=units,
        tables={"frames": _table(work)},
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, series, given),
    )


def _times(series: Exposures) -> NDArray[np.float64]:
    times = np.array([dark_time(exposure) for exposure in series])
    if not (times > 0).all():
        worst = series[int(np.argmin(times))]
        raise SelectionError(
            "a dark needs an exposure time above zero",
            where=name_of(worst),
            got=f"{times.min():g} s",
            do="select it as a bias, or leave it out",
        )
    return times


@dataclass
class _Work:
    """What the ways of making a dark share."""

    series: Exposures
    times: NDArray[np.float64]
    bias: Product | None
    products: Mapping[str, Product]
    record: common.Record
    reject: Rejection | str
    method: Literal["mean", "median"]
    progress: common.Progress | None
    engine: Mapping[str, Any]

    def prepare(self, gain: float | None, read_noise: float | None, level: str) -> None:
        """Levels of the frames, noise model, and the sources, shifted where their levels jump."""
        self.facts = common.facts(self.series, self.products, gain=gain, read_noise=read_noise)
        self.sources: Sequence[Source] = self.series.sources()
        less = None if self.bias is None else self.bias.data
        self.levels = survey(self.sources, less=less, times=self.times, progress=self.progress)
        if self.facts.gain is None:
            self.record.notes.append(
                "the gain is unknown: limits assume 1 e-/adu, and no propagated variance is given"
            )
        self.gain = self.facts.gain or 1.0
        known = self.facts.read_noise
        typical = self.levels.noise if math.isfinite(self.levels.noise) else known
        # A dark that holds its bias shows its own noise; elsewhere photons are counted apart from read noise.
        self.noise = typical if (self.bias is None and len(self.groups()) == 1) or known is None else known
        if self.noise is None and len(self.series) > 1:
            # Frames of different times differ by their darks too; the least of them is nearest to the noise.
            self.noise = float(survey(self.sources).pair_noise.min())
            self.record.notes.append(
                f"the read noise was unknown: {self.noise:.3g} adu from frames of different times"
            )
        self._shift(level, typical or 0.0)

    def _shift(self, level: str, noise: float) -> None:
        if level not in ("auto", "keep", "common"):
            raise OptionError("level is auto, keep or common", where="level", got=repr(level))
        target = np.empty_like(self.levels.mean)
        widest = 0.0
        for members in self.groups():
            target[members] = self.levels.mean[members].mean()
            widest = max(widest, float(np.ptp(self.levels.mean[members])))
        if level == "common" or (level == "auto" and widest > noise / 2):
            self.sources = levelled(self.sources, self.levels.mean, target)
            self.record.notes.append(
                f"levels of frames of one time differ by {widest:.3g} adu: each was shifted to their mean"
            )

    def groups(self) -> list[list[int]]:
        """Frames of one time together, in order of time."""
        found: list[list[int]] = []
        for index in np.argsort(self.times, kind="stable"):
            time = self.times[index]
            if found and time - self.times[found[-1][0]] <= TIME_TOLERANCE * time:
                found[-1].append(int(index))
            else:
                found.append([int(index)])
        return [sorted(group) for group in found]

    def rejects(self, groups: Sequence[Sequence[int]]) -> bool:
        """Whether the frames are enough to tell a hit from the pixel."""
        return self.reject != "none" and (len(groups) > 1 or len(self.series) > 2)

    def combine(self, members: Sequence[int], background: NDArray[Any] | float) -> common.Stacked:
        """Raw frames of one time; `background` is the negative of the level that holds no electrons."""
        n = len(members)
        reject = common.default_rejection(n) if self.reject == "auto" else self.reject
        noise = None
        if self.noise is not None:
            noise = Noise(read_noise=self.noise, gain=self.gain, background=background)
        elif n < common.FEW and self.reject == "auto":
            reject = "none"
        return common.stack(
            [self.sources[i] for i in members], method=self.method, reject=reject, noise=noise, **self.engine
        )

    def unreliable(self, combined: common.Stacked) -> NDArray[np.uint32]:
        """Flags of a master of all frames."""
        dq = common.reliable(combined, len(self.series), DQ.UNRELIABLE_DARK)
        return dq if self.bias is None else dq | self.bias.planes.get("dq", np.uint32(0))


Made = tuple[dict[str, NDArray[Any]], dict[str, str], tuple[NDArray[Any], NDArray[Any]]]


def _with_bias(work: _Work) -> Made:
    """Dark and bias together: raw frames of one time."""
    level = float(work.levels.median.mean())
    combined = work.combine(range(len(work.series)), -level)
    planes: dict[str, NDArray[Any]] = {"data": combined.data}
    _add_errors(planes, combined, work, 1.0)
    planes |= {"count": combined.count, "dq": work.unreliable(combined)}
    work.record.notes.append(
        "no bias was given: the dark holds its bias, and serves frames of its own exposure time only"
    )
    return planes, _units(planes, "adu"), (combined.low, combined.high)


def _one_time(work: _Work) -> Made:
    """Rate from frames of one time: median((d - b)/t) = (median(d) - b)/t, so raw integers are combined."""
    assert work.bias is not None
    time = float(work.times.mean())
    combined = work.combine(range(len(work.series)), -work.bias.data)
    factor = np.float32(1.0 / time)
    planes: dict[str, NDArray[Any]] = {"data": (combined.data - work.bias.data) * factor}
    _add_errors(planes, combined, work, 1.0 / time**2)
    common_error = error_plane(work.bias)
    if common_error is not None:
        planes["systematic"] = common_error * factor * factor
    planes |= {"count": combined.count, "dq": work.unreliable(combined)}
    return planes, _units(planes, "adu/s"), (combined.low, combined.high)


def _add_errors(
    planes: dict[str, NDArray[Any]], combined: common.Stacked, work: _Work, factor: float
) -> None:
    if len(work.series) > 1:
        planes["variance"] = combined.variance * np.float32(factor)
    if combined.propagated is not None and work.facts.gain is not None:
        planes["propagated"] = combined.propagated * np.float32(factor)


def _several_times(work: _Work, groups: Sequence[Sequence[int]]) -> Made:
    """Rates from several times: frames of one time are combined first, then the times are fitted together."""
    if work.noise is None:
        raise OptionError(
            "the read noise is unknown, and single frames do not show it",
            where="read_noise",
            do="give read_noise in adu, a bias with two or more frames, or the instrument's value",
        )
    # Without a bias the lowest level stands for it: enough to know which counts are electrons of the dark.
    less = float(work.levels.median.min()) if work.bias is None else work.bias.data
    parts, low, high = [], [], []
    for members in groups:
        time = float(work.times[list(members)].mean())
        if len(members) < 3:
            parts += [Group(float(work.times[i]), work.sources[i]) for i in members]
            continue
        combined = work.combine(members, -less)
        parts.append(
            Group(time, ArraySource(combined.data, combined.dq & np.uint32(DQ.DO_NOT_USE)), combined.count)
        )
        low.append(combined.low)
        high.append(combined.high)
    fit = fit_rates(
        parts,
        bias=None if work.bias is None else work.bias.data,
        read_noise=work.noise,
        gain=work.gain,
        limit=common.NOISE_LIMIT,
        runner=work.engine["runner"],
        progress=work.progress,
    )
    planes = _fit_planes(fit, work)
    total = np.sum([fit.low, *low], axis=0), np.sum([fit.high, *high], axis=0)
    return planes, _units(planes, "adu/s"), total


def _fit_planes(fit: RateFit, work: _Work) -> dict[str, NDArray[Any]]:
    planes: dict[str, NDArray[Any]] = {"data": fit.rate, "variance": fit.rate_variance * fit.chi2}
    if work.facts.gain is not None:
        planes["propagated"] = fit.rate_variance
    if work.bias is not None:
        bias_error = error_plane(work.bias)
        if bias_error is not None:
            planes["systematic"] = bias_error * fit.frames_per_second**2
    if fit.bias is not None and fit.bias_variance is not None and fit.covariance is not None:
        planes |= {"bias": fit.bias, "bias_propagated": fit.bias_variance, "covariance": fit.covariance}
    dq = np.zeros(fit.rate.shape, np.uint32)
    dq[fit.count * 2 < len(work.series)] = DQ.UNRELIABLE_DARK
    dq[~np.isfinite(fit.rate)] |= np.uint32(NO_DATA)
    if work.bias is not None:
        dq |= work.bias.planes.get("dq", np.uint32(0))
    return planes | {"count": fit.count, "dq": dq}


def _units(planes: Mapping[str, Any], unit: str) -> dict[str, str]:
    square = {"adu": "adu2", "adu/s": "adu2/s2"}[unit]
    units = {"data": unit, "variance": square, "propagated": square, "systematic": square}
    units |= {"bias": "adu", "bias_propagated": "adu2", "covariance": "adu2/s"}
    return {name: value for name, value in units.items() if name in planes}


def _table(work: _Work) -> dict[str, NDArray[Any]]:
    """One line per frame, in order of time of taking: name, start, dark time, level, median less bias."""
    series = work.series
    return {
        "name": np.array([common.label(e, i) for i, e in enumerate(series)]),
        "start": np.array([-1 if e.start is None else e.start for e in series], np.int64),
        "time": work.times,
        "level": work.levels.mean,
        "median": work.levels.median,
    }


class Choice(NamedTuple):
    """A dark for an exposure time, whether it must be scaled, and why it was chosen."""

    dark: Product
    scaled: bool
    reason: str


def choose(darks: Sequence[Product], exptime: float, *, scale_up: bool = False) -> Choice:
    """The dark for an exposure time: of the same time if there is one, else a longer rate scaled down.

    Parameters
    ----------
    darks : sequence of Product
        Whose other keys match already.
    exptime : float
        Seconds.
    scale_up : bool
        Whether a rate of shorter times may be used at the last, with a reason that says so.

    Raises
    ------
    SelectionError
        If none may be used; says which times there are.
    """
    longer: list[tuple[float, Product]] = []
    shorter: list[tuple[float, Product]] = []
    near = TIME_TOLERANCE * max(exptime, 1.0)
    for dark in darks:
        times = own_times(dark)
        if any(abs(time - exptime) <= near for time in times):
            return Choice(dark, False, f"its exposure time is that of the frame, {exptime:g} s")
        if dark.unit == "adu/s" and times:
            (longer if max(times) > exptime else shorter).append((max(times), dark))
    if longer:
        time, dark = min(longer, key=lambda item: item[0])
        return Choice(dark, True, f"scaled down from {time:g} s to {exptime:g} s")
    if shorter and scale_up:
        time, dark = max(shorter, key=lambda item: item[0])
        return Choice(dark, True, f"scaled UP from {time:g} s to {exptime:g} s: errors grow with it")
    held = sorted({time for dark in darks for time in own_times(dark)})
    raise SelectionError(
        "no dark serves this exposure time",
        expected=f"{exptime:g} s, or a rate from longer times",
        got=", ".join(f"{time:g} s" for time in held) or "no darks",
        do="take darks of this time or longer ones with biases, or allow scaling up",
    )


def own_times(dark: Product) -> list[float]:
    """Dark times of the frames that went into a dark, seconds."""
    if "exptime" in dark.keys:
        return [float(dark.keys["exptime"])]
    if "frames" in dark.tables and "time" in dark.tables["frames"]:
        return sorted({float(time) for time in dark.tables["frames"]["time"]})
    longest = longest_time(dark)
    return [] if longest is None else [longest]


def step(
    exposure: Exposure,
    product: Product,
    *,
    after: Collection[Product | str] = (),
    scale_up: bool = True,
    read_noise: float | NDArray[Any] | None = None,
    gain: float | None = None,
) -> PixelStep:
    """``data -= rate * t``, or ``data -= dark`` at the dark's own exposure time.

    Parameters
    ----------
    exposure : Exposure
        Of the frame: gives t.
    product : Product
        Kind ``dark``.
    after : collection of Product or identity
        What was subtracted before: an error of the bias that frame and dark share cancels.
    scale_up : bool
        Whether a rate may be used for longer times than it was measured at.
    read_noise, gain : float or array, optional
        adu and e-/adu: for darks that hold their bias, the noise of the frame is added here, with the
        electrons of the dark.

    Raises
    ------
    SelectionError
        If a dark that holds its bias would have to be scaled, or a rate be scaled up without leave.
    HistoryError
        If the camera removed the dark already.
    HeaderError
        If the exposure time is missing.
    """
    return dark_step(exposure, product, after=after, scale_up=scale_up, read_noise=read_noise, gain=gain)


def apply(frame: Frame, product: Product, **options: Any) -> Frame:
    """Subtract a dark from a frame in adu.

    Parameters
    ----------
    frame : Frame
        (rows, cols), adu; with its bias subtracted if the dark is a rate.
    product : Product
        Kind ``dark``.
    **options
        `scale_up`, `read_noise`, `gain` of `step`.

    Raises
    ------
    HistoryError
        If the bias is still there (for a dark that holds its bias: gone), or the dark was subtracted before.
    ShapeError, SelectionError, UnitError, HeaderError
        If the dark does not fit the frame.
    """
    whole = bool(product.keys.get("includes_bias"))
    frame.require(NAME, forbids=("bias", *FORBIDS) if whole else FORBIDS)
    if not whole:
        common.require_bias(frame, NAME)
    common.check_fits(frame, product)
    return apply_steps(frame, [step(frame.exposure, product, after=common.before(frame), **options)])
