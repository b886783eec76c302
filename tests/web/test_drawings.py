"""Geometry of the drawings: round ticks, calendar edges, layers, limits that stay in sight."""

from __future__ import annotations

import itertools
import math

import pytest

from calibrant.registry.times import moment
from calibrant.web import drawings

DAY = drawings.DAY


def at(text: str) -> int:
    return moment(f"{text}Z")[0]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-3.2, 17.9), (1e-9, 3e-9), (28670, 28690), (5e11, 5.1e11)]
)
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = drawings.ticks(low, high)
    assert 3 <= len(found) <= 13 and low <= found[0] <= found[-1] <= high * (1 + 1e-12)
    step = found[1] - found[0]
    digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digit - nice) for nice in (1, 2, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("begin", "end", "first"),
    [
        ("2024-11-08T03:00", "2024-11-15T03:00", "2024-11-"),
        ("2024-11-08T03:10", "2024-11-08T11:50", "11-08 0"),
        ("2024-01-20T00:00", "2026-02-03T00:00", "2024-0"),
        ("1995-03-01T00:00", "2024-02-03T00:00", "199"),
        ("2024-11-08T03:10:05", "2024-11-08T03:10:35", "03:10:"),
    ],
)
def test_times_stand_on_edges_of_the_calendar(begin: str, end: str, first: str) -> None:
    found = drawings.days(at(begin), at(end))
    assert 2 <= len(found) <= 14 and found[0][1].startswith(first)
    assert all(at(begin) <= place <= at(end) for place, _ in found)
    assert len({label for _, label in found}) == len(found)


def node(key: str, kind: str = "bias", state: str = "draft", problem: str = "") -> dict[str, object]:
    return {"key": key, "kind": kind, "name": f"{key}.fits", "state": state, "problem": problem, "facts": {}}


def lineage(edges: list[tuple[str, str]], raw: str = "r") -> dict[str, object]:
    keys = list(dict.fromkeys(key for edge in edges for key in edge))
    nodes = [
        node(key, "flat" if key.startswith(raw) else key, "" if key.startswith(raw) else "draft")
        for key in keys
    ]
    return {
        "root": edges[0][0],
        "nodes": nodes,
        "edges": [{"child": child, "parent": parent, "role": "parent"} for child, parent in edges],
    }


def test_parents_lie_below_and_raw_files_are_one_node() -> None:
    made = lineage(
        [("frame", "flat"), ("frame", "bias"), ("flat", "bias"), *(("flat", f"r{n}") for n in range(5))]
    )
    drawn = drawings.graph(made)
    places = {one["key"]: one for one in drawn["nodes"]}
    assert set(places) == {"frame", "flat", "bias", "r0"} and places["r0"]["count"] == 5
    assert places["frame"]["y"] < places["flat"]["y"] < places["bias"]["y"]
    assert len(drawn["edges"]) == 4
    for one in drawn["nodes"]:
        assert (
            one["x"] >= 0
            and one["x"] + drawings.NODE <= drawn["width"]
            and one["y"] + drawings.HIGH <= drawn["height"]
        )
    boxes = sorted((one["y"], one["x"]) for one in drawn["nodes"])
    assert all(a[0] != b[0] or b[1] - a[1] >= drawings.NODE for a, b in itertools.pairwise(boxes))


def test_a_damaged_lineage_with_a_circle_still_ends() -> None:
    assert len(drawings.graph(lineage([("a", "b"), ("b", "c"), ("c", "a")]))["nodes"]) == 3


def point(day: int, value: float, sigma: float | None = 1.0, **more: object) -> dict[str, object]:
    base = {
        "identity": f"id{day}",
        "epoch": f"2024-01-{day:02d}",
        "epoch_us": day * DAY,
        "keys": {"detector": "0"},
    }
    return {**base, "place": "", "value": value, "sigma": sigma, "unit": "adu", "withdrawn": False, **more}


def test_a_trend_shows_errors_and_near_limits_only() -> None:
    drawn = drawings.chart([point(day, 100.0 + day) for day in range(1, 6)], low=95.0, high=1e6)
    assert [limit["value"] for limit in drawn["limits"]] == [95.0]
    one = drawn["points"][0]
    assert one["from"] > one["y"] > one["to"]  # up on the screen is less
    assert one["from"] - one["y"] == pytest.approx(one["y"] - one["to"])
    assert [p["x"] for p in drawn["points"]] == sorted(p["x"] for p in drawn["points"])


def test_what_has_no_time_or_number_is_counted_not_drawn() -> None:
    points = [point(1, 5.0), point(2, math.nan), point(3, 6.0, None), {**point(4, 7.0), "epoch_us": None}]
    drawn = drawings.chart(points, None, None)
    assert len(drawn["points"]) == 2 and drawn["undated"] == 2
    assert drawings.chart(points[1:2], None, None) is None


def test_measured_temperatures_are_one_series_and_set_ones_several() -> None:
    def warm(day: int, celsius: float) -> dict:
        return {**point(day, 5.0), "keys": {"detector": "0", "temperature": celsius}}

    near = drawings.chart([warm(1, -99.977), warm(2, -100.015)], None, None)
    far = drawings.chart([warm(1, -99.977), warm(2, -80.02)], None, None)
    assert (near["series"], far["series"]) == (1, 2)


def test_one_point_is_a_trend_too() -> None:
    drawn = drawings.chart([point(1, 0.0, None)], None, None)
    assert math.isfinite(drawn["points"][0]["x"]) and math.isfinite(drawn["points"][0]["y"])


def test_products_that_were_never_certified_have_no_time_line() -> None:
    entry = {
        "kind": "bias",
        "keys": {},
        "epoch": "2024-01-01T00:00:00Z",
        "validity": [],
        "identity": "x",
        "state": "draft",
    }
    assert drawings.timeline([entry]) is None
    always = {**entry, "validity": [{"tag": "t", "from": None, "to": None}]}
    bar = drawings.timeline([always])["lanes"][0].bars[0]
    assert bar.left and bar.right and bar.width > 700
