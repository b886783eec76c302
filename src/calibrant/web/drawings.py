"""Geometry of the drawings on the pages of a registry: plain numbers, which templates turn into SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from calibrant.registry.plain import time as iso
from calibrant.registry.times import moment
from calibrant.registry.words import told

Model = Mapping[str, Any]

WIDTH = 1000.0
"""Of every drawing, in its own units: SVG scales."""
ROW, BAR = 26.0, 14.0
LABEL = 250.0
"""Room for the names of rows on a time line."""
ROWS = 60
"""Rows of a time line; more are counted."""
NODE, HIGH, ACROSS, DOWN = 210.0, 46.0, 20.0, 46.0
"""A node of a lineage: width, height, gaps."""
TURN = 10.0
"""Room for an edge that passes a layer."""
STEPS = (1, 2, 5)
DAY = 86_400_000_000  # microseconds


# --- axes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """Numbers to places, linearly: `low` falls on `first`, `high` on `last`."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Place of a number."""
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def widened(values: Sequence[float], share: float = 0.05) -> tuple[float, float]:
    """The range of some numbers with room around it, never empty."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers within a range."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next((size * factor for factor in STEPS if size * factor >= raw), 10 * size)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


def days(low: float, high: float, count: int = 6) -> list[tuple[float, str]]:
    """Times on a calendar's edges within a range of microseconds UTC, with how they are written."""
    span = (high - low) / DAY
    if span > 150:
        return _months(low, high, max(1, math.ceil(span / 30.44 / count)))
    for step, form in (
        (DAY, "%Y-%m-%d"),
        (DAY / 24, "%m-%d %H:%M"),
        (DAY / 1440, "%H:%M"),
        (1e6, "%H:%M:%S"),
    ):
        if high - low > 2 * step or step == 1e6:
            every = step * max(1, math.ceil((high - low) / step / count))
            first = math.ceil(low / every)
            places = (index * every for index in range(first, math.floor(high / every) + 1))
            return [(place, f"{_clock(place):{form}}") for place in places]
    return []


def _months(low: float, high: float, every: int) -> list[tuple[float, str]]:
    first = _clock(low)
    start, found = first.year * 12 + first.month - 1, []
    for month in range(start - start % every, start + int((high - low) / DAY / 28) + every + 2, every):
        date = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
        place = date.timestamp() * 1e6
        if low <= place <= high:
            found.append((place, f"{date:%Y-%m}" if every % 12 else f"{date:%Y}"))
    return found


def _clock(microseconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(microseconds / 1e6, -6e10), 2.5e11), tz=UTC)


def shared(keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Keys that all of several things have alike: they tell none from the others."""
    if len(keys) < 2:
        return {}
    return {name: value for name, value in keys[0].items() if all(one.get(name) == value for one in keys)}


def setting(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys with numbers to three digits: of one setting, measured temperatures still differ."""
    return {name: float(f"{one:.3g}") if isinstance(one, float) else one for name, one in keys.items()}


# --- time line --------------------------------------------------------------------------------------------


@dataclass
class Bar:
    """A span of validity: `left` and `right` say that it goes on beyond the drawing."""

    identity: str
    x: float
    width: float
    state: str
    title: str
    left: bool
    right: bool


@dataclass
class Lane:
    """A row of a time line: one kind, setting and tag."""

    label: str
    y: float
    bars: list[Bar] = field(default_factory=list)


def timeline(products: Sequence[Model]) -> Model | None:
    """Validity of products on a time line, a row for each kind, setting and tag; None if none is valid.

    Parameters
    ----------
    products : sequence of mapping
        As of `calibrant.registry.plain.entry`.
    """
    spans = list(_spans(products))
    edges = [edge for span in spans for edge in (span["begin"], span["end"]) if edge is not None]
    edges += [_microseconds(p["epoch"]) for p in products if p["epoch"] and p["validity"]]
    if not spans or not edges:
        return None
    axis = Axis(*widened(edges, 0.06), LABEL, WIDTH - 4)
    lanes: dict[str, Lane] = {}
    left = 0
    for span in spans:
        lane = lanes.get(span["label"])
        if lane is None:
            if len(lanes) == ROWS:
                left += 1
                continue
            lane = lanes[span["label"]] = Lane(span["label"], ROW * (len(lanes) + 1))
        lane.bars.append(_bar(span, axis))
    marks = [{"x": axis(place), "label": label} for place, label in days(axis.low, axis.high)]
    return {
        "width": WIDTH,
        "height": ROW * (len(lanes) + 1.6),
        "bar": BAR,
        "lanes": list(lanes.values()),
        "ticks": marks,
        "left": left,
    }


def _spans(products: Sequence[Model]) -> Iterator[Model]:
    keys = [setting(product["keys"]) for product in products]
    same = shared(keys)
    for product, own in zip(products, keys, strict=True):
        for span in product["validity"]:
            begin, end = (_microseconds(span[edge]) for edge in ("from", "to"))
            words = told({name: value for name, value in own.items() if name not in same})
            label = f"{product['kind']} {words}".rstrip()
            yield {"product": product, "begin": begin, "end": end, "label": f"{label} ({span['tag']})"}


def _microseconds(text: str | None) -> int | None:
    return moment(text)[0]


def _bar(span: Model, axis: Axis) -> Bar:
    product, begin, end = span["product"], span["begin"], span["end"]
    first = axis.first if begin is None else axis(begin)
    last = axis.last if end is None else axis(end)
    when = f"{iso(begin) or 'always'} to {iso(end) or 'open'}"
    title = f"{product['kind']} {product['identity'][7:19]}, {product['state']}: {when}"
    return Bar(
        product["identity"],
        first,
        max(2.0, last - first),
        product["state"],
        title,
        begin is None,
        end is None,
    )


# --- lineage ----------------------------------------------------------------------------------------------


def graph(lineage: Model) -> Model:
    """A lineage as nodes in layers, what was asked for on top; raw files of one product are one node.

    Parameters
    ----------
    lineage : mapping
        As of `calibrant.registry.plain.lineage`.
    """
    nodes, edges = _bundled(lineage)
    layers = _layers(lineage["root"], edges)
    ways = [_way(edge, layers) for edge in edges]
    rows: dict[int, list[Place]] = {}
    for key, layer in layers.items():
        rows.setdefault(layer, []).append(key)
    for turn in dict.fromkeys(place for way in ways for place in way if not isinstance(place, str)):
        rows.setdefault(turn[2], []).append(turn)
    ordered = _ordered(rows, ways)
    widths = {layer: sum(_wide(place) + ACROSS for place in row) + ACROSS for layer, row in ordered.items()}
    width = max(widths.values())
    at: dict[Place, tuple[float, float]] = {}
    for layer, row in ordered.items():
        x = (width - widths[layer]) / 2 + ACROSS
        for place in row:
            at[place] = (x, 8 + layer * (HIGH + DOWN))
            x += _wide(place) + ACROSS
    return {
        "width": width,
        "height": 16 + len(ordered) * (HIGH + DOWN) - DOWN,
        "node": {"width": NODE, "height": HIGH},
        "nodes": [{**nodes[key], "x": at[key][0], "y": at[key][1]} for key in layers],
        "edges": [{"path": _curve(way, at), "role": edge[2]} for way, edge in zip(ways, edges, strict=True)],
    }


Place = str | tuple[str, str, int]
"""A node by its key, or where an edge passes a layer between its ends: child, parent, layer."""


def _wide(place: Place) -> float:
    return NODE if isinstance(place, str) else TURN


def _way(edge: tuple[str, str, str], layers: Mapping[str, int]) -> list[Place]:
    """An edge from layer to layer."""
    child, parent, _ = edge
    between = range(layers[child] + 1, layers[parent])
    return [child, *((child, parent, layer) for layer in between), parent]


def _curve(way: Sequence[Place], at: Mapping[Place, tuple[float, float]]) -> str:
    """The way of an edge as an SVG path, from the foot of the child to the head of the parent."""
    parts: list[str] = []
    for one, other in itertools.pairwise(way):
        x1, y1 = at[one][0] + _wide(one) / 2, at[one][1] + HIGH
        x2, y2 = at[other][0] + _wide(other) / 2, at[other][1]
        parts.append(f"M{x1:.1f} {y1:.1f}" if not parts else f"L{x1:.1f} {y1:.1f}")
        parts.append(f"C{x1:.1f} {y1 + DOWN / 2:.1f} {x2:.1f} {y2 - DOWN / 2:.1f} {x2:.1f} {y2:.1f}")
    return " ".join(parts)


def _bundled(lineage: Model) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, str]]]:
    """Nodes and edges, in which raw files of one kind that the same things were made of are one node."""
    known = {node["key"]: node for node in lineage["nodes"]}
    root = lineage["root"]
    children: dict[str, list[str]] = {}
    for edge in lineage["edges"]:
        children.setdefault(edge["parent"], []).append(edge["child"])
    bundles: dict[tuple[Any, ...], list[str]] = {}
    name_of = {}
    for key, node in known.items():
        raw = not node["state"] and key != root and node["kind"] != "calibrated"
        bundle = (node["kind"], node["problem"], *sorted(children.get(key, ()))) if raw else (key,)
        bundles.setdefault(bundle, []).append(key)
    nodes: dict[str, dict[str, Any]] = {}
    for keys in bundles.values():
        first = known[keys[0]]
        name_of.update(dict.fromkeys(keys, keys[0]))
        nodes[keys[0]] = {
            "key": keys[0],
            "kind": first["kind"],
            "state": first["state"],
            "problem": first["problem"],
            "count": len(keys),
            "names": [known[key]["name"] for key in keys],
            "keys": (first["facts"] or {}).get("keys") or {},
            "product": bool(first["state"]),
            "root": keys[0] == root,
        }
    joined = ((name_of[edge["child"]], name_of[edge["parent"]], edge["role"]) for edge in lineage["edges"])
    return nodes, list(dict.fromkeys(joined))


def _layers(root: str, edges: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    """Longest way from the root, so that every edge leads downwards."""
    parents: dict[str, list[str]] = {}
    for child, parent, _ in edges:
        parents.setdefault(child, []).append(parent)
    layers = {root: 0}
    waiting = [root]
    for _ in range(len(edges) + 1):  # a lineage has no circle; a damaged one must still end
        waiting = [
            parent
            for child in waiting
            for parent in parents.get(child, ())
            if layers.get(parent, -1) <= layers[child] and not layers.update({parent: layers[child] + 1})
        ]
        if not waiting:
            break
    return layers


def _ordered(rows: Mapping[int, list[Place]], ways: Sequence[Sequence[Place]]) -> dict[int, list[Place]]:
    """Each layer in the order of the middle of its children: fewer edges cross."""
    above: dict[Place, list[Place]] = {}
    for way in ways:
        for one, other in itertools.pairwise(way):
            above.setdefault(other, []).append(one)
    ordered: dict[int, list[Place]] = {}
    middle: dict[Place, float] = {}
    for layer in sorted(rows):

        def children(place: Place) -> float:
            known = [middle[child] for child in above.get(place, ()) if child in middle]
            return sum(known) / len(known) if known else 0.0

        ordered[layer] = sorted(rows[layer], key=children)
        count = len(ordered[layer])
        middle.update({place: (index + 0.5) / count for index, place in enumerate(ordered[layer])})
    return ordered


# --- trend ------------------------------------------------------------------------------------------------

HEIGHT, LEFT, BOTTOM = 360.0, 90.0, 40.0
SERIES = 8
"""Places or detectors that get a colour each; more share one."""


def chart(points: Sequence[Model], low: float | None, high: float | None) -> Model | None:
    """A quantity against time with errors and limits; None if no product says when it was made.

    Parameters
    ----------
    points : sequence of mapping
        As of `calibrant.registry.plain.point`.
    low, high : float or None
        Limits; those far outside the values are told and not drawn.
    """
    drawn = [p for p in points if p["epoch_us"] is not None and _finite(p["value"])]
    if not drawn:
        return None
    values = [
        p["value"] + sign * (p["sigma"] if _finite(p["sigma"]) else 0) for p in drawn for sign in (-1, 1)
    ]
    reach = 2 * (max(values) - min(values)) or abs(values[0]) or 1.0
    near = {
        name: limit
        for name, limit in (("low", low), ("high", high))
        if limit is not None and min(values) - reach <= limit <= max(values) + reach
    }
    x = Axis(*widened([p["epoch_us"] for p in drawn]), LEFT, WIDTH - 16)
    y = Axis(*widened([*values, *near.values()]), HEIGHT - BOTTOM, 12)
    keys = [setting(p["keys"]) for p in drawn]
    same = shared(keys)
    series = [_series(own, p["place"], same) for own, p in zip(keys, drawn, strict=True)]
    names = sorted(set(series))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "bottom": HEIGHT - BOTTOM,
        "right": WIDTH - 16,
        "unit": drawn[0]["unit"],
        "names": names if len(names) <= SERIES else [],
        "series": len(names),
        "xticks": [{"x": x(place), "label": label} for place, label in days(x.low, x.high)],
        "yticks": [{"y": y(value), "label": f"{value:.6g}"} for value in ticks(y.low, y.high)],
        "limits": [{"name": name, "y": y(limit), "value": limit} for name, limit in near.items()],
        "points": [
            {**_dot(p, x, y, own), "series": names.index(own) if len(names) <= SERIES else 0}
            for p, own in zip(drawn, series, strict=True)
        ],
        "undated": len(points) - len(drawn),
    }


def _dot(point: Model, x: Axis, y: Axis, series: str) -> Model:
    sigma = point["sigma"] if _finite(point["sigma"]) else 0.0
    value = f"{point['value']:.6g}" + (f" +- {sigma:.2g}" if sigma else "")
    return {
        "x": x(point["epoch_us"]),
        "y": y(point["value"]),
        "from": y(point["value"] - sigma),
        "to": y(point["value"] + sigma),
        "identity": point["identity"],
        "withdrawn": point["withdrawn"],
        "title": f"{point['epoch']}: {value} {point['unit']}, {series}".rstrip(", "),
    }


def _series(keys: Mapping[str, Any], place: str, same: Mapping[str, Any]) -> str:
    words = told({name: value for name, value in keys.items() if name not in same})
    return ", ".join(filter(None, (words, place)))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
