"""Times of headers, against astropy where it knows them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from astropy.time import Time

from calibrant.errors import HeaderError
from calibrant.times import from_jd, from_mjd, parse_time, to_utc

SECOND = 1_000_000
STAMP = "2017-10-18T04:10:07.926"


def posix(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)


def test_a_stamp_without_zone_is_utc() -> None:
    assert parse_time(STAMP) == posix(STAMP)
    assert parse_time("2017-10-18 04:10:07.926") == posix(STAMP)
    assert parse_time(STAMP + "Z") == posix(STAMP)


def test_a_zone_is_honoured() -> None:
    assert parse_time("2017-10-18T06:10:07.926+02:00") == posix(STAMP)


@pytest.mark.parametrize("date, clock", [("2017-10-18", "04:10:07.926"), ("2017-10-18", "4:10:07.926")])
def test_the_time_of_day_may_stand_in_a_second_card(date: str, clock: str) -> None:
    assert parse_time(date, clock) == posix(STAMP)


def test_a_full_stamp_does_not_need_the_second_card() -> None:
    assert parse_time(STAMP, "11:11:11") == posix(STAMP)


def test_the_old_form_of_dates_is_of_before_2000() -> None:
    assert parse_time("18/10/97", "04:10:07.5") == posix("1997-10-18T04:10:07.500")
    assert parse_time("1997-10-18") == posix("1997-10-18T00:00:00")


@pytest.mark.parametrize("scale", ["TAI", "TT", "TDB"])
def test_other_scales_agree_with_astropy(scale: str) -> None:
    expected = Time(STAMP, scale=scale.lower()).utc.isot
    assert abs(parse_time(STAMP, scale=scale) - posix(expected)) <= 1000  # isot has milliseconds


def test_tai_is_37_seconds_ahead() -> None:
    assert parse_time(STAMP) - parse_time(STAMP, scale="TAI") == 37 * SECOND


def test_julian_dates() -> None:
    assert from_mjd(Time(STAMP).mjd) == pytest.approx(posix(STAMP), abs=5)
    assert from_jd(Time(STAMP).jd) == pytest.approx(posix(STAMP), abs=100)


def test_a_leap_second_is_the_next_one() -> None:
    assert parse_time("2016-12-31T23:59:60.5") == posix("2017-01-01T00:00:00.500")


def test_what_is_no_date_is_refused() -> None:
    with pytest.raises(HeaderError, match=r"not a date.*got 'yesterday'"):
        parse_time("yesterday")
    with pytest.raises(HeaderError, match="unknown time scale"):
        to_utc(0, "MARS")
