"""What happened to products: events, verdicts, quantities over time; on both databases."""

from __future__ import annotations

import pytest

from calibrant.errors import RegistryError
from calibrant.instrument import load
from calibrant.registry import events, history
from calibrant.registry.records import Draft, Item, Verdict

CAMERA = load("generic-ccd")
DAY = 86_400_000_000


def identity(number):
    return f"sha256:{number:064x}"


def draft(number, epoch, level, detector="0"):
    quantities = [("level", place, level + step, 0.1, "adu") for step, place in enumerate(("A", "B"))]
    keys = {"detector": detector}
    return Draft(
        identity(number),
        "bias",
        CAMERA.name,
        keys,
        epoch,
        f"/data/{number}.fits",
        identity(number),
        10,
        quantities,
    )


@pytest.fixture
def month(database):
    """Five biases of detector 0, whose level rises by 1 a day, and one of detector 1 without a time."""
    drafts = [draft(day, day * DAY, 100.0 + day) for day in range(1, 6)]
    with database.write() as writing:
        events.add(writing, [*drafts, draft(9, None, 50.0, "1")], {CAMERA.name: CAMERA})
        items = (
            Item("level", 101.0, 90.0, 110.0, "adu", "A"),
            Item("noise", None, None, 9.0, "adu", note="dark"),
        )
        for value in (105.0, 101.0):
            first = Item("level", value, 90.0, 110.0, "adu", "A")
            events.verified(
                writing, Verdict(identity(2), "bias", (first, *items[1:]), "ccd", ("f.fits",), ("so",))
            )
        events.withdraw(writing, identity(3), "light leak", "me")
    return database


def test_a_trend_is_in_order_of_time(month):
    with month.read() as connection:
        points = history.trend(connection, "bias", "level", detector="0", place="A")
    assert [point.value for point in points] == [101.0, 102.0, 103.0, 104.0, 105.0]
    assert [point.epoch for point in points] == [day * DAY for day in range(1, 6)]
    assert {(point.sigma, point.unit, point.place) for point in points} == {(0.1, "adu", "A")}
    assert [point.withdrawn for point in points] == [False, False, True, False, False]


def test_a_limit_keeps_the_newest(month):
    with month.read() as connection:
        points = history.trend(connection, "bias", "level", detector="0", place="B", limit=2)
    assert [point.value for point in points] == [105.0, 106.0]


def test_all_detectors_and_places(month):
    with month.read() as connection:
        points = history.trend(connection, "bias", "level")
        assert history.names(connection, "bias") == ["level"]
        assert history.trend(connection, "bias", "level", detector="7") == []
    assert len(points) == 12 and sum(point.epoch is None for point in points) == 2


def test_a_quantity_that_nobody_states(month):
    with month.read() as connection, pytest.raises(RegistryError, match="did you mean 'level'"):
        history.trend(connection, "bias", "levels")


def test_the_last_verdict_comes_back_as_it_was(month):
    with month.read() as connection:
        found = history.verdict(connection, identity(2))
        assert history.verdict(connection, identity(1)) is None
    assert found is not None and not found.passed
    assert found.items[0] == Item("level", 101.0, 90.0, 110.0, "adu", "A")
    assert found.items[1].value is None and found.items[1].note == "dark"
    assert (found.recipe, found.frames, found.notes) == ("ccd", ("f.fits",), ("so",))


def test_events_of_one_product_and_of_all(month):
    with month.read() as connection:
        own = history.events(connection, identity(2))
        gone = history.events(connection, identity(3))
        newest = history.events(connection, limit=2)
    assert [event.kind for event in own] == ["verified", "verified", "draft"]
    assert [event.passed for event in own] == [False, False, None]
    assert (gone[0].kind, gone[0].why, gone[0].who, gone[0].product) == (
        "withdrawn",
        "light leak",
        "me",
        "bias",
    )
    assert newest[0].revision > newest[1].revision and newest[0] == gone[0]
