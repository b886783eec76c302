"""Trends: how the numbers of the reported products went over the epochs that a registry knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from calibrant.errors import CalibrantError
from calibrant.registry.records import Point
from calibrant.report.charts import TIME, Chart, Series
from calibrant.report.sections import Told
from calibrant.report.words import MICROSECONDS, head, plain

if TYPE_CHECKING:
    from calibrant.registry import Registry

NEWEST = 400
"""Points of a quantity that are asked for."""
NAMES = (
    "read_noise",
    "level",
    "rate",
    "hot_fraction",
    "gain",
    "scatter",
    "pair_gain",
    "unusable",
    "nonlinearity",
)
"""Quantities that are drawn where no limit names others, in this order."""
PER_KIND = 3


def trends(registry: Registry, told: Sequence[Told]) -> list[Chart]:
    """Charts of quantities over time, with their limits: those that limits name first.

    Parameters
    ----------
    registry : Registry
    told : sequence of Told
        Their kinds, instruments and detectors are asked for.
    """
    kinds: dict[tuple[str, str], list[Told]] = {}
    for one in told:
        kinds.setdefault((one.kind, one.outline.instrument), []).append(one)
    return [
        chart
        for (kind, instrument), several in kinds.items()
        for name in _names(several)
        for chart in _chart(registry, kind, instrument, name, several)
    ]


def _names(several: Sequence[Told]) -> list[str]:
    stated = dict.fromkeys(q.name for one in several for q in one.outline.quantities)
    bounded = dict.fromkeys(name for one in several for name, _ in one.numbers.bounds)
    wanted = dict.fromkeys([*bounded, *NAMES])
    return [name for name in wanted if name in stated][:PER_KIND]


def _chart(
    registry: Registry, kind: str, instrument: str, name: str, several: Sequence[Told]
) -> Iterator[Chart]:
    try:
        points = registry.trend(kind, name, instrument=instrument, limit=NEWEST)
    except CalibrantError:
        return
    detectors = {str(one.outline.keys.get("detector", "")) for one in several}
    series = list(_series(points, detectors))
    if not any(len(np.unique(one.x)) > 1 for one in series):
        return
    items = [item for one in several for (own, _), item in one.numbers.bounds.items() if own == name]
    levels = [(edge, "limit") for edge in (items[0].low, items[0].high) if edge is not None] if items else []
    unit = next((point.unit for point in points if point.unit), "")
    title = f"{plain(kind).capitalize()}: {plain(name)} over the epochs of the registry"
    yield Chart(f"trend_{kind}_{name}", title, TIME, head(name, unit), series, time=True, levels=levels)


def _series(points: Iterable[Point], detectors: set[str]) -> Iterator[Series]:
    """A curve for each setting and place of these detectors; withdrawn products are left out."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        of = str(point.keys.get("detector", ""))
        if of in detectors and point.epoch is not None and point.value is not None and not point.withdrawn:
            words = (of, point.keys.get("filter"), _seconds(point.keys.get("exptime")), point.place)
            groups.setdefault(" ".join(str(word) for word in words if word) or "all", []).append(point)
    for label, own in groups.items():
        x, y, sigma = (
            np.array(values, np.float64)
            for values in (
                [(point.epoch or 0) / MICROSECONDS for point in own],
                [point.value for point in own],
                [np.nan if point.sigma is None else point.sigma for point in own],
            )
        )
        good = np.isfinite(y)
        if good.any():
            yield Series(label, x[good], y[good], sigma[good], line=True)


def _seconds(exptime: object) -> str:
    return f"{exptime:g} s" if isinstance(exptime, (int, float)) else ""
