"""Times as people give them: zones, open ends, and what is no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.registry.times import FIRST, LAST, moment

NOON = 1_731_067_200_000_000  # 2024-11-08T12:00Z


@pytest.mark.parametrize(
    "value",
    [
        "2024-11-08T12:00Z",
        "2024-11-08T12:00:00+00:00",
        "2024-11-08 13:00:00+01:00",
        "2024-11-08T07:00-05",
        " 2024-11-08T12:00:00.000000Z ",
        NOON,
        np.int64(NOON),
        datetime(2024, 11, 8, 12, tzinfo=UTC),
        datetime(2024, 11, 8, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_a_time_with_its_zone(value):
    assert moment(value) == (NOON, "")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2024-11-08T12:00", "2024-11-08T12:00 has no zone: taken as 2024-11-08T12:00:00Z"),
        (datetime(2024, 11, 8, 12), "2024-11-08T12:00:00 has no zone: taken as 2024-11-08T12:00:00Z"),
    ],
)
def test_a_time_without_zone_is_utc_and_told(value, said):
    assert moment(value) == (NOON, said)


def test_a_date_is_midnight_utc():
    found, note = moment("2024-11-08")
    assert found == NOON - 12 * 3_600_000_000
    assert note == "2024-11-08 has no zone: taken as 2024-11-08T00:00:00Z"


def test_open():
    assert moment(None) == (None, "")


@pytest.mark.parametrize("value", ["", "noon", "2024-13-01", "2024-11-08T25:00", True, 1.5, [], "12:00Z"])
def test_what_is_no_time(value):
    with pytest.raises(OptionError, match="--from is no time"):
        moment(value, "--from")


@pytest.mark.parametrize("value", [FIRST - 1, LAST, -(2**63), 2**63 - 1, 2**70])
def test_times_that_cannot_be_written(value):
    with pytest.raises(OptionError, match="years 1 to 9999"):
        moment(value)


def test_the_ends_of_time_can_be_given():
    assert moment(FIRST) == (FIRST, "")
    assert moment("9999-12-31T23:59:59.999999Z") == (LAST - 1, "")
