"""Tables and quantities of reference pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._reference_allan import allan
from calibrant.effects._reference_layout import Layout
from calibrant.effects._reference_levels import (
    HOUR,
    Series,
    Streams,
    Value,
    contrast,
    drift,
    excess,
    excess_read,
    level,
    settled_after,
    settling,
)
from calibrant.effects._reference_read import Floats, Integration
from calibrant.effects._reference_track import instability, lagged, matrix, tracking
from calibrant.effects._reference_unstable import Unstable
from calibrant.product import Quantity, Table

ALLAN = ("active", "reference", "difference")


@dataclass(frozen=True, eq=False)
class Output:
    """The three series of an output; the line of the dark current is taken off the active pixels."""

    number: int
    active: Series
    reference: Series
    dark: Value

    @property
    def difference(self) -> Series:
        """Active less reference."""
        return self.active - self.reference


def outputs(found: Streams) -> list[Output]:
    """Those with a reference; the line is that of active less reference, which no drift of both is in."""
    made = []
    for number, (active, reference) in enumerate(zip(found.active, found.reference, strict=True), 1):
        if reference is None:
            continue
        slope = drift(active - reference)
        dark = Value(slope.value / HOUR, slope.sigma / HOUR)
        made.append(Output(number, active.less_line(dark.value), reference, dark))
    return made


def known(name: str, value: Value | float, unit: str = "", place: str = "") -> Iterator[Quantity]:
    """A quantity, if it is a number."""
    one = value if isinstance(value, Value) else Value(float(value))
    if math.isfinite(one.value):
        yield Quantity(name, one.value, one.sigma if math.isfinite(one.sigma) else None, unit, place)


def noise(ramps: Sequence[Integration], places: Sequence[int]) -> Value:
    """Noise of a single read of one pixel of some places, adu: all ramps together.

    Changes from read to read have 2/3 of the degrees of freedom of independent values.
    """
    freedom = np.array([one.freedom for one in ramps])[:, list(places)]
    variance = np.array([one.variance for one in ramps])[:, list(places)]
    total = float(freedom.sum())
    if not total > 0:
        return Value()
    value = math.sqrt(float(np.nansum(variance * freedom)) / total)
    return Value(value, value * math.sqrt(3.0 / total) / 2.0)


def ratio(one: Value, other: Value) -> Value:
    """one / other, independent."""
    if not other.value > 0:
        return Value()
    value = one.value / other.value
    return Value(value, value * math.hypot(one.sigma / one.value, other.sigma / other.value))


def region_quantities(where: Layout, found: Streams, ramps: Sequence[Integration]) -> Iterator[Quantity]:
    """Of each region."""
    for i, (region, series) in enumerate(zip(where.regions, found.regions, strict=True)):
        place = region.name
        yield from known("level", level(series), "adu", place)
        yield from known("noise", noise(ramps, [i]), "adu", place)
        yield from known("excess", excess(series), "adu2", place)
        yield from known("excess_read", excess_read(series), "adu2", place)
        yield from known("drift", drift(series), "adu/h", place)
        off, sigma = settling(series)
        yield from known("settling", Value(float(off[0]), float(sigma[0])), "adu", place)
        yield from known("settled_after", settled_after(off, sigma), "", place)


def output_quantities(
    where: Layout, found: Streams, ramps: Sequence[Integration], made: Sequence[Output]
) -> Iterator[Quantity]:
    """Of each output: how its active pixels, its reference pixels and their difference behave."""
    regions = len(where.regions)
    for one in made:
        place, lane = str(one.number), regions + 2 * (one.number - 1)
        mine = [i for i, r in enumerate(where.regions) if r.output == one.number]
        light, dark = noise(ramps, [lane, lane + 1]), noise(ramps, mine)
        yield from known("active_noise", light, "adu", place)
        yield from known("reference_noise", dark, "adu", place)
        yield from known("noise_ratio", ratio(dark, light), "", place)
        yield from known("dark_slope", one.dark, "adu/s", place)
        for name in ALLAN:
            yield from known(f"excess_{name}", excess(getattr(one, name)), "adu2", place)
        yield from known("instability", instability(one.difference), "adu", place)
        slope, correlation = tracking(one.active, one.reference)
        yield from known("tracking", slope, "", place)
        yield from known("correlation", correlation, "", place)
        for of in ("parity", "sides"):
            series = contrast(where, found, one.number, of)
            if series is not None:
                yield from known(of, level(series), "adu", place)
                yield from known(f"excess_{of}", excess(series), "adu2", place)


def whole_quantities(
    where: Layout, ramps: Sequence[Integration], pixels: Unstable, bad: NDArray[np.bool_]
) -> Iterator[Quantity]:
    """Of the whole array."""
    regions = len(where.regions)
    light = noise(ramps, range(regions, regions + where.lanes))
    yield from known("noise_ratio", ratio(noise(ramps, range(regions)), light))
    n = len(bad)
    yield Quantity("unstable", float(bad.mean()), math.sqrt(bad.sum() + 1.0) / n)
    two = pixels.telegraph > 0
    yield Quantity("telegraph", float(two.mean()), math.sqrt(two.sum() + 1.0) / n)
    sides = np.array([region.side for region in where.regions])[where.region_of]
    for side in dict.fromkeys(region.side for region in where.regions):
        yield Quantity("unstable", float(bad[sides == side].mean()), None, "", side)


def levels_table(
    where: Layout, ramps: Sequence[Integration], time: Floats, means: Floats, medians: Floats, found: Streams
) -> Table:
    """Levels of all regions, read by read: a line for each."""
    count, groups, regions = means.shape
    index = np.indices(means.shape, np.int32).reshape(3, -1)
    file = np.array([one.file for one in ramps], np.int32)
    number = np.array([one.number for one in ramps], np.int32)
    error = np.array([series.error for series in found.regions]).T
    columns = {
        "file": file[index[0]],
        "integration": number[index[0]],
        "group": index[1],
        "time": np.repeat(time.reshape(-1), regions),
        "region": index[2],
        "mean": means.reshape(-1),
        "median": medians.reshape(-1),
        "error": np.broadcast_to(error[:, None], (count, groups, regions)).reshape(-1),
    }
    return _without_lost(columns, "time")


def outputs_table(ramps: Sequence[Integration], time: Floats, made: Sequence[Output]) -> Table:
    """Levels of each output, read by read; the line of the dark current is taken off the active pixels."""
    parts: list[dict[str, NDArray[Any]]] = []
    for one in made:
        shape = one.active.level.shape
        ramp, group = np.indices(shape, np.int32).reshape(2, -1)
        parts.append(
            {
                "file": np.array([r.file for r in ramps], np.int32)[ramp],
                "integration": np.array([r.number for r in ramps], np.int32)[ramp],
                "group": group,
                "time": time.reshape(-1),
                "output": np.full(group.shape, one.number, np.int32),
                "active": one.active.level.reshape(-1),
                "reference": one.reference.level.reshape(-1),
                "difference": one.difference.level.reshape(-1),
            }
        )
    return _without_lost(_joined(parts), "time")


def allan_table(made: Sequence[Output], step: float) -> Table:
    """Allan deviations of active, reference and difference of each output, and what noise of pixels makes."""
    parts: list[dict[str, NDArray[Any]]] = []
    for one in made:
        for name in ALLAN:
            series = getattr(one, name)
            span, deviation, sigma = allan(series)
            white = (
                float(np.sqrt(np.nanmean(series.error**2))) if np.isfinite(series.error).any() else math.nan
            )
            parts.append(
                {
                    "output": np.full(len(span), one.number, np.int32),
                    "series": np.full(len(span), name),
                    "groups": span.astype(np.int32),
                    "time": span * step,
                    "deviation": deviation,
                    "sigma": sigma,
                    "expected": white / np.sqrt(span),
                }
            )
    return _joined(parts)


def settling_table(where: Layout, found: Streams) -> Table:
    """How far each group lies off the line through the later half of its ramp."""
    parts: list[dict[str, NDArray[Any]]] = []
    for i, series in enumerate(found.regions):
        off, sigma = settling(series)
        groups = np.arange(len(off), dtype=np.int32)
        parts.append(
            {"region": np.full(len(off), i, np.int32), "group": groups, "deviation": off, "sigma": sigma}
        )
    return _without_lost(_joined(parts), "deviation")


def covariance_table(made: Sequence[Output]) -> Table:
    """Covariances of the levels of outputs: of their reference pixels, and of what these leave."""
    before = matrix([one.reference for one in made])
    after = matrix([one.difference for one in made])
    number = [one.number for one in made]
    return {
        "one": np.array([number[i - 1] for i, _, _ in before], np.int32),
        "other": np.array([number[j - 1] for _, j, _ in before], np.int32),
        "reference": np.array([value.value for *_, value in before]),
        "reference_sigma": np.array([value.sigma for *_, value in before]),
        "difference": np.array([value.value for *_, value in after]),
        "difference_sigma": np.array([value.sigma for *_, value in after]),
    }


def lags_table(made: Sequence[Output]) -> Table:
    """Correlation of active pixels with the reference some groups before."""
    found = [(one.number, lag, r) for one in made for lag, r in lagged(one.active, one.reference).items()]
    output, lag, correlation = zip(*found, strict=True)
    return {
        "output": np.array(output, np.int32),
        "lag": np.array(lag, np.int32),
        "correlation": np.array(correlation),
    }


def regions_table(where: Layout, bad: NDArray[np.bool_]) -> Table:
    """What the numbers of regions mean."""
    return {
        "region": np.arange(len(where.regions), dtype=np.int32),
        "side": np.array([one.side for one in where.regions]),
        "output": np.array([one.output for one in where.regions], np.int32),
        "parity": np.array([one.parity for one in where.regions]),
        "pixels": where.sizes.astype(np.int32),
        "unstable": np.bincount(where.region_of, bad, len(where.regions)).astype(np.int32),
    }


def pixels_table(where: Layout, found: Unstable, bad: NDArray[np.bool_]) -> Table:
    """Statistics of the reference pixels that cannot be trusted."""
    evidence = np.where(np.isfinite(found.evidence), found.evidence, 0.0)
    numbers = {
        "scatter": found.scatter, "correlation": found.memory, "scatter_z": found.scatter_z,
        "range_z": found.span_z, "correlation_z": found.memory_z, "telegraph": found.telegraph,
        "evidence": evidence,
    }  # fmt: skip
    return {
        "row": where.pixels[0][bad].astype(np.int32),
        "col": where.pixels[1][bad].astype(np.int32),
        "region": where.region_of[bad].astype(np.int32),
        **{name: values[bad].astype(np.float32) for name, values in numbers.items()},
    }


def pixel_planes(where: Layout, found: Unstable) -> dict[str, NDArray[np.float32]]:
    """Planes of the scatter of each reference pixel, and of how far it is from the others; else NaN."""
    planes = {}
    for name, values in (("scatter", found.scatter), ("deviation", found.farthest())):
        planes[name] = np.full(where.region.shape, np.nan, np.float32)
        planes[name][where.pixels] = values
    return planes


UNITS: Mapping[str, str] = {
    **{f"levels.{name}": "adu" for name in ("mean", "median", "error")},
    **{f"outputs.{name}": "adu" for name in ALLAN},
    **{f"{table}.time": "s" for table in ("levels", "outputs", "allan")},
    **{f"allan.{name}": "adu" for name in ("deviation", "sigma", "expected")},
    **{f"settling.{name}": "adu" for name in ("deviation", "sigma")},
    **{
        f"covariance.{name}": "adu2"
        for name in ("reference", "reference_sigma", "difference", "difference_sigma")
    },
    **{f"pixels.{name}": "adu" for name in ("scatter", "telegraph")},
}


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _without_lost(columns: Mapping[str, NDArray[Any]], of: str) -> dict[str, NDArray[Any]]:
    """Without the groups that pad shorter ramps."""
    if of not in columns:
        return dict(columns)
    fine = np.isfinite(columns[of])
    return {name: values[fine] for name, values in columns.items()}
