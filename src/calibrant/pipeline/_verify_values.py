"""What is measured of each kind of product: on processed frames, one at a time, or by its own numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._surroundings import surroundings
from calibrant.frame import DQ
from calibrant.pipeline._verify_frames import Area, Frames, Section, Seen
from calibrant.pipeline.limits import VALUES
from calibrant.product import Product
from calibrant.stats import clipped_stats, mad_std

FAR = 5.0  # sigmas
CLIP = 4.0  # sigmas, of levels and widths
SAMPLE = 1 << 20  # pixels that a level or a width is taken from
BOXES = 8  # along each side, of the large-scale structure of a flat
SMALL = 16  # pixels, at least, along a side of the boxes within which the noise of a flat is looked at
PARTS = 32  # such boxes along a side of a large detector
STRIP = 8  # pixels beside the border of two amplifiers
HOT = 10.0  # sigmas of one frame above the surroundings
DEAD = 0.5  # of the surroundings
UNUSABLE = np.uint32(DQ.DO_NOT_USE | DQ.NO_FLAT_FIELD | DQ.UNRELIABLE_FLAT)


@dataclass(frozen=True)
class Value:
    """A measured value of one place."""

    value: float
    unit: str = ""
    note: str = ""


@dataclass
class Values:
    """What was measured, and what has no meaning for this product.

    Attributes
    ----------
    found : mapping
        Name -> place -> value.
    absent : mapping of str to str
        Name -> why it does not apply: no failure, but told.
    """

    found: dict[str, dict[str, Value]] = field(default_factory=lambda: defaultdict(dict))
    absent: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float, unit: str = "", place: str = "", note: str = "") -> None:
        """Keep a value."""
        self.found[name][place] = Value(value, unit, note)


@dataclass
class _Series:
    """One number of each frame, by name and place."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, place: str, value: float) -> None:
        self.values[name, place].append(value)

    def of(self, name: str) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Place and numbers, those that are none left out."""
        for (known, place), values in self.values.items():
            numbers = np.array([value for value in values if math.isfinite(value)])
            if known == name and numbers.size:
                yield place, numbers

    def middles(self, into: Values, units: Mapping[str, str]) -> None:
        """The median over the frames of each name."""
        for name, unit in units.items():
            for place, numbers in self.of(name):
                into.put(name, float(np.median(numbers)), unit, place)


def measured(frames: Frames) -> Values:
    """All values of a product's kind; none for a kind that has no frames."""
    verb = _MEASURE.get(frames.product.kind)
    return Values() if verb is None else verb(frames)


# --- frames that should be left with nothing but noise: bias, dark ---


def _bias(frames: Frames) -> Values:
    values, series = Values(), _Series()
    for seen in frames.of("bias", ("bias",)):
        for area in seen.areas:
            width = _residual(seen, area, series)
            if area.read_noise is not None and area.nominal:
                series.add("nominal_ratio", area.place, width * area.read_noise / area.nominal)
            elif not area.nominal:
                values.absent["nominal_ratio"] = "no nominal read noise, or no gain, is stated"
    _common(values, series)
    series.middles(values, {"nominal_ratio": ""})
    return values


def _dark(frames: Frames) -> Values:
    values, series = Values(), _Series()
    for seen in frames.of("dark", ("bias", "dark")):
        for area in seen.areas:
            _residual(seen, area, series)
            series.add("time", area.place, math.nan if seen.time is None else seen.time)
    _common(values, series)
    levels, sigmas = dict(series.of("adu")), dict(series.of("sigma"))
    for place, times in series.of("time"):
        if np.ptp(times) <= 1e-3 * times.max() or times.size != levels[place].size:
            values.absent["rate"] = "all darks are of one time"
            continue
        slope = float(np.polyfit(times, levels[place], 1)[0])
        sigma = float(sigmas[place][int(np.argmax(times))])
        note = f"{slope:+.2g} adu/s"
        values.put("rate", slope * float(times.max()) / sigma, "sigma", place, note)
    return values


def _residual(seen: Seen, area: Area, series: _Series) -> float:
    """Level, width and structure of what is left in one amplifier; returns the width over the expected."""
    here = seen.data[area.section]
    if seen.variance is None:
        return math.nan
    sigma = np.sqrt(seen.variance[area.section])
    typical = float(np.median(sigma))
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = here / sigma
    good = np.isfinite(pulls)
    if not good.any():
        return math.nan
    level = clipped_stats(_sample(here), sigma=CLIP).mean
    width = _width(pulls)
    series.add("adu", area.place, level)
    series.add("sigma", area.place, typical)
    series.add("level", area.place, level / typical)
    series.add("noise_ratio", area.place, width)
    series.add("outliers", area.place, float(np.mean(np.abs(pulls[good] - level / typical) > FAR)))
    for name, axis in (("row_structure", 1), ("column_structure", 0)):
        series.add(name, area.place, _structure(pulls, good, axis, width))
    return width


def _common(values: Values, series: _Series) -> None:
    """What biases and darks share: the middle of the frames, and the one that is farthest off."""
    names = {"noise_ratio": "", "outliers": "", "row_structure": "sigma", "column_structure": "sigma"}
    series.middles(values, names)
    counts = dict(series.of("adu"))
    for place, levels in series.of("level"):
        note = f"{float(np.median(counts[place])):+.3g} adu"
        values.put("level", float(np.median(levels)), "sigma", place, note)
        worst = int(np.argmax(np.abs(levels)))
        note = f"{float(counts[place][worst]):+.3g} adu"
        values.put("worst_level", float(levels[worst]), "sigma", place, note)


def _structure(pulls: NDArray[np.floating], good: NDArray[np.bool_], axis: int, width: float) -> float:
    """Scatter of the lines' means beyond the noise of a mean, in sigmas of a pixel; negative if below it."""
    count = good.sum(axis)
    full = count > good.shape[axis] / 2
    if full.sum() < 3:
        return math.nan
    clipped = np.where(good, np.clip(pulls, -CLIP, CLIP), 0.0)
    means = clipped.sum(axis, dtype=np.float64)[full] / count[full]
    excess = mad_std(means) ** 2 - width**2 * float(np.mean(1.0 / count[full]))
    return math.copysign(math.sqrt(abs(excess)), excess)


# --- flats ---


def _flat(frames: Frames) -> Values:
    values, series = Values(), _Series()
    flat = frames.product
    usable = _without(flat, UNUSABLE)
    values.put("unusable", float(np.mean(~usable)))
    # Over held pixels too: they count in the median that the flat was divided by.
    values.put("normalisation", float(np.median(flat.data[_without(flat, np.uint32(DQ.DO_NOT_USE))])))
    for seen in frames.of("flat", ("bias", "dark", "flat")):
        if not seen.level > 0:
            frames.leave_out(seen.exposure.path or "a frame", "there is no light in it")
            continue
        # Where the flat was held at its floor, or knows nothing, a division says nothing about it.
        ratio = np.where(usable, seen.data / np.float32(seen.level), np.float32(np.nan))
        series.add("amplifier_step", "", _largest_step(ratio, seen.areas))
        if seen.variance is None:
            frames.lack = frames.lack or "the gain is unknown"
            continue
        relative = seen.variance / np.float32(seen.level**2)
        series.add("structure", "", 100.0 * _large_structure(ratio, relative))
        with np.errstate(divide="ignore", invalid="ignore"):
            pulls = (ratio - _box_medians(ratio, max(SMALL, min(ratio.shape) // PARTS))) / np.sqrt(relative)
        far = np.abs(pulls[np.isfinite(pulls)]) > FAR
        series.add("outliers", "", float(np.mean(far)))
        for area in seen.areas:
            series.add("noise_ratio", area.place, _width(pulls[area.section]))
    series.middles(values, {"structure": "%", "noise_ratio": "", "outliers": "", "amplifier_step": "%"})
    if "amplifier_step" not in values.found:
        values.absent["amplifier_step"] = "no two amplifiers lie beside each other"
    return values


def _without(flat: Product, flags: np.uint32) -> NDArray[np.bool_]:
    """Pixels that are numbers, and have none of the flags."""
    dq = flat.planes.get("dq")
    good: NDArray[np.bool_] = np.isfinite(flat.data)
    return good if dq is None else good & ((dq & flags) == 0)


def _boxes(shape: tuple[int, ...], rows: int, cols: int) -> Iterator[Section]:
    """Boxes of about `rows` x `cols` pixels that cover an image."""
    edges = [
        np.linspace(0, size, max(1, size // step) + 1).round().astype(int)
        for size, step in zip(shape, (rows, cols), strict=True)
    ]
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            yield slice(int(top), int(bottom)), slice(int(left), int(right))


def _large_structure(ratio: NDArray[np.float32], variance: NDArray[np.float32]) -> float:
    """Scatter of the medians of large boxes beyond their noise, as a fraction; negative if below it."""
    rows, cols = (max(1, math.ceil(size / BOXES)) for size in ratio.shape)
    medians, noise = [], []
    for box in _boxes(ratio.shape, rows, cols):
        good = np.isfinite(ratio[box])
        if good.sum() > good.size / 2:
            medians.append(float(np.median(ratio[box][good])))
            # Variance of a median of many normal values; only the typical pixel counts.
            noise.append(0.5 * math.pi * float(np.median(variance[box][good])) / int(good.sum()))
    if len(medians) < 3:
        return math.nan
    excess = float(np.var(medians, ddof=1)) - float(np.mean(noise))
    return math.copysign(math.sqrt(abs(excess)), excess)


def _box_medians(ratio: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Each pixel's box median: what is larger than a box is no noise."""
    smooth = np.full(ratio.shape, np.float32(np.nan))
    for box in _boxes(ratio.shape, size, size):
        good = np.isfinite(ratio[box])
        if good.any():
            smooth[box] = np.median(ratio[box][good])
    return smooth


def _largest_step(ratio: NDArray[np.float32], areas: tuple[Area, ...]) -> float:
    """Largest step between neighbouring amplifiers, per cent with its sign; NaN if there are none."""
    steps = [0.0]
    for one in areas:
        for other in areas:
            for axis in (0, 1):
                step = _step(ratio, one.section, other.section, axis)
                if math.isfinite(step):
                    steps.append(step)
    return 100.0 * max(steps, key=abs) if len(steps) > 1 else math.nan


def _step(ratio: NDArray[np.float32], one: Section, other: Section, axis: int) -> float:
    """From `one` to `other` across their border, if `other` begins where `one` ends along `axis`."""
    first, second = (_bounds(section, ratio.shape) for section in (one, other))
    along = 1 - axis
    if first[axis].stop != second[axis].start or first[along] != second[along]:
        return math.nan
    edge = first[axis].stop
    before, after = list(first), list(first)
    before[axis], after[axis] = slice(max(edge - STRIP, 0), edge), slice(edge, edge + STRIP)
    a, b = (_sample(ratio[tuple(strip)]) for strip in (before, after))
    return float(np.median(b) / np.median(a) - 1.0) if a.size and b.size else math.nan


def _bounds(section: Section, shape: tuple[int, ...]) -> Section:
    """A section as slices that run upwards, whichever way its amplifier is read."""
    ranges = [range(*part.indices(size)) for part, size in zip(section, shape, strict=True)]
    rows, cols = (slice(min(r[0], r[-1]), max(r[0], r[-1]) + 1) for r in ranges)
    return rows, cols


# --- defects ---


def _defects(frames: Frames) -> Values:
    dq = frames.product.planes["dq"]
    values = Values()
    values.put("flagged", float(np.mean(dq != 0)))
    hot, darks = _standing_out(frames, "dark", ("bias",), _is_hot)
    dead, flats = _standing_out(frames, "flat", ("bias", "dark"), _is_dead)
    known = {quantity.name for quantity in frames.product}
    for name, mask, count, kind in (("hot", hot, darks, "dark"), ("dead", dead, flats, "flat")):
        if name not in known:
            values.absent[f"missed_{name}"] = f"the map was made without a {kind}"
        elif mask is not None:
            values.put(f"missed_{name}", float(np.mean(mask & (dq == 0))), note=f"of {count} {kind}s")
    flagged = np.zeros(dq.shape, bool)
    seen = np.zeros(dq.shape, bool)
    for flag, mask in ((DQ.HOT, hot), (DQ.DEAD, dead)):
        if mask is not None:
            flagged |= (dq & np.uint32(flag)) != 0
            seen |= mask & ((dq & np.uint32(flag)) != 0)
    if flagged.any():
        values.put("confirmed", float(seen.sum() / flagged.sum()), note=f"of {int(flagged.sum())} pixels")
    elif hot is not None or dead is not None:
        values.absent["confirmed"] = "no pixel is flagged hot or dead"
    return values


def _standing_out(
    frames: Frames, kind: str, uses: tuple[str, ...], test: Callable[[Seen], NDArray[np.bool_]]
) -> tuple[NDArray[np.bool_] | None, int]:
    """Pixels that stand out in more than half of the frames: a cosmic ray does not come twice."""
    total, count = None, 0
    for seen in frames.of(kind, uses):
        found = test(seen).astype(np.uint8)
        total = found if total is None else total + found
        count += 1
    return (None, 0) if total is None else (total * 2 > count, count)


def _is_hot(seen: Seen) -> NDArray[np.bool_]:
    excess = seen.data - surroundings(seen.data)
    hot: NDArray[np.bool_] = np.isnan(excess) | (excess > HOT * _width(excess))
    return hot


def _is_dead(seen: Seen) -> NDArray[np.bool_]:
    values = np.where(np.isnan(seen.data), np.float32(seen.level), seen.data)
    around = surroundings(values)
    lit = around > 0.1 * np.float32(seen.level)
    dead: NDArray[np.bool_] = lit & (values < DEAD * around)
    return dead


# --- what is measured, not combined: the numbers that the product states ---


def _stated(frames: Frames) -> Values:
    values, wanted = Values(), VALUES[frames.product.kind]
    for quantity in frames.product:
        if quantity.name in wanted:
            note = "" if quantity.sigma is None else f"+- {quantity.sigma:.2g}"
            values.put(quantity.name, quantity.value, quantity.unit, quantity.place, note)
    values.absent |= {name: "the product does not state it" for name in wanted if name not in values.found}
    return values


def _gain(frames: Frames) -> Values:
    """Its numbers, and what they are of the nominal ones."""
    values, nominal = _stated(frames), frames.nominal("flat")
    for name, of, stated in (("nominal_gain", "gain", 0), ("nominal_noise", "read_noise", 1)):
        for quantity in frames.product:
            known = nominal.get(quantity.place, nominal.get("", (None, None)))[stated]
            if quantity.name == of and known:
                values.put(name, quantity.value / known, "", quantity.place, f"nominal {known:.4g}")
        if name not in values.found:
            values.absent[name] = "neither the instrument nor a header states it"
    return values


# --- helpers ---


def _sample(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """At most about `SAMPLE` good values, evenly spread over the image."""
    good = values[np.isfinite(values)]
    some: NDArray[np.floating] = good[:: (good.size // SAMPLE) | 1] if good.size > SAMPLE else good
    return some


def _width(pulls: NDArray[np.floating]) -> float:
    """Standard deviation of the pulls of normal pixels: 1 if all noise is known."""
    return clipped_stats(_sample(pulls), sigma=CLIP, correct=True).std


_MEASURE: Mapping[str, Callable[[Frames], Values]] = {
    "bias": _bias,
    "dark": _dark,
    "flat": _flat,
    "defects": _defects,
    "gain": _gain,
    "linearity": _stated,
    "crosstalk": _stated,
    "charge_transfer": _stated,
    "brighter_fatter": _stated,
}
